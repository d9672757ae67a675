"""Short motifs as patterns of allowed bases: consensus strings (IUPAC), motifs of MEME files, and where they occur."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prixfixe.common.errors import InputError
from prixfixe.common.extras import extra_module
from prixfixe.common.text import printable
from prixfixe.data.sequences import NUCLEOTIDES, N

IUPAC = {
    "A": "A", "C": "C", "G": "G", "T": "T", "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC",
    "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT",
}  # fmt: skip
BASES = 4


@dataclass(frozen=True)
class Pattern:
    """A motif of width w. name: as given. allowed: bool (w, 4), which of A C G T may stand at each position."""

    name: str
    allowed: np.ndarray

    def __len__(self) -> int:
        return len(self.allowed)

    def reverse_complement(self) -> Pattern:
        return Pattern(self.name, self.allowed[::-1, ::-1])

    def strands(self) -> list[Pattern]:
        """The pattern and its reverse complement; one of them where they are the same."""
        other = self.reverse_complement()
        return [self] if np.array_equal(self.allowed, other.allowed) else [self, other]

    def occurrences(self, codes: np.ndarray) -> np.ndarray:
        """Where it begins: bool (n, L - w + 1). codes: uint8 (n, L). N stands for no base and matches nothing."""
        windows = max(codes.shape[1] - len(self) + 1, 0)
        found = np.ones((len(codes), windows), dtype=bool)
        for offset, allowed in enumerate(np.append(self.allowed, np.zeros((len(self), 1), dtype=bool), axis=1)):
            found &= allowed[codes[:, offset : offset + windows]]
        return found

    def written(self, codes: np.ndarray) -> np.ndarray:
        """A stretch with the motif put there, uint8 (w,): a base that is allowed stays, another becomes the first one
        that is, A C G T."""
        known = np.minimum(codes, N - 1)
        stays = (codes < N) & self.allowed[np.arange(len(self)), known]
        return np.where(stays, codes, self.allowed.argmax(axis=1)).astype(np.uint8)


def consensus(text: str) -> Pattern:
    """The pattern of a string of IUPAC letters, such as TGASTCA; InputError for any other letter."""
    letters = text.strip().upper()
    if not letters or any(letter not in IUPAC for letter in letters):
        raise InputError(
            f"motif {printable(text, 60)}: write a consensus in the IUPAC letters {' '.join(IUPAC)}, or "
            "give --motifs FILE.meme and a motif's name"
        )
    return Pattern(letters, np.array([[base in IUPAC[letter] for base in NUCLEOTIDES[:BASES]] for letter in letters]))


def read_patterns(path: Path) -> dict[str, Pattern]:
    """The motifs of a MEME file by their names: of each position the bases at least half as frequent as the most
    frequent one."""
    read_meme = extra_module("tangermeme.io", "interpret", "--motifs").read_meme
    try:
        motifs = read_meme(str(path))
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise InputError(f"{printable(path)} is no file of motifs in MEME format: {printable(error, 200)}") from error
    if not motifs:
        raise InputError(f"{printable(path)} holds no motif in MEME format")
    found = {}
    for name, weights in motifs.items():
        frequencies = np.asarray(weights).T
        found[printable(name)] = Pattern(printable(name), frequencies >= frequencies.max(axis=1, keepdims=True) / 2)
    return found


def chosen_pattern(text: str, known: dict[str, Pattern]) -> Pattern:
    """The motif of a name, or of a word of a name, among those that are known; else a consensus."""
    if text in known:
        return known[text]
    alike = [name for name in known if text.upper() in name.upper().split()]
    if len(alike) > 1:
        raise InputError(f"motif {printable(text, 60)}: several are called so: {', '.join(alike[:5])}")
    return known[alike[0]] if alike else consensus(text)
