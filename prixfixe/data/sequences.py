"""Sequences as compact codes: one byte a letter; of nucleotides A C G T N = 0 1 2 3 4."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

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
class Alphabet:
    """The letters of a kind of sequence: a letter's code is its place. The last one stands for what is not known, and
    fills what is padded. Lower case is read as upper case."""

    name: str
    letters: str

    @property
    def unknown(self) -> int:
        return len(self.letters) - 1

    @cached_property
    def codes(self) -> np.ndarray:
        """ASCII byte -> code: uint8 (256,), INVALID for what is no letter."""
        codes = np.full(256, INVALID, dtype=np.uint8)
        for code, letter in enumerate(self.letters):
            codes[ord(letter)] = codes[ord(letter.lower())] = code
        return codes


DNA = Alphabet("nucleotide", NUCLEOTIDES)
PROTEIN = Alphabet("amino acid", "ACDEFGHIKLMNPQRSTVWYX")


@dataclass(frozen=True)
class Sequences:
    """n sequences of any lengths, one after the other in one array: memory goes with letters, whatever the longest.

    letters: uint8, shape (total,), the codes of all. lengths: int32, shape (n,), in letters. Both may be memory maps.
    """

    letters: np.ndarray
    lengths: np.ndarray
    alphabet: Alphabet = DNA

    @cached_property
    def starts(self) -> np.ndarray:
        """Where each begins in `letters`: int64, shape (n,)."""
        ends = np.cumsum(self.lengths, dtype=np.int64)
        return ends - self.lengths

    @property
    def stored(self) -> np.ndarray:
        """What `begins` counts in: `letters`, but for `Windows`."""
        return self.letters

    @property
    def begins(self) -> np.ndarray:
        """Where each begins in `stored`: int64, shape (n,)."""
        return self.starts

    @property
    def longest(self) -> int:
        return int(self.lengths.max(initial=0))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, rows: np.ndarray | slice) -> Sequences:
        """The sequences of some rows; of neighbours (a slice without a step) as a view."""
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                lengths = self.lengths[start:stop]
                first = int(self.starts[start]) if len(lengths) else 0
                stop = first + int(lengths.sum(dtype=np.int64))
                return Sequences(self.letters[first:stop], lengths, self.alphabet)
        return self._gathered(self.begins[rows], self.lengths[rows])

    def cut(self, start: np.ndarray, lengths: np.ndarray, rows: np.ndarray | slice = slice(None)) -> Sequences:
        """Of some sequences so many letters from `start` on, counted from the first: both int (m,), and within it."""
        return self._gathered(self.begins[rows] + start, lengths.astype(np.int32))

    def _gathered(self, starts: np.ndarray, lengths: np.ndarray) -> Sequences:
        """The stretches of `stored` that begin at `starts`, one after the other."""
        chosen = Sequences(np.empty(int(lengths.sum(dtype=np.int64)), dtype=np.uint8), lengths, self.alphabet)
        for length, some in _by_length(lengths):
            _windows(chosen.letters, length)[chosen.starts[some]] = _windows(self.stored, length)[starts[some]]
        return chosen

    @classmethod
    def from_strings(cls, strings: Sequence[str], alphabet: Alphabet = DNA) -> Sequences:
        """Encodes strings over an alphabet, either case; raises ValueError that names the first other character."""
        lengths = np.fromiter(map(len, strings), dtype=np.int32, count=len(strings))
        letters = alphabet.codes[np.frombuffer("".join(strings).encode("latin-1", "replace"), dtype=np.uint8)]
        if len(bad := np.flatnonzero(letters == INVALID)):
            row = int(np.searchsorted(np.cumsum(lengths), bad[0], side="right"))
            column = int(bad[0]) - int(lengths[:row].sum())
            raise ValueError(
                f"sequence {row + 1}, position {column + 1}: {strings[row][column]!r} is no {alphabet.name} "
                f"({' '.join(alphabet.letters)})"
            )
        return cls(letters, lengths, alphabet)

    @classmethod
    def from_padded(cls, codes: np.ndarray, lengths: np.ndarray) -> Sequences:
        """Of an array of shape (n, longest), left-aligned; what stands past a sequence's end is dropped."""
        lengths = np.asarray(lengths, dtype=np.int32)
        whole = bool((lengths == codes.shape[1]).all())
        return cls(codes.reshape(-1) if whole else codes[np.arange(codes.shape[1]) < lengths[:, None]], lengths)

    @classmethod
    def concatenate(cls, parts: Sequence[Sequences]) -> Sequences:
        """The sequences of all parts, in order."""
        if not parts:
            return cls(np.empty(0, dtype=np.uint8), np.empty(0, dtype=np.int32))
        letters, lengths = ([getattr(part, field) for part in parts] for field in ("letters", "lengths"))
        return cls(np.concatenate(letters), np.concatenate(lengths), parts[0].alphabet)

    def padded(self, width: int | None = None) -> np.ndarray:
        """uint8, shape (n, width), left-aligned; past a sequence's end stands the unknown letter. width: at least the
        longest; None is that."""
        codes = np.full((len(self), self.longest if width is None else width), self.alphabet.unknown, dtype=np.uint8)
        for length, rows in _by_length(self.lengths):
            codes[rows, :length] = _windows(self.stored, length)[self.begins[rows]]
        return codes

    def to_strings(self) -> list[str]:
        text = self.letters.tobytes().translate(self.alphabet.letters.encode().ljust(256)).decode()
        ends = np.append(0, np.cumsum(self.lengths, dtype=np.int64)).tolist()
        return [text[start:stop] for start, stop in itertools.pairwise(ends)]

    def reverse_complement(self) -> Sequences:
        """The other strand of each, read 5' to 3': all letters backwards, and then the rows."""
        return Sequences(COMPLEMENT[self.letters[::-1]], self.lengths[::-1])[::-1]


class Windows(Sequences):
    """Stretches of longer sequences, which may overlap: memory goes with the letters of these, and 12 bytes a window.

    `letters`, one window after the other as of all sequences, is made when it is asked for: windows times their length.
    """

    _stored: np.ndarray
    _begins: np.ndarray

    def __init__(self, stored: np.ndarray, begins: np.ndarray, lengths: np.ndarray, alphabet: Alphabet = DNA) -> None:
        """stored: uint8 (total,), the letters of the longer sequences. begins: int64 (n,), where each window begins in
        them. lengths: int32 (n,)."""
        vars(self).update(_stored=stored, _begins=begins, lengths=lengths, alphabet=alphabet)

    @property
    def stored(self) -> np.ndarray:
        return self._stored

    @property
    def begins(self) -> np.ndarray:
        return self._begins

    @property
    def letters(self) -> np.ndarray:
        return self._gathered(self.begins, self.lengths).letters

    def __getitem__(self, rows: np.ndarray | slice) -> Windows:
        """Some of the windows; the letters stay shared."""
        return Windows(self.stored, self.begins[rows], self.lengths[rows], self.alphabet)


def padded_chunks(lengths: np.ndarray, *, letters: int, rows: int) -> Iterator[slice]:
    """Slices of neighbours that together, padded to their longest, take at most so many letters and rows; a longer one
    stands alone."""
    lengths = np.asarray(lengths)
    start = 0
    while start < len(lengths):
        longest = np.maximum.accumulate(lengths[start : start + rows].astype(np.int64))
        fitting = int(np.searchsorted(longest * np.arange(1, len(longest) + 1), letters, side="right"))
        yield slice(start, start + max(fitting, 1))
        start += max(fitting, 1)


def _by_length(lengths: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each length above 0, with the rows that have it."""
    order = np.argsort(lengths, kind="stable")
    ordered = lengths[order]
    changes = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    for rows in np.split(order, changes):
        if len(rows) and lengths[rows[0]] > 0:
            yield int(lengths[rows[0]]), rows


def _windows(letters: np.ndarray, length: int) -> np.ndarray:
    """Every stretch of `length` letters as a row, without a copy: shape (total - length + 1, length)."""
    return np.lib.stride_tricks.sliding_window_view(letters, length, writeable=letters.flags.writeable)
