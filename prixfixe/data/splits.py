"""Splits that keep a sequence, and its reverse complement, on one side: by chance, by the data's folds, by clusters."""

from __future__ import annotations

import heapq

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from prixfixe.construct import LEFT_FLANK, RIGHT_FLANK
from prixfixe.data.measurements import Measurements
from prixfixe.data.sequences import N, Sequences
from prixfixe.errors import InputError

FEWEST_GROUPS = 10  # distinct sequences below which a random split says nothing
FEWEST_VALIDATION = 3  # sequences to validate on: of one there is no correlation, and of two it is 1 or -1
CHUNK_ROWS = 16_384  # rows hashed at a time, so that temporary arrays stay in the processor's cache
KMER = 20  # in the largest sets (5e8 k-mers) chance alone shares few of them
KMER_WINDOW = 5  # one k-mer is kept of this many neighbours
NO_KMER = np.uint64(2**64 - 1)
FLANK_SAMPLE = 10_000  # sequences looked at to find constant flanks
FLANK_SHARE = 0.9  # share of sequences that carry a constant flank
FEWEST_FOR_FLANKS = 20  # sequences; fewer share letters by chance
SHORTEST_FLANK = 8


def split(
    measurements: Measurements, *, validation_fraction: float = 0.1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers, ascending, of a training and a validation part: int64, shapes (n_train,) and (n_validation,).

    Rows of one sequence or of its reverse complement are one group; `validation_fraction` of the groups, at least
    three, are drawn. The draw depends on the seed and on the sequences, not on their order. Raises InputError for fewer
    than ten groups.
    """
    if not 0 < validation_fraction < 1:
        raise InputError(f"validation_fraction is {validation_fraction}: it must lie between 0 and 1.")
    drawn = _mix(group_keys(measurements.sequences) ^ _mix(np.array([seed % 2**64], dtype=np.uint64)))
    groups = distinct(drawn)
    if len(groups) < FEWEST_GROUPS:
        raise InputError(
            f"{len(measurements)} rows with {len(groups)} different sequences are too few to split: at least "
            f"{FEWEST_GROUPS} are needed. "
            "Give more data, or a validation file of its own."
        )
    held_out = min(max(round(validation_fraction * len(groups)), FEWEST_VALIDATION), len(groups) - 1)
    validation = drawn <= groups[held_out - 1]
    return np.flatnonzero(~validation), np.flatnonzero(validation)


def fold_split(measurements: Measurements, fold: int | str) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of a training and a validation part, which is one of the data's own folds; as `split`."""
    if measurements.fold is None:
        raise InputError(f"fold {fold} is to be the validation part, but the table has no fold column.")
    validation = measurements.in_fold(fold)
    if not validation.any() or validation.all():
        choices = ", ".join(map(str, np.unique(measurements.fold)))
        reason = "holds every row" if validation.any() else "has no rows"
        raise InputError(f"fold {fold} {reason}; the table's folds are: {choices}.")
    return np.flatnonzero(~validation), np.flatnonzero(validation)


def cluster_folds(measurements: Measurements, k: int, *, seed: int = 0) -> np.ndarray:
    """A fold, 0 to k - 1, for each row: int64, shape (n,). Similar sequences (`clusters`) share a fold.

    Clusters are dealt out largest first, each to the fold that is smallest by then, equal ones in an order that the
    seed decides; so folds are as even as the largest cluster allows.
    """
    cluster = clusters(measurements.sequences)
    sizes = np.bincount(cluster)
    if not 2 <= k <= len(sizes):
        raise InputError(
            f"{k} folds cannot be made of {len(sizes)} clusters of similar sequences; take at least 2 and at "
            "most that many."
        )
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    fold_of_cluster = np.empty(len(sizes), dtype=np.int64)
    heap = [(0, fold) for fold in range(k)]
    for chosen in order.tolist():
        rows, fold = heap[0]
        fold_of_cluster[chosen] = fold
        heapq.heapreplace(heap, (rows + int(sizes[chosen]), fold))
    folds: np.ndarray = fold_of_cluster[cluster]
    return folds


def shared(a: Sequences, b: Sequences) -> int:
    """How many sequences of `b` stand in `a` too, as they are or as their reverse complement."""
    return int(found_in(group_keys(b), group_keys(a)).sum())


def found_in(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Which of the `values` stand in `among`: bool, shape of `values`. Sorting outpaces numpy's isin tenfold for 64-bit
    keys."""
    if len(among) == 0:
        return np.zeros(len(values), dtype=bool)
    ordered = np.sort(among)
    nearest = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    found: np.ndarray = ordered[nearest] == values
    return found


def distinct(values: np.ndarray) -> np.ndarray:
    """The different values, ascending; for millions of 64-bit keys far faster than numpy's unique, which hashes."""
    ordered = np.sort(values)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])] if len(ordered) else ordered


def group_keys(sequences: Sequences) -> np.ndarray:
    """A 64-bit hash of each sequence that its reverse complement shares: uint64, shape (n,).

    It is the smaller of both strands' hashes. Among 10 million different sequences the chance of one equal pair is
    about 3e-6, and such a pair would merely stand on the same side of a split.
    """
    forward, backward = strand_hashes(sequences)
    keys: np.ndarray = np.minimum(forward, backward)
    return keys


def strand_hashes(sequences: Sequences) -> tuple[np.ndarray, np.ndarray]:
    """`strand_hash` of each sequence and of its reverse complement: uint64, shape (n,) both; a palindrome's are
    equal."""
    forward, backward = np.empty((2, len(sequences)), dtype=np.uint64)
    for start in range(0, len(sequences), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        forward[rows] = strand_hash(sequences[rows])
        backward[rows] = strand_hash(sequences[rows].reverse_complement())
    return forward, backward


def strand_hash(sequences: Sequences) -> np.ndarray:
    """A 64-bit hash of each sequence as it is written: uint64, shape (n,). It does not depend on the array's width."""
    width = -(-sequences.padded().shape[1] // 8) * 8
    letters = np.zeros((len(sequences), width), dtype=np.uint8)
    np.bitwise_xor(sequences.padded(), np.uint8(N), out=letters[:, : sequences.padded().shape[1]])  # padding becomes 0
    words = letters.view("<u8").T.copy()
    hashes = np.zeros(len(sequences), dtype=np.uint64)
    for word in words[::-1]:  # from the end, so that words of padding leave the hash at 0
        hashes = (hashes ^ word) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(32)
    return _mix(hashes ^ _mix(sequences.lengths.astype(np.uint64)))


def _mix(values: np.ndarray) -> np.ndarray:
    """Spreads 64-bit values evenly, one to one (the last step of SplitMix64: Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def flanks(sequences: Sequences) -> tuple[str, str]:
    """The constant parts at the left and right end, empty where there are none.

    They are those of the yeast construct where at least half of the sequences carry them; else the letters that nine in
    ten sequences share from an end on, if these are 8 or more and together at most half of the typical sequence (beyond
    that the sequences are variants of one another and nothing is constant by construction).
    """
    if len(sequences) == 0:
        return "", ""
    if (starts_with(sequences, LEFT_FLANK) & ends_with(sequences, RIGHT_FLANK)).mean() >= 0.5:
        return LEFT_FLANK, RIGHT_FLANK
    if len(sequences) < FEWEST_FOR_FLANKS:
        return "", ""
    sample = sequences[np.linspace(0, len(sequences) - 1, min(len(sequences), FLANK_SAMPLE)).astype(np.int64)]
    left = _shared_start(sample)
    right = _shared_start(sample.reverse_complement()).reverse_complement()
    found = [end.to_strings()[0] if end.lengths[0] >= SHORTEST_FLANK else "" for end in (left, right)]
    if len(found[0]) + len(found[1]) > np.median(sample.lengths) / 2:
        return "", ""
    return found[0], found[1]


def _shared_start(sequences: Sequences) -> Sequences:
    """The one sequence with which nearly all sequences begin."""
    counts = np.stack([(sequences.padded() == code).sum(axis=0) for code in range(N)])
    varied = np.flatnonzero(counts.max(axis=0) < FLANK_SHARE * len(sequences))
    length = int(varied[0]) if len(varied) else counts.shape[1]
    return Sequences.from_padded(
        counts.argmax(axis=0)[None, :length].astype(np.uint8), np.array([length], dtype=np.int32)
    )


def starts_with(sequences: Sequences, start: str) -> np.ndarray:
    """Which sequences begin with `start`: bool, shape (n,)."""
    letters = Sequences.from_strings([start]).padded()[0]
    if len(letters) > sequences.padded().shape[1]:
        return np.zeros(len(sequences), dtype=bool)
    same: np.ndarray = (sequences.padded()[:, : len(letters)] == letters).all(axis=1)
    return same & (sequences.lengths >= len(letters))


def ends_with(sequences: Sequences, end: str) -> np.ndarray:
    """Which sequences end with `end`: bool, shape (n,)."""
    letters = Sequences.from_strings([end]).padded()[0]
    same = sequences.lengths >= len(letters)
    if not same.any():
        return same
    rows = np.arange(len(sequences))
    for back, letter in enumerate(letters[::-1], start=1):
        same = same & (sequences.padded()[rows, np.maximum(sequences.lengths - back, 0)] == letter)
    return same


def inserts(sequences: Sequences) -> Sequences:
    """The sequences without their constant `flanks`; a sequence that lacks them stays whole."""
    left, right = flanks(sequences)
    start = np.where(starts_with(sequences, left), len(left), 0)
    lengths = sequences.lengths - start - np.where(ends_with(sequences, right), len(right), 0)
    whole = lengths <= 0  # the flanks overlap, or nothing is between them
    start[whole], lengths[whole] = 0, sequences.lengths[whole]
    codes = np.full((len(sequences), int(lengths.max(initial=0))), N, dtype=np.uint8)
    for offset in np.unique(start):
        rows = np.flatnonzero(start == offset)
        part = sequences.padded()[rows, offset : offset + codes.shape[1]]
        codes[rows, : part.shape[1]] = part
    codes[np.arange(codes.shape[1]) >= lengths[:, None]] = N
    return Sequences.from_padded(codes, lengths.astype(np.int32))


def clusters(sequences: Sequences) -> np.ndarray:
    """A cluster number, 0 to clusters - 1, for each sequence: int64, shape (n,).

    Sequences are joined that are equal, or that share a stretch of 24 nucleotides on either strand, and so, step by
    step, are those that any of them is joined with. The constant flanks do not count, nor do stretches with N or that
    repeat one to three letters. Of the k-mers (k = 20) those that are smallest by hash within 5 neighbours are compared
    (minimizers: Roberts et al.
    2004), which finds every shared stretch of 24.
    """
    parts = inserts(sequences)
    features, owners = (
        [group_keys(parts)],
        [np.arange(len(parts))],
    )  # the whole insert: joins equal ones of any length and content
    for start in range(0, len(parts), CHUNK_ROWS):
        minimizers = _minimizers(parts[start : start + CHUNK_ROWS])
        kept = minimizers != NO_KMER
        kept[:, 1:] &= minimizers[:, 1:] != minimizers[:, :-1]
        features.append(minimizers[kept])
        owners.append(np.nonzero(kept)[0] + start)
    feature, owner = np.concatenate(features), np.concatenate(owners)
    order = np.argsort(feature)
    feature, owner = feature[order], owner[order]
    same = feature[1:] == feature[:-1]
    one, other = owner[:-1][same], owner[1:][same]
    graph = coo_array((np.ones(len(one), dtype=bool), (one, other)), shape=(len(parts), len(parts)))
    labels: np.ndarray = connected_components(graph, directed=False)[1]
    return labels.astype(np.int64)


def _minimizers(sequences: Sequences) -> np.ndarray:
    """Per window of k-mers the smallest hash of a k-mer and its reverse complement: uint64, shape (n, windows)."""
    codes = sequences.padded().astype(np.uint64)
    count = codes.shape[1] - KMER + 1
    if count < 1:
        return np.full((len(codes), 1), NO_KMER)
    forward = np.zeros((len(codes), count), dtype=np.uint64)
    backward = np.zeros_like(forward)
    unknown = np.zeros(forward.shape, dtype=bool)
    for at in range(KMER):
        letter = codes[:, at : at + count]
        unknown |= letter == N  # N, or past the end
        forward = (forward << np.uint64(2)) | (letter & np.uint64(3))
        backward |= (np.uint64(3) - (letter & np.uint64(3))) << np.uint64(2 * at)
    for period in (1, 2, 3):
        rest = np.uint64(2 * period)
        unknown |= forward >> rest == forward & np.uint64(4 ** (KMER - period) - 1)
    hashes = _mix(np.minimum(forward, backward))
    hashes[unknown] = NO_KMER
    windows = max(count - KMER_WINDOW + 1, 1)
    smallest = hashes[:, :windows]
    for shift in range(1, min(KMER_WINDOW, count)):
        smallest = np.minimum(smallest, hashes[:, shift : shift + windows])
    return smallest
