"""Windows cut from the chromosomes of a genome."""

from __future__ import annotations

import numpy as np

from prixfixe.data.reference import Genome
from prixfixe.data.sequences import ASCII_TO_CODE, INVALID, N, Sequences


def chromosome_codes(genome: Genome, number: int) -> np.ndarray:
    """A whole chromosome: uint8 (length,)."""
    name, length = list(genome.lengths.items())[number]
    letters = genome.stretch(name, 0, length, 0, slide=False)
    assert not isinstance(letters, str)
    codes = ASCII_TO_CODE[np.frombuffer(letters.letters.encode("latin-1", "replace"), dtype=np.uint8)]
    return np.where(codes == INVALID, np.uint8(N), codes)


def windows_at(genome: Genome, chromosome: np.ndarray, first: np.ndarray, width: int) -> Sequences:
    """Windows of chromosomes; what lies beyond an end is N. chromosome, first: int64 (n,)."""
    codes = np.empty((len(first), width), dtype=np.uint8)
    for number in np.unique(chromosome).tolist():
        some, beyond = np.flatnonzero(chromosome == number), np.full(width, N, dtype=np.uint8)
        padded = np.concatenate([beyond, chromosome_codes(genome, number), beyond])
        windows = np.lib.stride_tricks.sliding_window_view(padded, width)
        codes[some] = windows[first[some] + width]
    return Sequences.from_padded(codes, np.full(len(first), width))
