"""A VCF with effects in its INFO: the records as they were, one entry for each alternative allele."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from prixfixe.common.errors import InputError
from prixfixe.common.extras import extra_module
from prixfixe.common.files import atomic_path
from prixfixe.common.text import printable
from prixfixe.data.variants import open_vcf

PREFIX = "PRIXFIXE_"

Entry = tuple[int, str, Mapping[str, float]]  # a record's number, an alternative allele, and what it is given


def info_name(column: str, task: str | None = None) -> str:
    """The INFO key of a column, of one of several tasks: letters, digits and _ alone, as VCF wants it."""
    return PREFIX + re.sub(r"\W", "_", column if task is None else f"{column}_{task}", flags=re.ASCII)


def write_annotated(
    path: Path, output: Path, entries: Iterable[Entry], described: Mapping[str, str], source: str
) -> int:
    """Writes a VCF or BCF anew, `.vcf` or, with bgzip, `.vcf.gz`, with INFO entries for alternative alleles; those that
    have none are given `.`. Returns how many records it has.

    entries: in the order of the file. described: INFO key -> what it is. source: of the numbers, in a header line.
    InputError where the file has such entries already.
    """
    pysam = extra_module("pysam", "variants", "writing VCF")
    coming = iter(entries)
    entry = next(coming, None)
    with atomic_path(output) as temporary:
        compressed = output.name.lower().endswith(".gz")
        out: Any = pysam.BGZFile(str(temporary), "w") if compressed else open(temporary, "wb")  # noqa: SIM115
        with closing(out), open_vcf(path, samples=True) as vcf:
            for line in _header(path, described, source):
                out.write(f"{line}\n".encode())
            number = -1
            for number, record in enumerate(vcf):
                given: dict[str, Mapping[str, float]] = {}
                while entry is not None and entry[0] == number:
                    given[entry[1]] = entry[2]
                    entry = next(coming, None)
                out.write(_annotated(str(record), record.alts or (), given, list(described)).encode())
    return number + 1


def _annotated(line: str, alts: Sequence[str], given: Mapping[str, Mapping[str, float]], keys: Sequence[str]) -> str:
    if not given:
        return line
    cells = line.rstrip("\n").split("\t")
    info = [] if cells[7] == "." else [cells[7]]
    for key in keys:
        values = [given.get(alt, {}).get(key, float("nan")) for alt in alts]
        if any(value == value for value in values):
            info.append(f"{key}={','.join('.' if value != value else f'{value:.6g}' for value in values)}")
    cells[7] = ";".join(info) or "."
    return "\t".join(cells) + "\n"


def _header(path: Path, described: Mapping[str, str], source: str) -> Iterator[str]:
    """The file's header lines and the new ones; chromosomes that it does not declare are declared, which pysam knows
    once it has read all records."""
    with open_vcf(path) as vcf:
        for _ in vcf:
            pass
        declared = set(vcf.header.info)
        contigs = list(vcf.header.contigs)
    with open_vcf(path, samples=True) as vcf:
        lines = str(vcf.header).splitlines()
        known = set(vcf.header.contigs)
    if taken := [key for key in described if key in declared]:
        raise InputError(f"{printable(path)} has {taken[0]} already: give the VCF as it was before")
    yield from lines[:-1]
    yield from (f"##contig=<ID={contig}>" for contig in contigs if contig not in known)
    yield f"##prixfixe_variants={printable(source)}"
    for key, text in described.items():
        quoted = printable(text).replace("\\", "/").replace('"', "'")
        yield f'##INFO=<ID={key},Number=A,Type=Float,Description="{quoted}">'
    yield lines[-1]
