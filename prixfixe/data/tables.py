"""Tables of sequences and measurements: TSV, CSV and Parquet; and sequences from FASTA, for prediction.

What a text file is (compression, mark between cells, header) is found by looking into it, never by its name. Cells are
read batch by batch and encoded from pyarrow's buffers, so that 6.7 million rows cost seconds and little more than their
codes. What a row of text is, is said in `records`.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet

from prixfixe.common.errors import InputError
from prixfixe.common.inputs import open_input
from prixfixe.common.overrides import override, quoted
from prixfixe.common.text import counted, printable
from prixfixe.data.columns import ColumnSource, Mapped, mapped, matching
from prixfixe.data.fasta import fasta_blocks, is_fasta, letter_problem
from prixfixe.data.fasta_table import SEQUENCE, FastaTable, named_activity, published_activity
from prixfixe.data.measurements import Measurements
from prixfixe.data.records import BLANK_ROW, Rows, read_rows, records
from prixfixe.data.sequences import DNA, INVALID, Alphabet, Sequences
from prixfixe.data.streams import LINE_END, PARQUET, explained, line_blocks

# Column names that need not be told, in order of preference; compared in lower case.
SEQUENCE_NAMES = ("sequence", "seq")
EXPRESSION_NAMES = ("expression", "mean_expression", "mean_value")
FOLD_NAMES = ("fold", "folds", "fold_num", "fold_id", "cv_fold", "split", "set", "partition")
CHROMOSOME_NAMES = ("chrom", "chr", "chromosome", "seqnames", "seqname", "#chrom", "#chr")
START_NAMES = ("start", "chromstart", "chrom_start")
END_NAMES = ("end", "stop", "chromend", "chrom_end")
VALIDATION_NAMES = ("val", "valid", "validation", "dev")
ID_NAMES = ("id", "seq_id", "sequence_id", "name")
UNNAMED = re.compile(r"|unnamed: \d+|__index_level_\d+__", re.IGNORECASE)  # how programs name a row's number

# What stands for a measurement that was not made, in lower case: pandas' words, and VCF's point.
MISSING = frozenset(
    (
        *("", ".", "na", "n/a", "nan", "-nan", "<na>", "#na", "#n/a", "#n/a n/a", "null", "none"),
        *("1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
    )
)

# What to do where a column is not found: "{}" stands for sequence or expression.
OVERRIDES = "Choose one with dataset.{}=NAME"
OPTIONS = "Choose one with --{} NAME"

SAMPLE_ROWS = 100  # rows looked at to find the mark between cells, the header and the numeric columns
HEAD_BYTES = 1 << 20  # looked at for them
SAID = ("contains", "matches")  # kinds of columns that any text, and none, says something of
PARQUET_ROWS = 65_536  # Parquet rows read at a time
CHUNK_LETTERS = 1 << 26  # nucleotides that a chunk of sequences may have
SPACES = " \t\u00a0"  # that may stand around what a cell holds
LONGEST_FOLD = 100  # characters of a fold's name
LARGEST_NUMBER = float(np.finfo(np.float32).max)


def read_measurements(
    path: str | Path,
    *,
    sequence: str | None = None,
    expression: str | Sequence[str] | None = None,
    fold: str | bool | None = None,
    columns: Sequence[ColumnSource] = (),
    unmeasured: bool = True,
    rejected: list[str] | None = None,
    advice: str = OVERRIDES,
    activity: str | None = None,
) -> Measurements:
    """Reads a table of sequences and expression: TSV or CSV, with or without a header, plain or compressed, or Parquet;
    or FASTA with a table beside it that measures it row by row (`FastaTable`), as `activity_file` finds it.

    With a header, `sequence` and `expression` name columns. Left out, the sequence is the column named sequence or seq,
    the expression the one named expression, mean_expression or mean_value or else the only numeric one (in any case of
    letters). Several expression columns make several tasks; an empty list of them measures nothing, for task masked.
    Where a genome's chromosome, start and end stand in columns named so, they are read as `regions`.
    Without a header the first column is the sequence and the second the expression.
    fold: the name of the column of folds; True is the one named as in `FOLD_NAMES` or, without a header, the third, if
    there is such a one. Otherwise no column is read as folds, and one so named is told of in the remarks.
    columns: what else is read, as `Measurements.columns`: it must be there in every row that has a measurement.

    Returns sequences in file order, expression of shape (n,) or (n, tasks), and the fold where it is asked for. A
    measurement that is missing (`MISSING`) is NaN; a row without any is left out and counted in the remarks. Where
    `unmeasured` is False, each task must be measured in each row.
    Raises InputError that names file and line (row, in Parquet) of the first row that cannot be used, a row without a
    fold that is asked for among them; where a list is given as `rejected`, such rows are left out and described there
    instead, but for the fold, which is then "". `advice` says how a column is chosen.
    """
    table = _open(Path(path), advice, activity)
    chosen = _measurement_columns(table, sequence, expression, fold, columns)
    blocks: deque[Sequences] = deque()
    others: list[dict[str, Any]] = []
    values: list[np.ndarray] = []
    folds: list[np.ndarray] = []
    regions: list[list[pa.Array]] = []
    tally = _Tally(allowed=unmeasured)
    for block in _blocks(table, chosen, rejected, tally):
        blocks.append(block.sequences)
        others.append(block.others)
        values.append(block.numbers)
        folds.append(block.folds)
        regions.append(block.region)
    sequences, numbers = _concatenated(blocks), np.concatenate(values)
    tally.measured = (~np.isnan(numbers)).sum(axis=0).tolist()
    if 0 in tally.measured:
        task = chosen.tasks[tally.measured.index(0)]
        raise InputError(f"{printable(path)}: {printable(task)} is measured in no row: choose another column.")
    return Measurements(
        sequences=sequences,
        expression=numbers[:, 0].copy() if len(chosen.tasks) == 1 else numbers,
        tasks=chosen.tasks,
        fold=None if chosen.fold is None else _as_folds(np.concatenate(folds)),
        regions=_regions(table, chosen, regions, np.asarray(sequences.lengths)) if chosen.region else None,
        remarks=_remarks(table, chosen, tally, len(sequences)),
        columns=_joined(others, columns, Path(path), tally.rows),
    )


def read_texts(
    path: str | Path, choices: Sequence[tuple[str, ...]]
) -> tuple[tuple[str, ...], Iterator[tuple[int, list[str]]]]:
    """The first of the choices of columns that a CSV with a header has all of; and the lines of its rows, with the
    cells of these columns. Raises InputError where it has none of them, or where a row has another number of cells."""
    head, complete = _head(Path(path))
    table = _Text(Path(path), head, complete, "", marks=",")
    table.take_header()
    names = next((names for names in choices if set(names) <= set(table.first)), None)
    if names is None:
        wanted = ", or ".join(" and ".join(names) for names in choices)
        found = printable(", ".join(table.first))
        raise InputError(f"{table.place(1)}: needs a column {wanted}; found {found}")
    columns = [_named(table, name, "rows") for name in names]

    def looks_like_row(cells: list[bytes], width: int) -> bool:
        return len(cells) == width and all(_is_number(_text(cells[column])) for column in columns)

    def rows() -> Iterator[tuple[int, list[str]]]:
        with explained(path):
            for batch in table.batches(columns, looks_like_row):
                for line, problem in batch.misfits:
                    if problem != BLANK_ROW:
                        raise InputError(f"{table.place(line)}: {problem}.")
                for line, *cells in zip(batch.lines.tolist(), *(cell.to_pylist() for cell in batch.cells), strict=True):
                    yield line, list(map(_text, cells))

    return names, rows()


def first_row(path: str | Path) -> tuple[list[str], bool]:
    """The cells of a table's first row, and whether they are the names of its columns; those without a name are left
    out."""
    table = _open(Path(path))
    return [cell for cell in table.first if cell or not table.has_header], table.has_header


def read_sequences(path: str | Path, *, sequence: str | None = None) -> tuple[Sequences, list[str]]:
    """Reads sequences and their names from FASTA or from a table as in `read_measurements`, without its expression.

    A file of one sequence a line is such a table. The names are, for FASTA, the first word of each header; for a table
    its column named id, seq_id, sequence_id or name, if it has one, or else the row numbers "0", "1", ..., which
    count data rows from 0 as test sets do; all `printable`. Raises InputError as `read_measurements`.
    """
    blocks: deque[Sequences] = deque()
    names: list[str] = []
    for block, block_names in _sequence_blocks(Path(path), sequence):
        blocks.append(block.sequences)
        names += block_names
    return _concatenated(blocks), names


def read_sequence_chunks(
    path: str | Path, rows: int, *, sequence: str | None = None
) -> Iterator[tuple[Sequences, list[str]]]:
    """The same, `rows` sequences at a time, in memory that does not grow with the file: the last chunk may have fewer,
    and so may one of more than `CHUNK_LETTERS` nucleotides.

    Raises InputError when it comes to a row that cannot be used; `count_sequences` finds it beforehand.
    """
    for chunk, names in read_row_chunks(path, rows, sequence=sequence):
        yield chunk.sequences, names


def read_row_chunks(
    path: str | Path, rows: int, *, sequence: str | None = None, columns: Sequence[ColumnSource] = ()
) -> Iterator[tuple[Measurements, list[str]]]:
    """The same with further columns of the table, of rows of which nothing need be measured: no tasks, expression (m,
    0). An array in a file is checked for its number of rows when all have been read."""
    blocks: deque[Sequences] = deque()
    others: list[dict[str, Any]] = []
    names: list[str] = []
    letters = 0
    tally = _Tally()

    def joined(total: int | None = None) -> Measurements:
        sequences = _concatenated(blocks)
        found = _joined(others, columns, Path(path), total)
        return Measurements(sequences, np.empty((len(sequences), 0)), (), columns=found)

    for block, block_names in _sequence_blocks(Path(path), sequence, columns, tally):
        blocks.append(block.sequences)
        others.append(block.others)
        names += block_names
        letters += len(block.sequences.letters)
        if len(names) >= rows or letters >= CHUNK_LETTERS:
            together = joined()
            start = 0
            for stop in _chunk_ends(together.sequences.lengths, rows):
                yield together[start:stop], names[start:stop]
                start = stop
            rest = together[start:]
            blocks.append(rest.sequences)
            others = [_unjoined(rest, columns)]
            names, letters = names[start:], len(blocks[0].letters)
    if names:
        yield joined(tally.rows), names


def _chunk_ends(lengths: np.ndarray, rows: int) -> Iterator[int]:
    """Where whole chunks end: after `rows` sequences, or at once after CHUNK_LETTERS nucleotides."""
    ends, start, before = np.cumsum(lengths, dtype=np.int64), 0, 0
    while start < len(lengths):
        full = int(np.searchsorted(ends, before + CHUNK_LETTERS)) + 1
        stop = min(start + rows, full)
        if stop > len(lengths):
            return
        yield stop
        start, before = stop, int(ends[stop - 1])


def count_sequences(path: str | Path, *, sequence: str | None = None, columns: Sequence[ColumnSource] = ()) -> int:
    """How many sequences `read_sequences` reads; raises InputError where it does, and for a column that is not there or
    cannot be used."""
    tally = _Tally()
    count = sum(len(block.sequences) for block, _ in _sequence_blocks(Path(path), sequence, columns, tally))
    for source in columns:
        if source.kind == "file":
            mapped(source.file(Path(path)), np.arange(count), tally.rows, Path(path))
    return count


# Looking into a file


class _Text:
    """A TSV or CSV file: its columns, its first rows, and its rows block by block."""

    def __init__(self, path: Path, head: bytes, complete: bool, advice: str, marks: str = "\t,; ") -> None:
        self.path, self.advice = path, advice
        self._preamble, start, comment = _preamble(head)
        body = head[start:]
        if not body.strip():
            raise InputError(f"{printable(path)} is empty: expected a table of sequences.")
        samples = {mark: _sample(path, body, mark, complete) for mark in marks}
        # the mark that makes a cell a sequence or its column's name, or else the one that most lines hold; the first of
        # equals
        self._mark = max(samples, key=lambda mark: _fitness(samples[mark]))
        self.first, self._header_lines = samples[self._mark][0]
        rows = [row for row, _ in samples[self._mark]]
        self.sample = rows[1:]
        self._named = False
        names = [cell.strip() for cell in comment.lstrip("#").strip().split(self._mark)]
        if len(names) == len(rows[0]) > 1 and any(name.lower() in SEQUENCE_NAMES for name in names):
            self.first, self._header_lines, self.sample = names, 0, rows  # the header is the last comment
        self.has_header = False
        if _is_header(self.first, self.sample):
            self.take_header()
        else:
            self.sample = rows

    def take_header(self) -> None:
        """The first row names the columns. R leaves out the name of its row names, others that of a last empty
        column."""
        if self.has_header:
            return
        self.has_header = True
        if self.sample and self.sample[0] is self.first:
            self.sample = self.sample[1:]
        if self.sample and all(len(row) == len(self.first) + 1 for row in self.sample):
            empty_last = not any(row[-1] for row in self.sample)
            self.first = [*self.first, ""] if empty_last else ["", *self.first]

    def batches(self, columns: list[int], looks_like_row: Any) -> Iterator[Rows]:
        yield from read_rows(
            self.path,
            self._mark,
            skip=self._preamble + (self._header_lines if self.has_header else 0),
            width=len(self.first),
            columns=columns,
            looks_like_row=partial(looks_like_row, width=len(self.first)),
        )

    def place(self, line: int) -> str:
        return f"{printable(self.path)}:{line}"

    def hint(self, line: int, problem: str) -> str:
        """What else may be wrong with the first row of a table that seems to have no header."""
        if self.has_header or line != self._preamble + 1 or not problem.startswith("position"):
            return ""
        return f" If this line names the columns: {self.advice.format('sequence')}."


class _Parquet:
    """A Parquet file, seen as `_Text` is."""

    def __init__(self, path: Path, advice: str) -> None:
        self.path, self.advice = path, advice
        self.has_header = True
        with open_input(path) as source, explained(path), pa.parquet.ParquetFile(source) as file:
            schema = file.schema_arrow
            self.first = list(schema.names)
            self.types = list(schema.types)
            flat = [name for name, kind in zip(schema.names, schema.types, strict=True) if not pa.types.is_nested(kind)]
            if len(set(self.first)) < len(self.first):
                raise InputError(
                    f"{printable(path)}: several columns have the same name: {printable(', '.join(self.first))}."
                )
            first = next(file.iter_batches(batch_size=SAMPLE_ROWS, columns=flat), None)
        rows = [] if first is None else first.to_pylist()
        self.sample = [[_text(row.get(name)) for name in self.first] for row in rows]

    def take_header(self) -> None:
        pass

    def batches(self, columns: list[int], looks_like_row: Any) -> Iterator[Rows]:
        for column in columns:
            if pa.types.is_nested(self.types[column]) or pa.types.is_temporal(self.types[column]):
                raise InputError(
                    f"{printable(self.path)}: column {printable(self.first[column])!r} is of type "
                    f"{self.types[column]}, which cannot be read: a row needs one sequence or number. Make a "
                    "column of these, or choose another."
                )
        names, start = [self.first[column] for column in columns], 1
        with open_input(self.path) as source, pa.parquet.ParquetFile(source) as file:
            for batch in file.iter_batches(batch_size=PARQUET_ROWS, columns=names):
                yield Rows([batch.column(name) for name in names], np.arange(start, start + len(batch)))
                start += len(batch)

    def place(self, line: int) -> str:
        return f"{printable(self.path)}, row {line}"

    def hint(self, line: int, problem: str) -> str:
        return ""


_Table = _Text | _Parquet | FastaTable


def activity_file(path: str | Path, given: str | None = None) -> Path | None:
    """The table whose rows measure the records of a FASTA: the one given, with the FASTA's path without its endings for
    `*`, or else Sequences_activity_Train.txt beside Sequences_Train.fa. None where `path` is no FASTA."""
    path = Path(path)
    if _is_parquet(path) or not is_fasta(_head(path)[0]):
        if given is not None:
            raise InputError(f"{printable(path)} is no FASTA: its measurements are its own; leave out dataset.activity")
        return None
    if given is not None:
        return named_activity(path, given)
    if (published := published_activity(path)).is_file():
        return published
    raise InputError(
        f"{printable(path)} is FASTA, which holds no expression: give a table of sequence and expression, or put the "
        f"one that measures it row by row beside it as {printable(published.name)}"
    )


def _open(path: Path, advice: str = OVERRIDES, activity: str | None = None) -> _Table:
    if _is_parquet(path):
        return _Parquet(path, advice)
    head, complete = _head(path)
    if is_fasta(head):
        beside = activity_file(path, activity)
        assert beside is not None
        if not _is_parquet(beside) and is_fasta(_head(beside)[0]):
            raise InputError(f"{printable(beside)} is FASTA: give the table that measures {printable(path)}")
        measured = _open(beside, advice)
        measured.take_header()
        return FastaTable(path, measured, advice, _known(measured, ID_NAMES), _known(measured, SEQUENCE_NAMES))
    if re.match(rb"@[^\r\n]*(\r\n|\n|\r)[A-Za-z.*-]+(\r\n|\n|\r)\+", head):
        raise InputError(f"{printable(path)} is FASTQ: convert it to FASTA, for instance with seqtk seq -a.")
    return _Text(path, head, complete, advice)


def _is_parquet(path: Path) -> bool:
    with open_input(path) as file:
        return file.read(len(PARQUET)) == PARQUET


def _head(path: Path) -> tuple[bytes, bool]:
    """The first lines of a text, and whether they are all."""
    head, lines = [], 0
    for block, line in line_blocks(path, size=HEAD_BYTES):
        head.append(block)
        lines = line
        if sum(map(len, head)) >= HEAD_BYTES and lines:
            return b"".join(head), False
    return b"".join(head), True


def _preamble(head: bytes) -> tuple[int, int, str]:
    """The blank lines and comments (`#`) that a text begins with: how many lines and bytes, and the last comment."""
    lines, at, comment = 0, 0, ""
    while at < len(head):
        ends = LINE_END.search(head, at)
        stop, end = (ends.start(), ends.end()) if ends else (len(head), len(head))
        line = head[at:stop].strip()
        if line and not line.startswith(b"#"):
            break
        comment = line.decode() or comment
        lines, at = lines + 1, end
    return lines, at, comment


def _sample(path: Path, body: bytes, mark: str, complete: bool) -> list[tuple[list[str], int]]:
    """The first rows of a text, were its cells divided by that mark, each with how many lines it has."""
    found: list[tuple[list[str], int]] = []
    try:
        every = records(path, body, 0, mark.encode(), last=complete, looks_like_row=lambda cells: False)
        for cells, line, end in every:
            if found:
                found[-1] = (found[-1][0], line - found[-1][1])
            if cells is None or len(found) >= SAMPLE_ROWS:
                return found
            found.append(([cell.decode().strip() for cell in cells], line))
            last = end
        found[-1] = (found[-1][0], len(LINE_END.findall(body[:last])) + 1 - found[-1][1])
    except InputError:  # a quote that is not closed: reading says where
        lines = body.splitlines()[:SAMPLE_ROWS]
        found = [([cell.strip() for cell in line.decode().split(mark)], 1) for line in lines]
    return found


def _fitness(sample: list[tuple[list[str], int]]) -> tuple[bool, int, int]:
    """Whether a mark leaves the sequence column's name whole, how many letters of sequences, and how many rows it
    divides."""
    named = any(cell.lower() in SEQUENCE_NAMES for cell in sample[0][0])
    letters = sum(max((len(cell) for cell in row if _is_nucleotides(cell)), default=0) for row, _ in sample)
    return named, letters, sum(len(row) > 1 for row, _ in sample)


# Choosing columns


@dataclass(frozen=True)
class _Columns:
    """Where things stand in a row: `numbers` holds one column a task, `region` a chromosome, a start and an end,
    `others` what `dataset.columns` asks for."""

    sequence: int
    numbers: tuple[int, ...] = ()
    tasks: tuple[str, ...] = ()
    fold: int | None = None
    region: tuple[int, ...] = ()
    id: int | None = None
    others: tuple[tuple[ColumnSource, tuple[int, ...]], ...] = ()

    def chosen(self) -> list[int]:
        others = [column for column in (self.fold, self.id) if column is not None]
        others += [column for _, places in self.others for column in places]
        return list(dict.fromkeys((self.sequence, *self.numbers, *self.region, *others)))

    def looks_like_row(self, cells: list[bytes], width: int) -> bool:
        """Whether cells split off at every mark may be a row: as many, a sequence where it belongs, and a
        measurement."""
        if len(cells) != width:
            return False
        sequence = cells[self.sequence].strip(b' \t"')
        known = len(sequence) - len(sequence.translate(None, b"ACGTUNacgtun"))
        if not sequence or 2 * known < len(sequence):
            return False
        numbers = [_text(cells[column]).strip('"') for column in self.numbers]
        return not numbers or any(_is_number(cell) or _is_missing(cell) for cell in numbers)


def _is_header(first: list[str], below: list[list[str]]) -> bool:
    """Whether a first row names the columns, judged by the rows below.

    It does where it names the sequence column. Else, of several cells: where no cell of it is like those below that are
    sequences, being no such text or shorter than all of them, and a column of numbers has a word there. Where the rows
    below do not tell, it does if no cell is a number or of nucleotides.
    """
    if any(cell.lower() in SEQUENCE_NAMES for cell in first):
        return True
    if len(first) == 1 and not (below and all(len(row) == 2 for row in below)):
        return False
    no_data = not any(_is_number(cell) or _is_nucleotides(cell) for cell in first)
    if below and all(len(row) == len(first) + 1 for row in below):
        return no_data
    columns = list(zip(*(row for row in below if len(row) == len(first)), strict=True))
    sequences = [at for at, column in enumerate(columns) if 2 * sum(map(_is_nucleotides, column)) > len(column)]
    numbers = [at for at, column in enumerate(columns) if _is_numeric(column)]
    if not sequences:
        return no_data
    short = False
    for at in sequences:
        letters = sum(letter in "ACGTNacgtn" for letter in first[at])
        shortest = min(len(cell) for cell in columns[at])
        if not first[at] or (2 * letters >= len(first[at]) and len(first[at]) >= shortest):
            return False
        short |= 2 * letters >= len(first[at]) and 2 * len(first[at]) > shortest
    if any(not _is_number(first[at]) and not _is_missing(first[at]) for at in numbers):
        return True
    return not short and not any(_is_number(first[at]) for at in numbers)


def _measurement_columns(
    table: _Table,
    sequence: str | None,
    expression: str | Sequence[str] | None,
    fold: str | bool | None,
    others: Sequence[ColumnSource] = (),
) -> _Columns:
    asked = [] if expression is None else [expression] if isinstance(expression, str) else list(expression)
    if len(set(asked)) < len(asked):
        raise InputError(
            f"{printable(table.path)}: a column of expression is given twice: {printable(', '.join(asked))}."
        )
    fold_name = fold if isinstance(fold, str) else None
    _expect_header_for(table, [name for name in (sequence, *asked, fold_name) if name is not None], others)
    if not table.has_header:
        if expression == []:
            return _Columns(0, others=_other_columns(table, others))
        if len(table.first) < 2:
            raise InputError(
                f"{printable(table.path)} has one column: expected a sequence and its expression in each line."
            )
        at = 2 if fold and len(table.first) > 2 else None
        return _Columns(0, (1,), ("expression",), at, others=_other_columns(table, others))
    sequence_at = _sequence_column(table, sequence)
    numbers = [_named(table, name, "expression") for name in asked]
    if not numbers and expression != []:
        numbers = [_expression_column(table, sequence_at, fold_name)]
    tasks = tuple(table.first[column] for column in numbers)
    fold_at = None
    if fold_name is not None:
        fold_at = _named(table, fold_name, "fold")
    elif fold and (known := _known(table, FOLD_NAMES)) not in numbers:
        fold_at = known
    region = tuple(at for at in _region_columns(table) if at not in (*numbers, sequence_at))
    region = region if len(region) == 3 else ()
    return _Columns(sequence_at, tuple(numbers), tasks, fold_at, region, others=_other_columns(table, others))


def _region_columns(table: _Table) -> tuple[int, ...]:
    """Where chromosome, start and end stand; () where one of them is not there."""
    found = [_known(table, names) for names in (CHROMOSOME_NAMES, START_NAMES, END_NAMES)]
    return () if None in found else tuple(at for at in found if at is not None)


def _sequence_columns(table: _Table, sequence: str | None, others: Sequence[ColumnSource]) -> _Columns:
    _expect_header_for(table, [] if sequence is None else [sequence], others)
    if not table.has_header:
        return _Columns(0, others=_other_columns(table, others))
    at = _sequence_column(table, sequence)
    ids = _known(table, ID_NAMES)
    return _Columns(at, id=ids if ids != at else None, others=_other_columns(table, others))


def _other_columns(table: _Table, sources: Sequence[ColumnSource]) -> tuple[tuple[ColumnSource, tuple[int, ...]], ...]:
    """Where further columns stand. One that is to be made of columns that are not there may stand there itself."""
    found, missing, unmade = [], [], []
    for source in sources:
        lacking = [name for name in source.at if name not in table.first]
        if lacking and source.name in table.first:
            source = replace(source, kind="number" if source.kind in SAID else source.kind, at=(source.name,))
            lacking = []
        missing += lacking
        unmade += [source] if lacking else []
        if not lacking:
            found.append((source, tuple(_named(table, name, source.name) for name in source.at)))
    if missing:
        names = ", ".join(printable(name, 100) for name in table.first if not UNNAMED.fullmatch(name))
        several = "columns" if len(missing) > 1 else "column"
        why = "dataset.columns asks for"
        if table.advice == OPTIONS:
            own = ", ".join(source.name for source in unmade)
            flag = any(source.kind in (*SAID, "number") for source in unmade)
            why = f"the run needs: add {own} to the table{' (0 or 1 where it is a flag)' if flag else ''}"
        raise InputError(
            f"{printable(table.path)} has no {several} {printable(', '.join(dict.fromkeys(missing)))}, which "
            f"{why}; its columns are: {names}"
        )
    return tuple(found)


def _expect_header_for(table: _Table, names: list[str], others: Sequence[ColumnSource] = ()) -> None:
    """Columns can be named only where the first row holds names; a name asked for and found there makes it a header."""
    if any(name in table.first for name in (*names, *(name for source in others for name in source.at))):
        table.take_header()
    needed = next((source for source in others if source.at), None)
    if needed is not None and not table.has_header:
        made = "" if needed.at == (needed.name,) else f", read from the column {printable(', '.join(needed.at), 200)}"
        who = "the run needs" if table.advice == OPTIONS else "dataset.columns asks for"
        raise InputError(
            f"{printable(table.path)} has no header, and {who} the column {needed.name}{made}: add a header that names "
            f"the columns, {SEQUENCE_NAMES[0]} and {printable(needed.at[0], 100)} among them"
        )
    if names and not table.has_header:
        raise InputError(
            f"{printable(table.path)} has no header, so no column can be chosen by the name {printable(names[0])!r}: "
            "add a header, or leave the names out and put the sequence first and the expression second."
        )


def _sequence_column(table: _Table, name: str | None) -> int:
    at = _named(table, name, "sequence") if name is not None else _known(table, SEQUENCE_NAMES)
    if at is None:
        raise InputError(
            f"{printable(table.path)}: no column is named {' or '.join(SEQUENCE_NAMES)}. {_choose(table, 'sequence')}"
        )
    return at


def _expression_column(table: _Table, sequence_at: int, fold: str | None) -> int:
    at = _known(table, EXPRESSION_NAMES)
    if at is not None and at != sequence_at:
        return at
    candidates = {}
    for at, name in enumerate(table.first):
        known = name == fold or name.lower() in FOLD_NAMES + ID_NAMES or UNNAMED.fullmatch(name)
        if at != sequence_at and not known:
            candidates[at] = [row[at] for row in table.sample if at < len(row)]
    numeric = [at for at, column in candidates.items() if _is_numeric(column)]
    if len(numeric) != 1:
        found = f"{len(numeric)} columns hold numbers" if numeric else "no column holds numbers"
        for at, column in candidates.items():
            if not numeric and 2 * sum(map(_has_decimal_comma, column)) > len(column):
                example = next(filter(_has_decimal_comma, column))
                found = f"column {printable(table.first[at])!r} holds numbers such as {example!r}; {DECIMAL_COMMA}"
        raise InputError(
            f"{printable(table.path)}: no column is named {' or '.join(EXPRESSION_NAMES)}, and {found}. "
            f"{_choose(table, 'expression')}"
        )
    return numeric[0]


def _named(table: _Table, name: str, role: str) -> int:
    found = [at for at, column in enumerate(table.first) if column == name]
    if not found:
        raise InputError(
            f"{printable(table.path)}: there is no column {printable(name)!r} for the {role}. {_choose(table, role)}"
        )
    return _only(table, found)


def _known(table: _Table, names: tuple[str, ...]) -> int | None:
    lower = [name.lower() for name in table.first]
    name = next((name for name in names if name in lower), None)
    return None if name is None else _only(table, [at for at, column in enumerate(lower) if column == name])


def _only(table: _Table, found: list[int]) -> int:
    if len(found) > 1:
        places = ", ".join(str(at + 1) for at in found)
        raise InputError(
            f"{printable(table.path)}: {len(found)} columns are named {printable(table.first[found[0]])!r} (columns "
            f"{places}): rename all but one, or remove them."
        )
    return found[0]


def _choose(table: _Table, role: str) -> str:
    """What to do where a column cannot be told; the one place that prints names of columns to choose from."""
    role = "fold_column" if role == "fold" and table.advice == OVERRIDES else role  # fold chooses one of its folds
    again = ", or several for several tasks" if role == "expression" and table.advice == OPTIONS else ""
    named = [name for name in table.first if not UNNAMED.fullmatch(name)]
    names = ", ".join(printable(name, 100) for name in named)
    unlike = next((name for name in named if quoted(name) != name), None)
    if table.advice == OVERRIDES and unlike is not None:  # what Hydra takes only in quotes
        again = f" (in quotes where it needs them: {printable(override(f'dataset.{role}', unlike), 200)})"
    return f"{table.advice.format(role)}{again}; the columns are: {names}."


def _remarks(table: _Table, columns: _Columns, tally: _Tally, rows: int) -> tuple[str, ...]:
    """What the user should know of the reading, a sentence each."""
    found = table.remarks() if isinstance(table, FastaTable) else []
    if tally.unmeasured:
        what = "no measurement" if len(columns.tasks) > 1 else f"no {printable(columns.tasks[0], 100)}"
        total = counted(rows + tally.unmeasured, "row")
        found.append(f"{tally.unmeasured:,} of {total} left out: {what} (empty, NA or the like)")
    for task, measured in zip(columns.tasks, tally.measured, strict=True):
        if measured < rows:
            found.append(f"{printable(task, 100)} is measured in {measured:,} of {counted(rows, 'row')}")
    if table.advice != OVERRIDES or columns.fold is not None:
        return tuple(found)
    at = _known(table, FOLD_NAMES) if table.has_header else 2 if len(table.first) > 2 else None
    if at is not None and at not in columns.chosen():
        labels = sorted({row[at] for row in table.sample if at < len(row) and row[at]})
        looks = table.has_header or (all(map(_is_integer, labels)) and 2 <= len(labels) <= SAMPLE_ROWS // 5)
        if looks and labels:
            name = f"a column {printable(table.first[at], 100)}" if table.has_header else "a third column"
            some = ", ".join(printable(label, 30) for label in labels[:4]) + (", ..." if len(labels) > 4 else "")
            held_out = next((label for label in labels if label.lower() in VALIDATION_NAMES), labels[0])
            number = re.fullmatch("[0-9]{1,15}", held_out) is not None  # which needs no quotes
            chosen = f"dataset.fold={held_out}" if number else override("dataset.fold", held_out)
            use = f"{chosen} validates on one of its folds, and trains on the others"
            if len(labels) == 1:  # of the first rows
                use = "where it holds several folds, dataset.fold=NAME validates on one of them"
            found.append(f"{printable(table.path)} has {name} ({some}), which is not used: {use}")
    return tuple(found)


def _is_number(cell: str) -> bool:
    return math.isfinite(_number(cell))


def _is_integer(cell: str) -> bool:
    return _is_number(cell) and float(cell).is_integer()


def _is_missing(cell: str) -> bool:
    return cell.lower() in MISSING


def _is_numeric(column: Sequence[str]) -> bool:
    """Whether more than half of the cells that hold something hold a number."""
    return 2 * sum(map(_is_number, column)) > sum(not _is_missing(cell) for cell in column)


def _is_nucleotides(cell: str) -> bool:
    return bool(cell) and not cell.strip("ACGTUNacgtun")


def _has_decimal_comma(cell: str) -> bool:
    return re.fullmatch(r"[+-]?\d[\d.]*,\d+([eE][+-]?\d+)?|[+-]?\d{1,3}(,\d{3})+\.\d+", cell) is not None


TRUTHS = ("true", "false", "t", "f", "yes", "no")  # of labels, which are numbers here
DECIMAL_COMMA = "a comma is no part of a number here: write a decimal point, and no mark between thousands"


def _number(cell: str) -> float:
    """The number that a cell holds; NaN where it holds none."""
    if not cell.isascii() or set(cell) & set("_\r\n"):  # Python alone reads 1_0 and digits of other scripts
        return math.nan
    try:
        return float(cell)
    except ValueError:
        return math.nan


# Reading cells


@dataclass
class _Tally:
    """Rows that are left out, since they have no measurement; and in how many others each task is measured."""

    allowed: bool = True
    unmeasured: int = 0
    measured: list[int] = field(default_factory=list)
    rows: int = 0  # all of them


@dataclass(frozen=True)
class _Block:
    """Neighbouring rows: sequences, numbers of shape (n, tasks), the fold's names, the cells of chromosome, start and
    end, and ids where there are such columns; further columns by name, of an array in a file the numbers of its
    rows."""

    sequences: Sequences
    numbers: np.ndarray
    folds: np.ndarray
    region: list[pa.Array]
    ids: list[str] | None
    others: dict[str, Any]


def _sequence_blocks(
    path: Path, sequence: str | None, others: Sequence[ColumnSource] = (), tally: _Tally | None = None
) -> Iterator[tuple[_Block, list[str]]]:
    """The sequences and names of a table or of FASTA, as many at a time as are read at once."""
    if not _is_parquet(path) and is_fasta(_head(path)[0]):
        if sequence is not None:
            raise InputError(f"{printable(path)} is FASTA: it has no columns, so none can be chosen as the sequence.")
        if not others:
            nothing = np.empty(0)
            for sequences, names in fasta_blocks(path):
                yield _Block(sequences, nothing, nothing, [], names, {}), names
            return
        headers = FastaTable(path, None, OPTIONS)  # in which what a column says may stand
        in_headers = set(headers.first) if headers.placed else set()
        if missing := [source.name for source in others if not set(source.at) <= in_headers]:
            needed = ", ".join(missing)
            raise InputError(f"{printable(path)} is FASTA: it has no columns, and {needed} is needed; give a table")
        table: _Table = headers
        sequence = SEQUENCE
    else:
        table = _open(path, OPTIONS)
    start = 0
    for block in _blocks(table, _sequence_columns(table, sequence, others), None, tally or _Tally()):
        count = len(block.sequences)
        yield block, [str(row) for row in range(start, start + count)] if block.ids is None else block.ids
        start += count


def _blocks(table: _Table, columns: _Columns, rejected: list[str] | None, tally: _Tally) -> Iterator[_Block]:
    """All rows, block by block.

    Rows that cannot be used raise InputError, or are left out and described in `rejected` where that is a list. Rows
    without a measurement are left out and counted.
    """
    chosen = columns.chosen()
    described: list[str] = []
    rows = 0  # that can be used
    with explained(table.path):
        for batch in table.batches(chosen, columns.looks_like_row):
            cells = dict(zip(chosen, batch.cells, strict=True))
            flat, lengths = _codes(cells[columns.sequence])
            numbers = np.empty((len(lengths), len(columns.numbers)))
            for position, column in enumerate(columns.numbers):
                numbers[:, position] = _numbers(table, column, cells[column])
            folds: np.ndarray = np.empty(0, dtype="<U1") if columns.fold is None else _fold_names(cells[columns.fold])
            others = {source.name: _other(table, source, places, cells) for source, places in columns.others}
            files = [source.name for source, _ in columns.others if source.kind == "file"]
            others |= dict.fromkeys(files, np.arange(tally.rows, tally.rows + len(lengths)))
            tally.rows += len(lengths)
            usable = _readable(flat, lengths)
            doubtful = ~usable | ~np.isfinite(numbers).all(axis=1)
            for values in others.values():
                doubtful |= ~_known_values(values)
            if columns.fold is not None:
                doubtful |= (np.char.str_len(folds) > LONGEST_FOLD) | ((folds == "") & (rejected is None))
            problems = list(batch.misfits)
            for row in np.flatnonzero(doubtful).tolist():
                texts = {column: _text(cells[column][row].as_py()) for column in chosen}
                line = int(batch.lines[row])
                problem = _problem(table, line, texts, columns, tally.allowed, needs_fold=rejected is None)
                usable[row] = problem is None
                if problem is not None:
                    problems.append((line, problem))
            numbers[~np.isfinite(numbers)] = math.nan
            described += [
                f"{table.place(line)}: {problem}.{table.hint(line, problem)}" for line, problem in sorted(problems)
            ]
            if described and rejected is None:
                raise InputError(described[0])
            if columns.numbers:
                measured = ~np.isnan(numbers).all(axis=1)
                tally.unmeasured += int((usable & ~measured).sum())
                usable &= measured
            ids = None
            if columns.id is not None:
                names = cells[columns.id].filter(pa.array(usable)).to_pylist()
                ids = [printable(name, len(name)) for name in map(_text, names)]
            region = [cells[column].filter(pa.array(usable)) for column in columns.region]
            block = Sequences(flat, lengths)
            if not usable.all():
                taken = usable.nonzero()[0]
                block, numbers, folds = block[taken], numbers[usable], folds[usable[: len(folds)]]
                others = {name: values[taken] for name, values in others.items()}
            rows += len(block)
            yield _Block(block, numbers, folds, region, ids, others)
    if rejected is not None:
        rejected.extend(described)
    if rows == 0 and tally.unmeasured:
        raise InputError(
            f"{printable(table.path)}: no row has a measurement ({', '.join(map(printable, columns.tasks))})."
        )
    if rows == 0 and described:
        raise InputError(f"No row can be used. {described[0]}")
    if rows == 0:
        raise InputError(f"{printable(table.path)} has a header but no rows.")


def _readable(flat: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Which sequences have letters, and none that is INVALID: bool (n,)."""
    sound = lengths > 0
    sound[np.searchsorted(np.cumsum(lengths), np.flatnonzero(flat == INVALID), side="right")] = False
    return np.asarray(sound)


def _other(table: _Table, source: ColumnSource, places: tuple[int, ...], cells: dict[int, pa.Array]) -> Any:
    """A further column of some rows: float32 (n,) or (n, k), str (n,), bool (n,), or Sequences; None of a file."""
    if source.kind == "number":
        columns = [_numbers(table, place, cells[place]) for place in places]
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused
            return np.stack(columns, axis=1).astype(np.float32) if len(places) > 1 else columns[0].astype(np.float32)
    if source.kind == "group":
        return _fold_names(cells[places[0]])
    if source.alphabet is not None:
        return Sequences(*_codes(cells[places[0]], source.alphabet), source.alphabet)
    if source.kind == "contains":
        different, which = _different(cells[places[0]])
        return np.array([source.text in _text(value) for value in different], dtype=bool)[which]
    if source.kind == "matches":
        different, which = _different(cells[places[0]])
        return matching([_text(value) for value in different], source.text)[which]
    return None


def _known_values(values: Any) -> np.ndarray:
    """In which rows a further column can be used: bool (n,)."""
    if isinstance(values, Sequences):
        return _readable(values.letters, values.lengths)
    if values.dtype.kind == "U":
        lengths = np.char.str_len(values)
        return np.asarray((lengths > 0) & (lengths <= LONGEST_FOLD))
    return np.asarray(np.isfinite(values).reshape(len(values), -1).all(axis=1))


def _joined(
    blocks: list[dict[str, Any]], sources: Sequence[ColumnSource], table: Path, total: int | None
) -> dict[str, Any]:
    """Further columns from blocks of them, which are let go. total: the rows of the table; None where not all are read
    yet."""
    found: dict[str, Any] = {}
    for source in sources:
        parts = [block.pop(source.name) for block in blocks]
        if source.alphabet is not None:
            found[source.name] = _concatenated(deque(parts))
            continue
        values = np.concatenate(parts)
        if source.kind == "group":
            values = _as_folds(values)
        found[source.name] = values if source.kind != "file" else _rows_of_file(source, table, values, total)
    return found


def _rows_of_file(source: ColumnSource, table: Path, rows: np.ndarray, total: int | None) -> Any:
    if total is not None:
        return mapped(source.file(table), rows, total, table)
    return Mapped(np.load(source.file(table), mmap_mode="r", allow_pickle=False), rows)


def _unjoined(rows: Measurements, sources: Sequence[ColumnSource]) -> dict[str, Any]:
    """Further columns of joined rows as those of a block."""
    found = {}
    for source in sources:
        values = rows.columns[source.name]
        if source.kind == "file":
            values = values.rows
        found[source.name] = values.astype(np.str_) if source.kind == "group" else values
    return found


def _codes(cells: pa.Array, alphabet: Alphabet = DNA) -> tuple[np.ndarray, np.ndarray]:
    """The sequences of a column, one after the other, as codes (INVALID where a letter is none), and their lengths.
    Spaces around them are no part of them."""
    if cells.type != pa.binary():
        cells = cells.cast(pa.large_binary())
    cells = cells.fill_null(b"")
    codes, lengths, letters = _encoded(cells, alphabet)
    if INVALID in codes and bool(((letters == ord(" ")) | (letters == ord("\t"))).any()):
        text = cells.view(pa.string() if cells.type == pa.binary() else pa.large_string())
        trimmed = pa.compute.ascii_trim(text, characters=" \t")
        codes, lengths, _ = _encoded(trimmed.cast(cells.type), alphabet)
    return codes, lengths


def _encoded(cells: pa.Array, alphabet: Alphabet) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    kind = np.int32 if cells.type == pa.binary() else np.int64
    _, offset_buffer, letter_buffer = cells.buffers()
    offsets = np.frombuffer(offset_buffer or bytes(kind().nbytes), dtype=kind)[
        cells.offset : cells.offset + len(cells) + 1
    ]
    letters = np.frombuffer(letter_buffer or b"", dtype=np.uint8)[offsets[0] : offsets[-1]]
    codes = letters.tobytes().translate(alphabet.codes.tobytes())  # twice as fast as indexing
    return np.frombuffer(codes, dtype=np.uint8), np.diff(offsets).astype(np.int32), letters


def _numbers(table: _Table, column: int, cells: pa.Array) -> np.ndarray:
    """The numbers of a column as float64; NaN where a cell holds none."""
    try:
        text = cells.view(pa.string()) if pa.types.is_binary(cells.type) else cells  # bytes are cast as text only
        numbers: np.ndarray = text.cast(pa.float64()).fill_null(math.nan).to_numpy(zero_copy_only=False)
        return numbers.copy()
    except pa.ArrowInvalid:  # some cell is no number, or has spaces around it
        return np.array([_number(_text(value)) for value in cells.to_pylist()])
    except pa.ArrowException as error:
        raise InputError(
            f"{printable(table.path)}: column {printable(table.first[column], 100)!r} is of type {cells.type}, which "
            "holds no numbers: choose another."
        ) from error


def _fold_names(cells: pa.Array) -> np.ndarray:
    """The names of a column's folds, str (n,): whole numbers as such, cut just past the longest that is allowed."""
    if not len(cells):
        return np.empty(0, dtype="<U1")
    different, which = _different(cells)
    names = []
    for value in different:
        name = _text(value)
        whole = _is_integer(name) and abs(float(name)) < 2**53
        names.append(str(int(float(name))) if whole else name[: LONGEST_FOLD + 1])
    return np.array(names, dtype=np.str_)[which]


def _different(cells: pa.Array) -> tuple[list[Any], np.ndarray]:
    """The different values of a column, and which of them each cell holds: int32 (n,)."""
    plain = cells.dictionary_decode() if pa.types.is_dictionary(cells.type) else cells
    encoded = plain.dictionary_encode(null_encoding="encode")
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()


def _regions(table: _Table, columns: _Columns, blocks: list[list[pa.Array]], lengths: np.ndarray) -> np.ndarray:
    """`regions` of Measurements, of a chromosome, a start and an end. The end is the last position where most windows
    are then as long as their sequences, else the one after it, as in BED."""
    chromosomes = [cell for block in blocks for cell in block[0].to_pylist()]
    texts = {cell: _text(cell).lower().removeprefix("chr") for cell in set(chromosomes)}
    numbers = {cell: chromosome_number(text) for cell, text in texts.items()}
    regions = np.full((len(chromosomes), 3), -1, dtype=np.int64)
    ends = np.stack(
        [
            np.concatenate([_numbers(table, column, block[place]) for block in blocks])
            for place, column in enumerate(columns.region)
            if place > 0
        ]
    )
    known = (ends >= 0).all(axis=0) & (ends < 2**53).all(axis=0)
    known &= np.array([bool(texts[cell]) for cell in chromosomes], dtype=bool)
    rows = np.flatnonzero(known)
    regions[rows, 0] = np.array([numbers[cell] for cell in chromosomes], dtype=np.int64)[rows]
    regions[rows, 1:] = np.sort(ends[:, rows], axis=0).T
    if len(rows) and (regions[rows, 2] - regions[rows, 1] + 1 == lengths[rows]).mean() > 0.5:
        regions[rows, 2] += 1
    return regions


def chromosome_number(name: str) -> int:
    """A number for a chromosome's name, the same in every table."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "big")


def _as_folds(names: np.ndarray) -> np.ndarray:
    """int64 where every fold is a whole number, or else the names as they are."""
    different = np.unique(names).tolist()
    numbers = all(re.fullmatch(r"-?[0-9]{1,16}", name) for name in different)  # others are names, whatever their digits
    return names.astype(np.int64) if numbers else names


def _text(value: Any) -> str:
    """What a cell holds, as text, without spaces around it; line breaks stay."""
    text = "" if value is None else value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text.strip(SPACES)


def _problem(
    table: _Table, line: int, texts: dict[int, str], columns: _Columns, unmeasured: bool, *, needs_fold: bool
) -> str | None:
    """What is wrong with a row, of which the texts of the chosen columns are given; None where nothing is.

    Raises InputError for a line break in a sequence or number: a quote is not closed there, and rows are in it.
    """
    sequence = texts[columns.sequence]
    roles = [(columns.sequence, "sequence"), *zip(columns.numbers, columns.tasks, strict=True)]
    roles += [(place, f"column {table.first[place]}") for _, places in columns.others for place in places]
    for column, role in roles:
        if isinstance(table, _Text) and ("\n" in texts[column] or "\r" in texts[column]):
            raise InputError(
                f"{table.place(line)}: the {printable(role, 100)} holds a line break: its quote opens in this line and "
                "is not closed there."
            )
    if not sequence:
        return "the sequence is empty"
    for position, letter in enumerate(sequence):
        if letter not in "ACGTNacgtn":
            return f"position {position + 1} of the sequence is {letter_problem(letter)}"
    for column, task in zip(columns.numbers, columns.tasks, strict=True):
        text, role = printable(texts[column], 100), printable(task, 100)
        if not text and not unmeasured:
            return f"the {role} is empty"
        if not _is_number(texts[column]) and not (unmeasured and _is_missing(texts[column])):
            advice = f"; {DECIMAL_COMMA}" if _has_decimal_comma(texts[column]) else ""
            advice = "; write 1 or 0" if text.lower() in TRUTHS else advice
            advice = advice if text.isascii() else "; write it with the digits 0 to 9, a plain - and a decimal point"
            return f"the {role} {text!r} is not a finite number{advice}"
    if columns.fold is not None:
        if not texts[columns.fold] and needs_fold:
            return "the fold is empty: fill it in, remove the row, or split without this column"
        if len(texts[columns.fold]) > LONGEST_FOLD:
            return f"the fold has {len(texts[columns.fold])} characters, and may have {LONGEST_FOLD}"
    if columns.numbers and not any(_is_number(texts[column]) for column in columns.numbers):
        return None  # left out, whatever else it has
    for source, places in columns.others:
        for place in places:
            if wrong := _other_problem(source, f"the column {printable(table.first[place], 100)}", texts[place]):
                return wrong
    return None


def _other_problem(source: ColumnSource, what: str, text: str) -> str | None:
    """What is wrong with a cell of a further column; None where nothing is."""
    missing = _is_missing(text) if source.kind == "number" else not text
    if missing and source.kind not in SAID:
        return f"{what} is {printable(text, 100) or 'empty'}: dataset.columns needs it in every row that is measured"
    if source.kind == "number" and not abs(_number(text)) <= LARGEST_NUMBER:
        return f"{what} is {printable(text, 100)!r}, no finite number that float32 holds"
    if source.kind == "group" and len(text) > LONGEST_FOLD:
        return f"{what} has {len(text)} characters, and a group's name may have {LONGEST_FOLD}"
    for position, letter in enumerate(text if source.alphabet is not None else ""):
        if ord(letter) > 127 or source.alphabet.codes[ord(letter)] == INVALID:  # type: ignore[union-attr]
            assert source.alphabet is not None
            letters = " ".join(source.alphabet.letters)
            return f"position {position + 1} of {what} is {printable(letter)!r}, no {source.alphabet.name} ({letters})"
    return None


def _concatenated(blocks: deque[Sequences]) -> Sequences:
    """One array from blocks; each block is freed once copied, so that memory holds little twice."""
    lengths, alphabet = np.concatenate([block.lengths for block in blocks]), blocks[0].alphabet
    letters = np.empty(int(lengths.sum(dtype=np.int64)), dtype=np.uint8)
    start = 0
    while blocks:
        block = blocks.popleft().letters
        letters[start : start + len(block)] = block
        start += len(block)
    return Sequences(letters, lengths, alphabet)
