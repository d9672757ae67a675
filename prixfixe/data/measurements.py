"""Sequences with what was measured of them: the one form in which data enters the framework."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from prixfixe.common.errors import InputError
from prixfixe.data.columns import is_source
from prixfixe.data.sequences import Sequences

if TYPE_CHECKING:
    from prixfixe.contract import Spec

# A loss squares values and standard deviations in float32: both squares must be among its normal numbers.
LARGEST, SMALLEST_DEVIATION = float(np.finfo(np.float32).max) ** 0.5, float(np.finfo(np.float32).tiny) ** 0.5
COARSEST = 0.01  # of the standard deviation: what rounding to float32 may change a value by


@dataclass(frozen=True)
class Measurements:
    """n sequences and their measured expression.

    expression: float64, shape (n,) for one task or (n, tasks), in the measurement's own units; NaN where a task was not
    measured. Each row has one measurement at least; where nothing is measured at all (`tasks` is empty), as in a
    genome, the shape is (n, 0): for tasks that measure nothing, such as masked.
    tasks: a name for each expression column.
    fold: int64, or str where a fold is no whole number, shape (n,): the data's own split into folds, where it is asked
    for.
    regions: int64, shape (n, 3), where the sequences lie in a genome, where the data say so: a number for the
    chromosome, the first position and the one after the last; a row of -1 where that is not known.
    remarks: what the user should know of how the data were read, a sentence each.
    columns: what else is known of every row, by name: arrays (n, ...) of numbers or words, further sequences, or
    sources that give rows by number. A part that needs one asks for it by its name.
    """

    sequences: Sequences
    expression: np.ndarray
    tasks: tuple[str, ...] = ("expression",)
    fold: np.ndarray | None = None
    regions: np.ndarray | None = None
    remarks: tuple[str, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, rows: np.ndarray | slice) -> Measurements:
        fold, regions = (None if column is None else column[rows] for column in (self.fold, self.regions))
        columns = {}
        for name, column in self.columns.items():
            columns[name] = column.take(rows) if is_source(column) else column[rows]
        return replace(
            self,
            sequences=self.sequences[rows],
            expression=self.expression[rows],
            fold=fold,
            regions=regions,
            columns=columns,
        )

    def column_specs(self) -> dict[str, Spec]:
        """The shapes and dtypes in which parts are given the columns, and the words of each column of groups."""
        import torch

        from prixfixe.contract import Spec

        kinds = {"b": torch.bool, "i": torch.int64, "u": torch.int64, "f": torch.float32}
        specs = {}
        for name, column in self.columns.items():
            if isinstance(column, Sequences):
                specs[name] = Spec((column.longest,), torch.uint8)
            elif column.dtype.kind in kinds:
                specs[name] = Spec(tuple(column.shape[1:]), kinds[column.dtype.kind])
            else:
                specs[name] = Spec((), torch.int64, names=tuple(np.unique(column).tolist()))
        return specs


def standard_deviation(values: np.ndarray) -> float:
    """Of the values that are no NaN, however large they are; NaN where there are none."""
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan")
    scale = float(np.abs(values).max()) or 1.0
    return float((values / scale).std()) * scale


def check_expression(measurements: Measurements, where: str) -> None:
    """Raises InputError, which names task, value and row, where float32 cannot hold the values or tell them apart.

    Networks compute in float32. Values may be as large as its square root allows; their standard deviation, likewise,
    must not be too small; and rounding to float32 must change no value by more than a hundredth of it. A task that is
    the same in every row is not this function's business. where: the file's name.
    """
    columns = np.asarray(measurements.expression, dtype=np.float64).reshape(len(measurements), -1).T
    for task, values in zip(measurements.tasks, columns, strict=True):
        if np.isnan(values).all():
            continue
        row = int(np.nanargmax(np.abs(values)))
        what = f"{where}: {task} is {values[row]:.10g} in row {row + 1} of the {len(values):,} that are used"
        if abs(values[row]) > LARGEST:
            raise InputError(
                f"{what}. Networks compute in float32, which holds the squares of values up to {LARGEST:.0e}: correct "
                "it, or use other units."
            )
        deviation = standard_deviation(values)
        if deviation == 0:
            continue
        if deviation < SMALLEST_DEVIATION:
            raise InputError(
                f"{what}, the largest, and the standard deviation is {deviation:.3g}. Networks compute in float32, "
                f"which needs at least {SMALLEST_DEVIATION:.0e}: use other units."
            )
        error = np.nanmax(np.abs(values - values.astype(np.float32)))
        if error > COARSEST * deviation:
            raise InputError(
                f"{what}, the largest, and the standard deviation is {deviation:.3g}. Networks compute in float32, "
                "which cannot tell such values apart: subtract a constant, such as their mean."
            )
