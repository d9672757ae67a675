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
    fold: int64, shape (n,), the data's own split into folds, where it has one.
    """

    sequences: Sequences
    expression: np.ndarray
    tasks: tuple[str, ...] = ("expression",)
    fold: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, rows: np.ndarray | slice) -> Measurements:
        fold = None if self.fold is None else self.fold[rows]
        return replace(self, sequences=self.sequences[rows], expression=self.expression[rows], fold=fold)
