"""Variants from files, an allele at a time, in memory that does not grow with the file: of VCF and BCF by pysam, and of
tables with the columns Chromosome, Position, Ref and Alt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prixfixe.common.errors import InputError
from prixfixe.common.extras import extra_module
from prixfixe.common.inputs import open_input
from prixfixe.common.text import printable
from prixfixe.data.streams import explained, open_text

HEADS = (b"##fileformat=VCF", b"#CHROM", b"BCF\2")  # what VCF and BCF begin with, once they are unpacked
COLUMNS = {  # of a table, and what else these columns are called
    "chrom": ("chromosome", "chrom", "#chrom", "chr"),
    "pos": ("position", "pos"),
    "ref": ("ref", "reference"),
    "alt": ("alt", "alternative"),
}
ROWS = 10_000  # of a table, read at a time
SHOWN = 20  # letters of an allele in a message


@dataclass(frozen=True, slots=True)
class Variant:
    """An allele of a record, as its file writes it. position: 1-based. record: its number in the file, from 0.
    further: the other cells of a table's row."""

    chrom: str
    position: int
    ref: str
    alt: str
    record: int
    further: tuple[str, ...] = ()

    def __str__(self) -> str:
        ref, alt = (text if len(text) <= SHOWN else f"{text[:SHOWN]}..." for text in (self.ref, self.alt))
        return printable(f"{self.chrom}:{self.position} {ref}>{alt}", 200)


@dataclass(frozen=True, slots=True)
class Change:
    """What an allele does to a chromosome, in upper case: `removed`, the letters from `start` on, 0-based, gives way to
    `inserted`. anchor: 0-based, the letter at the variant's position."""

    anchor: int
    start: int
    removed: str
    inserted: str

    @property
    def stop(self) -> int:
        return self.start + len(self.removed)

    @property
    def is_substitution(self) -> bool:
        """Whether one letter gives way to another one."""
        return len(self.removed) == len(self.inserted) == 1


def change(variant: Variant) -> Change | str:
    """What an allele does, or why that cannot be told. `-` as alternative removes the reference; `-` as reference
    inserts the alternative behind the letter at the position."""
    ref, alt = variant.ref.upper(), variant.alt.upper()
    if alt in ("", ".", "*"):
        return "allele * (a deletion that another record tells of)" if alt == "*" else "no alternative allele"
    if alt.startswith("<") or ref.startswith("<"):
        return "symbolic allele"
    if set(alt) & set("[]"):
        return "breakend"
    removed, inserted = ref.replace("-", ""), alt.replace("-", "")
    if removed.strip("ACGT") or inserted.strip("ACGT") or not ref:
        return "letters other than A C G T"
    if removed == inserted:
        return "alternative allele equal to the reference"
    anchor = variant.position - 1
    return Change(anchor, anchor if removed else anchor + 1, removed, inserted)


def is_vcf(path: Path) -> bool:
    """Whether a file is VCF or BCF, by what it begins with."""
    with open_text(path) as stream:
        return stream.read(max(map(len, HEADS))).startswith(HEADS)


def further_columns(path: Path) -> list[str]:
    """The columns of a table beside those of the variants; none of VCF."""
    if is_vcf(path):
        return []
    with _table(path) as chunks:
        chunk = next(iter(chunks))
        taken = _places(path, list(chunk.columns)).values()
        return [str(name) for name in chunk.columns if name not in taken]


def read_variants(path: Path) -> Iterator[Variant]:
    """All alleles of a file in order, one a Variant; InputError where it cannot be read, or holds none."""
    record = -1
    for variant in _of_vcf(path) if is_vcf(path) else _of_table(path):
        record = variant.record
        yield variant
    if record < 0:
        raise InputError(f"{printable(path)} holds no variants")


@contextmanager
def open_vcf(path: Path, *, samples: bool = False) -> Iterator[Any]:
    """Yields pysam's reader of a VCF or BCF, plain or compressed; an error of its own becomes an InputError."""
    pysam = extra_module("pysam", "variants", "reading VCF")
    verbosity = pysam.set_verbosity(0)
    try:
        # given a path, pysam would look for an index, and seek, which plain gzip does not allow
        with open_input(path) as file, pysam.VariantFile(file, drop_samples=not samples) as vcf:
            yield vcf
    except (ValueError, OSError) as error:
        raise InputError(
            f"{printable(path)} cannot be read: {printable(error, 300)}. It must be VCF (plain, gzip or bgzip) or BCF, "
            "whole, with its header; bcftools view FILE says more"
        ) from error
    finally:
        pysam.set_verbosity(verbosity)


def _of_vcf(path: Path) -> Iterator[Variant]:
    with open_vcf(path) as vcf:
        for number, record in enumerate(vcf):
            for alt in record.alts or (".",):
                yield Variant(record.chrom, record.pos, record.ref, alt, number)


def _of_table(path: Path) -> Iterator[Variant]:
    import pandas as pd

    number = 0
    with _table(path) as chunks:
        for chunk in chunks:
            places = _places(path, list(chunk.columns))
            own = [chunk[places[name]].str.strip().tolist() for name in COLUMNS]
            if not isinstance(chunk.index, pd.RangeIndex):
                raise InputError(f"{printable(path)}: its rows have more cells than its header has columns")
            names = [name for name in chunk.columns if name not in places.values()]
            others = [[printable(cell) for cell in chunk[name].astype(str)] for name in names]
            further = zip(*others, strict=True) if others else [()] * len(chunk)
            for (chrom, position, ref, alt), cells in zip(zip(*own, strict=True), further, strict=True):
                if not position.isascii() or not position.isdecimal() or len(position) > 12:
                    raise InputError(
                        f"{printable(path)}, row {number + 1}: position {printable(position, 40)!r} is no whole number"
                    )
                yield Variant(chrom, int(position), ref, alt, number, cells)
                number += 1


@contextmanager
def _table(path: Path) -> Iterator[Any]:
    """Yields the chunks of a table with a header, TSV or CSV, plain or compressed, all of whose cells are text."""
    import pandas as pd

    with open_text(path) as stream, explained(path):
        head = stream.peek(1 << 16).split(b"\n")[0] if hasattr(stream, "peek") else b""
        mark = "\t" if b"\t" in head or b"," not in head else ","
        try:
            reader: Any = stream
            with pd.read_csv(reader, sep=mark, dtype=str, keep_default_na=False, chunksize=ROWS) as chunks:
                yield chunks
        except pd.errors.EmptyDataError as error:
            raise InputError(f"{printable(path)} is empty: {_EXPECTED}") from error
        except pd.errors.ParserError as error:
            raise InputError(f"{printable(path)} cannot be read: {printable(error, 300)}") from error


_EXPECTED = "give a VCF or BCF, or a table with a header that has Chromosome, Position, Ref and Alt"


def _places(path: Path, names: list[str]) -> dict[str, str]:
    """Which of a table's columns holds each of COLUMNS."""
    lower = {name.strip().lower(): name for name in reversed(names)}
    found = {}
    for wanted, called in COLUMNS.items():
        name = next((lower[one] for one in called if one in lower), None)
        if name is None:
            raise InputError(
                f"{printable(path)} has no column {called[0].capitalize()} (its columns: "
                f"{printable(', '.join(names), 300)}): {_EXPECTED}"
            )
        found[wanted] = name
    return found
