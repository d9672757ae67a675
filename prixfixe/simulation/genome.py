"""A simulated genome to pretrain on: words planted in a random background. Nothing here is a real genome.

1. Every chromosome is drawn letter by letter, rich in A and T as yeast's.
2. A vocabulary of WORDS random words of WORD letters is drawn, the same for all chromosomes.
3. In every SLOT letters one of the words is planted at a random place, on a random strand. Half of all letters then
   follow from the others of their word, and composition says nothing of them.
"""

from __future__ import annotations

import numpy as np

from prixfixe.data.sequences import COMPLEMENT, Sequences
from prixfixe.simulation.assay import draw

GENOME_VERSION = 1  # goes up when a size and seed give other letters than before
COMPOSITION = (0.31, 0.19, 0.19, 0.31)  # A C G T
WORDS, WORD, SLOT = 16, 12, 24
STREAM = 2  # second word of the seed; the assay has the others


def simulate_genome(size: int, chromosomes: int, seed: int) -> tuple[Sequences, list[str]]:
    """`size` letters in chromosomes of equal length (the last has the rest), and their names."""
    words = draw(COMPOSITION, (WORDS, WORD), np.random.default_rng([seed, STREAM]))
    both = np.concatenate([words, COMPLEMENT[words[:, ::-1]]])
    lengths = np.full(chromosomes, size // chromosomes, dtype=np.int32)
    lengths[-1] += size % chromosomes
    parts = []
    for number, length in enumerate(lengths.tolist()):
        rng = np.random.default_rng([seed, STREAM, number])
        letters = draw(COMPOSITION, (length,), rng)
        slots = length // SLOT
        starts = SLOT * np.arange(slots) + rng.integers(0, SLOT - WORD + 1, size=slots)
        letters[starts[:, None] + np.arange(WORD)] = both[rng.integers(0, len(both), size=slots)]
        parts.append(letters)
    names = [f"chr{number:02}" for number in range(1, chromosomes + 1)]
    return Sequences(np.concatenate(parts), lengths), names
