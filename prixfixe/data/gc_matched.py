"""Windows of a genome with the G + C contents of others: negatives for peaks (Pampari et al. 2023)."""

from __future__ import annotations

import numpy as np

from prixfixe.data.sequences import C, G, N

BIN = 0.02  # of G + C content, within which windows match


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
