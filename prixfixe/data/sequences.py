"""Nucleotide sequences as compact codes: one byte a nucleotide, A C G T N = 0 1 2 3 4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NUCLEOTIDES = "ACGTN"
A, C, G, T, N = range(5)
COMPLEMENT = np.array([T, G, C, A, N], dtype=np.uint8)  # indexed by code
INVALID = 255

# ASCII byte -> code; lower case is read as upper case, anything else is INVALID
ASCII_TO_CODE = np.full(256, INVALID, dtype=np.uint8)
for _code, _letter in enumerate(NUCLEOTIDES):
    ASCII_TO_CODE[ord(_letter)] = ASCII_TO_CODE[ord(_letter.lower())] = _code
CODE_TO_ASCII = np.frombuffer(NUCLEOTIDES.encode(), dtype=np.uint8)


@dataclass(frozen=True)
class Sequences:
    """Sequences of any lengths, left-aligned in one array.

    codes: uint8, shape (n, longest); positions past a sequence's end hold N.
    lengths: int32, shape (n,), in nucleotides.
    """

    codes: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, rows: np.ndarray | slice) -> Sequences:
        return Sequences(self.codes[rows], self.lengths[rows])

    @classmethod
    def from_strings(cls, strings: Sequence[str]) -> Sequences:
        """Encodes strings over A C G T N, either case; raises ValueError that names the first other character."""
        lengths = np.fromiter(map(len, strings), dtype=np.int32, count=len(strings))
        letters = np.frombuffer("".join(strings).encode("latin-1", "replace"), dtype=np.uint8)
        flat = ASCII_TO_CODE[letters]
        if len(bad := np.flatnonzero(flat == INVALID)):
            row = int(np.searchsorted(np.cumsum(lengths), bad[0], side="right"))
            column = int(bad[0]) - int(lengths[:row].sum())
            raise ValueError(f"sequence {row + 1}, position {column + 1}: {strings[row][column]!r} is no nucleotide (A C G T N)")
        codes = np.full((len(strings), int(lengths.max(initial=0))), N, dtype=np.uint8)
        codes[np.arange(codes.shape[1]) < lengths[:, None]] = flat
        return cls(codes, lengths)

    def to_strings(self) -> list[str]:
        text = self.codes.tobytes().translate(CODE_TO_ASCII.tobytes().ljust(256)).decode()
        width = self.codes.shape[1]
        return [text[row * width : row * width + length] for row, length in enumerate(self.lengths.tolist())]

    def reverse_complement(self) -> Sequences:
        codes = np.full_like(self.codes, N)
        for length in np.unique(self.lengths):  # few: a whole length at a time needs no array of positions
            rows = np.flatnonzero(self.lengths == length)
            codes[rows, :length] = COMPLEMENT[self.codes[rows, :length][:, ::-1]]
        return Sequences(codes, self.lengths)
