"""Peaks of open chromatin and the chromosomes of a fold, as ChromBPNet's files have them (Pampari et al. 2023)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prixfixe.common.errors import InputError
from prixfixe.common.inputs import open_input, read_bytes
from prixfixe.common.text import printable
from prixfixe.data.datasets import TEST
from prixfixe.data.insertions import BIGWIG
from prixfixe.data.reference import Genome
from prixfixe.data.streams import line_blocks

PARTS = ("train", "valid", TEST)  # as the fold JSON names them
LARGEST_JSON = 1 << 20
SUMMIT = 9  # the column of a narrowPeak that says where its summit is, counted from its start
BIGBED = (b"\xeb\xf2\x89\x87", b"\x87\x89\xf2\xeb")  # what one begins with, in either byte order
APART, FAR = 1 << 40, 1 << 62  # more nucleotides than any chromosome has, and than all have


@dataclass(frozen=True)
class Places:
    """Regions of a BED. chromosome: int64 (n,), its number in the genome, -1 where that has none of this name. start,
    stop, centre: int64 (n,), 0-based, `stop` is past the end."""

    chromosome: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    centre: np.ndarray

    def __len__(self) -> int:
        return len(self.centre)

    def without_repeats(self) -> Places:
        """Each window once, by chromosome and centre, with all that its regions cover. What lies on no chromosome of
        the genome stays as it is."""
        own = np.where(self.chromosome < 0, np.arange(len(self)), -1)
        windows, place = np.unique(np.stack([self.chromosome, self.centre, own]), axis=1, return_inverse=True)
        start, stop = np.full(windows.shape[1], APART), np.zeros(windows.shape[1], dtype=np.int64)
        np.minimum.at(start, place.ravel(), self.start)
        np.maximum.at(stop, place.ravel(), self.stop)
        return Places(windows[0], start, stop, windows[1])

    def overlap(self, others: Places, width: int) -> np.ndarray:
        """Whether the window of `width` nt around each centre overlaps one around any of `others`: bool (n,)."""
        there = np.sort((others.chromosome * APART + others.centre)[others.chromosome >= 0])
        there = np.concatenate([[-FAR], there, [FAR]])
        here = self.chromosome * APART + self.centre
        behind = np.searchsorted(there, here)
        return (self.chromosome >= 0) & (np.minimum(here - there[behind - 1], there[behind] - here) < width)


def read_folds(path: Path) -> dict[str, str]:
    """Chromosome -> `train`, `valid` or `test`, from a JSON of these lists, of which `test` may be missing. InputError
    for one that stands in two."""
    try:
        found = json.loads(read_bytes(path, limit=LARGEST_JSON))
    except ValueError as error:
        raise InputError(f"{printable(path)} is no JSON: {printable(error, 200)}") from error
    lists = {name: found.get(name, []) if isinstance(found, dict) else None for name in PARTS}
    if not all(isinstance(some, list) and all(isinstance(one, str) for one in some) for some in lists.values()):
        raise InputError(
            f'{printable(path)} needs lists of chromosomes, {{"train": [...], "valid": [...], "test": [...]}}'
        )
    missing = [f"{name} is missing" for name in PARTS[:2] if name not in found]
    unknown = [f"{printable(name, 60)} is unknown" for name in found if name not in PARTS]
    if unknown or missing:
        raise InputError(f"{printable(path)}: {', '.join(missing + unknown)} (known: {', '.join(PARTS)})")
    of_part: dict[str, str] = {}
    for part, names in lists.items():
        for name in names or ():
            if of_part.setdefault(name, part) != part:
                raise InputError(f"{printable(path)}: {printable(name, 60)} is in {of_part[name]} and in {part}")
    return of_part


def parts_of(chromosomes: list[str], of_part: Mapping[str, str], genome: Genome, where: str) -> np.ndarray:
    """The number of each chromosome's part, -1 for those in none: int64 (chromosomes,)."""
    parts = np.full(len(chromosomes), -1)
    for name, part in of_part.items():
        known = genome.chromosome(name)
        if known is None:
            continue  # of another assembly's, such as chrY
        number, place = chromosomes.index(known), PARTS.index(part)
        if parts[number] not in (-1, place):
            raise InputError(f"{printable(where)}: {printable(known, 60)} is in two lists, with and without chr")
        parts[number] = place
    for place, part in enumerate(PARTS[:2]):
        if place not in parts:
            names = printable(", ".join(chromosomes[:5]), 100)
            raise InputError(f"{printable(where)}: no chromosome in {part} is one of the genome's ({names}, ...)")
    return parts


def read_places(path: Path, genome: Genome) -> Places:
    """The regions of a narrowPeak or another BED, plain or compressed. InputError for a line that is none, or whose
    centre lies beyond its chromosome's end, and where no chromosome is the genome's."""
    with open_input(path) as file:
        if file.read(4) in (*BIGWIG, *BIGBED):
            raise InputError(
                f"{printable(path)} is binary (a bigWig or a bigBed?): regions such as peaks are text, a narrowPeak or "
                "another BED"
            )
    lengths = list(genome.lengths.values())
    numbers = {name: number for number, name in enumerate(genome.lengths)}
    known: dict[str, int] = {}
    found: list[tuple[int, int, int, int]] = []
    for block, first in line_blocks(path):
        for line_number, line in enumerate(block.decode().splitlines(), first):
            cells = line.split()
            if not cells or cells[0].startswith(("#", "track", "browser")):
                continue
            start, stop, summit = (_whole(cells, place) for place in (1, 2, SUMMIT))
            if start is None or stop is None or start >= stop or (len(cells) > SUMMIT and summit is None):
                raise InputError(
                    f"{printable(path)}:{line_number}: {printable(line, 80)} is no region: chromosome, start, end, "
                    "with start below end, and in column 10 of a narrowPeak the summit, counted from the start"
                )
            centre = (start + stop) // 2 if summit is None or summit < 0 else start + summit
            if centre >= stop:
                raise InputError(
                    f"{printable(path)}:{line_number}: the summit, {summit}, lies beyond the region's {stop - start} nt"
                )
            if cells[0] not in known:
                known[cells[0]] = numbers.get(genome.chromosome(cells[0]) or "", -1)
            number = known[cells[0]]
            if number >= 0 and centre >= lengths[number]:
                raise InputError(
                    f"{printable(path)}:{line_number}: {printable(cells[0], 60)}:{centre + 1:,} lies beyond the end of "
                    f"the chromosome in the genome, {lengths[number]:,} nt: is it of another assembly?"
                )
            found.append((number, start, stop, centre))
    places = Places(*np.array(found, dtype=np.int64).reshape(-1, 4).T)
    if (places.chromosome < 0).all():
        some = printable(", ".join([*known][:3]) or "none", 80)
        names = printable(", ".join([*numbers][:3]), 80)
        raise InputError(
            f"{printable(path)}: no region lies on a chromosome of the genome ({some}; it has {names}, ...)"
        )
    return places


def _whole(cells: list[str], place: int) -> int | None:
    """A whole number in a line; -1 stands for none in a narrowPeak."""
    text = cells[place] if place < len(cells) else ""
    return int(text) if text.isascii() and text.isdecimal() else -1 if text == "-1" and place == SUMMIT else None
