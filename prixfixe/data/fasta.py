"""FASTA: sequences and their names. Lines end with LF, CR LF or CR; lines that begin with `;` are comments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from prixfixe.common.errors import InputError
from prixfixe.common.text import printable
from prixfixe.data.sequences import ASCII_TO_CODE, Sequences
from prixfixe.data.streams import line_blocks

FASTA_RECORDS, FASTA_LETTERS = 65_536, 1 << 24  # read at a time, and one record more


def is_fasta(head: bytes) -> bool:
    """Whether the first line with content, comments aside, begins with `>`."""
    for line in head.splitlines():
        text = line.strip()
        if text and not text.startswith((b";", b"#")):
            return text.startswith(b">")
    return False


def fasta_blocks(path: Path) -> Iterator[tuple[Sequences, list[str]]]:
    """The sequences and names of FASTA, about `FASTA_RECORDS` or `FASTA_LETTERS` nucleotides at a time."""
    before = letters = 0  # records in earlier blocks, nucleotides in this one
    names: list[str] = []
    lines: list[int] = []  # where each record starts
    parts: list[list[bytes]] = []
    for block, first in line_blocks(path):
        for number, raw in enumerate(block.splitlines(), start=first):
            line = raw.strip()
            if line.startswith(b">"):
                if len(names) == FASTA_RECORDS or letters >= FASTA_LETTERS:
                    yield _records(path, names, lines, parts), names
                    before += len(names)
                    names, lines, parts, letters = [], [], [], 0
                words = line[1:].split(maxsplit=1)
                name = words[0].decode(errors="replace") if words else str(before + len(names))
                names.append(printable(name, len(name)))
                lines.append(number)
                parts.append([])
            elif line and not line.startswith(b";") and (names or not line.startswith(b"#")):
                if wrong := line.translate(None, b"ACGTNacgtn"):
                    raise InputError(
                        f"{printable(path)}:{number}: position {line.index(wrong[:1]) + 1} of the line is "
                        f"{letter_problem(wrong.decode(errors='replace')[0])}."
                    )
                parts[-1].append(line)
                letters += len(line)
    yield _records(path, names, lines, parts), names


def letter_problem(letter: str) -> str:
    """What is wrong with a letter of a sequence, and what to do where that is plain."""
    advice = ""
    if letter in "Uu":
        advice = "; this is RNA: write T for U"
    elif letter.upper() in "RYSWKMBDHV":
        advice = "; IUPAC's codes for several nucleotides are not read: write N"
    elif letter in "*-.":
        advice = "; gaps and stops are no part of a sequence: remove them"
    return f"{letter!r}, which is no nucleotide (A C G T N){advice}"


def _records(path: Path, names: list[str], lines: list[int], parts: list[list[bytes]]) -> Sequences:
    """The sequences of FASTA records from their lines, which hold nucleotides only."""
    letters = [b"".join(part) for part in parts]
    for sequence, name, number in zip(letters, names, lines, strict=True):
        if not sequence:
            raise InputError(f"{printable(path)}:{number}: the sequence of {name!r} is empty.")
    lengths = np.fromiter(map(len, letters), dtype=np.int32, count=len(letters))
    flat = np.frombuffer(b"".join(letters).translate(ASCII_TO_CODE.tobytes()), dtype=np.uint8)
    return Sequences(flat, lengths)
