"""Reference sequences by their coordinates: the chromosomes of a genome, or fragments of it; and the regions of a BED.

Coordinates are 0-based and half-open, all letters upper case, and N for what is no A C G T."""

from __future__ import annotations

import re
import tempfile
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prixfixe.common.errors import InputError
from prixfixe.common.extras import extra_module
from prixfixe.common.text import counted, printable
from prixfixe.data.fasta import is_fasta
from prixfixe.data.streams import explained, line_blocks, open_text

HEAD = 1 << 16
COORDINATES = re.compile(r"(?:^|[\s:;|=>])([\w.]+):([\d,]+)-([\d,]+)(\([+-]\))?")
OTHERS = str.maketrans(dict.fromkeys("RYSWKMBDHVUXryswkmbdhvux.-*", "N"))
COMPLEMENT = str.maketrans("ACGTN", "TGCAN")
INDICES = ("filepath_index", "filepath_index_compressed")  # as pysam calls them
MITOCHONDRION = {"M": "MT", "MT": "M"}


def reverse_complement(letters: str) -> str:
    return letters.translate(COMPLEMENT)[::-1]


def called(name: str, names: Collection[str]) -> str | None:
    """Which of some names means a chromosome: the same, or with or without `chr`; None where none does."""
    bare = name.removeprefix("chr")
    same = (name, bare, f"chr{bare}", *(f"{start}{MITOCHONDRION.get(bare, bare)}" for start in ("", "chr")))
    return next((one for one in same if one in names), None)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Letters of a reference from `start` on. padded: whether some of them lie beyond a chromosome's end."""

    start: int
    letters: str
    padded: bool = False


class Reference(ABC):
    """remarks: what the user should know of it, a sentence each."""

    remarks: tuple[str, ...] = ()

    @property
    @abstractmethod
    def names(self) -> Collection[str]:
        """The chromosomes, looked up by name."""

    @abstractmethod
    def stretch(self, chrom: str, start: int, length: int, at: int, *, slide: bool) -> Stretch | str:
        """So many letters from `start` on, with the position `at` among them; or why there are none. slide: whether
        they may begin elsewhere."""

    def chromosome(self, name: str) -> str | None:
        """What this reference calls a chromosome: the same, or with or without `chr`; None where it has none such."""
        return called(name, self.names)


class Genome(Reference):
    """Whole chromosomes, read from an indexed FASTA as they are asked for; what lies beyond their ends is N."""

    def __init__(self, fasta: Any) -> None:
        """fasta: pysam's FastaFile."""
        self.fasta = fasta
        self.lengths = dict(zip(fasta.references, fasta.lengths, strict=True))

    @property
    def names(self) -> Collection[str]:
        return self.lengths.keys()

    def stretch(self, chrom: str, start: int, length: int, at: int, *, slide: bool) -> Stretch | str:
        whole, stop = self.lengths[chrom], start + length
        if start >= 0 and stop <= whole:
            return Stretch(start, _letters(self.fasta.fetch(chrom, start, stop)))
        low, high = max(start, 0), min(stop, whole)
        inside = _letters(self.fasta.fetch(chrom, low, high)) if low < high else ""
        before = "N" * min(max(-start, 0), length)
        return Stretch(start, (before + inside).ljust(length, "N"), padded=True)


class Fragments(Reference):
    """Fragments of chromosomes, whose headers say where they lie. A stretch lies within one of them: where it slides
    least."""

    def __init__(self, fragments: dict[str, list[tuple[int, str]]], remarks: tuple[str, ...] = ()) -> None:
        """fragments: of each chromosome the first positions and the letters."""
        self.fragments = {chrom: sorted(some) for chrom, some in fragments.items()}
        self.longest = {chrom: max(len(letters) for _, letters in some) for chrom, some in fragments.items()}
        self.remarks = remarks

    @property
    def names(self) -> Collection[str]:
        return self.fragments.keys()

    def stretch(self, chrom: str, start: int, length: int, at: int, *, slide: bool) -> Stretch | str:
        best, short = None, False
        some, reach = self.fragments[chrom], self.longest[chrom]
        for first, letters in some[bisect_left(some, (at - reach,)) : bisect_left(some, (at + 1,))]:
            last = first + len(letters)
            if not first <= at < last:
                continue
            moved = min(max(start, first), last - length)
            if moved < first or (moved != start and not slide):
                short = True
            elif best is None or abs(moved - start) < abs(best.start - start):
                best = Stretch(moved, letters[moved - first : moved - first + length])
        return best or ("the window does not fit into its fragment" if short else "in no fragment")


@contextmanager
def open_reference(path: Path) -> Iterator[Reference]:
    """Yields the reference in a FASTA, plain or compressed: fragments, where its first header says chr:start-end, or
    else a genome. An index beside it (`.fai`) is used; where there is none, one is made in a temporary
    folder. InputError where the file cannot be used."""
    with open_text(path) as stream:
        head = stream.read(HEAD)
    if not is_fasta(head):
        raise InputError(f"{printable(path)} is no FASTA: its first line must begin with >")
    if COORDINATES.search(head.splitlines()[0].decode(errors="replace").lstrip(">")):
        fragments = read_fragments(path)
        if fragments is not None:
            yield fragments
            return
    pysam = extra_module("pysam", "variants", "reading a genome")
    with tempfile.TemporaryDirectory() as folder:
        fasta = _indexed(pysam, path, Path(folder))
        with fasta:
            yield Genome(fasta)


def _indexed(pysam: Any, path: Path, folder: Path) -> Any:
    """pysam's reader of a FASTA; what is missing for it is made in `folder`."""
    path = path.absolute()
    beside = [Path(f"{path}{ending}") for ending in (".fai", ".gzi")]
    with open(path, "rb") as file:
        head = file.read(18)
    packed = head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0"))
    blocks = head.startswith(b"\x1f\x8b\x08\x04") and head[12:14] == b"BC"  # bgzip, which can be read anywhere
    needed = beside[: 1 + blocks]
    try:
        if packed and not blocks:
            with open_text(path) as stream, open(folder / "genome.fa", "wb") as plain:
                while block := stream.read(1 << 20):
                    plain.write(block)
            path = folder / "genome.fa"
        elif all(file.is_file() and file.stat().st_mtime >= path.stat().st_mtime for file in needed):
            return pysam.FastaFile(str(path))
        indices = [str(folder / "index.fai"), str(folder / "index.gzi")][: len(needed)]
        verbosity = pysam.set_verbosity(0)
        try:
            options = zip(("--fai-idx", "--gzi-idx"), indices, strict=False)
            pysam.faidx(*(text for pair in options for text in pair), str(path))
        finally:
            pysam.set_verbosity(verbosity)
        return pysam.FastaFile(str(path), **dict(zip(INDICES, indices, strict=False)))
    except (pysam.SamtoolsError, OSError, ValueError) as error:
        raise InputError(
            f"{printable(path)} cannot be indexed: all lines of a chromosome but its last must be of one length, and "
            "no two chromosomes of one name. samtools faidx says more"
        ) from error


def read_fragments(path: Path) -> Fragments | None:
    """The fragments in a FASTA whose headers say where they lie, as `chr2:60494940-60495539`, anywhere in the line;
    behind it `(-)` says that a fragment is given as its reverse complement.

    Whether the first position is counted from 1, and the last one included, or from 0, and it is not, follows from the
    length. None where the first header tells another length, as that of a chromosome in a genome. InputError where a
    later one does.
    """
    pysam = extra_module("pysam", "variants", "reading fragments")
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    kinds = {"1-based, the last position included": 0, "0-based, the last position not included": 0}
    with explained(path):
        for number, record in enumerate(pysam.FastxFile(str(path.absolute()))):
            header = f"{record.name} {record.comment or ''}"
            place = COORDINATES.search(header)
            first, last = (int(text.replace(",", "")) for text in place.groups()[1:3]) if place else (0, -1)
            shift = len(record.sequence) - (last - first)
            if place is None or shift not in (0, 1):
                if number == 0:
                    return None
                says = f"{last - first + 1} nt" if place else "no place (chr:start-end)"
                raise InputError(
                    f"{printable(path)}: the header {printable(header.strip(), 100)} says {says}, and the sequence has "
                    f"{len(record.sequence)} nt"
                )
            kinds[list(kinds)[1 - shift]] += 1
            letters = _letters(record.sequence)
            reverse = place.group(4) == "(-)"
            found[place.group(1)].append((first - shift, reverse_complement(letters) if reverse else letters))
    said = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
    return Fragments(dict(found), (f"{printable(path)} holds fragments, by their lengths with coordinates {said}",))


def _letters(text: str) -> str:
    upper = text.upper()
    return upper if not upper.strip("ACGTN") else upper.translate(OTHERS)


@dataclass(frozen=True, slots=True)
class Region:
    """A line of a BED. reverse: on the minus strand."""

    start: int
    stop: int
    name: str
    reverse: bool


class Regions:
    """The regions of a BED by their chromosomes: which of them hold a stretch."""

    def __init__(self, regions: dict[str, list[Region]]) -> None:
        self.by_chromosome = {chrom: sorted(some, key=lambda one: one.start) for chrom, some in regions.items()}
        self.starts = {chrom: np.array([one.start for one in some]) for chrom, some in self.by_chromosome.items()}
        self.longest = {chrom: max(one.stop - one.start for one in some) for chrom, some in self.by_chromosome.items()}

    def around(self, chrom: str, start: int, stop: int) -> list[Region]:
        """The regions that hold all of a stretch, by where they begin."""
        if chrom not in self.starts:
            return []
        first, last = np.searchsorted(self.starts[chrom], [stop - self.longest[chrom], start + 1])
        return [one for one in self.by_chromosome[chrom][first:last] if one.start <= start and stop <= one.stop]


def read_regions(path: Path, reference: Reference) -> Regions:
    """The regions of a BED, plain or compressed: chromosome, start, end (0-based, half-open), and where there are more
    columns name, score and strand. InputError for a line that is none."""
    found: dict[str, list[Region]] = defaultdict(list)
    for block, first in line_blocks(path):
        for number, line in enumerate(block.decode().splitlines(), first):
            cells = line.rstrip().split("\t") if "\t" in line else line.split()
            if not cells or not cells[0] or cells[0].startswith(("#", "track", "browser")):
                continue
            if len(cells) < 3 or not (cells[1].isdecimal() and cells[2].isdecimal()) or int(cells[1]) >= int(cells[2]):
                raise InputError(
                    f"{printable(path)}:{number}: {printable(line, 80)} is no region: chromosome, start, end, with "
                    "start below end"
                )
            start, stop, chrom = int(cells[1]), int(cells[2]), reference.chromosome(cells[0]) or cells[0]
            named = len(cells) > 3 and cells[3] not in (".", "")
            name = cells[3] if named else region_text(cells[0], start, stop)
            found[chrom].append(Region(start, stop, name, reverse=len(cells) > 5 and cells[5] == "-"))
    if not found:
        raise InputError(f"{printable(path)} holds no regions")
    if not any(chrom in reference.names for chrom in found):
        raise InputError(
            f"{printable(path)}: none of its {counted(len(found), 'chromosome')} ({printable(next(iter(found)), 40)}, "
            f"...) is in the genome ({printable(', '.join(list(reference.names)[:3]), 80)}, ...)"
        )
    return Regions(dict(found))


def region_text(chrom: str, start: int, stop: int) -> str:
    """A stretch as text: chr1:101-200, 1-based, the last position included."""
    return f"{chrom}:{start + 1}-{stop}"
