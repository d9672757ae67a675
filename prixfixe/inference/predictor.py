"""What can be asked of a trained model, of one run or of several (an ensemble): sequences in, numbers out."""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from prixfixe.common.errors import InputError
from prixfixe.common.text import printable
from prixfixe.data.columns import ColumnSource
from prixfixe.data.flanks import Construct, Flanks
from prixfixe.data.measurements import Measurements
from prixfixe.data.sequences import Sequences
from prixfixe.training.scoring import to_host

if TYPE_CHECKING:
    import pandas as pd

    from prixfixe.inference.attribution import Attribution
    from prixfixe.inference.model import Model
    from prixfixe.inference.motifs import Motifs
    from prixfixe.inference.mutagenesis import Mutagenesis
    from prixfixe.tasks.task import Task

NO_COLUMNS: Mapping[str, Any] = MappingProxyType({})
ROWS, BATCHES = (
    1024,
    4,
)  # at least; launched at a time, so that a GPU has work while the host reads and writes, and no more than it queues


def checked_batch_size(batch_size: int | None) -> int | None:
    """A batch size itself; InputError for anything but None and whole numbers from 1 on."""
    if batch_size is not None and (not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1):
        raise InputError(f"batch_size={printable(batch_size, 40)}: a whole number of sequences, at least 1, or None")
    return batch_size


class Predictor(ABC):
    """`predict` takes strings and gives what the task predicts: expression in the measurement's own units, a
    probability, log counts.

    Of an ensemble that is the mean over its members; `predict_members` gives each one's.
    name: what a message calls it. device: where it computes. needs: the columns that predictions need beside the
    sequences. flanks: what is put around every sequence that is given, left and right.
    simulated: whether a simulated assay had any part in the training.
    """

    name: str
    device: torch.device
    needs: tuple[str, ...]
    flanks: Flanks
    simulated: bool
    task: Task

    @property
    @abstractmethod
    def members(self) -> tuple[Model, ...]:
        """The runs: one, or those of an ensemble."""

    @property
    @abstractmethod
    def predicted(self) -> str:
        """The output that is predicted for every sequence; InputError where the task has none."""

    @property
    @abstractmethod
    def longest(self) -> int:
        """The longest sequence, in nucleotides, that reaches every member's network whole."""

    @abstractmethod
    def cut_off(self, longer: int, total: int) -> str:
        """What to say where so many sequences are longer than that."""

    @abstractmethod
    def source(self, column: str) -> ColumnSource:
        """Where a table has a column of `needs`; InputError where none holds it."""

    @abstractmethod
    def as_column(self, name: str, values: Any, rows: int) -> Any:
        """A column that was given, in the shape and kind of the training data's; InputError where it has another."""

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.task.spec.tasks

    @property
    def remark(self) -> str:
        """What the user should know of the predictions, a sentence; '' where they are of what was measured."""
        said = [member.task.used_in_words(member.network.outputs) for member in self.members]
        if not any(said):
            return ""
        others = said.count("")
        mixed = f"; {others} of the {len(said)} runs have none, and predict what was measured" if others else ""
        return f"{self.name} predicts {next(filter(None, said))}{mixed}"

    @property
    def construct(self) -> Construct | None:
        """How the training sequences were built; None of a run of version 0.1, which kept nothing of it."""
        return self.task.spec.construct

    def predict(
        self,
        sequences: Sequence[str],
        *,
        columns: Mapping[str, Any] = NO_COLUMNS,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """sequences: n strings over A C G T N, either case, of any lengths: the recipe pads and trims as it must.
        columns: what else the model needs (`needs`), a value a sequence each: numbers, strings of a further sequence,
        arrays (n, ...) or row sources. batch_size: how many enter the network at a time, or fewer where memory does not
        hold as many; None is what suits the device.

        Returns float64 (n,), or (n, tasks) for several tasks. Raises InputError for any other character, for an empty
        string, for a column that is missing or does not fit, and where a prediction is not finite.
        """
        return self.predict_members(sequences, columns=columns, batch_size=batch_size).mean(axis=0)

    def predict_members(
        self,
        sequences: Sequence[str],
        *,
        columns: Mapping[str, Any] = NO_COLUMNS,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """The same of each member by itself: float64 (members, n), or (members, n, tasks)."""
        rows = self.rows_of(sequences, columns)
        self.warn_of_longer(rows.sequences)
        return self._of_rows(rows, batch_size)

    def predict_sequences(
        self,
        sequences: Sequences,
        *,
        columns: Mapping[str, Any] = NO_COLUMNS,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """`predict` of sequences that are encoded already. Only one chunk of them is on the device at a time."""
        return self.predict_member_sequences(sequences, columns=columns, batch_size=batch_size).mean(axis=0)

    def predict_member_sequences(
        self,
        sequences: Sequences,
        *,
        columns: Mapping[str, Any] = NO_COLUMNS,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """The same of each member by itself, as `predict_members`."""
        return self._of_rows(self._with_columns(sequences, columns), batch_size)

    def mutate(
        self,
        sequences: Sequence[str],
        *,
        columns: Mapping[str, Any] = NO_COLUMNS,
        batch_size: int | None = None,
    ) -> pd.DataFrame:
        """What every single substitution does: name (the row's number), position, reference, alternative, task (of
        several), effect, and of an ensemble spread. Three rows a position and task; `mutagenesis` gives arrays."""
        from prixfixe.inference.mutagenesis import mutate

        return mutate(self, sequences, columns, batch_size)

    def mutagenesis(
        self,
        sequences: Sequence[str],
        *,
        columns: Mapping[str, Any] = NO_COLUMNS,
        batch_size: int | None = None,
    ) -> Iterator[Mutagenesis]:
        """The same as arrays, one object a sequence: `effects`, (L, 4, tasks), and so on."""
        from prixfixe.inference.mutagenesis import mutagenesis

        return mutagenesis(self, sequences, columns, batch_size)

    def variants(
        self,
        vcf: str | os.PathLike[str],
        *,
        genome: str | os.PathLike[str],
        window: int | None = None,
        regions: str | os.PathLike[str] | None = None,
        flanks: Flanks | None = None,
        columns: Mapping[str, Any] = NO_COLUMNS,
        keep_going: bool = False,
        baseline: bool = False,
        batch_size: int | None = None,
    ) -> pd.DataFrame:
        """The effects of the variants in a VCF, a BCF or a table, as `prixfixe variants` writes them: chrom, pos, ref,
        alt, region, task (of several), reference_prediction, alternative_prediction, effect, and of an ensemble spread.
        columns: one value for all windows of each column that the model needs. See docs/variants.md."""
        from prixfixe.inference.variants import Settings, variants

        bed = None if regions is None else Path(regions)
        settings = Settings(window, bed, flanks, columns, keep_going, baseline, batch_size)
        return variants(self, Path(vcf), Path(genome), settings)

    def design(self, **settings: Any) -> pd.DataFrame:
        """Sequences for a wanted prediction: columns name, sequence, start and changes (of given starts), prediction,
        judge, and spreads of ensembles; see `prixfixe.inference.design.design` for the settings.

        goal: highest, lowest, a number, or disagreement. method: genetic, greedy, gradient or random. judge: a second
        model, which scores what it did not choose. InputError where no sequence keeps to the constraints.
        """
        from prixfixe.inference.design import design

        return design(self, **settings)

    def attribute(
        self,
        sequences: Sequence[str],
        *,
        method: str = "mutagenesis",
        columns: Mapping[str, Any] = NO_COLUMNS,
        seed: int = 0,
        batch_size: int | None = None,
    ) -> pd.DataFrame:
        """What each base adds to the prediction: name (the row's number), position, base, task (of several),
        attribution, and error where sums are promised. method: one of `prixfixe.inference.attribution`."""
        from prixfixe.inference.attribution import attribute

        return attribute(self, sequences, method, columns, seed, batch_size)

    def attributions(
        self,
        sequences: Sequence[str],
        *,
        method: str = "mutagenesis",
        columns: Mapping[str, Any] = NO_COLUMNS,
        seed: int = 0,
        batch_size: int | None = None,
    ) -> Iterator[Attribution]:
        """The same as arrays, one object a sequence: `values`, (L, 4, tasks), and so on."""
        from prixfixe.inference.attribution import attributions

        return attributions(self, sequences, method, columns, seed, batch_size)

    def motifs(
        self,
        sequences: Sequence[str],
        *,
        motifs: str | os.PathLike[str] | Mapping[str, np.ndarray],
        method: str = "mutagenesis",
        columns: Mapping[str, Any] = NO_COLUMNS,
        seed: int = 0,
        stranded: bool | None = None,
        batch_size: int | None = None,
    ) -> Motifs:
        """Which known motifs the model listens to, and what they do: see `prixfixe.inference.motifs`. motifs: a MEME
        file, or probabilities (4, width) by name."""
        from prixfixe.inference.motifs import motifs_of

        settings = {"method": method, "seed": seed, "stranded": stranded, "batch_size": batch_size}
        return motifs_of(self, sequences, motifs, columns, **settings)

    def bundle(self, folder: str | os.PathLike[str], **settings: Any) -> list[str]:
        """Writes all that it takes to use the model elsewhere; see `prixfixe.inference.bundle.write_bundle` for the
        settings. Returns what the user should know. InputError where it was not loaded from run folders."""
        from prixfixe.inference.bundle import write_bundle

        runs = [member.run for member in self.members if member.run is not None]
        if len(runs) < len(self.members):
            raise InputError(f"{self.name} was not loaded from run folders, of which a bundle is made")
        return write_bundle(self, runs, Path(folder), **settings)

    def serve(self, *, host: str = "127.0.0.1", port: int = 8000, name: str = "PrixFixe", **settings: Any) -> None:
        """Serves the model over HTTP as a GAME 1.0 predictor, until it is interrupted; see
        `prixfixe.inference.game.Served` for the settings."""
        from prixfixe.inference.game import Served
        from prixfixe.inference.serve import serve

        cells = settings.pop("cell_types", dict.fromkeys(self.tasks, "unspecified"))
        serve(Served(self, name, cells, **settings), host, port)

    def rows_of(self, sequences: Sequence[str], columns: Mapping[str, Any] = NO_COLUMNS) -> Measurements:
        """Strings and further columns as rows, of which nothing is measured. InputError as `predict`."""
        if isinstance(sequences, (str, Mapping)) or hasattr(sequences, "columns"):
            raise InputError(
                "predict takes a list of sequences: give [sequence] for a single one, or one column of a data frame"
            )
        if unknown := [name for name in columns if name not in self.needs]:
            raise InputError(
                f"column {printable(unknown[0], 100)}: {self.name} needs {', '.join(self.needs) or 'no columns'}"
            )
        strings = list(sequences)
        if wrong := next((number for number, string in enumerate(strings, 1) if not isinstance(string, str)), None):
            raise InputError(f"sequence {wrong} is {strings[wrong - 1]!r}, which is no string")
        if "" in strings:
            raise InputError(f"sequence {strings.index('') + 1} is empty")
        try:
            encoded = Sequences.from_strings(strings)
        except ValueError as error:
            raise InputError(str(error)) from error
        return self._with_columns(encoded, columns)

    def warn_of_longer(self, sequences: Sequences) -> None:
        """A warning where sequences are cut off."""
        if longer := int((sequences.lengths > self.longest).sum()):
            warnings.warn(self.cut_off(longer, len(sequences)), stacklevel=3)

    def _with_columns(self, sequences: Sequences, columns: Mapping[str, Any]) -> Measurements:
        self._check_given(columns)
        given = {name: self.as_column(name, columns[name], len(sequences)) for name in self.needs}
        return Measurements(sequences, np.empty((len(sequences), 0)), (), columns=given)

    def _of_rows(self, rows: Measurements, batch_size: int | None) -> np.ndarray:
        size = self.chunk_rows(batch_size)
        chunks = (rows[start : start + size] for start in range(0, len(rows), size))
        none = np.empty((len(self.members), 0) if len(self.tasks) == 1 else (len(self.members), 0, len(self.tasks)))
        return np.concatenate([none, *self.predict_member_chunks(chunks, batch_size=batch_size)], axis=1)

    def chunk_rows(self, batch_size: int | None = None) -> int:
        """How many sequences to give to `predict_chunks` at a time: whole batches, so that only the last of all is
        smaller."""
        size = checked_batch_size(batch_size) or min(member.at_once.size for member in self.members)
        return size * max(BATCHES, ROWS // size)

    def sources(self, further: Sequence[str] = ()) -> tuple[ColumnSource, ...]:
        """Where a table has the columns that predictions need, and further ones: as the training data had them, or by
        their names."""
        return tuple(self.source(name) for name in dict.fromkeys((*self.needs, *further)))

    def _check_given(self, columns: Mapping[str, Any]) -> None:
        if missing := [name for name in self.needs if name not in columns]:
            raise InputError(
                f"{self.name} needs the columns {', '.join(self.needs)} beside the sequences: {', '.join(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} missing; Model.predict takes them as columns={{NAME: VALUES}}"
            )

    def predict_chunks(
        self, chunks: Iterable[Sequences | Measurements], *, batch_size: int | None = None
    ) -> Iterator[np.ndarray]:
        """The predictions of one chunk after the other, each as from `predict_sequences`, in memory that does not grow
        with their number. A chunk brings the columns that are needed.

        A chunk's predictions are given out once the next chunk has been launched, so that a GPU computes while they are
        used.
        """
        for predictions in self.predict_member_chunks(chunks, batch_size=batch_size):
            yield predictions.mean(axis=0)

    def predict_member_chunks(
        self, chunks: Iterable[Sequences | Measurements], *, batch_size: int | None = None
    ) -> Iterator[np.ndarray]:
        """The same of each member: float64 (members, n), or (members, n, tasks)."""
        checked_batch_size(batch_size)
        wanted = [member.predicted for member in self.members]
        launched: list[Tensor] = []
        for chunk in chunks:
            rows = chunk if isinstance(chunk, Measurements) else self._with_columns(chunk, NO_COLUMNS)
            self._check_given(rows.columns)
            # fetched before the next launch: after it, a GPU would have to finish both first
            ready = [to_host(predictions) for predictions in launched]
            launched = []
            for member, name in zip(self.members, wanted, strict=True):
                launched.append(member.launch(rows, batch_size)[name])
            if ready:
                yield self._finite(np.stack(ready))
        if launched:
            yield self._finite(np.stack([to_host(predictions) for predictions in launched]))

    def output_chunks(
        self, chunks: Iterable[Measurements], *, batch_size: int | None = None
    ) -> Iterator[list[dict[str, np.ndarray]]]:
        """All outputs of one chunk after the other, of each member by name, (n, ...); `combined` makes one of them."""
        for chunk in chunks:
            self._check_given(chunk.columns)
            each = []
            for member in self.members:
                launched = member.launch(chunk, batch_size)
                each.append({name: to_host(output) for name, output in launched.items()})
                self._finite_outputs(each[-1][member.predicted], member)
            yield each

    def combined(self, each: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The outputs of an ensemble from those of its members, as the task says."""
        return dict(each[0]) if len(each) == 1 else self.task.ensemble(each)

    def _finite(self, predictions: np.ndarray) -> np.ndarray:
        """The predictions themselves, (members, ...); InputError where one is not finite, as of damaged weights."""
        for member, own in zip(self.members, predictions, strict=True):
            self._finite_outputs(own, member)
        return predictions

    def _finite_outputs(self, predictions: np.ndarray, member: Model) -> None:
        if not np.isfinite(predictions).all():
            raise InputError(f"{member.name} predicts values that are not finite: its weights are not usable")
