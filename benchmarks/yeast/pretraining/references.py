"""What simple models of a genome give for a nucleotide, in nats: what a masked language model's cross-entropy is
compared with.

All count in the training windows on both strands and are scored on every nucleotide of the held-out windows on both
strands, N aside:
- composition: the share of each nucleotide;
- Markov chain of order 5: a nucleotide given the 5 in front of it;
- both sides: a nucleotide given the 3 in front of it and the 3 behind.
Counts begin at 1. Unlike a masked language model these see every neighbour, of which it sees 85 %.
"""

from __future__ import annotations

import numpy as np

from prixfixe.data.sequences import COMPLEMENT, N, Sequences

REFERENCES = {"composition": (0, 0), "Markov chain of order 5": (5, 0), "3 nt on both sides": (3, 3)}
CHUNK = 1 << 15  # windows at a time


def counts_of(sequences: Sequences, before: int, after: int) -> np.ndarray:
    """How often each nucleotide stands in each context, on both strands: int64 (4 ** (before + after), 4)."""
    found = np.zeros(4 ** (before + after + 1), dtype=np.int64)
    for start in range(0, len(sequences), CHUNK):
        codes = sequences[start : start + CHUNK].padded()
        for strand in (codes, COMPLEMENT[codes[:, ::-1]]):
            stretches = np.lib.stride_tricks.sliding_window_view(strand, before + after + 1, axis=1)
            known = (stretches != N).all(axis=2)
            order = [*range(before), *range(before + 1, before + 1 + after), before]  # the context, then the nucleotide
            powers = np.empty(len(order), dtype=np.int64)
            powers[order] = 4 ** np.arange(len(order))[::-1]
            found += np.bincount((stretches.astype(np.int64) @ powers)[known], minlength=len(found))
    return found.reshape(-1, 4)


def cross_entropy(train: Sequences, held_out: Sequences, before: int, after: int) -> float:
    """Nats a nucleotide of `held_out` by the frequencies in `train`."""
    seen = counts_of(train, before, after) + 1
    log_probs = np.log(seen / seen.sum(axis=1, keepdims=True))
    scored = counts_of(held_out, before, after)
    return float(-(scored * log_probs).sum() / scored.sum())
