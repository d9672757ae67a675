"""A simulated genome to pretrain on: words planted in a random background. Nothing here is a real genome.

1. Every chromosome is drawn letter by letter, rich in A and T as yeast's.
2. A vocabulary of WORDS random words of WORD letters is drawn, the same for all chromosomes.
3. In every SLOT letters one of the words is planted at a random place, on a random strand. Half of all letters then
   follow from the others of their word, and composition says nothing of them.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le, Lt

from prixfixe.common.errors import InputError
from prixfixe.contract import Count
from prixfixe.data.datasets import Dataset, Split
from prixfixe.data.genome import windows_of
from prixfixe.data.sequences import COMPLEMENT, Sequences
from prixfixe.simulation.assay import draw

GENOME_VERSION = 1  # goes up when a size and seed give other letters than before
COMPOSITION = (0.31, 0.19, 0.19, 0.31)  # A C G T
WORDS, WORD, SLOT = 16, 12, 24
STREAM = 2  # second word of the seed; the assay has the others


class SimulatedGenome(Dataset):
    """Windows of a simulated genome of so many nucleotides, with planted words.

    Its last chromosomes are held out, as those of `Genome` are.
    """

    def __init__(
        self,
        *,
        nucleotides: Annotated[int, Ge(1000), Le(10**9)],
        chromosomes: Annotated[int, Ge(1), Le(1000)],
        seed: Annotated[int, Ge(0)],
        window: Count,
        stride: Count,
        validation_fraction: Annotated[float, Gt(0), Lt(1)],
    ) -> None:
        if nucleotides < chromosomes * window:
            raise InputError(
                f"dataset.nucleotides={nucleotides}: {chromosomes} chromosomes of a window of {window} nt need more"
            )
        self.nucleotides, self.chromosomes, self.seed = nucleotides, chromosomes, seed
        self.window, self.stride, self.validation_fraction = window, stride, validation_fraction

    def read(self) -> Split:
        chromosomes, names = simulate_genome(self.nucleotides, self.chromosomes, self.seed)
        return windows_of(
            chromosomes,
            names,
            where="the simulated genome",
            window=self.window,
            stride=self.stride,
            most_unknown=0.0,
            validation=None,
            validation_fraction=self.validation_fraction,
            simulated=True,
        )


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
