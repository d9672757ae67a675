"""Predictions at every position of genomic windows as one track: a bigWig file."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from prixfixe.common.errors import InputError
from prixfixe.common.extras import extra_module
from prixfixe.common.files import atomic_path
from prixfixe.common.text import printable


class Window(NamedTuple):
    """What is predicted of a stretch of a chromosome: values (positions,), the first of them at `start`, 0-based."""

    chrom: str
    start: int
    values: np.ndarray


def window_of(name: str, length: int, values: np.ndarray) -> Window:
    """The window of a sequence whose name says where it lies, such as `chr1:1000-3114`, with the values in its middle.

    Coordinates are 0-based and half-open, as bedtools writes them, or 1-based with the last position included:
    whichever is as long as the sequence. InputError where neither is.
    """
    place = re.fullmatch(r"(?:.*::)?([^:\s]+):(\d+)-(\d+)", name)
    first, last = (int(place[2]), int(place[3])) if place else (0, -1)
    shift = length - (last - first)
    if place is None or shift not in (0, 1) or first < shift:
        raise InputError(
            f"{printable(name, 100)} has {length} nt and does not say where they lie: a bigWig needs names such as "
            f"chr1:1000-{1000 + length}"
        )
    return Window(place[1], first - shift + (length - len(values)) // 2, values)


def write_bigwig(path: Path, windows: Sequence[Window], sizes: Mapping[str, int] | None = None) -> None:
    """Writes windows as a bigWig; where several overlap, their mean stands there.

    sizes: of the chromosomes; None takes the last position of any window. InputError where a window lies outside.
    """
    pybigtools = extra_module("pybigtools", "profiles", "a bigWig")
    by_chromosome: dict[str, list[Window]] = defaultdict(list)
    for window in windows:
        by_chromosome[window.chrom].append(window)
    ends = {chrom: max(one.start + len(one.values) for one in some) for chrom, some in by_chromosome.items()}
    for chrom, end in ends.items():
        if sizes is not None and end > sizes.get(chrom, 0):
            raise InputError(f"a window ends at {printable(chrom)}:{end:,}, and that has {sizes.get(chrom, 0):,} nt")
    known = dict(sizes or ends)
    with atomic_path(path) as temporary:
        # the format follows from the name's ending
        named = temporary.with_name(f"{temporary.name}.bw")
        try:
            pybigtools.open(str(named), "w").write(known, _intervals(by_chromosome))
            named.replace(temporary)
        finally:
            named.unlink(missing_ok=True)


def _intervals(by_chromosome: Mapping[str, list[Window]]) -> Iterator[tuple[str, int, int, float]]:
    """(chromosome, start, end, value) of every position that a window covers, in order."""
    for chrom in sorted(by_chromosome):
        for start, values in joined(sorted(by_chromosome[chrom], key=lambda one: one.start)):
            for position, value in enumerate(values.tolist(), start):
                yield chrom, position, position + 1, value


def joined(windows: Sequence[Window]) -> Iterator[tuple[int, np.ndarray]]:
    """Windows of one chromosome, by their starts, as stretches that do not overlap: start and values, means where
    several cover a position."""
    first = 0
    while first < len(windows):
        last, end = first, windows[first].start + len(windows[first].values)
        while last + 1 < len(windows) and windows[last + 1].start < end:
            last += 1
            end = max(end, windows[last].start + len(windows[last].values))
        start = windows[first].start
        sums, counts = np.zeros(end - start), np.zeros(end - start)
        for window in windows[first : last + 1]:
            inside = slice(window.start - start, window.start - start + len(window.values))
            sums[inside] += window.values
            counts[inside] += 1
        yield start, sums / counts
        first = last + 1
