"""From sequence to expression without noise: binding, chromatin, activity.

1. Every window of a promoter has a statistical weight for each factor, from its position weight matrix, on both strands.
2. Unhindered occupancies of the factors that open chromatin give the probability that the promoter is free of nucleosomes.
3. Nucleosomes lower all weights by that probability; occupancy saturates, and pairs of factors cooperate.
4. Effects of the bound factors add up to a latent activity; a logistic function maps it to expression, 0 to 17.

The order of the steps follows the billboard models of de Boer et al. 2020 (Nature Biotechnology 38:56); see
docs/simulated_assay.md.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from prixfixe.sequences import N, Sequences
from prixfixe.simulation.factors import COOPERATIONS, FACTORS, Cooperation, Factor, site_weights

MAX_EXPRESSION = 17.0
K = 8  # windows are looked up as 8-mers; a longer site is two of them
INSIDE = 80  # nt upstream of the 3' flank over which a factor's weight goes from 1 to `distal`
CLOSED = -0.5  # log-odds of being free of nucleosomes when nothing is bound
BASAL = 0.0  # latent activity when nothing is bound
GAIN = 1.0  # latent activity to log-odds of full expression
CHUNK = 4096  # promoters at a time: keeps the windows' arrays near the caches

NAMES = tuple(factor.name for factor in FACTORS)


def true_expression(sequences: Sequences) -> np.ndarray:
    """Expression of complete promoters without measurement noise. Shape (n,), float64, between 0 and 17.

    A window that holds N binds nothing.
    """
    expression = np.empty(len(sequences))
    for start in range(0, len(sequences), CHUNK):
        rows = slice(start, start + CHUNK)
        expression[rows] = expression_of_activity(activity(sequences[rows]))
    return expression


def expression_of_activity(latent: np.ndarray) -> np.ndarray:
    return MAX_EXPRESSION / (1 + np.exp(-latent))


def activity(sequences: Sequences) -> np.ndarray:
    """The latent activity. Shape (n,), float64."""
    single, joint = binding_weights(sequences)
    opening = np.array([factor.opening for factor in FACTORS])
    effect = np.array([factor.effect for factor in FACTORS])
    free = 1 / (1 + np.exp(-(CLOSED + occupancy(single, joint) @ opening)))
    bound = occupancy(single * free[:, None], joint * free[:, None] ** 2)
    return BASAL + GAIN * (bound @ effect)


def occupancy(single: np.ndarray, joint: np.ndarray) -> np.ndarray:
    """Probability that each factor is bound. Shape (n, factors).

    A factor alone is bound with probability Z / (1 + Z). A cooperating pair has four states: unbound, either one
    bound, and both, whose weight is Z1 Z2 plus the excess from neighbouring sites.
    """
    bound = single / (1 + single)
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
    width = min(first.shape[1], second.shape[1])
    running = np.cumsum(second, axis=1, dtype=np.float64)
    running = np.concatenate([np.zeros((len(second), 1)), running], axis=1)
    centre = np.arange(width)
    upper = np.minimum(centre + pair.distance + 1, second.shape[1])
    lower = np.maximum(centre - pair.distance, 0)
    neighbours = running[:, upper] - running[:, lower]
    return (pair.strength - 1) * np.einsum("ij,ij->i", first[:, :width], neighbours)


def window_index(sequences: Sequences) -> np.ndarray:
    """Number of the 8-mer that starts at each position, promoters aligned at their 3' ends. Shape (n, width - 7), intp.

    Windows with N or outside the promoter have number 4**8.
    """
    width = max(sequences.codes.shape[1], K)
    columns = np.arange(width) - (width - sequences.lengths[:, None])
    aligned = np.take_along_axis(sequences.codes, np.maximum(columns, 0), axis=1)
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
    upstream = np.arange(windows)[::-1] - 13  # nt between the window's end and the 3' flank
    return (1 - np.clip(upstream / INSIDE, 0, 1)).astype(np.float32)


def window_weights(windows: np.ndarray, factor: Factor) -> np.ndarray:
    """Statistical weight of the sites that start at each window, both strands together. Shape (n, windows), float32.

    A site of more than 8 nt spans two windows, so that the last few windows have none and the array is narrower.
    """
    shift = len(factor.consensus) - K
    if shift <= 0:
        (plus, _), (minus, _) = strand_tables(factor)
        return np.take(plus + minus, windows, mode="clip")
    left, right = windows[:, :-shift], windows[:, shift:]
    return sum(
        np.take(head, left, mode="clip") * np.take(tail, right, mode="clip") for head, tail in strand_tables(factor)
    )


@cache
def strand_tables(factor: Factor) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """For each strand: the weight of a site's first 8 nt by 8-mer number, and that of the nt after them, by the site's last 8-mer."""
    plus = site_weights(factor.consensus)
    minus = plus[::-1, ::-1]
    scales = factor.concentration, factor.concentration * factor.minus
    return tuple(
        (kmer_table(matrix[:K]) * np.float32(scale), kmer_table(pad(matrix[K:])))
        for matrix, scale in zip((plus, minus), scales, strict=True)
    )


def kmer_table(weights: np.ndarray) -> np.ndarray:
    """Product of a matrix's entries for each 8-mer; rows after the matrix's end do not count. Shape (4**8 + 1,), float32.

    The last entry, for windows with N, is 0.
    """
    table = np.ones(1)
    for position in range(K):
        row = weights[position] if position < len(weights) else np.ones(4)
        table = (table[:, None] * row).ravel()
    return np.append(table, 0).astype(np.float32)


def pad(weights: np.ndarray) -> np.ndarray:
    return np.concatenate([np.ones((max(K - len(weights), 0), 4)), weights])[-K:]
