"""In-silico saturation mutagenesis: what every single substitution does to the prediction (Rafi et al. 2024, Methods).

An effect is the prediction of the mutant less that of the sequence as it is given, in the measurement's own units; the
model averages strands as it does in `predict`. Positions are 0-based, in the sequence as given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prixfixe.data.measurements import Measurements
from prixfixe.data.sequences import NUCLEOTIDES, N
from prixfixe.inference.ensemble import spread
from prixfixe.inference.predictor import Predictor

if TYPE_CHECKING:
    import pandas as pd

LETTERS = np.array(list(NUCLEOTIDES))
BASES = 4


@dataclass(frozen=True)
class Mutagenesis:
    """The effects of a sequence's substitutions.

    letters: uint8 (L,), the sequence's codes. reference: the prediction of the sequence as it is, (tasks,). effects:
    float64 (L, 4, tasks), by position and base A C G T; 0 at the base that stands there, NaN where N does. spread: of
    an ensemble, the standard deviation of its members' effects, of the same shape; None of a single run. members: of an
    ensemble, each one's effects, float64 (members, L, 4, tasks).
    """

    letters: np.ndarray
    reference: np.ndarray
    effects: np.ndarray
    spread: np.ndarray | None = None
    members: np.ndarray | None = None

    def mean_effects(self, bases: int) -> np.ndarray:
        """The mean effect of a position: (L, tasks). bases: 3 is the mean over the three substitutions (Rafi et al.
        2024); 4 is that over all four bases, the one that stands there included, whose negative tangermeme and others
        call a projected score; it is 3/4 of the former."""
        return np.asarray(self.effects.sum(axis=1) / bases)

    def attribution(self) -> np.ndarray:
        """How much the base that stands at each position adds to the prediction, beside the mean of all four: (L,
        tasks)."""
        return -self.mean_effects(BASES)

    def arrays(self) -> dict[str, np.ndarray]:
        """effects, prediction (of the sequence as it is), and of an ensemble spread."""
        found = {"effects": self.effects, "prediction": self.reference}
        return found if self.spread is None else {**found, "spread": self.spread}

    def table(self, tasks: Sequence[str]) -> dict[str, Any]:
        """Three rows a position, none where N stands: position, reference, alternative, task (of several), effect, and
        of an ensemble spread."""
        positions = np.flatnonzero(self.letters < N)
        position = positions.repeat(BASES - 1)
        reference = self.letters[position]
        alternative = substitutions(self.letters[positions])
        columns: dict[str, Any] = {}
        repeat = len(tasks)
        columns["position"] = position.repeat(repeat)
        columns["reference"] = LETTERS[reference].repeat(repeat)
        columns["alternative"] = LETTERS[alternative].repeat(repeat)
        if repeat > 1:
            columns["task"] = np.tile(np.array(tasks, dtype=object), len(position))
        columns["effect"] = self.effects[position, alternative].reshape(-1)
        if self.spread is not None:
            columns["spread"] = self.spread[position, alternative].reshape(-1)
        return columns

    def position_table(self, tasks: Sequence[str], bases: int) -> dict[str, Any]:
        """One row a position and task: position, reference, task (of several), effect: the mean over so many bases."""
        position = np.flatnonzero(self.letters < N)
        columns: dict[str, Any] = {"position": position.repeat(len(tasks))}
        columns["reference"] = LETTERS[self.letters[position]].repeat(len(tasks))
        if len(tasks) > 1:
            columns["task"] = np.tile(np.array(tasks, dtype=object), len(position))
        columns["effect"] = self.mean_effects(bases)[position].reshape(-1)
        return columns


def substitutions(letters: np.ndarray) -> np.ndarray:
    """The three bases that do not stand at each position, in alphabetical order, one position after the other: uint8
    (3 * positions,). letters: uint8 (positions,), without N."""
    others = np.tile(np.arange(BASES, dtype=np.uint8), (len(letters), 1))
    return np.asarray(others[others != letters[:, None]])


def mutate_rows(
    model: Predictor, chunks: Iterable[Measurements], *, batch_size: int | None = None
) -> Iterator[Mutagenesis]:
    """The mutagenesis of one sequence after the other, in memory that does not grow with their number.

    chunks: rows as `Predictor.predict_chunks` takes them; every mutant has its row's further columns.
    """
    waiting: deque[_Waiting] = deque()
    rows = model.chunk_rows(batch_size)

    def mutants() -> Iterator[Measurements]:
        pieces: list[Measurements] = []
        count = 0
        for chunk in chunks:
            for row in range(len(chunk)):
                one = chunk[row : row + 1]
                waiting.append(_Waiting(np.array(one.sequences.letters), []))
                for piece in _mutants_of(one, rows):
                    pieces.append(piece)
                    count += len(piece)
                    while count >= rows:
                        whole = concatenated(pieces)
                        yield whole[:rows]
                        pieces, count = ([whole[rows:]], count - rows) if count > rows else ([], 0)
        if count:
            yield concatenated(pieces)

    for members in model.predict_member_chunks(mutants(), batch_size=batch_size):
        values = members.reshape(*members.shape[:2], -1)
        while values.shape[1]:
            first = waiting[0]
            values = first.take(values)
            if first.missing == 0:
                yield waiting.popleft().result()


@dataclass
class _Waiting:
    """A sequence whose mutants are being predicted: those of the sequence itself come first."""

    letters: np.ndarray
    parts: list[np.ndarray]

    @property
    def missing(self) -> int:
        wanted = 1 + (BASES - 1) * int((self.letters < N).sum())
        return wanted - sum(part.shape[1] for part in self.parts)

    def take(self, values: np.ndarray) -> np.ndarray:
        """values: (members, n, tasks), of which those of this sequence are taken; the rest comes back."""
        missing = self.missing
        self.parts.append(values[:, :missing])
        return values[:, missing:]

    def result(self) -> Mutagenesis:
        predictions = np.concatenate(self.parts, axis=1)
        members, _, tasks = predictions.shape
        known = np.flatnonzero(self.letters < N)
        each = np.zeros((members, len(self.letters), BASES, tasks))
        each[:, self.letters == N] = np.nan
        differences = predictions[:, 1:] - predictions[:, :1]
        each[:, known.repeat(BASES - 1), substitutions(self.letters[known])] = differences
        several = (spread(each), each) if members > 1 else (None, None)
        return Mutagenesis(self.letters, predictions[:, 0].mean(axis=0), each.mean(axis=0), *several)


def _mutants_of(row: Measurements, most: int) -> Iterator[Measurements]:
    """A sequence and its mutants, at most so many at a time."""
    letters = np.array(row.sequences.letters)
    known = np.flatnonzero(letters < N)
    position = np.concatenate([[-1], known.repeat(BASES - 1)])
    alternative = np.concatenate([[0], substitutions(letters[known])]).astype(np.uint8)
    for start in range(0, len(position), most):
        where, what = position[start : start + most], alternative[start : start + most]
        mutants = row[np.zeros(len(where), dtype=np.int64)]
        changed = np.flatnonzero(where >= 0)
        mutants.sequences.letters[mutants.sequences.starts[changed] + where[changed]] = what[changed]
        yield mutants


def concatenated(pieces: Sequence[Measurements]) -> Measurements:
    """Rows of which nothing is measured, one piece after the other, with their columns."""
    from prixfixe.data.sequences import Sequences

    if len(pieces) == 1:
        return pieces[0]
    columns: dict[str, Any] = {}
    for name, first in pieces[0].columns.items():
        parts = [piece.columns[name] for piece in pieces]
        columns[name] = (
            Sequences.concatenate(parts)
            if isinstance(first, Sequences)
            else np.concatenate([part[np.arange(len(part))] for part in parts])
        )
    sequences = Sequences.concatenate([piece.sequences for piece in pieces])
    return Measurements(sequences, np.empty((len(sequences), 0)), (), columns=columns)


def mutate(model: Predictor, sequences: Sequence[str], columns: Any, batch_size: int | None) -> pd.DataFrame:
    """The long table of `Predictor.mutate`."""
    import pandas as pd

    tables = []
    for row, one in enumerate(mutagenesis(model, sequences, columns, batch_size)):
        tables.append(pd.DataFrame({"name": str(row), **one.table(model.tasks)}))
    if tables:
        return pd.concat(tables, ignore_index=True)
    none = np.zeros((0, BASES, len(model.tasks)))
    empty = Mutagenesis(np.empty(0, np.uint8), none[0:0], none, none if len(model.members) > 1 else None)
    return pd.DataFrame({"name": [], **empty.table(model.tasks)})


def mutagenesis(
    model: Predictor, sequences: Sequence[str], columns: Any, batch_size: int | None
) -> Iterator[Mutagenesis]:
    """One `Mutagenesis` a sequence, of strings."""
    rows = model.rows_of(sequences, columns)
    model.warn_of_longer(rows.sequences)
    return mutate_rows(model, [rows], batch_size=batch_size)
