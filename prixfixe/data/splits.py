"""Splits that keep sequences that tell of each other on one side: by chance, by the data's folds, by clusters."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from prixfixe.common.errors import InputError
from prixfixe.data.flanks import SHORTEST_INSERT, flank_lengths, inserts
from prixfixe.data.measurements import Measurements
from prixfixe.data.sequences import N, Sequences, padded_chunks

Fold = int | str | list[int | str]  # one of the data's own folds by its name, or several
FEWEST_GROUPS = 10  # distinct sequences below which a random split says nothing
FEWEST_VALIDATION = 3  # sequences to validate on: of one there is no correlation, and of two it is 1 or -1
# hashed at a time, so that temporary arrays stay in the processor's cache
CHUNK_ROWS, CHUNK_LETTERS = 16_384, 1 << 22
KMER = 20  # in the largest sets (5e8 k-mers) chance alone shares few of them
KMER_WINDOW = 5  # one k-mer is kept of this many neighbours
NO_KMER = np.uint64(2**64 - 1)
FOLDS_SHOWN = 20
FEW_ROWS = 8  # hashed one by one
MULTIPLIER = 0x9E3779B97F4A7C15  # of a hash


@dataclass(frozen=True)
class Draw:
    """Row numbers, ascending, of a training and a validation part: int64, shapes (n_train,) and (n_validation,).

    merged: whether some group holds several sequences. largest: the rows of the largest group.
    """

    train: np.ndarray
    validation: np.ndarray
    merged: bool
    largest: int


def split(
    measurements: Measurements, *, validation_fraction: float = 0.1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The two parts of `draw`."""
    drawn = draw(measurements, validation_fraction=validation_fraction, seed=seed)
    return drawn.train, drawn.validation


def draw(measurements: Measurements, *, validation_fraction: float, seed: int, block: int | None = None) -> Draw:
    """A training and a validation part of the rows, drawn at random.

    Whole `groups` are drawn, until they hold `validation_fraction` of the different sequences, at least three; one
    that holds more than that by itself is passed over while others are left. block: nucleotides; whole `blocks` of the
    genome are drawn instead. The draw depends on the seed and on the sequences, not on their order. Raises InputError
    for fewer than ten different sequences, or where all are one group.
    """
    if not 0 < validation_fraction < 1:
        raise InputError(f"validation_fraction is {validation_fraction}: it must lie between 0 and 1.")
    keys = group_keys(measurements.sequences)
    group = _groups(measurements, keys)
    if block is not None:
        group = blocks(measurements, group, block)
    different, of_group = _distinct_pairs(keys, group)
    if len(different) < FEWEST_GROUPS:
        raise InputError(
            f"{len(measurements)} rows with {len(different)} different sequences are too few to split: at least "
            f"{FEWEST_GROUPS} are needed. "
            "Give more data, or a validation file of its own."
        )
    salt = _mix(np.array([seed % 2**64], dtype=np.uint64))
    order, sizes = _counted(_mix(of_group ^ salt))
    if len(order) == 1:
        raise InputError(
            f"all {len(measurements):,} rows tell of each other (by their sequences or inserts on either strand, or by "
            "windows that overlap, one by one), so no part of them can be held out: give dataset.validation=FILE."
        )
    wanted = min(max(round(validation_fraction * len(different)), FEWEST_VALIDATION), len(different) - 1)
    validation = found_in(_mix(group ^ salt), order[_drawn(sizes.tolist(), wanted)])
    return Draw(
        train=np.flatnonzero(~validation),
        validation=np.flatnonzero(validation),
        merged=bool((group != keys).any()),
        largest=int(_counted(group)[1].max()),
    )


def _drawn(sizes: list[int], wanted: int) -> list[int]:
    """Which groups are held out, in the order of the draw, so that they hold `wanted` sequences or about as many."""
    held_out = []
    for place, size in enumerate(sizes):
        if size <= wanted:
            held_out.append(place)
            wanted -= size
        if not wanted:
            return held_out
    held = sum(sizes[place] for place in held_out)
    others = sorted(set(range(len(sizes))) - set(held_out), key=lambda place: (sizes[place], place))
    for place in others[:-1]:  # some must be trained on
        if held >= FEWEST_VALIDATION and sizes[place] >= 2 * wanted:
            break
        held_out.append(place)
        held, wanted = held + sizes[place], wanted - sizes[place]
    return held_out


def groups(measurements: Measurements) -> np.ndarray:
    """For each row the group that it must not be parted from: uint64, shape (n,), the smallest of its `group_keys`.

    Rows share a group that have the same sequence or its reverse complement, or the same insert between constant
    `flanks`, on either strand (a library may hold each insert in both orientations between flanks that stay as they
    are), or genomic `regions` that overlap, on either strand; and so, step by step, do rows that any of them shares
    one with.
    """
    return _groups(measurements, group_keys(measurements.sequences))


def blocks(measurements: Measurements, group: np.ndarray, length: int) -> np.ndarray:
    """For each row the block of the genome that it must not be parted from: uint64, shape (n,), the smallest `groups`
    key in it.

    length: of a block, in nucleotides, counted from the beginning of each chromosome. A group is in the block where its
    first window begins, as a whole, so that no window overlaps one of another block and no sequence stands in two. What
    has no region is in a block of its group alone.
    """
    if measurements.regions is None:
        raise InputError(
            f"dataset.block={length} needs to know where the sequences lie: name the table's columns chrom, start and "
            "end (in FASTA, begin headers as in chr2L_5587_5835_+_), or split without blocks: dataset.block=null"
        )
    chromosome, start, _ = np.asarray(measurements.regions).T
    order = np.lexsort((start, chromosome, group))
    first = np.flatnonzero(np.append(True, group[order][1:] != group[order][:-1]))
    place = order[first]  # the first row of each group, in the order of groups
    known = start[place] >= 0
    own = np.where(known, start[place] // length, np.arange(len(place)))
    names = np.stack([np.where(known, chromosome[place], -1), own])
    of_block = np.unique(names, axis=1, return_inverse=True)[1].ravel()
    smallest = np.full(int(of_block.max()) + 1, np.iinfo(np.uint64).max)
    np.minimum.at(smallest, of_block, group[place])
    found: np.ndarray = smallest[of_block][np.searchsorted(group[place], group)]
    return found


def _groups(measurements: Measurements, keys: np.ndarray) -> np.ndarray:
    """`groups`, from the rows' `group_keys`."""
    links = [insert_links(measurements.sequences, keys)]
    if measurements.regions is not None:
        links.append(window_links(measurements.regions, keys))
    return grouped(keys, *(np.concatenate(ends) for ends in zip(*links, strict=True)))


def grouped(keys: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The smallest of the keys that pairs of keys connect, step by step, with each of `keys`: uint64, shape (n,)."""
    if not len(one):
        return keys
    nodes = distinct(np.concatenate([one, other]))
    edges = np.searchsorted(nodes, one), np.searchsorted(nodes, other)
    graph = coo_array((np.ones(len(one), dtype=bool), edges), shape=(len(nodes), len(nodes)))
    count, component = connected_components(graph, directed=False)
    smallest = np.full(count, np.iinfo(np.uint64).max)
    np.minimum.at(smallest, component, nodes)
    place = np.minimum(np.searchsorted(nodes, keys), len(nodes) - 1)
    return np.where(nodes[place] == keys, smallest[component[place]], keys)


def insert_links(sequences: Sequences, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of `group_keys` of sequences with the same insert."""
    left, right = flank_lengths(sequences, keys)
    found, owners = [keys], [keys]  # a sequence without flanks may be another one's insert
    for (nth_left, left_length), (nth_right, right_length) in itertools.product(enumerate(left.T), enumerate(right.T)):
        rest = sequences.lengths - left_length.astype(np.int64) - right_length
        possible = (rest >= SHORTEST_INSERT) & (rest < sequences.lengths)
        possible &= ((left_length > 0) | (nth_left == 0)) & ((right_length > 0) | (nth_right == 0))
        rows = np.flatnonzero(possible)
        if len(rows):
            found.append(_insert_keys(sequences, rows, left_length, rest))
            owners.append(keys[rows])
    if len(found) == 1:
        return keys[:0], keys[:0]
    return _links(np.concatenate(found), np.concatenate(owners))


def _insert_keys(sequences: Sequences, rows: np.ndarray, start: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """`group_keys` of what begins at `start` in some of the sequences; not all of it is in memory at once."""
    keys = np.empty(len(rows), dtype=np.uint64)

    def fill(chunk: slice) -> None:
        some = rows[chunk]
        part = sequences.cut(start[some].astype(np.int64), lengths[some], some)
        keys[chunk] = np.minimum(_hashed(part), _hashed(part.reverse_complement()))

    _in_threads(fill, lengths[rows])
    return keys


def window_links(regions: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of `group_keys` of neighbours along a chromosome whose windows overlap."""
    rows = np.flatnonzero(regions[:, 1] >= 0)
    chromosome, start, end = (regions[rows, column] for column in range(3))
    order = np.lexsort((end, start, chromosome))
    chromosome, start, end = chromosome[order], start[order], end[order]
    first = np.flatnonzero(np.append(True, chromosome[1:] != chromosome[:-1])) if len(rows) else order
    reached = np.empty_like(end)
    for begin, stop in zip(first, np.append(first[1:], len(rows)), strict=True):
        reached[begin:stop] = np.maximum.accumulate(end[begin:stop])
    overlap = (chromosome[1:] == chromosome[:-1]) & (start[1:] < reached[:-1])
    owners = keys[rows[order]]
    return owners[:-1][overlap], owners[1:][overlap]


def _links(values: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of different owners of an equal value, enough to connect all of them."""
    order = np.argsort(values)
    values, owners = values[order], owners[order]
    same = (values[1:] == values[:-1]) & (owners[1:] != owners[:-1])
    return owners[:-1][same], owners[1:][same]


def with_others(keys: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Which rows stand in a group that holds another key, too: bool, shape (n,)."""
    several, sizes = _counted(_distinct_pairs(keys, group)[1])
    return found_in(group, several[sizes > 1])


def _distinct_pairs(keys: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different keys, ascending, and the group of each."""
    order = np.argsort(keys)
    first = np.append(True, keys[order][1:] != keys[order][:-1])[: len(keys)]
    return keys[order][first], group[order][first]


def _counted(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different values, ascending, and how often each occurs."""
    ordered = np.sort(values)
    first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])
    return ordered[first], np.diff(np.append(first, len(ordered)))


def fold_split(measurements: Measurements, fold: Fold) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of a training and a validation part, which is one of the data's own folds, or several; as `split`."""
    validation = in_fold(measurements, fold)
    if validation.all():
        raise InputError(f"fold {fold_text(fold)} holds every row; {_folds(measurements)}.")
    return np.flatnonzero(~validation), np.flatnonzero(validation)


def fold_text(fold: Fold | None) -> str:
    """One fold, or several, as they stand in messages and tell splits apart: in lower case."""
    return ",".join(str(one).lower() for one in fold) if isinstance(fold, list) else str(fold).lower()


def in_fold(measurements: Measurements, fold: Fold) -> np.ndarray:
    """Which rows are in one of the data's own folds, or in one of several, by their names in any case of letters: bool,
    shape (n,)."""
    if isinstance(fold, list):
        return np.asarray(np.any([in_fold(measurements, one) for one in fold], axis=0))
    if measurements.fold is None:
        raise InputError(
            f"fold {fold} is to be held out, but the table has no fold column: name one with dataset.fold_column=NAME, "
            "or make folds, as with dataset.folds=10 dataset.fold=0"
        )
    names = fold_names(measurements)
    if empty := int((measurements.fold == "").sum()) if "" in names else 0:
        raise InputError(
            f"{empty:,} of {len(measurements):,} rows have no fold: fill the column in, or split without it."
        )
    inside = np.zeros(len(measurements), dtype=bool)
    for name in names:
        if str(name).lower() == str(fold).lower():
            inside |= measurements.fold == name
    if not inside.any():
        raise InputError(f"fold {fold} has no rows; {_folds(measurements)}.")
    return inside


def fold_names(measurements: Measurements) -> list[int] | list[str]:
    """The data's own folds, in order; [] where it has none."""
    if measurements.fold is None:
        return []
    return sorted(pa.array(np.asarray(measurements.fold)).unique().to_pylist())


def _folds(measurements: Measurements) -> str:
    names = fold_names(measurements)
    shown = ", ".join(map(str, names[:FOLDS_SHOWN])) + (", ..." if len(names) > FOLDS_SHOWN else "")
    return f"the table's folds are: {shown}"


def straddling(train: Measurements, other: Measurements) -> int:
    """How many rows of `other` share one of the `groups` with a row that is trained on."""
    regions = None
    if train.regions is not None and other.regions is not None:
        regions = np.concatenate([train.regions, other.regions])
    return int(_shared(train.sequences, other.sequences, regions).sum())


def told_of(train: Measurements, other: Measurements) -> np.ndarray:
    """Which rows of `other` a row that is trained on tells of itself: bool, shape (n,).

    It has the same sequence or insert on either strand, or a window that overlaps. `straddling` counts as well those
    that are joined to training through other rows of `other`, such as a window that overlaps one that overlaps.
    """
    told = _shared(train.sequences, other.sequences, None)
    if train.regions is not None and other.regions is not None:
        told |= overlapping(np.asarray(other.regions), np.asarray(train.regions))
    return told


def overlapping(regions: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of the `regions` (int64 (n, 3), as Measurements has them) overlap one of `others`: bool, shape (n,)."""
    found = np.zeros(len(regions), dtype=bool)
    for chromosome in np.unique(others[others[:, 1] >= 0, 0]):
        start, end = others[(others[:, 0] == chromosome) & (others[:, 1] >= 0), 1:].T
        order = np.argsort(start)
        reached = np.append(-1, np.maximum.accumulate(end[order]))  # by those that begin before a place
        rows = np.flatnonzero((regions[:, 0] == chromosome) & (regions[:, 1] >= 0))
        before = np.searchsorted(start[order], regions[rows, 2], side="left")
        found[rows] = reached[before] > regions[rows, 1]
    return found


def _shared(train: Sequences, other: Sequences, regions: np.ndarray | None) -> np.ndarray:
    """Which rows of `other` share one of the `groups` with one of `train`: bool, shape (n,)."""
    sequences = Sequences.concatenate([train, other])
    group = groups(Measurements(sequences, np.zeros(len(sequences)), regions=regions))
    return found_in(group[len(train) :], group[: len(train)])


def torn_rows(measurements: Measurements) -> np.ndarray:
    """Which rows share one of the `groups` with a row of another of the data's own folds: bool, shape (n,)."""
    group = np.unique(groups(measurements), return_inverse=True)[1]
    fold = np.unique(np.asarray(measurements.fold), return_inverse=True)[1]
    pairs = np.unique(np.stack([group, fold]), axis=1)
    torn: np.ndarray = (np.bincount(pairs[0]) > 1)[group]
    return torn


def cluster_folds(measurements: Measurements, k: int, *, seed: int = 0, block: int | None = None) -> np.ndarray:
    """A fold, 0 to k - 1, for each row: int64, shape (n,). Similar sequences (`clusters`) share a fold, and so do rows
    of one of the `groups`. block: nucleotides; rows of one of the `blocks` share a fold instead.

    Clusters are dealt out largest first, each to the fold that is smallest by then, equal ones in an order that the
    seed decides; so folds are as even as the largest cluster allows.
    """
    group = groups(measurements)
    if block is None:
        cluster = _joined(clusters(measurements.sequences), np.unique(group, return_inverse=True)[1])
    else:
        cluster = np.unique(blocks(measurements, group, block), return_inverse=True)[1]
    sizes = np.bincount(cluster)
    if not 2 <= k <= len(sizes):
        raise InputError(
            f"dataset.folds={k}: {k} folds cannot be made of {len(sizes)} "
            f"{'clusters of similar sequences' if block is None else 'blocks'}; take at least 2 and at most that many"
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

    def fill(rows: slice) -> None:
        part = sequences[rows]
        forward[rows] = _hashed(part)
        backward[rows] = _hashed(part.reverse_complement())

    _in_threads(fill, sequences.lengths)
    return forward, backward


def _in_threads(fill: Callable[[slice], None], lengths: np.ndarray) -> None:
    """Calls `fill` for each chunk of sequences of these lengths; numpy works outside the interpreter's lock."""
    with ThreadPoolExecutor() as pool:
        deque(pool.map(fill, padded_chunks(lengths, letters=CHUNK_LETTERS, rows=CHUNK_ROWS)), maxlen=0)


def strand_hash(sequences: Sequences) -> np.ndarray:
    """A 64-bit hash of each sequence as it is written: uint64, shape (n,)."""
    hashes = np.empty(len(sequences), dtype=np.uint64)
    for rows in padded_chunks(sequences.lengths, letters=CHUNK_LETTERS, rows=CHUNK_ROWS):
        hashes[rows] = _hashed(sequences[rows])
    return hashes


def _hashed(sequences: Sequences) -> np.ndarray:
    """`strand_hash` of a few sequences, which are padded to the longest; it does not depend on that width."""
    letters = sequences.padded(-(-sequences.longest // 8) * 8)
    np.bitwise_xor(letters, np.uint8(N), out=letters)  # padding becomes 0
    words = letters.view("<u8").T.copy()
    if len(sequences) <= FEW_ROWS:
        hashes = np.array([_hashed_words(row) for row in words.T.tolist()], dtype=np.uint64)
    else:
        hashes = np.zeros(len(sequences), dtype=np.uint64)
        for word in words[::-1]:  # from the end, so that words of padding leave the hash at 0
            hashes = (hashes ^ word) * np.uint64(MULTIPLIER)
            hashes ^= hashes >> np.uint64(32)
    return _mix(hashes ^ _mix(sequences.lengths.astype(np.uint64)))


def _hashed_words(words: list[int]) -> int:
    """The same for one sequence: of a few long ones, numpy takes longer for each word than Python does."""
    value = 0
    for word in reversed(words):
        value = (value ^ word) * MULTIPLIER & 0xFFFFFFFFFFFFFFFF
        value ^= value >> 32
    return value


def _mix(values: np.ndarray) -> np.ndarray:
    """Spreads 64-bit values evenly, one to one (the last step of SplitMix64: Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


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
    for rows in padded_chunks(parts.lengths, letters=CHUNK_LETTERS // 4, rows=CHUNK_ROWS):  # 8 bytes a letter
        minimizers = _minimizers(parts[rows])
        kept = minimizers != NO_KMER
        kept[:, 1:] &= minimizers[:, 1:] != minimizers[:, :-1]
        features.append(minimizers[kept])
        owners.append(np.nonzero(kept)[0] + rows.start)
    return _components(*_links(np.concatenate(features), np.concatenate(owners)), len(parts))


def _joined(labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Labels that rows share that share one of `labels` or of `others`: int64, shape (n,)."""
    rows = np.arange(len(labels))
    (one, other), (another, yet_another) = _links(labels, rows), _links(others, rows)
    return _components(np.concatenate([one, another]), np.concatenate([other, yet_another]), len(labels))


def _components(one: np.ndarray, other: np.ndarray, n: int) -> np.ndarray:
    """A number for each of n rows, the same where pairs connect them: int64, shape (n,)."""
    graph = coo_array((np.ones(len(one), dtype=bool), (one, other)), shape=(n, n))
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
