"""Columns of a dataset that are not in memory: rows are read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeGuard, runtime_checkable

import numpy as np


@runtime_checkable
class RowSource(Protocol):
    """What gives rows by number: a memory-mapped array (`Mapped`), or a reader of another kind of file."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """The values of some rows: they are read now."""

    def take(self, rows: slice | np.ndarray) -> RowSource:
        """A source of some rows alone: nothing is read."""


class Mapped:
    """Some rows of an array in a memory-mapped file. array: (n, ...). rows: int64 (m,); None is all."""

    def __init__(self, array: np.ndarray, rows: np.ndarray | None = None) -> None:
        self.array, self.rows = array, rows

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.array.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    def __len__(self) -> int:
        return len(self.array) if self.rows is None else len(self.rows)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        return np.array(self.array[rows if self.rows is None else self.rows[rows]])

    def take(self, rows: slice | np.ndarray) -> Mapped:
        return Mapped(self.array, (np.arange(len(self.array)) if self.rows is None else self.rows)[rows])


def is_source(column: object) -> TypeGuard[RowSource]:
    """Whether a column is read row by row, and is not in memory."""
    return isinstance(column, RowSource) and not isinstance(column, np.ndarray)


def chunks(column: RowSource | np.ndarray, values: int) -> Iterator[np.ndarray]:
    """A column's rows in order, so many at a time that they hold about this many values."""
    rows = max(1, values // max(1, int(np.prod(column.shape[1:]))))
    for first in range(0, len(column), rows):
        yield np.asarray(column[slice(first, first + rows)])
