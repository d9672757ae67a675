"""Counts at every position of genomic windows, read from a bigWig by the row: never all in memory."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prixfixe.common.errors import InputError
from prixfixe.common.extras import extra_module
from prixfixe.common.inputs import open_input, readable
from prixfixe.common.text import printable
from prixfixe.data.columns import chunks
from prixfixe.data.prepared import content_hash, remembered

STEP = 1 << 22  # positions that are read at a time
ROUNDING = 1e-4  # what sums of the same values may differ by, as a share
BIGWIG = (b"\x26\xfc\x8f\x88", b"\x88\x8f\xfc\x26")  # what one begins with, in either byte order


@dataclass(frozen=True)
class BigWig:
    """A file as it was when it was first read. stamp: its size, time and number."""

    path: str
    stamp: tuple[int, ...]

    def reader(self) -> Any:
        return _reader(self, os.getpid())

    @functools.cached_property
    def lengths(self) -> dict[str, int]:
        """The chromosomes by their names in the file."""
        return dict(self.reader().chroms())


def open_bigwig(path: str) -> BigWig:
    """InputError for a file that is no bigWig."""
    with open_input(path) as file:
        if file.read(4) not in BIGWIG:
            raise InputError(f"{printable(path)} is no bigWig file: write one of the insertions' 5' ends")
    path = os.path.abspath(path)
    return BigWig(path, _stamp(path))


class Insertions:
    """A row source (`prixfixe.data.columns.RowSource`) of counts, float32 (n, width).

    What the file does not cover has no insertion: 0; and so has what lies beyond a chromosome's ends. Every process
    opens the file for itself, so that forked ones do not share a position in it, and none opens another that has taken
    its place.
    """

    def __init__(self, file: BigWig, chromosomes: Sequence[str], places: np.ndarray, width: int) -> None:
        """chromosomes: names in the file. places: int64 (n, 2), of each row the number of the name and the first
        position, which may lie outside."""
        self.file, self.chromosomes, self.places, self.width = file, tuple(chromosomes), places, width
        self.dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), self.width)

    def __len__(self) -> int:
        return len(self.places)

    def take(self, rows: slice | np.ndarray) -> Insertions:
        return Insertions(self.file, self.chromosomes, self.places[rows], self.width)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        reader, places = self.file.reader(), self.places[rows]
        counts = np.zeros((len(places), self.width), dtype=np.float32)
        for row, (number, first) in enumerate(places.tolist()):
            name = self.chromosomes[number]
            low, high = max(first, 0), min(first + self.width, self.file.lengths[name])
            if low < high:
                counts[row, low - first : high - first] = _values(reader, name, low, high)
        return counts

    def totals(self) -> np.ndarray:
        """The sum of each row: float64 (n,)."""
        sums = [counts.sum(axis=1, dtype=np.float64) for counts in chunks(self, STEP)]
        return np.concatenate([*sums, np.empty(0)])


def check_counts(file: BigWig, *, whole_numbers: bool) -> None:
    """InputError for a file whose values are no counts, or that is not read as it was written: all its values are read
    once (75 million positions a second), their sum is compared with the header's, and the cache remembers it."""
    name = printable(file.path)

    def found() -> dict[str, Any]:
        reader = file.reader()
        total, smallest, whole = 0.0, 0.0, True
        for chrom, length in file.lengths.items():
            for first in range(0, length, STEP):
                values = _values(reader, chrom, first, min(first + STEP, length))
                total, smallest = total + float(values.sum()), min(smallest, float(values.min()))
                whole = whole and bool((values == np.rint(values)).all())
        return {"header": str(reader.info()["summary"]["sum"]), "sum": str(total), "min": str(smallest), "whole": whole}

    facts = remembered({"bigwig": 1, "content": content_hash(file.path)}, found)
    header, total, smallest = (float(facts[key]) for key in ("header", "sum", "min"))
    if not np.isfinite([header, total, smallest]).all():
        raise InputError(f"{name} holds values that are no finite numbers: what was not measured is no count")
    if abs(header - total) > ROUNDING * max(abs(header), 1.0):
        raise InputError(
            f"{name}: its header says that its values add up to {header:,.10g}, and what is read adds up to "
            f"{total:,.10g}: it is damaged, or was written by a tool that does not keep to the format"
        )
    if smallest < 0:
        raise InputError(f"{name} holds {smallest:g}, and a count is not below 0")
    if whole_numbers and not facts["whole"]:
        raise InputError(
            f"{name} holds values that are no whole numbers, as a smoothed or normalised track does: give the counts "
            "of 5' ends, or say dataset.whole_numbers=false"
        )


def _values(reader: Any, chrom: str, first: int, last: int) -> np.ndarray:
    """What stands at each position within a chromosome, 0 where the file covers none: float64 (last - first,)."""
    return np.asarray(reader.values(chrom, first, last, uncovered=0.0, fillna=None))


@functools.lru_cache(maxsize=16)
def _reader(file: BigWig, process: int) -> Any:
    """pybigtools' reader of a file, one a process. InputError where the file is another one by now."""
    pybigtools = extra_module("pybigtools", "profiles", "a bigWig")
    if _stamp(file.path) != file.stamp:
        raise InputError(f"{printable(file.path)} has changed since it was first read: start again")
    try:
        with open(file.path, "rb") as opened:  # of a path it would write an error to standard error itself
            pybigtools.open(opened)
        return pybigtools.open(file.path)
    except Exception as error:  # its own classes, and the standard ones
        raise InputError(f"{printable(file.path)} cannot be read as a bigWig: {printable(error, 200)}") from error


def _stamp(path: str) -> tuple[int, ...]:
    """What changes when a file is replaced."""
    with readable(path):
        status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ino
