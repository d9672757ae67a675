"""Columns of a dataset beside sequences and measurements: where a table's come from (`dataset.columns`), and those that
are not in memory, whose rows are read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute

from prixfixe.common.errors import InputError
from prixfixe.common.inputs import open_input, readable
from prixfixe.common.text import printable
from prixfixe.data.sequences import DNA, PROTEIN, Alphabet

ALPHABETS: Mapping[str, Alphabet] = {"dna": DNA, "protein": PROTEIN}
KINDS = ("number", "group", *ALPHABETS)
FILE = ".npy"
TAKEN = (
    "x",
    "y",
    "y_probs",
    "sequence",
    "expression",
    "reverse",
    "mask",
    "tokens",
)  # names with a meaning of their own


@dataclass(frozen=True)
class ColumnSource:
    """Where a dataset's column comes from, as `dataset.columns` says it; see docs/tables.md.

    kind: one of `KINDS`; `contains` or `matches`, whether a cell holds `text`, or something that this pattern describes;
    or `file`, whose path is `text`.
    at: the names of the table's columns that it is read from.
    """

    name: str
    kind: str
    at: tuple[str, ...] = ()
    text: str = ""

    @property
    def alphabet(self) -> Alphabet | None:
        return ALPHABETS.get(self.kind)

    def file(self, table: Path) -> Path:
        """Of kind `file`: the array's file. `*` in its name stands for the table's path without its endings."""
        stem = table.with_name(table.name[: -len(endings)] if (endings := "".join(table.suffixes)) else table.name)
        return Path(self.text.replace("*", str(stem))).expanduser()


def column_sources(given: Mapping[str, Any] | None) -> tuple[ColumnSource, ...]:
    """`dataset.columns`, parsed. InputError for a name or a kind that is none."""
    return tuple(_column_source(name, value) for name, value in (given or {}).items())


def _column_source(name: str, value: Any) -> ColumnSource:
    where = f"dataset.columns.{printable(name, 100)}={printable(repr(value), 200)}"
    if not name.isidentifier() or name in TAKEN:
        raise InputError(f"{where}: a name of letters, digits and _, and none of {', '.join(TAKEN)}")
    if value in KINDS:
        return ColumnSource(name, str(value), (name,))
    if isinstance(value, str) and value.endswith(FILE):
        return ColumnSource(name, "file", text=value)
    if isinstance(value, list) and value and len(set(value)) == len(value):
        return ColumnSource(name, "number", tuple(value))
    if isinstance(value, Mapping) and value.keys() == {"column", "contains"} and value["contains"]:
        return ColumnSource(name, "contains", (value["column"],), value["contains"])
    if isinstance(value, Mapping) and value.keys() == {"column", "matches"} and _is_pattern(value["matches"]):
        return ColumnSource(name, "matches", (value["column"],), value["matches"])
    if isinstance(value, Mapping) and value.keys() == {"column", "kind"} and value["kind"] in KINDS:
        return ColumnSource(name, value["kind"], (value["column"],))
    raise InputError(
        f"{where}: choose {', '.join(KINDS)}, a list of columns of numbers, FILE{FILE}, {{column: NAME, kind: KIND}}, "
        "{column: NAME, contains: TEXT} or {column: NAME, matches: REGULAR EXPRESSION}"
    )


def matching(texts: Sequence[str], pattern: str) -> np.ndarray:
    """In which texts a regular expression (RE2, whose time is linear) finds something: bool, shape (n,)."""
    found = pa.compute.match_substring_regex(pa.array(texts, pa.string()), pattern)
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=bool)


def _is_pattern(pattern: object) -> bool:
    try:
        return isinstance(pattern, str) and pattern != "" and not matching([], pattern).any()
    except pa.ArrowInvalid:
        return False


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


def mapped(file: Path, rows: np.ndarray, total: int, table: Path) -> Mapped:
    """Some rows of the array in a file, whose row i belongs to data row i of a table of `total` rows.

    rows: int64 (m,). InputError where it has another number of rows, or is no array of numbers."""
    with open_input(file), readable(file):
        try:
            array = np.load(file, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise InputError(
                f"{printable(file)} is no array that numpy.save has written ({printable(error)})"
            ) from error
    if (
        not isinstance(array, np.ndarray)
        or not array.ndim
        or array.dtype.kind not in "biuf"
        or not array.dtype.isnative
    ):
        raise InputError(f"{printable(file)} holds no rows of numbers in this machine's byte order: save such an array")
    if len(array) != total:
        raise InputError(
            f"{printable(file)} has {len(array):,} rows, and {printable(table)} {total:,}: row i of the one belongs to "
            "data row i of the other, those included that have no measurement"
        )
    return Mapped(array, None if len(rows) == total else rows)


def is_source(column: object) -> TypeGuard[RowSource]:
    """Whether a column is read row by row, and is not in memory."""
    return isinstance(column, RowSource) and not isinstance(column, np.ndarray)


def chunks(column: RowSource | np.ndarray, values: int) -> Iterator[np.ndarray]:
    """A column's rows in order, so many at a time that they hold about this many values."""
    rows = max(1, values // max(1, int(np.prod(column.shape[1:]))))
    for first in range(0, len(column), rows):
        yield np.asarray(column[slice(first, first + rows)])
