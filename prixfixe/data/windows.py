"""Windows cut from the chromosomes of a genome."""

from __future__ import annotations

import numpy as np

from prixfixe.data.reference import Genome
from prixfixe.data.sequences import ASCII_TO_CODE, INVALID, N, Sequences

CODES = np.where(ASCII_TO_CODE == INVALID, np.uint8(N), ASCII_TO_CODE).tobytes()  # of any letter: no A C G T is N


def chromosome_codes(genome: Genome, number: int) -> np.ndarray:
    """A whole chromosome, by its number in the genome: uint8 (length,)."""
    letters: str = genome.fasta.fetch(list(genome.lengths)[number])
    return np.frombuffer(letters.encode("latin-1", "replace").translate(CODES), dtype=np.uint8)


def windows_at(genome: Genome, chromosome: np.ndarray, first: np.ndarray, width: int) -> Sequences:
    """Windows of chromosomes; what lies beyond an end is N. chromosome, first: int64 (n,)."""
    codes = np.empty((len(first), width), dtype=np.uint8)
    for number in np.unique(chromosome).tolist():
        some, beyond = np.flatnonzero(chromosome == number), np.full(width, N, dtype=np.uint8)
        padded = np.concatenate([beyond, chromosome_codes(genome, number), beyond])
        windows = np.lib.stride_tricks.sliding_window_view(padded, width)
        codes[some] = windows[first[some] + width]
    return Sequences.from_padded(codes, np.full(len(first), width))
