"""From sequence to expression without noise: binding, chromatin, activity.

1. Every window of a promoter has a statistical weight for each factor, from its position weight matrix, on both
   strands.
2. The unhindered occupancies of factors that open chromatin give the probability that the promoter is free of
   nucleosomes.
3. Nucleosomes lower all weights by that probability; occupancy saturates, and pairs of factors cooperate.
4. Effects of the bound factors, and a general one of the G + C content, add up to a latent activity; a logistic
   function maps it to expression, 0 to 17.

The order of the steps follows the billboard models of de Boer et al. 2020 (Nature Biotechnology 38:56); see
docs/simulated_assay.md.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.special import expit

from prixfixe.data.sequences import C, G, N, Sequences
from prixfixe.dream.construct import RIGHT_FLANK
from prixfixe.simulation.factors import COOPERATIONS, FACTORS, Cooperation, Factor, site_weights

MAX_EXPRESSION = 17.0
K = 8  # windows are looked up as 8-mers; a longer site is its first and its last one (the middle of 17 nt is any)
UPSTREAM = 80  # nt upstream of the 3' flank over which a factor's weight goes from 1 to `distal`
CLOSED = -2.0  # log-odds of being free of nucleosomes when nothing is bound
BASAL = 0.16  # latent activity when nothing is bound
GC_EFFECT = 2.5  # latent activity per unit of G + C content above `GC_MEAN`
GC_MEAN = 0.4526  # G + C content of a random promoter
CHUNK = 1024  # promoters at a time: keeps the arrays of their windows near the caches

NAMES = tuple(factor.name for factor in FACTORS)


def true_expression(sequences: Sequences) -> np.ndarray:
    """Expression of complete promoters without measurement noise. Shape (n,), float64, between 0 and 17.

    A window that holds N binds nothing.
    """
    expression = np.empty(len(sequences))
    for start in range(0, len(sequences), CHUNK):
        rows = slice(start, start + CHUNK)
        expression[rows] = MAX_EXPRESSION * expit(activity(sequences[rows]))
    return expression


def activity(sequences: Sequences) -> np.ndarray:
    """The latent activity. Shape (n,), float64."""
    single, joint = binding_weights(sequences)
    opening = np.array([factor.opening for factor in FACTORS])
    effect = np.array([factor.effect for factor in FACTORS])
    free = expit(CLOSED + occupancy(single, joint) @ opening)
    bound = occupancy(single * free[:, None], joint * free[:, None] ** 2)
    latent: np.ndarray = BASAL + bound @ effect + GC_EFFECT * (gc_fraction(sequences) - GC_MEAN)
    return latent


def gc_fraction(sequences: Sequences) -> np.ndarray:
    """The share of G and C in each promoter. Shape (n,)."""
    is_gc = (sequences.padded() == C) | (sequences.padded() == G)
    fraction: np.ndarray = is_gc.sum(axis=1) / np.maximum(sequences.lengths, 1)
    return fraction


def occupancy(single: np.ndarray, joint: np.ndarray) -> np.ndarray:
    """Probability that each factor is bound. Shape (n, factors).

    A factor alone is bound with probability Z / (1 + Z). A cooperating pair has four states: unbound, either one
    bound, and both, whose weight is Z1 Z2 plus the excess from neighbouring sites.
    """
    bound: np.ndarray = single / (1 + single)
    for column, pair in enumerate(COOPERATIONS):
        first, second = NAMES.index(pair.first), NAMES.index(pair.second)
        z1, z2 = single[:, first], single[:, second]
        both = z1 * z2 + joint[:, column]
        total = 1 + z1 + z2 + both
        bound[:, first] = (z1 + both) / total
        bound[:, second] = (z2 + both) / total
    return bound


def binding_weights(sequences: Sequences) -> tuple[np.ndarray, np.ndarray]:
    """Total statistical weight of each factor, shape (n, factors), and each pair's excess, shape (n, cooperations)."""
    windows = window_index(sequences)
    near = proximity(windows.shape[1])
    single = np.empty((len(sequences), len(FACTORS)))
    kept: dict[str, np.ndarray] = {}
    paired = {name for pair in COOPERATIONS for name in (pair.first, pair.second)}
    for column, factor in enumerate(FACTORS):
        weights = window_weights(windows, factor)
        weighting = factor.distal + (1 - factor.distal) * near[: weights.shape[1]]
        single[:, column] = np.einsum("ij,j->i", weights, weighting)
        if factor.name in paired:
            kept[factor.name] = weights * weighting
    joint = np.stack([excess(kept[pair.first], kept[pair.second], pair) for pair in COOPERATIONS], axis=1)
    return single, joint


def excess(first: np.ndarray, second: np.ndarray, pair: Cooperation) -> np.ndarray:
    """(strength - 1) times the summed weight of all pairs of sites at most `distance` windows apart. Shape (n,)."""
    span = 2 * pair.distance + 1
    neighbours = span * uniform_filter1d(second, span, axis=1, mode="constant")
    width = min(first.shape[1], second.shape[1])
    total: np.ndarray = (pair.strength - 1) * np.einsum("ij,ij->i", first[:, :width], neighbours[:, :width])
    return total


def window_index(sequences: Sequences) -> np.ndarray:
    """Number of the 8-mer that starts at each position, promoters aligned at their 3' ends. Shape (n, width - 7), intp.

    Windows with N or outside the promoter have number 4**8.
    """
    width = max(sequences.padded().shape[1], K)
    columns = np.arange(width) - (width - sequences.lengths[:, None])
    aligned = np.take_along_axis(sequences.padded(), np.maximum(columns, 0), axis=1)
    aligned = np.where(columns >= 0, aligned, np.uint8(N))
    windows = width - K + 1
    index = np.zeros((len(sequences), windows), dtype=np.intp)
    outside = np.zeros(index.shape, dtype=bool)
    for offset in range(K):
        letters = aligned[:, offset : offset + windows]
        index <<= 2
        index += letters
        outside |= letters == N
    index[outside] = 4**K
    return index


def proximity(windows: int) -> np.ndarray:
    """1 for windows that end in the 3' flank, falling to 0 over the insert's usual length. Shape (windows,)."""
    upstream = np.arange(windows)[::-1] - len(RIGHT_FLANK)  # nt between a window's end and the 3' flank
    return (1 - np.clip(upstream / UPSTREAM, 0, 1)).astype(np.float32)


def window_weights(windows: np.ndarray, factor: Factor) -> np.ndarray:
    """Statistical weight of the sites that start at each window, both strands together. Shape (n, windows), float32.

    A site of more than 8 nt spans two windows, so that the last few windows have none and the array is narrower.
    """
    (plus, plus_tail), (minus, minus_tail) = strand_tables(factor)
    shift = len(factor.consensus) - K
    if shift <= 0:
        return look_up(plus + minus, windows)
    first, last = windows[:, :-shift], windows[:, shift:]
    weights: np.ndarray = look_up(plus, first) * look_up(plus_tail, last)
    weights += look_up(minus, first) * look_up(minus_tail, last)
    return weights


def look_up(table: np.ndarray, index: np.ndarray) -> np.ndarray:
    return np.take(table, index, mode="clip")  # nothing to clip, but the mode spares numpy a copy


@cache
def strand_tables(factor: Factor) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """For each strand, by 8-mer: the weight of a site's first 8 nt, and that of what a longer site has after them."""
    plus = site_weights(factor.consensus)
    minus = plus[::-1, ::-1]
    return (
        (kmer_table(factor.concentration, first_rows(plus)), kmer_table(1, last_rows(plus))),
        (kmer_table(factor.concentration * factor.minus, first_rows(minus)), kmer_table(1, last_rows(minus))),
    )


def kmer_table(scale: float, weights: np.ndarray) -> np.ndarray:
    """`scale` times the product of a matrix's entries, shape (8, 4), for each 8-mer. Shape (4**8 + 1,), float32.

    The last entry, for windows with N, is 0.
    """
    table = np.array([scale])
    for row in weights:
        table = (table[:, None] * row).ravel()
    return np.append(table, 0).astype(np.float32)


def first_rows(weights: np.ndarray) -> np.ndarray:
    """A matrix's first 8 rows, filled up with ones on the right. Shape (8, 4)."""
    return np.concatenate([weights, np.ones((K, 4))])[:K]


def last_rows(weights: np.ndarray) -> np.ndarray:
    """A matrix's last 8 rows, those that are among the first 8 replaced by ones. Shape (8, 4)."""
    return np.concatenate([np.ones((K, 4)), weights[K:]])[-K:]
