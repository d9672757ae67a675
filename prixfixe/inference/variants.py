"""Effects of variants: what a model predicts for the window with the alternative allele, less that with the reference.

The window. By default the variant's position stands in its middle, at index width // 2 (0-based) of the window in both
alleles. With regions the window is the region that holds the variant. Either way the alternative's window begins where
the reference's does and is as long: behind a deletion the reference is read on, behind an insertion it is cut at the
end. A region on the minus strand is then turned into its reverse complement.

Predictions and effects are in the measurement's own units (probabilities of a binary task), strands are averaged as in
`predict`. Of a language model the effect is a log-likelihood ratio in nats, see `prixfixe.inference.likelihood`.
"""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prixfixe.common.errors import InputError
from prixfixe.common.text import counted, printable
from prixfixe.data.flanks import add_flanks
from prixfixe.data.measurements import Measurements
from prixfixe.data.reference import Reference, open_reference, read_regions
from prixfixe.data.variants import further_columns, read_variants
from prixfixe.inference.ensemble import spread
from prixfixe.inference.likelihood import log_likelihood_ratios, scores_likelihood
from prixfixe.inference.placement import NAN, Placer, Row, Tally, check, layout, remarks
from prixfixe.inference.predictor import Predictor

if TYPE_CHECKING:
    import pandas as pd

    from prixfixe.analysis.kmer_ridge import KmerRidge

NOTE_UNREAD = "outside of what the recipe reads"


@dataclass(frozen=True)
class Settings:
    """How variants are placed and scored; each as the option of `prixfixe variants` says. columns: a constant for each
    column that the model needs beside the sequences."""

    window: int | None = None
    regions: Path | None = None
    flanks: str | tuple[str, str] | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    keep_going: bool = False
    baseline: bool = False
    batch_size: int | None = None


@dataclass
class Chunk:
    """Rows with the different strings that they are predicted from. at: int64 (n, 2), which string is the reference and
    which the alternative of each row; -1 where there is none."""

    rows: list[Row]
    strings: list[str]
    at: np.ndarray


def chunked(rows: Iterable[Row], size: int, left: str, right: str) -> Iterator[Chunk]:
    """Chunks of at most so many rows and, give or take one, strings; a string that several rows share stands there
    once."""
    numbers: dict[str, int] = {}
    some: list[Row] = []
    at: list[tuple[int, int]] = []

    def chunk() -> Chunk:
        strings = [left + string + right for string in numbers]
        return Chunk(list(some), strings, np.array(at, dtype=np.int64).reshape(-1, 2))

    for row in rows:
        some.append(row)
        if row.note:
            at.append((-1, -1))
        else:
            first = numbers.setdefault(row.reference, len(numbers))
            at.append((first, numbers.setdefault(row.alternative, len(numbers))))
        if len(numbers) >= size or len(some) >= size:
            yield chunk()
            numbers, some, at = {}, [], []
    if some:
        yield chunk()


@dataclass(frozen=True)
class Scored:
    """Rows with their numbers: float64 (n, tasks) each, NaN where a row has a note. reference, alternative: None of a
    language model. spread: the members' standard deviation of the effect; None of a single run. ridge: the effect by
    the k-mer ridge; None without a baseline."""

    rows: list[Row]
    reference: np.ndarray | None
    alternative: np.ndarray | None
    effect: np.ndarray
    spread: np.ndarray | None
    ridge: np.ndarray | None

    def table(self, tasks: tuple[str, ...]) -> dict[str, Any]:
        """Columns of one row a variant, window and task."""
        rows = [row for row in self.rows for _ in tasks]
        columns: dict[str, Any] = {
            "chrom": [row.variant.chrom for row in rows],
            "pos": [row.variant.position for row in rows],
            "ref": [row.variant.ref for row in rows],
            "alt": [row.variant.alt for row in rows],
            "region": [row.region for row in rows],
        }
        if len(tasks) > 1:
            columns["task"] = list(tasks) * len(self.rows)
        numbers = {"reference_prediction": self.reference, "alternative_prediction": self.alternative}
        numbers |= {"effect": self.effect, "spread": self.spread, "ridge_effect": self.ridge}
        columns |= {name: values.reshape(-1) for name, values in numbers.items() if values is not None}
        if self.ridge is not None:
            columns["gc_change"] = [NAN if row.note else gc(row.alternative) - gc(row.reference) for row in rows]
            columns["distance"] = [row.distance for row in rows]
        columns["note"] = [row.note for row in rows]
        return columns


def gc(letters: str) -> float:
    """The share of G and C."""
    return (letters.count("G") + letters.count("C")) / len(letters)


class VariantScorer:
    """The variants of a file as they are to be scored: what the check of all of them found, and the chunks.

    tasks: as the output names them. further: a table's own columns. noted: whether any row has a note. remarks: what to
    say. rows: how many there will be, without those of several tasks.
    """

    def __init__(self, model: Predictor, path: Path, genome: Path, reference: Reference, settings: Settings) -> None:
        self.model, self.path, self.settings = model, path, settings
        self.by_likelihood = scores_likelihood(model)
        if not self.by_likelihood:
            for member in model.members:
                member.predicted  # noqa: B018 - InputError of a task that predicts nothing a sequence
        if settings.regions is not None and settings.window is not None:
            raise InputError("--regions and --window both say what the window is: leave one of them out")
        self.width, self.left, self.right, said = layout(model, settings.window, settings.flanks)
        self.constants = constant_columns(model, settings.columns)
        self.further = further_columns(path)
        regions = None if settings.regions is None else read_regions(settings.regions, reference)
        most = model.longest - len(self.left) - len(self.right)
        self.placer = Placer(reference, self.width, regions, most, self.by_likelihood)
        self.tally = Tally()
        for _ in self.placer.rows(read_variants(path), self.tally):
            pass
        check(self.tally, printable(path), printable(genome), reference, settings.keep_going)
        self.rows = self.tally.rows
        self.noted = bool(self.tally.notes) or self.by_likelihood
        said_of_window = f"windows of {self.width} nt, the variant at index {self.width // 2} (0-based)"
        self.remarks = [said_of_window] if regions is None else []
        self.remarks += [*([said] if said else []), *reference.remarks]
        found = self.tally.checked - self.tally.mismatched
        self.remarks.append(f"{found:,} of {counted(self.tally.checked, 'REF')} are what stands in the genome")
        self.remarks += remarks(self.tally, most)
        self.ridge: KmerRidge | None = None
        if settings.baseline:
            from prixfixe.analysis.kmer_ridge import ridge_of

            self.ridge = ridge_of(model)
            self.remarks.append(self.ridge.description)

    @property
    def columns(self) -> dict[str, str]:
        """The columns of the table, and their kinds (`prixfixe.common.table_writer`)."""
        kinds = {"chrom": "name", "pos": "integer", "ref": "name", "alt": "name", "region": "name"}
        kinds |= {"task": "name"} if len(self.model.tasks) > 1 else {}
        predictions = [] if self.by_likelihood else ["reference_prediction", "alternative_prediction"]
        several = ["spread"] if len(self.model.members) > 1 else []
        baseline = ["ridge_effect", "gc_change", "distance"] if self.settings.baseline else []
        kinds |= dict.fromkeys([*predictions, "effect", *several, *baseline], "number")
        kinds |= {"note": "name"} if self.noted else {}
        if both := [name for name in self.further if name in kinds]:
            raise InputError(
                f"{printable(self.path)} has a column {printable(both[0])}, and so has the output: rename it first"
            )
        return kinds | dict.fromkeys(self.further, "name")

    def values(self, scored: Scored) -> list[Any]:
        """The values of `columns`."""
        table = scored.table(self.model.tasks)
        if self.further:
            cells = [row.variant.further for row in scored.rows for _ in self.model.tasks]
            table |= dict(zip(self.further, map(list, zip(*cells, strict=True)), strict=True))
        return [table[name] for name in self.columns]

    def chunks(self) -> Iterator[Chunk]:
        """All rows, read anew."""
        rows = self.placer.rows(read_variants(self.path), Tally())
        return chunked(rows, self.model.chunk_rows(self.settings.batch_size), self.left, self.right)

    def scored(self, chunks: Iterable[Chunk]) -> Iterator[Scored]:
        """The numbers of one chunk after the other."""
        return self._by_likelihood(chunks) if self.by_likelihood else self._by_prediction(chunks)

    def _measurements(self, strings: list[str]) -> Measurements:
        strings = strings or ["N"]  # of a chunk that has only notes
        columns = {name: np.repeat(value, len(strings)) for name, value in self.constants.items()}
        return self.model.rows_of(strings, columns)

    def _by_prediction(self, chunks: Iterable[Chunk]) -> Iterator[Scored]:
        waiting: deque[tuple[Chunk, Measurements]] = deque()

        def launched() -> Iterator[Measurements]:
            for chunk in chunks:
                waiting.append((chunk, self._measurements(chunk.strings)))
                yield waiting[-1][1]

        for members in self.model.predict_member_chunks(launched(), batch_size=self.settings.batch_size):
            chunk, given = waiting.popleft()
            reference, alternative = alleles(members.reshape(*members.shape[:2], -1), chunk.at)
            effect, ridge = alternative - reference, None
            if self.ridge is not None:
                by_ridge = self.ridge.predict(add_flanks(given.sequences, *self.model.flanks))
                first, second = alleles(by_ridge[None], chunk.at)
                ridge = (second - first)[0]
            width = spread(effect) if len(effect) > 1 else None
            means = [values.mean(axis=0) for values in (reference, alternative, effect)]
            yield Scored(chunk.rows, means[0], means[1], means[2], width, ridge)

    def _by_likelihood(self, chunks: Iterable[Chunk]) -> Iterator[Scored]:
        for chunk in chunks:
            given, at = self._measurements(chunk.strings), chunk.at
            there = np.flatnonzero(at[:, 0] >= 0)
            effect = np.full((len(self.model.members), len(at), 1), np.nan)
            if len(there):
                pair = given[at[there, 0]], given[at[there, 1]]
                effect[:, there, 0] = log_likelihood_ratios(self.model, *pair, self.settings.batch_size)
            for row in there[np.isnan(effect[:, there, 0]).any(axis=0)]:
                chunk.rows[row].note = NOTE_UNREAD
            width = spread(effect) if len(effect) > 1 else None
            yield Scored(chunk.rows, None, None, effect.mean(axis=0), width, None)


def alleles(values: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values of each row's two strings, (members, n, tasks) both; NaN where there is none. values: (members,
    strings, tasks)."""
    nothing = np.full((len(values), 1, values.shape[2]), np.nan)
    known = np.concatenate([values, nothing], axis=1)  # whose last one is number -1
    return known[:, at[:, 0]], known[:, at[:, 1]]


def constant_columns(model: Predictor, given: Mapping[str, Any]) -> dict[str, Any]:
    """A value for each column that the model needs, which all rows share: a number, or a word. InputError where one is
    missing, left over, or no number."""
    if missing := [name for name in model.needs if name not in given]:
        raise InputError(
            f"{model.name} needs the columns {', '.join(model.needs)} beside the sequences: give each of them one "
            f"value for all windows, with --column {missing[0]}=VALUE (columns={{'{missing[0]}': VALUE}} in Python)"
        )
    if unknown := [name for name in given if name not in model.needs]:
        raise InputError(
            f"--column {printable(unknown[0], 100)}: {model.name} needs {', '.join(model.needs) or 'no columns'}"
        )
    values: dict[str, Any] = {}
    for name in model.needs:
        kind = model.source(name).kind
        if kind == "file":
            raise InputError(f"{model.name} needs the column {name}, whose rows stand in a file: no constant fits")
        try:
            values[name] = float(given[name]) if kind in ("number", "contains") else str(given[name])
            finite = isinstance(values[name], str) or math.isfinite(values[name])
        except ValueError:
            finite = False
        if not finite:
            raise InputError(f"--column {name}={printable(given[name], 40)}: a finite number is needed")
    return values


@contextmanager
def prepared(model: Predictor, path: Path, genome: Path, settings: Settings) -> Iterator[VariantScorer]:
    """Yields the work to be done, once all of the file has been checked against the genome. InputError where anything
    cannot be used."""
    with open_reference(genome) as reference:
        yield VariantScorer(model, path, genome, reference, settings)


def variants(model: Predictor, path: Path, genome: Path, settings: Settings) -> pd.DataFrame:
    """The table of `Predictor.variants`; what there is to say is said as warnings."""
    import pandas as pd

    with prepared(model, path, genome, settings) as work:
        for remark in remarks(work.tally, work.placer.most):
            warnings.warn(remark, stacklevel=3)
        names = list(work.columns)
        scored = work.scored(work.chunks())
        tables = [pd.DataFrame(dict(zip(names, work.values(one), strict=True))) for one in scored]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=names)
