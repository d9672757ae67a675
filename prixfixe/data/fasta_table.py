"""FASTA as a table: its headers are a column, and so is what they say of the genome; a table beside it measures its
records, row by row, as STARR-seq is published (de Almeida et al. 2022)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute

from prixfixe.common.errors import InputError
from prixfixe.common.text import counted, printable
from prixfixe.data.fasta import fasta_blocks
from prixfixe.data.records import BLANK_ROW, Rows

ID, SEQUENCE = "ID", "Sequence"  # the columns that a FASTA has, and
PLACE = ("seqnames", "start", "end", "strand")  # those that its headers may say
HEADER = r"^(?P<seqnames>.+?)_(?P<start>[0-9]+)_(?P<end>[0-9]+)_(?P<strand>[+-])(?:_|$)"
EXAMPLE = "as in chr2L_5587_5835_+_..."
COMPRESSED = (".gz", ".bz2", ".xz")
SAMPLE_ROWS = 100
RECORDS = 65_536  # a FASTA alone is read at a time


class Measured(Protocol):
    """The table of measurements: `_Text` or `_Parquet` of `prixfixe.data.tables`."""

    path: Path
    first: list[str]
    sample: list[list[str]]
    has_header: bool

    def batches(self, columns: list[int], looks_like_row: Any) -> Iterator[Rows]: ...

    def place(self, line: int) -> str: ...


def published_activity(path: Path) -> Path:
    """Where the measurements of Sequences_Train.fa are published: Sequences_activity_Train.txt, beside it, as it is or
    compressed. The plain one where none is there."""
    stem = path.name[: -len("".join(path.suffixes))] if path.suffixes else path.name
    before, mark, name = stem.rpartition("_")
    published = [path.with_name(f"{before}{mark}activity_{name}.txt{ending}") for ending in ("", *COMPRESSED)]
    return next((file for file in published if file.is_file()), published[0])


def named_activity(path: Path, given: str) -> Path:
    """`dataset.activity`: `*` in it stands for the FASTA's path without its endings."""
    stem = path.with_name(path.name[: -len("".join(path.suffixes))]) if path.suffixes else path
    return Path(given.replace("*", str(stem))).expanduser()


class FastaTable:
    """A FASTA seen as `_Text` is. activity: the table whose row i measures record i; without one nothing is measured.

    The table's own columns of ids and sequences, if it has them, must be those of the FASTA. ids, sequences: where they
    stand in it.
    """

    has_header = True

    def __init__(
        self, path: Path, activity: Measured | None, advice: str, ids: int | None = None, sequences: int | None = None
    ) -> None:
        self.path, self.activity, self.advice = path, activity, advice
        self._checked = {name: at for name, at in ((ID, ids), (SEQUENCE, sequences)) if at is not None}
        own = [] if activity is None else activity.first
        names, strings = zip(*islice(_records(path), SAMPLE_ROWS), strict=True)
        said = _places(list(names))
        self.placed = said["start"].null_count < len(names)  # whether headers say where sequences lie
        self._unplaced, self._rows = 0, 0
        own_place = set(PLACE[:3]) <= set(own)
        self._made = [ID, SEQUENCE, *(PLACE if self.placed and not own_place else ())]
        self._kept = [at for at, name in enumerate(own) if at not in self._checked.values() and name not in self._made]
        self.first = [*self._made, *(own[at] for at in self._kept)]
        self.sample = [
            [name, string, *(said[column][row].as_py() or "" for column in self._made[2:])]
            for row, (name, string) in enumerate(zip(names, strings, strict=True))
        ]
        if activity is not None:
            rows = zip(self.sample, activity.sample, strict=False)
            self.sample = [[*cells, *(row[at] for at in self._kept if at < len(row))] for cells, row in rows]
        self._silent = not self.placed and not own_place

    def remarks(self) -> list[str]:
        """What the user should know of the headers that have been read, a sentence each."""
        unknown = "neither strands nor windows that overlap are known"
        if self._silent:
            return [f"the headers of {printable(self.path)} do not say where its sequences lie ({EXAMPLE}): {unknown}"]
        if self._unplaced:
            of = f"{self._unplaced:,} of {counted(self._rows, 'header')} of {printable(self.path)}"
            return [f"{of} do not say where their sequences lie ({EXAMPLE}): of these {unknown}"]
        return []

    def take_header(self) -> None:
        pass

    def place(self, line: int) -> str:
        return f"{printable(self.path)}, record {line}" if self.activity is None else self.activity.place(line)

    def hint(self, line: int, problem: str) -> str:
        return ""

    def batches(self, columns: list[int], looks_like_row: Any) -> Iterator[Rows]:
        made = len(self._made)
        for names, strings, rows in self._together([self._kept[at - made] for at in columns if at >= made]):
            said = _places(names)
            if self.activity is None and (unplaced := said["start"].is_null().to_pylist()).count(True):
                record = unplaced.index(True)
                raise InputError(
                    f"{self.place(int(rows.lines[record]))}: its header {printable(names[record], 60)!r} does not say "
                    f"where its sequence lies ({EXAMPLE}): give a table"
                )
            if self.activity is not None and PLACE[0] in self._made:
                self._check_spans(names, strings, said)
            self._unplaced, self._rows = self._unplaced + said["start"].null_count, self._rows + len(names)
            cells = iter(rows.cells)
            own = {0: names, 1: strings}
            rows.cells = [
                pa.array(own[at], pa.binary()) if at < 2 else said[self._made[at]] if at < made else next(cells)
                for at in columns
            ]
            yield rows

    def _together(self, columns: list[int]) -> Iterator[tuple[list[str], list[str], Rows]]:
        """Names and sequences with the rows that measure them, of which `columns` are read; checked to be the same."""
        records, start = _records(self.path), 0
        if self.activity is None:
            while some := list(islice(records, RECORDS)):
                names, strings = map(list, zip(*some, strict=True))
                yield names, strings, Rows([], np.arange(start + 1, start + 1 + len(names)))
                start += len(names)
            return
        chosen = [*dict.fromkeys([*columns, *self._checked.values()])]
        # of a table from which nothing is asked, its first column says how many rows there are
        batches = self.activity.batches(chosen or [0], lambda cells, width: len(cells) == width)
        for rows in batches:
            for line, problem in rows.misfits:
                if problem != BLANK_ROW:
                    raise InputError(f"{self.activity.place(line)}: {problem}.")
            some = list(islice(records, len(rows.lines)))
            if len(some) < len(rows.lines):
                total = start + len(rows.lines) + sum(len(later.lines) for later in batches)
                raise self._unlike(start + len(some), total)
            names, strings = map(list, zip(*some, strict=True)) if some else ([], [])
            for what, own in ((ID, names), (SEQUENCE, strings)):
                if (at := self._checked.get(what)) is not None:
                    self._compare(what, own, rows.cells[chosen.index(at)], rows.lines)
            yield names, strings, Rows([rows.cells[chosen.index(at)] for at in columns], rows.lines)
            start += len(some)
        if rest := sum(1 for _ in records):
            raise self._unlike(start + rest, start)

    def _compare(self, what: str, own: list[str], cells: pa.Array, lines: np.ndarray) -> None:
        assert self.activity is not None
        for name, cell, line in zip(own, cells.to_pylist(), lines.tolist(), strict=True):
            text = ("" if cell is None else cell.decode(errors="replace") if isinstance(cell, bytes) else cell).strip()
            if text != name and not (what == SEQUENCE and text.upper() == name.upper()):
                raise InputError(
                    f"{self.activity.place(line)}: the {what.lower()} is {printable(text, 60)!r}, and that of the same "
                    f"record of {printable(self.path)} {printable(name, 60)!r}: row i of the one belongs to record i "
                    "of the other"
                )

    def _check_spans(self, names: list[str], strings: list[str], said: dict[str, pa.Array]) -> None:
        """InputError where a header's start and end do not span its sequence, whether the end is its last position, or
        the one after it, as in BED."""
        assert self.activity is not None
        start, end = (
            pa.compute.cast(said[name], pa.float64()).to_numpy(zero_copy_only=False) for name in ("start", "end")
        )
        span, length = np.abs(end - start) + 1, np.array([len(string) for string in strings])
        wrong = np.flatnonzero(~np.isnan(span) & (span != length) & (span != length + 1))
        if len(wrong):
            row = int(wrong[0])
            raise InputError(
                f"{printable(self.path)}: the header {printable(names[row], 60)!r} says {span[row]:.0f} nt, and its "
                f"sequence has {length[row]}: correct it, or give seqnames, start and end as columns of "
                f"{printable(self.activity.path)}"
            )

    def _unlike(self, records: int, rows: int) -> InputError:
        assert self.activity is not None
        return InputError(
            f"{printable(self.path)} has {counted(records, 'sequence')}, and {printable(self.activity.path)} "
            f"{counted(rows, 'row')}: row i of the one belongs to record i of the other"
        )


def _records(path: Path) -> Iterator[tuple[str, str]]:
    for sequences, names in fasta_blocks(path):
        yield from zip(names, sequences.to_strings(), strict=True)


def _places(names: list[str]) -> dict[str, pa.Array]:
    """What headers say of the genome: chromosome, start, end and strand, null where they do not."""
    found = pa.compute.extract_regex(pa.array(names, pa.string()), HEADER)
    null = pa.scalar(None, pa.string())
    return {column: pa.compute.if_else(found.is_valid(), found.field(column), null) for column in PLACE}
