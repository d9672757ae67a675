"""What predictions are scored on: sequences, their measured expression, and subsets of them.

A plain table of sequence and expression is a test set: all of its rows are scored, each of its expression columns as a
task. `prixfixe.dream.testset` reads the challenge's, which have weighted subsets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from prixfixe.data.columns import ColumnSource
from prixfixe.data.measurements import check_expression
from prixfixe.data.sequences import Sequences, padded_chunks
from prixfixe.data.tables import OPTIONS, read_measurements

HASHED_AT_ONCE = 1 << 24  # nucleotides
MOST_PADDED = 1 << 32  # nucleotides that version 0.1 would have padded a fingerprint's sequences to; more: unpadded
ABOUT_SIMULATION = "about.json"  # stands only in test sets that the simulated assay made


@dataclass(frozen=True)
class TestSet:
    """n sequences, their measured expression, and the rows that make each subset.

    expression: float64, shape (n,), on a scale of its own: only correlations compare it with a model's predictions,
    unless it was measured like the training data. (n, tasks) of a plain table with several columns of it.
    subsets: name -> sorted, unique 0-based rows, int64: (m,) positions, or (m, 2) pairs as alternative, reference.
    The first is `all`: every row, or every row that is not left out.
    simulated: whether it comes from the simulated assay, and its scores must be labelled so.
    tasks: the names of a plain table's expression columns; empty for a folder.
    remarks: what the user should know of how a plain table was read, a sentence each.
    weights: of every subset that such a test set may have, in the weighted scores; empty for a plain table.
    columns: of a plain table, what else was asked for, as `Measurements.columns`.
    """

    __test__ = False  # pytest takes a class of this name for tests

    sequences: Sequences
    expression: np.ndarray
    subsets: dict[str, np.ndarray]
    simulated: bool = False
    tasks: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    columns: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.sequences)

    def fingerprint(self) -> str:
        """A hash of the sequences and their expression: predictions with the same one can be compared."""
        digest = hashlib.blake2b(digest_size=8)
        lengths, longest = self.sequences.lengths, self.sequences.longest
        digest.update(np.ascontiguousarray(lengths).tobytes())
        if len(self) * longest <= MOST_PADDED:
            for rows in padded_chunks(np.full(len(self), longest), letters=HASHED_AT_ONCE, rows=len(self)):
                digest.update(self.sequences[rows].padded(longest).tobytes())
        else:
            digest.update(np.ascontiguousarray(self.sequences.letters).data)
        digest.update(np.ascontiguousarray(self.expression).tobytes())
        return digest.hexdigest()


def read_test_table(
    path: str | Path,
    *,
    sequence: str | None = None,
    expression: Sequence[str] | None = None,
    columns: Sequence[ColumnSource] = (),
) -> TestSet:
    """Reads a plain table, as `read_measurements` does, as a test set of which only `all` is scored."""
    measured = read_measurements(path, sequence=sequence, expression=expression, columns=columns, advice=OPTIONS)
    check_expression(measured, str(path))
    simulated = (Path(path).parent / ABOUT_SIMULATION).exists()
    return TestSet(
        measured.sequences,
        measured.expression,
        {"all": np.arange(len(measured))},
        simulated,
        measured.tasks,
        measured.remarks,
        columns=measured.columns,
    )
