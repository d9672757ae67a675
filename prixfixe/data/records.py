"""What a row of a text table is: the one definition, for CSV as RFC 4180 has it, for other marks with one exception.

A line is a row. A cell that begins with a quote is quoted: it ends at the quote that stands before the mark between
cells or the line's end, quotes inside it are doubled, and it may hold marks and line breaks. A quote anywhere else is a
letter like any other.

A quote that is opened and not closed like this would swallow the rows below. In CSV (`,` and `;`) it is refused, by the
line where it opens. Where tabs or spaces stand between cells, files that quote nothing are common; there it is taken as
a letter. In both, a quoted cell that holds line breaks and, in it, what looks like a whole row of the table is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from prixfixe.common.errors import InputError
from prixfixe.common.text import printable
from prixfixe.data.streams import LINE_END, count_lines, line_blocks

LONGEST_QUOTED = 1 << 24  # bytes that a quoted cell with line breaks may have
STRICT = (b",", b";")  # between such marks, a quote that is not closed is refused
QUOTED = re.compile(rb'"((?:[^"]++|"")*+)"')
BLANK = b" \t\r\n"
BLANK_ROW = "the sequence is empty"  # what is wrong with a blank line


@dataclass
class Rows:
    """Neighbouring rows: the chosen columns' cells as bytes, the line that each row begins in, int64 (n,); and the rows
    of another width that are left out, as (line, what is wrong)."""

    cells: list[pa.Array]
    lines: np.ndarray
    misfits: list[tuple[int, str]] = field(default_factory=list)


def read_rows(
    path: str | Path,
    delimiter: str,
    *,
    skip: int,
    width: int,
    columns: Sequence[int],
    looks_like_row: Callable[[list[bytes]], bool],
) -> Iterator[Rows]:
    """The rows of a text table below its first `skip` lines, of `width` cells each; of these the chosen `columns`.

    Blocks are split by pyarrow, but for what follows a quote that needs a closer look: that is read record by record.
    Raises InputError where a quote is not closed, or closed after a line that `looks_like_row`.
    """
    mark, rest, rest_line = delimiter.encode(), b"", 0
    blocks = line_blocks(path, blank=BLANK + mark)
    coming = next(blocks, None)
    while coming is not None:
        block, line = coming
        coming = next(blocks, None)
        if skip and not rest:
            count = min(skip, count_lines(block) + (coming is None))
            block, line, skip = _without_lines(block, count), line + count, skip - count
        if rest:
            block, line, rest = rest + block, rest_line, b""
        if not block:
            continue
        if b'"' not in block:
            yield _split_by_pyarrow(block, line, delimiter, width, columns, quoted=False)
            continue
        sound, starts = _sound_part(block, mark, width)
        if sound:
            yield _split_by_pyarrow(block[:sound], line, delimiter, width, columns, quoted=True, starts=starts)
            block, line = block[sound:], line + count_lines(block[:sound])
        if not block:
            continue
        rows = Rows([], np.empty(0, dtype=np.int64))
        chosen: list[list[bytes]] = [[] for _ in columns]
        lines: list[int] = []
        found = records(path, block, line, mark, last=coming is None, looks_like_row=looks_like_row)
        for cells, begins, end in found:
            if cells is None:
                rest, rest_line = block[end:], begins
            elif len(cells) == width or cells == [b""]:  # an empty line is a row of empty cells
                cells = cells if len(cells) == width else [b""] * width
                lines.append(begins)
                for values, column in zip(chosen, columns, strict=True):
                    values.append(cells[column])
            else:
                rows.misfits.append((begins, _misfit(len(cells), width, b"".join(cells))))
        rows.cells, rows.lines = [pa.array(values, pa.binary()) for values in chosen], np.array(lines, dtype=np.int64)
        yield rows


def records(
    path: str | Path,
    block: bytes,
    line: int,
    mark: bytes,
    *,
    last: bool,
    looks_like_row: Callable[[list[bytes]], bool],
) -> Iterator[tuple[list[bytes] | None, int, int]]:
    """The cells of each record of a block, the line that it begins in, and where in the block it ends.

    last: whether the text ends with the block. Where it does not, and the block ends inside a quoted cell, the last
    that comes is None, its record's line, and where that begins.
    """
    at = 0
    while at < len(block):
        ends = LINE_END.search(block, at)
        stop, end = (ends.start(), ends.end()) if ends else (len(block), len(block))
        if block.find(b'"', at, stop) < 0:
            yield block[at:stop].split(mark), line, end
            at, line = end, line + 1
            continue
        found = _quoted_record(path, block, at, line, mark, last=last, looks_like_row=looks_like_row)
        if found is None:
            yield None, line, at
            return
        cells, end = found
        yield cells, line, end
        line += count_lines(block[at:end])
        at = end


def _quoted_record(
    path: str | Path,
    block: bytes,
    start: int,
    line: int,
    mark: bytes,
    *,
    last: bool,
    looks_like_row: Callable[[list[bytes]], bool],
) -> tuple[list[bytes], int] | None:
    """The cells of the record that starts there, and where the next one starts; None where it goes on after the
    block."""
    cells: list[bytes] = []
    at = start
    while True:
        cell, after = None, at
        if block[at : at + 1] == b'"':
            match = QUOTED.match(block, at)
            if match is None and not last and len(block) - start < LONGEST_QUOTED:
                return None
            if match is not None:
                after = _after_spaces(block, match.end(), mark)
                if after == len(block) or block[after : after + 1] in (mark, b"\r", b"\n"):
                    cell = match[1].replace(b'""', b'"')
                    if b"\n" in cell or b"\r" in cell:
                        opening = line + count_lines(block[start:at])
                        # a quote that swallows rows opens in a line that is a row itself
                        if looks_like_row([*cells, *LINE_END.split(block[at:after], maxsplit=1)[0].split(mark)]):
                            _expect_no_row(path, block, at, after, opening, mark, looks_like_row)
            if cell is None and mark in STRICT:
                opening = line + count_lines(block[start:at])
                raise InputError(
                    f"{printable(path)}:{opening}: a quote opens cell {len(cells) + 1} and is not closed before a "
                    f"{mark.decode()!r} or a line's end: close it, remove it, or double it inside quotes."
                )
        if cell is None:
            after = _cell_end(mark).search(block, at).start()  # type: ignore[union-attr]  # the end always matches
            cell = block[at:after]
        cells.append(cell)
        if block[after : after + 1] != mark:
            ends = LINE_END.match(block, after)
            return cells, ends.end() if ends else len(block)
        at = after + 1


def _expect_no_row(
    path: str | Path,
    block: bytes,
    at: int,
    after: int,
    line: int,
    mark: bytes,
    looks_like_row: Callable[[list[bytes]], bool],
) -> None:
    """A quoted cell with line breaks holds none of the table's rows; its last line may go on after it."""
    ends = LINE_END.search(block, after)
    physical = block[at : ends.start() if ends else len(block)].splitlines()
    for number, text in enumerate(physical[1:], start=1):
        if looks_like_row(text.split(mark)):
            raise InputError(
                f"{printable(path)}:{line}: a quote opens in this line and is closed in line "
                f"{line + count_lines(block[at:after])} only; line {line + number} between them looks like a row of "
                "the table, and would be lost: close the quote, or remove it."
            )


def _sound_part(block: bytes, mark: bytes, width: int) -> tuple[int, np.ndarray]:
    """How many bytes of a block hold whole records whose quotes are all closed as they should be, and in which of the
    block's lines, from 0, each of these records begins. A quoted cell with so many marks that a row may be in it is no
    more among them."""
    starts, stops, unsound = [], [], len(block)
    for match in _quoted_cell(mark).finditer(block):
        start, stop = match.span()
        if match[1] is None:
            unsound = start
            break
        if block.find(b"\n", start, stop) >= 0 or block.find(b"\r", start, stop) >= 0:
            if block.count(mark, start, stop) >= width - 1:
                unsound = start
                break
            starts.append(start)
            stops.append(stop)
    letters = np.frombuffer(block, dtype=np.uint8)
    ends = letters == ord("\n")
    ends[:-1] |= (letters[:-1] == ord("\r")) & (letters[1:] != ord("\n"))
    ends[-1] |= letters[-1] == ord("\r")
    line_ends = np.flatnonzero(ends)
    within = np.searchsorted(starts, line_ends, side="right") - 1
    inside = (within >= 0) & (line_ends < np.array([*stops, 0])[within])
    lines = np.flatnonzero(~inside & (line_ends < unsound))  # whose ends are ends of records
    sound = len(block) if unsound == len(block) else int(line_ends[lines[-1]]) + 1 if len(lines) else 0
    open_ended = sound == len(block) and not ends[-1]
    return sound, np.append(0, lines + 1)[: len(lines) + open_ended]


def _split_by_pyarrow(
    block: bytes,
    line: int,
    delimiter: str,
    width: int,
    columns: Sequence[int],
    *,
    quoted: bool,
    starts: np.ndarray | None = None,
) -> Rows:
    """starts: in which line, from 0, each record begins; None where each is a line."""
    misfits: list[tuple[int, str]] = []  # (number of the record, what is wrong)

    def on_misfit(row: pa.csv.InvalidRow) -> str:
        misfits.append((row.number - 1, _misfit(row.actual_columns, width, row.text.encode())))
        return "skip"

    names = [str(column) for column in range(width)]
    table = pa.csv.read_csv(
        pa.BufferReader(block),
        read_options=pa.csv.ReadOptions(
            column_names=names,
            block_size=len(block) + 1,  # all at once: between blocks of its own it would cut quoted cells
            use_threads=False,  # so that records of another width come with their number
        ),
        parse_options=pa.csv.ParseOptions(
            delimiter=delimiter,
            quote_char='"' if quoted else False,
            newlines_in_values=quoted,
            ignore_empty_lines=False,
            invalid_row_handler=on_misfit,
        ),
        convert_options=pa.csv.ConvertOptions(
            column_types={names[column]: pa.binary() for column in columns},
            include_columns=[names[column] for column in columns],
        ),
    )
    lines = line + (np.arange(table.num_rows + len(misfits)) if starts is None else starts)
    left_out = [(int(lines[record]), problem) for record, problem in misfits]
    lines = np.delete(lines, [record for record, _ in misfits]) if misfits else lines
    return Rows([column.combine_chunks() for column in table.columns], lines, left_out)


def _misfit(found: int, width: int, text: bytes) -> str:
    if not text.strip(BLANK):
        return BLANK_ROW
    return f"{found} columns where {width} were expected"


def _without_lines(block: bytes, count: int) -> bytes:
    at = 0
    for _ in range(count):
        ends = LINE_END.search(block, at)
        at = ends.end() if ends else len(block)
    return block[at:]


def _after_spaces(block: bytes, at: int, mark: bytes) -> int:
    while mark != b" " and block[at : at + 1] == b" ":
        at += 1
    return at


@cache
def _quoted_cell(mark: bytes) -> re.Pattern[bytes]:
    """A quote that opens a cell and, as group 1, the rest of the cell where it is closed as it should be."""
    between = re.escape(mark) + rb"\r\n"
    return re.compile(rb'(?<![^%b])"((?:[^"]++|"")*+"(?![^%b]))?' % (between, between))


@cache
def _cell_end(mark: bytes) -> re.Pattern[bytes]:
    return re.compile(re.escape(mark) + rb"|\r|\n|\Z")
