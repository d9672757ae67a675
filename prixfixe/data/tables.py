"""Tables of sequences and measurements: TSV, CSV (plain or gzip) and Parquet, and FASTA for prediction.

What a text file is (gzip, delimiter, header) is found by looking into it, never by its name. Cells are read by pyarrow
and encoded from its buffers batch by batch, so that 6.7 million rows cost seconds and little more than their codes.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import math
import zlib
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from prixfixe.data.measurements import Measurements
from prixfixe.data.sequences import ASCII_TO_CODE, INVALID, Sequences
from prixfixe.errors import InputError

# Column names that need not be told, in order of preference; compared in lower case.
SEQUENCE_NAMES = ("sequence", "seq")
EXPRESSION_NAMES = ("expression", "mean_expression", "mean_value")
FOLD_NAMES = ("fold", "split", "set")
CHROMOSOME_NAMES = ("chrom", "chr", "chromosome", "seqnames", "seqname", "#chrom", "#chr")
START_NAMES = ("start", "chromstart", "chrom_start")
END_NAMES = ("end", "stop", "chromend", "chrom_end")
ID_NAMES = ("id", "seq_id", "sequence_id", "name")

# What to do where a column is not found: "{}" stands for sequence or expression.
OVERRIDES = "Choose one with dataset.{}=NAME"
OPTIONS = "Choose one with --{} NAME"

SAMPLE_ROWS = 100  # rows looked at to find the delimiter and the numeric columns
HEAD_BYTES = 1 << 20  # looked at to find out what a file is
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
BLOCK_BYTES = 2 << 20  # text parsed at a time; no line may be longer; pyarrow reads up to 32 blocks ahead
PARQUET_ROWS = 65_536  # Parquet rows read at a time
FASTA_RECORDS = 65_536  # FASTA records read at a time


def read_measurements(
    path: str | Path,
    *,
    sequence: str | None = None,
    expression: str | Sequence[str] | None = None,
    fold: str | None = None,
    rejected: list[str] | None = None,
    advice: str = OVERRIDES,
) -> Measurements:
    """Reads a table of sequences and expression: TSV or CSV, with or without a header, plain or gzip, or Parquet.

    With a header, `sequence`, `expression` and `fold` name columns. Left out, the sequence is the column named sequence
    or seq, the expression the one named expression, mean_expression or mean_value or else the only numeric one, and
    the fold the one named fold, split or set, if there is one (in any case of letters). Several expression columns make
    several tasks. Where a genome's chromosome, start and end stand in columns named so, they are read as `regions`.
    Without a header the first column is the sequence, the second the expression, and a third of integers the fold.

    Returns sequences in file order, expression of shape (n,) or (n, tasks), and the fold, if any: text where not all of
    them are integers, "" where a cell is empty.
    Raises InputError that names file and line (row, in Parquet) of the first row that cannot be used; where a list is
    given as `rejected`, such rows are left out and described there instead. `advice` says how a column is chosen.
    """
    table = _open(Path(path), advice)
    columns = _measurement_columns(table, sequence, expression, fold)
    blocks: deque[Sequences] = deque()
    values: list[np.ndarray] = []
    cells: dict[int, list[pa.Array]] = {column: [] for column in columns.texts}
    for block, block_values, texts in _blocks(table, columns, rejected):
        blocks.append(block)
        values.append(block_values)
        for column, text in texts.items():
            cells[column].append(text)
    sequences, numbers = _concatenated(blocks), np.concatenate(values)
    region = [cells[column] for column in columns.region]
    return Measurements(
        sequences=sequences,
        expression=numbers[:, 0].copy() if len(columns.tasks) == 1 else numbers,
        tasks=columns.tasks,
        fold=None if columns.fold is None else _labels(cells[columns.fold]),
        fold_column=table.first[columns.fold] if columns.fold is not None and table.has_header else None,
        regions=_regions(region, np.asarray(sequences.lengths)) if region else None,
    )


def first_row(path: str | Path) -> tuple[list[str], bool]:
    """The cells of a table's first row, and whether they are the names of its columns."""
    table = _open(Path(path))
    return table.first, table.has_header


def read_sequences(path: str | Path, *, sequence: str | None = None) -> tuple[Sequences, list[str]]:
    """Reads sequences and their names from FASTA or from a table as in `read_measurements`, without its expression.

    A file of one sequence a line is such a table. The names are, for FASTA, the first word of each header; for a table
    its column named id, seq_id, sequence_id or name, if it has one, or else the row numbers "0", "1", ..., which
    count data rows from 0 as test sets do. Raises InputError as `read_measurements`.
    """
    blocks: deque[Sequences] = deque()
    names: list[str] = []
    for block, block_names in _sequence_blocks(Path(path), sequence):
        blocks.append(block)
        names += block_names
    return _concatenated(blocks), names


def read_sequence_chunks(
    path: str | Path, rows: int, *, sequence: str | None = None
) -> Iterator[tuple[Sequences, list[str]]]:
    """The same, `rows` sequences at a time (the last chunk may have fewer), in memory that does not grow with the file.

    Raises InputError when it comes to a row that cannot be used; `count_sequences` finds it beforehand.
    """
    blocks: deque[Sequences] = deque()
    names: list[str] = []
    for block, block_names in _sequence_blocks(Path(path), sequence):
        blocks.append(block)
        names += block_names
        if len(names) >= rows:
            together = _concatenated(blocks)
            whole = len(names) // rows * rows
            for start in range(0, whole, rows):
                yield together[start : start + rows], names[start : start + rows]
            blocks.append(together[whole:])
            names = names[whole:]
    if names:
        yield _concatenated(blocks), names


def count_sequences(path: str | Path, *, sequence: str | None = None) -> int:
    """How many sequences `read_sequences` reads; raises InputError where it does."""
    return sum(len(block) for block, _ in _sequence_blocks(Path(path), sequence))


# Looking into a file


class _Text:
    """A TSV or CSV file: its columns, its first rows, and its cells batch by batch."""

    def __init__(self, path: Path, head: bytes, advice: str) -> None:
        self.path, self.advice = path, advice
        lines = head.removeprefix(BYTE_ORDER_MARK).splitlines()
        self._blank = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
        lines = lines[self._blank : self._blank + SAMPLE_ROWS]
        if not lines:
            raise InputError(f"{path} is empty: expected a table of sequences.")
        # the mark that most lines hold, the first of equals
        self._delimiter = max("\t,; ", key=lambda mark: sum(mark.encode() in line for line in lines))
        try:
            csv.field_size_limit(BLOCK_BYTES)
            text = [line.decode() for line in lines]
            self._rows = [[cell.strip() for cell in row] for row in csv.reader(text, delimiter=self._delimiter)]
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path} is no table of UTF-8 text ({error}).") from None
        self.first = self._rows[0]
        self.has_header = _looks_like_header(self.first)
        self._misfits: list[tuple[int, str]] = []  # (line, what is wrong) of rows of another width; "" for spaces only

    @property
    def sample(self) -> list[list[str]]:
        return self._rows[1:] if self.has_header else self._rows

    def batches(self, columns: list[int], strict: bool) -> Iterator[list[pa.Array]]:
        """The cells of the chosen columns, as bytes; rows of another width are left out for `describe` to tell."""

        def on_misfit(row: pa.csv.InvalidRow) -> str:
            problem = f"{row.actual_columns} columns where {row.expected_columns} were expected"
            self._misfits.append((row.number, problem if row.text.strip() else ""))
            return "error" if strict and row.text.strip() else "skip"

        with pa.OSFile(str(self.path)) as file:
            try:
                reader = pa.csv.open_csv(
                    pa.CompressedInputStream(file, "gzip") if _is_gzip(self.path) else file,
                    read_options=pa.csv.ReadOptions(
                        column_names=[str(column) for column in range(len(self.first))],
                        skip_rows=self._blank + self.has_header,
                        block_size=BLOCK_BYTES,
                        use_threads=False,  # so that rows of another width come with their line
                    ),
                    parse_options=pa.csv.ParseOptions(
                        delimiter=self._delimiter, ignore_empty_lines=False, invalid_row_handler=on_misfit
                    ),
                    convert_options=pa.csv.ConvertOptions(
                        column_types={str(column): pa.binary() for column in columns},
                        include_columns=[str(column) for column in columns],
                    ),
                )
                for batch in reader:
                    yield batch.columns
            except pa.ArrowInvalid as error:
                for line, problem in self._misfits:
                    if problem:
                        raise InputError(f"{self.path}:{line}: {problem}.") from None
                if "Empty CSV file" in str(error):  # nothing after the header
                    return
                raise

    def describe(self, problems: list[tuple[int, str]], last: int) -> list[str]:
        """Messages, in file order, from (row, what is wrong) and from the rows of another width, up to the last row."""
        end = self._line(last)
        found = [(self._line(row), problem) for row, problem in problems]
        found += [
            (line, problem or "the sequence is empty") for line, problem in self._misfits if problem or line < end
        ]
        return [f"{self.path}:{line}: {problem}." for line, problem in sorted(found)]

    def is_blank_after(self, row: int) -> bool:
        """Whether only empty lines follow the row."""
        with _uncompressed(self.path) as stream:
            seen = max([self._line(row), *(line for line, problem in self._misfits if problem)])
            return not any(line.strip() for line in islice(stream, seen, None))

    def _line(self, row: int) -> int:
        """The line, counted from 1, of a row, counted from 0, that was not left out."""
        line = self._blank + self.has_header + row + 1
        return line + bisect_right(range(len(self._misfits)), line, key=lambda at: self._misfits[at][0] - at)


class _Parquet:
    """A Parquet file, seen as `_Text` is."""

    def __init__(self, path: Path, advice: str) -> None:
        self.path, self.advice = path, advice
        self.has_header = True
        with _explained(path), pa.parquet.ParquetFile(path) as file:
            self.first = list(file.schema_arrow.names)
            first = next(file.iter_batches(batch_size=SAMPLE_ROWS), None)
        if len(set(self.first)) < len(self.first):
            raise InputError(f"{path}: several columns have the same name: {', '.join(self.first)}.")
        self.sample = [] if first is None else [list(map(str, row.values())) for row in first.to_pylist()]

    def batches(self, columns: list[int], strict: bool) -> Iterator[list[pa.Array]]:
        names = [self.first[column] for column in columns]
        with pa.parquet.ParquetFile(self.path) as file:
            for batch in file.iter_batches(batch_size=PARQUET_ROWS, columns=names):
                yield [batch.column(name) for name in names]

    def describe(self, problems: list[tuple[int, str]], last: int) -> list[str]:
        return [f"{self.path}, row {row + 1}: {problem}." for row, problem in problems]

    def is_blank_after(self, row: int) -> bool:
        return False


_Table = _Text | _Parquet


def _open(path: Path, advice: str = OVERRIDES) -> _Table:
    head = _head(path, HEAD_BYTES)
    if head.startswith(b"PAR1"):
        return _Parquet(path, advice)
    if b"\0" in head:
        raise InputError(f"{path} is neither text in UTF-8 nor Parquet: it holds zero bytes.")
    if _is_fasta(head):
        raise InputError(f"{path} is FASTA, which holds no expression: give a table of sequence and expression.")
    return _Text(path, head, advice)


def _is_fasta(head: bytes) -> bool:
    return head.removeprefix(BYTE_ORDER_MARK).lstrip().startswith(b">")


def _head(path: Path, size: int) -> bytes:
    """The first bytes of a file, uncompressed, up to the end of the line in which `size` falls."""
    if path.is_dir():
        raise InputError(f"{path} is a folder: give a file.")
    if not path.exists():
        raise InputError(f"{path} does not exist.")
    with _explained(path), _uncompressed(path) as stream:
        head = stream.read(size)
        return head + stream.readline(BLOCK_BYTES)


def _is_gzip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _uncompressed(path: Path) -> gzip.GzipFile | io.BufferedReader:
    return gzip.open(path) if _is_gzip(path) else open(path, "rb")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What the libraries say of a file that they cannot read becomes an InputError that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {str(error).strip() or type(error).__name__}.") from error


# Choosing columns


@dataclass(frozen=True)
class _Columns:
    """Where things stand in a row: `numbers` holds one column a task, `region` a chromosome, a start and an end."""

    sequence: int
    numbers: tuple[int, ...] = ()
    tasks: tuple[str, ...] = ()
    fold: int | None = None
    region: tuple[int, ...] = ()
    id: int | None = None

    @property
    def texts(self) -> tuple[int, ...]:
        """The columns whose cells no row is refused for."""
        return (*self.region, *(column for column in (self.fold, self.id) if column is not None))


def _looks_like_header(cells: list[str]) -> bool:
    """A header names the sequence column or, if it has several cells, holds neither a number nor nucleotides."""
    if any(cell.lower() in SEQUENCE_NAMES for cell in cells):
        return True
    return len(cells) > 1 and not any(_is_number(cell) or _is_nucleotides(cell) for cell in cells)


def _measurement_columns(
    table: _Table, sequence: str | None, expression: str | Sequence[str] | None, fold: str | None
) -> _Columns:
    asked = [] if expression is None else [expression] if isinstance(expression, str) else list(expression)
    _expect_header_for(table, [name for name in (sequence, *asked, fold) if name is not None])
    if not table.has_header:
        if len(table.first) < 2:
            raise InputError(f"{table.path} has one column: expected a sequence and its expression in each line.")
        has_fold = len(table.first) > 2 and all(_is_integer(row[2]) for row in table.sample if len(row) > 2)
        return _Columns(0, (1,), ("expression",), 2 if has_fold else None)
    sequence_at = _sequence_column(table, sequence)
    numbers = [_named(table, name, "expression") for name in asked] or [_expression_column(table, sequence_at, fold)]
    tasks = tuple(table.first[column] for column in numbers)
    fold_at = _named(table, fold, "fold") if fold is not None else _known(table, FOLD_NAMES)
    region = tuple(at for at in _region_columns(table) if at not in numbers)
    return _Columns(
        sequence_at,
        tuple(numbers),
        tasks,
        fold_at if fold_at not in (*numbers, sequence_at) else None,
        region if len(region) == 3 else (),
    )


def _sequence_columns(table: _Table, sequence: str | None) -> _Columns:
    _expect_header_for(table, [] if sequence is None else [sequence])
    if not table.has_header:
        return _Columns(0)
    at = _sequence_column(table, sequence)
    ids = _known(table, ID_NAMES)
    return _Columns(at, id=ids if ids != at else None)


def _expect_header_for(table: _Table, names: list[str]) -> None:
    """Columns can be named only where the first row holds names; a name asked for and found there makes it a header."""
    if isinstance(table, _Text) and any(name in table.first for name in names):
        table.has_header = True
    if names and not table.has_header:
        raise InputError(
            f"{table.path} has no header, so no column can be chosen by the name {names[0]!r}: "
            "add a header, or leave the names out and put the sequence first and the expression second."
        )


def _sequence_column(table: _Table, name: str | None) -> int:
    at = _named(table, name, "sequence") if name is not None else _known(table, SEQUENCE_NAMES)
    if at is None:
        raise InputError(
            f"{table.path}: no column is named {' or '.join(SEQUENCE_NAMES)}. {_choose(table, 'sequence')}"
        )
    return at


def _region_columns(table: _Table) -> tuple[int, ...]:
    """Where chromosome, start and end stand; () where one of them is not there."""
    found = [_known(table, names) for names in (CHROMOSOME_NAMES, START_NAMES, END_NAMES)]
    return () if None in found else tuple(at for at in found if at is not None)


def _expression_column(table: _Table, sequence_at: int, fold: str | None) -> int:
    at = _known(table, EXPRESSION_NAMES)
    if at is not None and at != sequence_at:
        return at
    taken = {
        sequence_at,
        *_region_columns(table),
        *(at for at, name in enumerate(table.first) if name == fold or name.lower() in FOLD_NAMES + ID_NAMES),
    }
    cells = {
        at: [row[at] for row in table.sample if at < len(row)] for at in range(len(table.first)) if at not in taken
    }
    numeric = [at for at, column in cells.items() if sum(map(_is_number, column)) > len(column) / 2]
    if len(numeric) != 1:
        found = f"{len(numeric)} columns hold numbers" if numeric else "no column holds numbers"
        raise InputError(
            f"{table.path}: no column is named {' or '.join(EXPRESSION_NAMES)}, and {found}. "
            f"{_choose(table, 'expression')}"
        )
    return numeric[0]


def _named(table: _Table, name: str, role: str) -> int:
    if name not in table.first:
        raise InputError(f"{table.path}: there is no column {name!r} for the {role}. {_choose(table, role)}")
    return table.first.index(name)


def _known(table: _Table, names: tuple[str, ...]) -> int | None:
    lower = [name.lower() for name in table.first]
    return next((lower.index(name) for name in names if name in lower), None)


def _choose(table: _Table, role: str) -> str:
    again = ", or several for several tasks" if role == "expression" and table.advice == OPTIONS else ""
    return f"{table.advice.format(role)}{again}; the columns are: {', '.join(table.first)}."


def _is_number(cell: str) -> bool:
    return math.isfinite(_number(cell))


def _is_integer(cell: str) -> bool:
    return _is_number(cell) and float(cell).is_integer()


def _is_nucleotides(cell: str) -> bool:
    return bool(cell) and not cell.strip("ACGTNacgtn")


def _number(cell: str) -> float:
    """The number that a cell holds; NaN where it holds none."""
    try:
        return math.nan if "_" in cell else float(cell)  # Python alone reads 1_0 as a number
    except ValueError:
        return math.nan


# Reading cells


def _sequence_blocks(path: Path, sequence: str | None) -> Iterator[tuple[Sequences, list[str]]]:
    """The sequences and names of a table or of FASTA, as many at a time as are read at once."""
    if _is_fasta(_head(path, HEAD_BYTES)):
        if sequence is not None:
            raise InputError(f"{path} is FASTA: it has no columns, so none can be chosen as the sequence.")
        yield from _fasta_blocks(path)
        return
    table = _open(path, OPTIONS)
    start = 0
    columns = _sequence_columns(table, sequence)
    for block, _, texts in _blocks(table, columns, None):
        rows = range(start, start + len(block))
        yield block, list(map(str, rows)) if columns.id is None else list(map(_text, texts[columns.id].to_pylist()))
        start += len(block)


def _blocks(
    table: _Table, columns: _Columns, rejected: list[str] | None
) -> Iterator[tuple[Sequences, np.ndarray, dict[int, pa.Array]]]:
    """All rows, block by block: sequences, numbers of shape (n, len(columns.numbers)), and the cells of columns.texts.

    Rows that cannot be used raise InputError, or are left out and, at the end, described in `rejected` where that is a
    list.
    """
    chosen = list(dict.fromkeys((columns.sequence, *columns.numbers, *columns.texts)))
    problems: list[tuple[int, str]] = []  # (row, what is wrong)
    start = 0  # row at which the block starts
    last = -1  # last row with any content: empty lines after it are no error
    rows = 0  # that can be used
    with _explained(table.path):
        for arrays in table.batches(chosen, strict=rejected is None):
            cells = dict(zip(chosen, arrays, strict=True))
            flat, lengths = _codes(cells[columns.sequence])
            values = np.empty((len(lengths), len(columns.numbers)))
            for position, column in enumerate(columns.numbers):
                values[:, position] = _numbers(cells[column])
            usable = (lengths > 0) & np.isfinite(values).all(axis=1)
            usable[np.searchsorted(np.cumsum(lengths), np.flatnonzero(flat == INVALID), side="right")] = False
            block = Sequences(flat, lengths)
            if usable.all():
                last = start + len(lengths) - 1
            else:
                has_content = usable.copy()
                for row in np.flatnonzero(~usable).tolist():
                    row_texts = {column: _text(cells[column][row].as_py()) for column in chosen}
                    has_content[row] = any(row_texts.values())
                    problems.append((start + row, _problem(row_texts, columns)))
                last = max(last, start + int(np.flatnonzero(has_content)[-1]) if has_content.any() else -1)
                if rejected is None and problems[0][0] <= last:
                    break
                block, values = block[usable], values[usable]
            texts = {column: cells[column].filter(pa.array(usable)) for column in columns.texts}
            start += len(lengths)
            rows += len(block)
            yield block, values, texts
        if problems and problems[-1][0] > last and table.is_blank_after(last):
            problems = [(row, problem) for row, problem in problems if row <= last]
        described = table.describe(problems, max([last, *(row for row, _ in problems[-1:])]))
    if described and (rejected is None or rows == 0):
        raise InputError(described[0] if rejected is None else f"No row can be used. {described[0]}")
    if rows == 0:
        raise InputError(f"{table.path} has a header but no rows.")
    if rejected is not None:
        rejected.extend(described)


def _codes(cells: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The sequences of a column, one after the other, as codes (INVALID where a letter is none), and their lengths."""
    if cells.type != pa.binary():
        cells = cells.cast(pa.large_binary())
    cells = cells.fill_null(b"")
    kind = np.int32 if cells.type == pa.binary() else np.int64
    _, offset_buffer, letter_buffer = cells.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=kind)[cells.offset : cells.offset + len(cells) + 1]
    letters = np.frombuffer(letter_buffer or b"", dtype=np.uint8)[offsets[0] : offsets[-1]]
    codes = letters.tobytes().translate(ASCII_TO_CODE.tobytes())  # twice as fast as indexing
    return np.frombuffer(codes, dtype=np.uint8), np.diff(offsets).astype(np.int32)


def _numbers(cells: pa.Array) -> np.ndarray:
    """The numbers of a column as float64; NaN where a cell holds none."""
    try:
        text = cells.view(pa.string()) if pa.types.is_binary(cells.type) else cells  # bytes are cast as text only
        numbers: np.ndarray = text.cast(pa.float64()).fill_null(math.nan).to_numpy()
        return numbers
    except pa.ArrowInvalid:  # some cell is no number, or has spaces around it
        return np.array([_number(_text(value)) for value in cells.to_pylist()])


def _text(value: Any) -> str:
    """What a cell holds, as text."""
    return "" if value is None else value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _problem(texts: dict[int, str], columns: _Columns) -> str:
    """What is wrong with a row, of which the texts of the chosen columns are given."""
    sequence = texts[columns.sequence]
    if not sequence:
        return "the sequence is empty"
    for position, letter in enumerate(sequence):
        if letter not in "ACGTNacgtn":
            return f"position {position + 1} of the sequence is {letter!r}, which is no nucleotide (A C G T N)"
    column, role = next(
        (column, role)
        for column, role in zip(columns.numbers, columns.tasks, strict=True)
        if not _is_number(texts[column])
    )
    return f"the {role} {texts[column]!r} is not a finite number" if texts[column] else f"the {role} is empty"


def _labels(blocks: list[pa.Array]) -> np.ndarray:
    """The cells of a column as labels: int64 where all of them are integers, else text; shape (n,)."""
    cells = pa.chunked_array(blocks).combine_chunks().dictionary_encode()
    names = [_text(name).strip() for name in cells.dictionary.to_pylist()] + [""]
    place = cells.indices.fill_null(len(names) - 1).to_numpy()
    used = [names[at] for at in np.unique(place)]
    if all(map(_is_integer, used)):
        return np.array([int(float(name)) if name in used else 0 for name in names], dtype=np.int64)[place]
    return np.array(names)[place]


def _regions(columns: list[list[pa.Array]], lengths: np.ndarray) -> np.ndarray:
    """`regions` of Measurements, of a chromosome, a start and an end. The end is the last position where most windows
    are then as long as their sequences, else the one after it, as in BED."""
    chromosome, *start_and_end = columns
    names = _labels(chromosome).astype(str)
    labels, place = np.unique(names, return_inverse=True)
    numbers = [
        int.from_bytes(hashlib.blake2b(str(label).lower().removeprefix("chr").encode(), digest_size=7).digest(), "big")
        for label in labels
    ]
    regions = np.full((len(names), 3), -1, dtype=np.int64)
    ends = np.stack([np.concatenate([_numbers(block) for block in blocks]) for blocks in start_and_end])
    known = np.flatnonzero((ends >= 0).all(axis=0) & (ends < 2**53).all(axis=0) & (names != ""))
    regions[known, 0] = np.array(numbers, dtype=np.int64)[place[known]]
    regions[known, 1:] = np.sort(ends[:, known], axis=0).T
    if len(known) and (regions[known, 2] - regions[known, 1] + 1 == lengths[known]).mean() > 0.5:
        regions[known, 2] += 1
    return regions


def _concatenated(blocks: deque[Sequences]) -> Sequences:
    """One array from blocks; each block is freed once copied, so that memory holds little twice."""
    lengths = np.concatenate([block.lengths for block in blocks])
    letters = np.empty(int(lengths.sum(dtype=np.int64)), dtype=np.uint8)
    start = 0
    while blocks:
        block = blocks.popleft().letters
        letters[start : start + len(block)] = block
        start += len(block)
    return Sequences(letters, lengths)


def _fasta_blocks(path: Path) -> Iterator[tuple[Sequences, list[str]]]:
    """The sequences and names of FASTA, `FASTA_RECORDS` at a time."""
    before = 0  # records in earlier blocks
    names: list[str] = []
    lines: list[int] = []  # where each record starts
    parts: list[list[bytes]] = []
    with _explained(path), _uncompressed(path) as stream:
        for number, raw in enumerate(stream, start=1):
            line = raw.removeprefix(BYTE_ORDER_MARK).strip()
            if line.startswith(b">"):
                if len(names) == FASTA_RECORDS:
                    yield _records(path, names, lines, parts), names
                    before += len(names)
                    names, lines, parts = [], [], []
                words = line[1:].split(maxsplit=1)
                names.append(words[0].decode(errors="replace") if words else str(before + len(names)))
                lines.append(number)
                parts.append([])
            elif line:
                if wrong := line.translate(None, b"ACGTNacgtn"):
                    raise InputError(
                        f"{path}:{number}: position {line.index(wrong[:1]) + 1} of the line is "
                        f"{wrong[:1].decode(errors='replace')!r}, which is no nucleotide (A C G T N)."
                    )
                parts[-1].append(line)
    yield _records(path, names, lines, parts), names


def _records(path: Path, names: list[str], lines: list[int], parts: list[list[bytes]]) -> Sequences:
    """The sequences of FASTA records from their lines, which hold nucleotides only."""
    letters = [b"".join(part) for part in parts]
    for sequence, name, number in zip(letters, names, lines, strict=True):
        if not sequence:
            raise InputError(f"{path}:{number}: the sequence of {name!r} is empty.")
    lengths = np.fromiter(map(len, letters), dtype=np.int32, count=len(letters))
    flat = np.frombuffer(b"".join(letters).translate(ASCII_TO_CODE.tobytes()), dtype=np.uint8)
    return Sequences(flat, lengths)
