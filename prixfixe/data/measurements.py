"""Sequences with what was measured of them: the one form in which data enters the framework."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from prixfixe.data.sequences import Sequences


@dataclass(frozen=True)
class Measurements:
    """n sequences and their measured expression.

    expression: float64, shape (n,) for one task or (n, tasks), in the measurement's own units.
    tasks: a name for each expression column.
    fold: int64 or text, shape (n,), the data's own split into folds, where it has one.
    fold_column: that column's name; None without a header.
    regions: int64, shape (n, 3), where the sequences lie in a genome, where the data say so: a number for the
    chromosome, the first position and the one after the last; a row of -1 where that is not known.
    """

    sequences: Sequences
    expression: np.ndarray
    tasks: tuple[str, ...] = ("expression",)
    fold: np.ndarray | None = None
    fold_column: str | None = None
    regions: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, rows: np.ndarray | slice) -> Measurements:
        fold, regions = (None if column is None else column[rows] for column in (self.fold, self.regions))
        return replace(
            self, sequences=self.sequences[rows], expression=self.expression[rows], fold=fold, regions=regions
        )
