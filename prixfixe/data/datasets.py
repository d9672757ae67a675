"""Where sequences and measurements come from: one class a file of `conf/dataset/`. No recipe, no model stands here."""

from __future__ import annotations

import base64
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from annotated_types import Ge, Le

from prixfixe.common.errors import InputError
from prixfixe.common.text import counted, printable
from prixfixe.data.flanks import add_flanks, checked_flanks
from prixfixe.data.measurements import Measurements, check_expression

if TYPE_CHECKING:
    from prixfixe.data.splits import Draw

TEST = "test"  # the fold that is never trained on where another fold of the same column is validated on
DRAWS = 1  # counts up when what is drawn for validation changes
LEAKS = 1  # counts up when what is counted as a leak changes


@dataclass(frozen=True)
class Split:
    """The sequences that are trained on and the ones that every combination is scored on.

    content: a hash of everything in it, which is part of a run's identity; a path is not.
    simulated: whether the numbers come from the simulated assay and must be labelled so.
    warnings: what the user should know, a sentence each.
    near_duplicates: the share of validation sequences that share a long stretch with a training sequence.
    tests: named parts that are neither trained on nor chosen by, and scored once, at the end: `test`, or several.
    """

    train: Measurements
    validation: Measurements
    content: str
    simulated: bool = False
    warnings: tuple[str, ...] = ()
    near_duplicates: float | None = None
    tests: Mapping[str, Measurements] = field(default_factory=dict)

    @property
    def test(self) -> Measurements | None:
        return self.tests.get(TEST)


class Dataset(ABC):
    """Base of datasets: constructed from a YAML's values, read when it is asked for."""

    @abstractmethod
    def read(self) -> Split: ...


class Table(Dataset):
    """A table of the user's own: split by sequence, by its fold column, by folds of similar sequences, by blocks of the
    genome, or with a second table for validation; and a part of it, or another table, to test on.

    fold, test_fold: one of the folds, or a list of them. fold_column: of folds, such as chromosomes; null: found by its
    name. With fold_column and `folds`, test_fold is one of that column, and the rest is dealt into `folds`, of which
    `fold` is one. block: nucleotides; what is drawn, or dealt into `folds`, is whole blocks of the genome. columns: what
    parts may ask for beside sequence and measurements, see `prixfixe.data.columns`. flanks: the construct around the
    inserts that the table holds, left and right: it is put there in training, and wherever the model is used.
    activity: the table that measures a FASTA row by row, where `path` is one; null: the one that is published with it.
    """

    simulated = False

    def __init__(
        self,
        *,
        path: str,
        validation: str | None,
        validation_fraction: float,
        split_seed: Annotated[int, Ge(0)],
        sequence: str | None,
        expression: str | list[str] | None,
        fold: int | str | list[int | str] | None,
        folds: int | None,
        training_fraction: float = 1.0,  # a run of version 0.1 has none of these
        test: str | None = None,
        test_fold: int | str | list[int | str] | None = None,
        fold_column: str | None = None,
        block: Annotated[int, Ge(1), Le(10**12)] | None = None,
        columns: dict[str, str | list[str] | dict[str, str]] | None = None,
        flanks: list[str] | None = None,
        activity: str | None = None,
    ) -> None:
        from prixfixe.data.columns import column_sources
        from prixfixe.data.splits import fold_text

        column_sources(columns)
        self.flanks = checked_flanks(flanks)
        if fold_column is not None and folds is not None and test_fold is None:
            raise InputError(
                f"dataset.fold_column={fold_column} and dataset.folds={folds} both say what the folds are: leave "
                f"one of them out, or test on one of {fold_column} with dataset.test_fold=NAME and deal the rest into "
                "folds"
            )
        if [] in (fold, test_fold):
            raise InputError("dataset.fold and dataset.test_fold name a fold, or several: none is not a list of them")
        if validation is not None and (fold is not None or folds is not None):
            raise InputError(
                f"dataset.validation={validation} and dataset.{'folds' if fold is None else 'fold'} both say "
                "what to validate on: "
                "leave one of them out"
            )
        if folds is not None and fold is None:
            raise InputError(
                f"dataset.folds={folds} needs the fold to validate on: give dataset.fold=N, 0 to {folds - 1}"
            )
        if test is not None and test_fold is not None:
            raise InputError(
                f"dataset.test={test} and dataset.test_fold={test_fold} both say what to test on: leave one of them out"
            )
        both = set(fold_text(fold).split(",")) & set(fold_text(test_fold).split(","))
        self.own_test_fold = fold_column is not None and folds is not None  # the test fold is none of `folds`
        if fold is not None and test_fold is not None and both and not self.own_test_fold:
            raise InputError(f"dataset.fold={fold} and dataset.test_fold={test_fold} are the same: choose another one")
        self.path = os.path.expanduser(path)
        self.validation = None if validation is None else os.path.expanduser(validation)
        self.test = None if test is None else os.path.expanduser(test)
        self.validation_fraction, self.split_seed = validation_fraction, split_seed
        self.fold, self.folds, self.test_fold = fold, folds, test_fold
        self.fold_column, self.block = fold_column, block
        self.training_fraction = checked_fraction(training_fraction)
        self.columns: dict[str, Any] = {"sequence": sequence, "expression": expression}
        self.columns |= {"columns": columns} if columns else {}
        self.activity = activity
        if activity is not None and "*" not in activity and (validation or test):
            raise InputError(
                f"dataset.activity={activity} is one table, and there are several FASTA: write * for the path of each, "
                "without its endings"
            )

    def read(self) -> Split:
        from prixfixe.data.splits import fold_split, fold_text, in_fold

        measurements, content = self._measured()
        check_expression(measurements, self.path)
        said = list(measurements.remarks)
        if self.folds is not None:
            own, without = " validates on one of its folds", f", without dataset.folds={self.folds},"
            said = [remark.replace(own, without + own) for remark in said]
            content += "" if self.block is None else f" block={self.block}"
        if self.folds is not None and not self.own_test_fold:
            measurements = self._dealt(measurements)
        rows, test = np.arange(len(measurements)), None
        if self.test is not None:
            test, other_content = self._other_table(self.test, measurements, said)
            content += f" test={other_content}"
        elif self.test_fold is not None:
            tested = in_fold(measurements, self.test_fold)
            rows, test = np.flatnonzero(~tested), measurements[tested]
            content += f" test_fold={fold_text(self.test_fold)}"
        elif len(rows := self._without_test_rows(measurements)) < len(measurements):
            said.append(
                f"{counted(len(measurements) - len(rows), 'row')} of {self.path} in fold {TEST} left out of training: "
                f"dataset.test_fold={TEST} scores them at the end"
            )
        if len(rows) < len(measurements):
            measurements = measurements[rows]
        if self.own_test_fold:
            measurements = self._dealt(measurements)
        if self.validation is not None:
            validation, other_content = self._other_table(self.validation, measurements, said)
            train, content = measurements, f"{content} {other_content}"
        elif self.fold is not None:
            trained, held_out = fold_split(measurements, self.fold)
            train, validation = measurements[trained], measurements[held_out]
        else:
            drawn = self._drawn(measurements, content)
            train, validation = measurements[drawn.train], measurements[drawn.validation]
            content += " groups" if drawn.merged else ""  # a split unlike that of version 0.1
            content += "" if self.block is None else f" block={self.block}"
            if 2 * drawn.largest > len(measurements):
                share = drawn.largest / len(measurements)
                said.append(
                    f"{drawn.largest:,} of {counted(len(measurements), 'row')} ({share:.0%}) "
                    "cannot be parted, as each tells of another one (same insert, overlapping windows, or one block): "
                    f"{len(validation):,} are validated on"
                )
        if self.training_fraction < 1:
            train = train[training_share(np.arange(len(train)), self.training_fraction, self.split_seed)]
        enough(validation, self.validation or f"dataset.fold={self.fold} of {self.path}", "validate")
        if test is not None:
            enough(test, self.test or f"dataset.test_fold={self.test_fold} of {self.path}", "test")
        said += _too_few_measured(validation, "validation")
        said += [] if test is None else _too_few_measured(test, "test")
        tests = {} if test is None else {TEST: test}
        warnings = tuple(dict.fromkeys(said))
        split = Split(train, validation, content, simulated=self.simulated, warnings=warnings, tests=tests)
        return self._between_flanks(self._with_leaks(split))

    def _between_flanks(self, split: Split) -> Split:
        """The split with the construct around every sequence, of which its leaks need know nothing."""
        if not any(self.flanks):
            return split

        def flanked(rows: Measurements) -> Measurements:
            return replace(rows, sequences=add_flanks(rows.sequences, *self.flanks))

        tests = {name: flanked(rows) for name, rows in split.tests.items()}
        return replace(split, train=flanked(split.train), validation=flanked(split.validation), tests=tests)

    def _dealt(self, measurements: Measurements) -> Measurements:
        """The rows with the folds that they are dealt into, instead of their own."""
        from prixfixe.data.splits import cluster_folds

        assert self.folds is not None
        made = cluster_folds(measurements, self.folds, seed=self.split_seed, block=self.block)
        return replace(measurements, fold=made)

    def _measured(self) -> tuple[Measurements, str]:
        """All rows of `path`, with their own folds where these are asked for; and a hash of their content."""
        own_folds = self.own_test_fold or (
            self.folds is None and (self.fold is not None or self.test_fold is not None)
        )
        return self._read(self.path, (self.fold_column or True) if own_folds else None)

    def _read(
        self, path: str, fold: str | bool | None = None, columns: Mapping[str, Any] | None = None
    ) -> tuple[Measurements, str]:
        """A table's rows, with their own folds by the column's name or, if True, by the one that is named so. columns:
        of this table, where they are not those of all."""
        from prixfixe.data.prepared import prepare

        return prepare(path, {**(columns or self.columns), "fold": fold, "activity": self.activity})

    def _other_table(self, path: str, measurements: Measurements, said: list[str]) -> tuple[Measurements, str]:
        """A second table, which measures the same; and its content. Remarks on its reading are added to `said`."""
        other, content = self._read(path)
        if other.tasks != measurements.tasks:
            raise InputError(
                f"{path} measures {', '.join(other.tasks)} but {self.path} measures "
                f"{', '.join(measurements.tasks)}; "
                "both tables need the same expression columns"
            )
        check_expression(other, path)
        said += [remark if remark.startswith(printable(path)) else f"{path}: {remark}" for remark in other.remarks]
        return other, content

    def _without_test_rows(self, measurements: Measurements) -> np.ndarray:
        """The rows that are not in a fold called test, where another fold of the table's own is validated on."""
        from prixfixe.data.splits import fold_names, fold_text, in_fold

        own = fold_names(measurements) if self.fold is not None and self.folds is None else []
        if TEST in fold_text(self.fold or "").split(",") or TEST not in [str(name).lower() for name in own]:
            return np.arange(len(measurements))
        return np.flatnonzero(~in_fold(measurements, TEST))

    def _drawn(self, measurements: Measurements, content: str) -> Draw:
        """`draw` of the rows, cached as one bit a row: of millions it takes half a minute, and every job of a sweep
        asks. content: a hash of the rows."""
        from prixfixe.data.prepared import remembered
        from prixfixe.data.splits import Draw, draw

        fraction, seed = self.validation_fraction, self.split_seed

        def compute() -> dict[str, Any]:
            drawn = draw(measurements, validation_fraction=fraction, seed=seed, block=self.block)
            held_out = np.zeros(len(measurements), dtype=bool)
            held_out[drawn.validation] = True
            bits = base64.b64encode(np.packbits(held_out).tobytes()).decode()
            return {"held_out": bits, "merged": drawn.merged, "largest": drawn.largest}

        key = {"draw": DRAWS, "content": content, "columns": self.columns, "fraction": fraction, "seed": seed}
        key |= {} if self.block is None else {"block": self.block}
        found = remembered(key, compute)
        bits = np.frombuffer(base64.b64decode(found["held_out"]), dtype=np.uint8)
        held_out = np.unpackbits(bits, count=len(measurements)).astype(bool)
        return Draw(np.flatnonzero(~held_out), np.flatnonzero(held_out), found["merged"], found["largest"])

    def _with_leaks(self, split: Split) -> Split:
        """The split with what is to be said of held-out sequences that training has seen, or nearly so. Cached, since
        large sets take seconds and every job of a sweep asks."""
        from prixfixe.data.near_duplicates import STRETCH, NearDuplicates, near_duplicates
        from prixfixe.data.prepared import remembered
        from prixfixe.data.splits import straddling

        drawn = self.validation is None and self.fold is None  # in groups, so that none stands on both sides

        def count() -> dict[str, Any]:
            found = {}
            for part, held_out in (("validation", split.validation), ("test", split.test)):
                if held_out is not None:
                    near = near_duplicates(held_out.sequences, split.train.sequences)
                    parted = drawn and part == "validation"
                    found[part] = {"near": asdict(near), "both": 0 if parted else straddling(split.train, held_out)}
            return found

        settings = [self.validation_fraction, self.split_seed, self.fold, self.folds, self.test_fold]
        settings += [] if self.training_fraction == 1 else [self.training_fraction]
        settings += [] if self.fold_column is None else [self.fold_column]
        key = {"leaks": LEAKS, "content": split.content, "columns": self.columns, "settings": settings}
        said = list(split.warnings)
        counts = remembered(key, count)
        for part, found in counts.items():
            held_out = split.validation if part == "validation" else split.test
            assert held_out is not None
            near = NearDuplicates(**found["near"])
            if both := found["both"]:
                said.append(
                    f"{both} of the {len(held_out)} {part} sequences stand in training as well (or as their reverse "
                    f"complement, their insert on either strand, or a window that overlaps){self._advice(part)}"
                )
            if near.count > both:
                said.append(
                    f"{near.text(f'{part} sequence')} share a stretch of {STRETCH} nt or more with a training "
                    f"sequence, so that their scores tell of memory as well{self._advice(part)}"
                )
        share = NearDuplicates(**counts["validation"]["near"]).share
        return replace(split, warnings=tuple(said), near_duplicates=share)

    def _advice(self, part: str) -> str:
        """What to type so that similar sequences stand on one side."""
        others = [name for name in ("validation", "test") if getattr(self, name) is not None]
        if self.folds is not None:
            return "; dataset.test_fold=N instead of dataset.test tests on another of the folds" if others else ""
        tested = " dataset.test_fold=1" if part == "test" or self.test_fold is not None else ""
        instead = f" instead of {' and '.join(f'dataset.{name}' for name in others)}" if others else ""
        own = "".join(f" dataset.{name}=null" for name in ("block", "fold_column") if getattr(self, name) is not None)
        return f"; with dataset.folds=10 dataset.fold=0{tested}{own}{instead}, similar sequences stand on one side"


def enough(measurements: Measurements, where: str, purpose: str) -> None:
    """Raises InputError for a part that is too small to score on."""
    from prixfixe.data.splits import FEWEST_VALIDATION

    if len(measurements) < FEWEST_VALIDATION:
        raise InputError(
            f"{where}: too few sequences to {purpose} on ({len(measurements)}); at least {FEWEST_VALIDATION} are needed"
        )


def _too_few_measured(held_out: Measurements, part: str) -> list[str]:
    """Which of several tasks add nothing to the scores, a sentence each."""
    from prixfixe.tasks.metrics import FEWEST_MEASURED

    if held_out.expression.ndim == 1 or not held_out.tasks:
        return []
    counts = (~np.isnan(held_out.expression)).sum(axis=0).tolist()
    if max(counts) < FEWEST_MEASURED:
        raise InputError(
            f"no task is measured in {FEWEST_MEASURED} or more of the {len(held_out)} {part} sequences: hold out "
            "others, or more of them"
        )
    return [
        f"{printable(task, 100)} is measured in {count} of the {len(held_out)} {part} sequences, too few to score: "
        "the scores are of the other tasks"
        for task, count in zip(held_out.tasks, counts, strict=True)
        if count < FEWEST_MEASURED
    ]


def checked_fraction(training_fraction: float) -> float:
    if not 0 < training_fraction <= 1:
        raise InputError(
            f"dataset.training_fraction={training_fraction}: a share of the training rows, above 0, up to 1"
        )
    return training_fraction


def training_share(rows: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """A share of the training rows drawn after the split, in their order, at least one; all of them where it is 1.

    Of one seed a smaller share lies within a larger one, so that what differs between the two is only how much there
    is to learn from (Kwak et al. 2024 train on 10 % and 2 %).
    """
    drawn = np.random.default_rng(seed).permutation(len(rows))[: max(1, round(fraction * len(rows)))]
    return rows[np.sort(drawn)]
