"""Near-duplicates: sequences of one set that share a long stretch with a sequence of another, on either strand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np

from prixfixe.common.text import counted
from prixfixe.data.flanks import inserts
from prixfixe.data.sequences import N, Sequences
from prixfixe.data.splits import group_keys

STRETCH = 24  # nucleotides; chance makes none so long in 10 million random promoters for all but 1 in 5,000
LONGEST_PERIOD = 3  # repeats of so many letters are no sign of kinship
MOST_LOOKED_UP = 10_000  # sequences that are looked up, and
MOST_LETTERS_LOOKED_UP = 4_000_000  # their letters
MOST_LETTERS = 250_000_000  # of the set in which they are looked up: about 10 s on one core
CHUNK_LETTERS = 1 << 17  # hashed at a time, so that temporary arrays stay in the processor's cache
SIEVE_BITS = 24


@dataclass(frozen=True)
class NearDuplicates:
    """How many of `sequences` share a stretch with one of another set.

    at_least: whether that set was so large that a sample of it stood for it.
    """

    count: int
    sequences: int
    at_least: bool = False

    @property
    def share(self) -> float:
        return self.count / self.sequences if self.sequences else 0.0

    def text(self, what: str = "sequence") -> str:
        """`at least 12 of 600 validation sequences (2.0 %)`"""
        least = "at least " if self.at_least else ""
        return f"{least}{self.count:,} of {counted(self.sequences, what)} ({100 * self.share:.3g} %)"


def near_duplicates(sequences: Sequences, others: Sequences) -> NearDuplicates:
    """How many sequences share a stretch of 24 nucleotides or more with one of `others`, on either strand.

    The constant ends (`flanks`) do not count, nor do stretches with N or that repeat one to three letters. Of more
    than 10,000 sequences those are looked up that are smallest by hash; of `others` so many as hold 250 million
    letters. Time and memory go with letters: about 30 ns a letter of `others` on one core, and 300 MB.
    """
    return near_duplicates_of([sequences], others)[0]


def near_duplicates_of(parts: Sequence[Sequences], others: Sequences) -> list[NearDuplicates]:
    """`near_duplicates` of each of several sets with one other, which is read once."""
    against = _smallest_by_hash(others, MOST_LETTERS, len(others))
    samples = [_smallest_by_hash(part, MOST_LETTERS_LOOKED_UP, MOST_LOOKED_UP) for part in parts]
    near = _near(inserts(Sequences.concatenate(samples), like=against), against)
    ends = np.cumsum([len(sample) for sample in samples])
    return [
        NearDuplicates(int(near[end - len(sample) : end].sum()), len(sample), len(against) < len(others))
        for sample, end in zip(samples, ends.tolist(), strict=True)
    ]


def _near(looked_up: Sequences, against: Sequences) -> np.ndarray:
    """Which sequences share a stretch with one of `against`: bool, shape (n,)."""
    near = np.zeros(len(looked_up), dtype=bool)
    hashes, owners = _stretches_of(looked_up)
    if not len(hashes):
        return near
    order = np.argsort(hashes)
    hashes, owners = hashes[order], owners[order]
    sieve = np.zeros(1 << SIEVE_BITS, dtype=bool)
    sieve[hashes >> np.uint64(64 - SIEVE_BITS)] = True
    first_of = np.searchsorted(hashes, hashes, side="left")  # of those that are equal
    hit = np.zeros(len(hashes), dtype=bool)
    for found in _hashes_in(inserts(against), sieve):
        first = np.minimum(np.searchsorted(hashes, found), len(hashes) - 1)
        hit[first[hashes[first] == found]] = True
    near[owners[hit[first_of]]] = True
    return near


def _stretches_of(sequences: Sequences) -> tuple[np.ndarray, np.ndarray]:
    """The hashes of all stretches that count, and the row of each: uint64 and int64, shape (m,) both."""
    hashes, owners = [np.empty(0, dtype=np.uint64)], [np.empty(0, dtype=np.int64)]
    ends = np.cumsum(sequences.lengths, dtype=np.int64)
    for start, letters in _chunks(sequences.letters):
        at = np.arange(start, start + len(letters) - STRETCH + 1)
        row = np.searchsorted(ends, at, side="right")
        counts = (at + STRETCH <= ends[row]) & (_sums(letters == N, STRETCH) == 0)
        for period in range(1, LONGEST_PERIOD + 1):
            repeats = _sums(letters[period:] == letters[:-period], STRETCH - period)
            counts &= repeats[: len(at)] < STRETCH - period
        hashes.append(_stretch_hashes(letters)[counts])
        owners.append(row[counts])
    return np.concatenate(hashes), np.concatenate(owners)


def _hashes_in(sequences: Sequences, sieve: np.ndarray) -> Iterator[np.ndarray]:
    """The hashes of stretches that pass a sieve of their first bits, chunk by chunk."""
    ends = np.cumsum(sequences.lengths, dtype=np.int64)

    def passing(chunk: tuple[int, np.ndarray]) -> np.ndarray:
        start, letters = chunk
        hashes = _stretch_hashes(letters)
        at = np.flatnonzero(sieve[hashes >> np.uint64(64 - SIEVE_BITS)])
        inside = start + at + STRETCH <= ends[np.searchsorted(ends, start + at, side="right")]
        return hashes[at[inside]]

    with ThreadPoolExecutor() as pool:  # numpy works outside the interpreter's lock
        yield from pool.map(passing, _chunks(sequences.letters))


def _chunks(letters: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Where each chunk of letters starts, and the chunk; they overlap, so that each stretch is whole in one of them."""
    for start in range(0, len(letters) - STRETCH + 1, CHUNK_LETTERS):
        yield start, letters[start : start + CHUNK_LETTERS + STRETCH - 1]


def _sums(flags: np.ndarray, width: int) -> np.ndarray:
    """How many are true in each window of so many."""
    total = np.append(0, np.cumsum(flags, dtype=np.int32))
    return total[width:] - total[:-width]


def _stretch_hashes(letters: np.ndarray) -> np.ndarray:
    """A 64-bit hash of each stretch that its reverse complement shares: uint64, shape (letters - STRETCH + 1,).

    A stretch's hash is a polynomial of its letters modulo 2**64, so that all of them come from one running sum (Karp
    and Rabin 1987); and the smaller of both strands' counts.
    """
    values, complements, powers, inverses, last = _tables()
    size = len(letters) - STRETCH + 1
    both = []
    for table, up, down in ((values, powers, inverses), (complements, inverses, powers)):
        total = np.empty(len(letters) + 1, dtype=np.uint64)
        total[0] = 0
        np.cumsum(table[letters] * up[: len(letters)], out=total[1:])
        both.append((total[STRETCH:] - total[:-STRETCH]) * down[:size])
    hashes: np.ndarray = np.minimum(both[0], both[1] * last)
    return hashes


@cache
def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.uint64]:
    """Values of letters and of their complements, powers of the base and of its inverse, and its last power."""
    values = np.random.default_rng(0).integers(1, 2**63, size=N + 1, dtype=np.uint64)
    complements = values[[3, 2, 1, 0, N]]
    base = 0x9E3779B97F4A7C15
    powers, inverses = (
        np.cumprod(np.append(np.uint64(1), np.full(CHUNK_LETTERS + STRETCH, step % 2**64, dtype=np.uint64)))
        for step in (base, pow(base, -1, 2**64))
    )
    return values, complements, powers, inverses, np.uint64(pow(base, STRETCH - 1, 2**64))


def _smallest_by_hash(sequences: Sequences, letters: int, rows: int) -> Sequences:
    """All sequences, or those smallest by hash that are at most so many rows and letters, and at least one."""
    if len(sequences) <= rows and len(sequences.letters) <= letters:
        return sequences
    order = np.argsort(group_keys(sequences), kind="stable")[:rows]
    fitting = int(np.searchsorted(np.cumsum(sequences.lengths[order], dtype=np.int64), letters, side="right"))
    return sequences[np.sort(order[: max(fitting, 1)])]
