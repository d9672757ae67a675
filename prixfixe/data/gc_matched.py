"""Windows of a genome with the G + C contents of others: negatives for peaks (Pampari et al. 2023)."""

from __future__ import annotations

import numpy as np

from prixfixe.data.peaks import PARTS, Places
from prixfixe.data.reference import Genome
from prixfixe.data.sequences import C, G, N
from prixfixe.data.windows import chromosome_codes

BIN = 0.02  # of G + C content, within which windows match


def drawn_negatives(
    peaks: Places, barred: Places | None, parts: np.ndarray, genome: Genome, window: int, stride: int, seed: int
) -> np.ndarray:
    """Chromosomes and centres of windows with the G + C contents of peaks, of each part from its own chromosomes:
    int64 (2, m). Of the windows every `stride` nucleotides one can be taken that touches no peak, no window of a peak,
    no barred region and no N."""
    wanted, offered, where, of_wanted, of_offered = [], [], [], [], []
    for number in np.flatnonzero(parts >= 0).tolist():
        codes = chromosome_codes(genome, number)
        own = peaks.chromosome == number
        first = peaks.centre[own] - window // 2
        taken = [np.stack([first, first + window], axis=1), np.stack([peaks.start[own], peaks.stop[own]], axis=1)]
        if barred is not None:
            some = barred.chromosome == number
            taken.append(np.stack([barred.start[some], barred.stop[some]], axis=1))
        free = candidates(codes, window, stride, np.concatenate(taken))
        wanted.append(gc_content(codes, first, window))
        offered.append(gc_content(codes, free, window))
        where.append(np.stack([np.full(len(free), number), free + window // 2]))
        of_wanted.append(np.full(len(first), parts[number]))
        of_offered.append(np.full(len(free), parts[number]))
    places, contents, goals = np.concatenate(where, axis=1), np.concatenate(offered), np.concatenate(wanted)
    chosen = []
    for part in range(len(PARTS)):
        pool = np.flatnonzero(np.concatenate(of_offered) == part)
        generator = np.random.default_rng([seed, part])
        chosen.append(pool[matched(goals[np.concatenate(of_wanted) == part], contents[pool], generator)])
    return np.asarray(places[:, np.concatenate(chosen)])


def gc_content(codes: np.ndarray, first: np.ndarray, window: int) -> np.ndarray:
    """The share of G and C in windows of a chromosome: float64 (n,). What lies beyond its ends, and N, is neither.

    codes: uint8 (length,). first: int64 (n,), the first position of each.
    """
    return _counted((codes == C) | (codes == G), first, window) / window


def candidates(codes: np.ndarray, window: int, stride: int, taken: np.ndarray) -> np.ndarray:
    """The first positions, int64 (m,), of the windows every `stride` letters of a chromosome that hold no N and touch
    none of the stretches `taken`, int64 (k, 2), half-open."""
    first = np.arange(0, len(codes) - window + 1, stride)
    steps = np.zeros(len(codes) + 1, dtype=np.int32)
    stretches = taken.clip(0, len(codes))
    np.add.at(steps, stretches[:, 0], 1)
    np.add.at(steps, stretches[:, 1], -1)
    covered = steps.cumsum(dtype=np.int32)[:-1] > 0
    return first[_counted(covered | (codes == N), first, window) == 0]


def matched(wanted: np.ndarray, offered: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Which of the windows with the contents `offered`, (m,), stand for those of the contents `wanted`, (n,): their
    numbers, ascending. In each bin of 2 % as many are drawn as are wanted, or all that there are."""
    bins, counts = np.unique((wanted / BIN).astype(np.int64), return_counts=True)
    of_offered = (offered / BIN).astype(np.int64)
    drawn = [np.empty(0, dtype=np.int64)]
    for one, count in zip(bins.tolist(), counts.tolist(), strict=True):
        pool = np.flatnonzero(of_offered == one)
        drawn.append(generator.choice(pool, min(count, len(pool)), replace=False))
    return np.sort(np.concatenate(drawn))


def _counted(flags: np.ndarray, first: np.ndarray, window: int) -> np.ndarray:
    """How many of the positions of each window are flagged: int64 (n,)."""
    sums = np.append(np.int32(0), flags.cumsum(dtype=np.int32))
    ends = (np.clip(end, 0, len(flags)) for end in (first + window, first))
    last, begin = (sums[end] for end in ends)
    return np.asarray(last - begin, dtype=np.int64)
