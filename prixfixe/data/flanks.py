"""Constant ends: what many sequences of a table begin or end with by construction, found in the sequences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from prixfixe.common.errors import InputError
from prixfixe.data.sequences import N, Sequences, padded_chunks

SAMPLE = 10_000  # sequences looked at
FEW, LONG = 20, 12  # of fewer sequences than this, so many letters are not shared by chance
REACH = 512  # letters from either end that are looked at
ALIKE = 0.97  # share of sequences with the same next letter, from which on a letter is constant
FEWEST_ALIKE = 10  # sequences of one construct, and
SHARE_ALIKE = 0.1  # their share of the table
NEARLY_ALIKE = 0.8  # share from which on a letter is constant but for some sequences of another kind
SHORTEST = 3  # such letters in a row are not by chance
SHORTEST_SHOWN = 8
SHORTEST_INSERT = 16  # between the ends; less is the same by chance
LETTERS_PER_ERROR = 12  # of a flank: a longer one may differ in a letter for each so many
MOST_ENDS = 3  # ways to end a flank that are tried for one sequence
CHUNK_LETTERS, CHUNK_ROWS = 1 << 23, 1 << 18
COMPOSED = 1000  # inserts whose letters are counted

Flanks = tuple[str, str]
NO_FLANKS: Flanks = ("", "")


@dataclass(frozen=True)
class Construct:
    """How the sequences of a table are built: an insert between constant ends.

    left, right: the ends, empty where there are none. insert: the median length of what stands between them.
    composition: the shares of A, C, G and T in it.
    """

    left: str
    right: str
    insert: int
    composition: tuple[float, float, float, float]


def construct(sequences: Sequences) -> Construct:
    """The construct of sequences, of a sample of them where they are many."""
    sample = _sample(sequences, None)
    left, right = flanks(sample)
    rest = sample.lengths.astype(np.int64) - len(left) - len(right)
    taken = np.flatnonzero((rest > 0) & starts_with(sample, left) & ends_with(sample, right))[:COMPOSED]
    cut = sample.cut(np.full(len(taken), len(left)), rest[taken], taken)
    counts = np.bincount(cut.letters, minlength=N + 1)[:N] + 1e-9
    return Construct(left, right, int(np.median(rest.clip(min=1))), tuple((counts / counts.sum()).tolist()))


def add_flanks(sequences: Sequences, left: str, right: str) -> Sequences:
    """Each sequence with the same letters in front of it and behind it."""
    if not left and not right:
        return sequences
    before, after = (Sequences.from_strings([flank]).letters for flank in (left, right))
    lengths = sequences.lengths + np.int32(len(left) + len(right))
    whole = Sequences(np.empty(int(lengths.sum(dtype=np.int64)), dtype=np.uint8), lengths)
    inside = np.ones(len(whole.letters), dtype=bool)
    ends = whole.starts + lengths
    for start, letters in ((whole.starts, before), (ends - len(right), after)):
        places = start[:, None] + np.arange(len(letters))
        whole.letters[places] = letters
        inside[places] = False
    whole.letters[inside] = sequences.letters
    return whole


def checked_flanks(given: Any) -> Flanks:
    """`dataset.flanks`, or what an option says, as left and right end in upper case; InputError for anything else."""
    if given is None:
        return NO_FLANKS
    pair = given.split(",") if isinstance(given, str) else list(given)
    if len(pair) != 2 or not all(isinstance(end, str) and not end.upper().strip("ACGTN") for end in pair):
        raise InputError(
            f"flanks {given!r}: give the left and the right end, LEFT,RIGHT, in A C G T N; one may be empty"
        )
    return pair[0].upper(), pair[1].upper()


def flanks(sequences: Sequences) -> tuple[str, str]:
    """The constant parts at the left and right end that most sequences share, empty where there are none.

    They are the longest ones that at least half carry, if these are 8 letters or more and together at most half of the
    typical sequence (beyond that the sequences are variants of one another and nothing is constant by construction).
    """
    if len(sequences) == 0:
        return "", ""
    sample = _sample(sequences, None)
    left, right = constant_ends(sample)
    shown = [
        next((e for e in reversed(left) if len(e) >= SHORTEST_SHOWN and starts_with(sample, e).mean() >= 0.5), ""),
        next((e for e in reversed(right) if len(e) >= SHORTEST_SHOWN and ends_with(sample, e).mean() >= 0.5), ""),
    ]
    if len(shown[0]) + len(shown[1]) > np.median(sample.lengths) / 2:
        return "", ""
    return shown[0], shown[1]


def inserts(sequences: Sequences, like: Sequences | None = None) -> Sequences:
    """The sequences without their constant ends, where at least half of the sequence is left; a sequence that lacks
    them stays whole. like: sequences of the same kind, whose ends they are; None is these themselves."""
    left, right = (ends[:, 0].astype(np.int64) for ends in flank_lengths(sequences, like=like))
    rest = sequences.lengths - left - right
    whole = 2 * rest < sequences.lengths
    return sequences.cut(np.where(whole, 0, left), np.where(whole, sequences.lengths, rest))


def flank_lengths(
    sequences: Sequences, keys: np.ndarray | None = None, like: Sequences | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """How many letters at the left and at the right of each sequence are constant: uint16, shapes (n, 3) both.

    Where a constant end stops cannot always be told: most inserts may begin with the same letter by chance. So up to
    three answers are given, the longest first, then 0. keys: uint64 (n,), by which a sample is drawn that does not
    depend on the order of the sequences. like: as for `inserts`.
    """
    like = sequences if like is None else like
    left, right = constant_ends(_sample(like, keys))
    lengths = np.zeros((2, len(sequences), MOST_ENDS), dtype=np.uint16)
    for side, ends, carries in ((0, left, starts_with), (1, right, ends_with)):
        for end in ends:  # from the shortest on
            rows = carries(sequences, end, len(end) // LETTERS_PER_ERROR)
            rows &= lengths[side, :, 0] != len(end)
            lengths[side, rows, 1:] = lengths[side, rows, :-1]
            lengths[side, rows, 0] = len(end)
    return lengths[0], lengths[1]


def constant_ends(sequences: Sequences) -> tuple[list[str], list[str]]:
    """What at least a tenth of the sequences begin with, and end with, beyond chance; the shortest first.

    A table may hold several constructs, and sequences written as the other strand, which begin with the reverse
    complement of the right end.
    """
    shown = np.minimum(sequences.lengths, REACH)
    starts = sequences.cut(np.zeros_like(shown), shown)
    ends = sequences.cut(sequences.lengths - shown, shown).reverse_complement()
    find = _shared_start if len(sequences) < FEW else _constant_starts
    return _shortest_first(find(starts)), _shortest_first(find(ends).reverse_complement())


def _shared_start(sequences: Sequences) -> Sequences:
    """What at least half of a few sequences begin with, where it is too long to be shared by chance: one or none."""
    codes = sequences.padded(max(sequences.longest, LONG))
    rows = np.flatnonzero(sequences.lengths >= LONG)
    if len(rows):
        starts, counts = np.unique(codes[rows, :LONG], axis=0, return_counts=True)
        alike = codes[rows[(codes[rows, :LONG] == starts[counts.argmax()]).all(axis=1)]]
        if len(alike) >= max(2, len(sequences) / 2):
            length = int(np.argmin([*(alike == alike[0]).all(axis=0), False]))
            return Sequences(alike[0, :length], np.array([length], dtype=np.int32))
    return Sequences.concatenate([])


def _shortest_first(ends: Sequences) -> list[str]:
    return sorted(ends.to_strings(), key=lambda text: (len(text), text))


def _constant_starts(sequences: Sequences) -> Sequences:
    """Walks along the letters from the first on, for each group of sequences that are alike so far. Where a letter is
    no longer constant, a constant start may end; each letter that enough of the group have there is gone on with."""
    codes = sequences.padded()
    fewest = max(FEWEST_ALIKE, SHARE_ALIKE * len(sequences))
    found: list[list[int]] = []
    groups: list[tuple[np.ndarray, list[int], int]] = [(np.arange(len(sequences)), [], 0)]
    while groups:
        rows, start, constant = groups.pop()  # constant: letters up to here, since the group parted from others
        while len(start) < codes.shape[1]:
            letters = codes[rows, len(start)]
            known = sequences.lengths[rows] > len(start)
            counts = np.bincount(letters[known], minlength=N + 1)
            top = int(counts[:N].argmax())
            if counts[top] + counts[N] < ALIKE * len(rows) or not counts[top]:
                if constant >= SHORTEST:
                    found.append(start)
                for letter in np.flatnonzero(counts[:N] >= fewest).tolist():
                    alike = known & ((letters == letter) | (letters == N))
                    nearly = alike.sum() >= NEARLY_ALIKE * len(rows)
                    groups.append((rows[alike], [*start, letter], constant + 1 if nearly else 0))
                break
            rows = rows[known & ((letters == top) | (letters == N))]
            start = [*start, top]
            constant += 1
    lengths = np.array([len(start) for start in found], dtype=np.int32)
    return Sequences(np.array([letter for start in found for letter in start], dtype=np.uint8), lengths)


def starts_with(sequences: Sequences, start: str, mismatches: int = 0) -> np.ndarray:
    """Which sequences begin with `start`, or nearly so, an N of theirs being any letter: bool, shape (n,)."""
    return _carries(sequences, start, np.zeros_like(sequences.lengths), mismatches)


def ends_with(sequences: Sequences, end: str, mismatches: int = 0) -> np.ndarray:
    """Which sequences end with `end`, or nearly so, an N of theirs being any letter: bool, shape (n,)."""
    return _carries(sequences, end, sequences.lengths - len(end), mismatches)


def _carries(sequences: Sequences, text: str, place: np.ndarray, mismatches: int) -> np.ndarray:
    letters = Sequences.from_strings([text]).letters
    carries = np.asarray(sequences.lengths) >= len(text)
    if not len(text):
        return carries
    rows = np.flatnonzero(carries)
    at = (sequences.starts + place)[rows]
    windows = np.lib.stride_tricks.sliding_window_view(sequences.letters, len(text)) if len(rows) else letters[None]
    for chunk in padded_chunks(np.full(len(rows), len(text)), letters=CHUNK_LETTERS, rows=CHUNK_ROWS):
        there = windows[at[chunk]]
        carries[rows[chunk]] = ((there != letters) & (there != N)).sum(axis=1) <= mismatches
    return carries


def _sample(sequences: Sequences, keys: np.ndarray | None) -> Sequences:
    if len(sequences) <= SAMPLE:
        return sequences
    if keys is None:
        return sequences[np.linspace(0, len(sequences) - 1, SAMPLE).astype(np.int64)]
    return sequences[np.flatnonzero(keys <= np.partition(keys, SAMPLE)[SAMPLE])]
