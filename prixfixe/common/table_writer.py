"""Long tables as they come, a chunk of rows at a time: TSV, CSV, plain or compressed, or Parquet."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from prixfixe.common.errors import InputError
from prixfixe.common.files import atomic_path, format_by_ending
from prixfixe.common.text import csv_text

# a file's ending -> the format of a table; those of two words are compressed by gzip
FORMATS = {".tsv": "tsv", ".txt": "tsv", ".csv": "csv", ".parquet": "parquet", ".tsv.gz": "tsv.gz", ".csv.gz": "csv.gz"}
MARKS = {"tsv": "\t", "csv": ","}

# Kinds of columns: `name`, text that came from elsewhere, in one line of visible characters; `letters`, which need no
# quotes; `integer`; `number`, with six significant digits, NA where it is NaN.
CELLS = {"name": "%s", "letters": "%s", "integer": "%d", "number": "%.6g"}

Write = Callable[..., None]


@contextmanager
def table_writer(output: Path | None, columns: Mapping[str, str]) -> Iterator[Write]:
    """Yields what writes rows to standard output, as TSV, or to a file that is there whole when all is written, or not
    at all: `write(*values)`, a sequence of values a column each.

    columns: name -> kind. Raises InputError for a file whose ending says no format.
    """
    kind = format_by_ending(output, FORMATS, "tsv")
    if output is None:
        sys.stdout.write("\t".join(columns) + "\n")
        yield lambda *values: _written(sys.stdout.write, as_text("tsv", columns, values))
        return
    with atomic_path(output) as temporary:
        if kind == "parquet":
            with _parquet_writer(temporary, columns) as write:
                yield write
            return
        kind, _, compression = kind.partition(".")
        with (gzip.open if compression else open)(temporary, "wt", encoding="utf-8") as out:
            out.write(MARKS[kind].join(csv_cell(name) if kind == "csv" else name for name in columns) + "\n")
            yield lambda *values: _written(out.write, as_text(kind, columns, values))


def _written(write: Callable[[str], object], text: str) -> None:
    write(text)


def as_text(kind: str, columns: Mapping[str, str], values: Sequence[Any]) -> str:
    """Rows as lines of TSV or CSV. values: a sequence of values a column each."""
    cells: list[Sequence[Any]] = []
    formats: list[str] = []
    for what, column in zip(columns.values(), values, strict=True):
        texts, form = column.tolist() if hasattr(column, "tolist") else column, CELLS[what]
        if what == "name":
            texts = [csv_cell(text) if kind == "csv" else tsv_cell(text) for text in texts]
        elif what == "number" and any(value != value for value in texts):
            texts, form = ["NA" if value != value else form % value for value in texts], "%s"
        cells.append(texts)
        formats.append(form)
    line = MARKS[kind].join(formats) + "\n"
    # one format for all lines: twice as fast as line by line
    return (line * len(cells[0])) % tuple(chain.from_iterable(zip(*cells, strict=True)))


def tsv_cell(name: str) -> str:
    """A name as a cell of TSV: one that begins with a quote would open a quoted cell, and is quoted itself."""
    return '"' + name.replace('"', '""') + '"' if name.startswith('"') else name


def csv_cell(name: str) -> str:
    """A name as a cell of CSV, which no spreadsheet takes for a formula."""
    cell = csv_text(name)
    return '"' + cell.replace('"', '""') + '"' if any(mark in cell for mark in '",') else cell


@contextmanager
def _parquet_writer(path: Path, columns: Mapping[str, str]) -> Iterator[Write]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"name": pa.string(), "letters": pa.string(), "integer": pa.int64(), "number": pa.float64()}
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    with pq.ParquetWriter(path, schema) as parquet:

        def write(*values: Any) -> None:
            arrays = []
            for field, column in zip(schema, values, strict=True):
                arrays.append(pa.array(column, field.type, from_pandas=field.type == pa.float64()))
            parquet.write_table(pa.table(arrays, schema=schema))

        yield write


def check_different(names: Sequence[str]) -> None:
    """InputError where two columns would have one name."""
    if len(set(names)) < len(names):
        raise InputError(f"two tasks have one name ({', '.join(names)}): a table needs a column for each")
