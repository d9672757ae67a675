"""The simulated cell's transcription factors: what they bind and what they do there.

Consensus sites are those that the literature prints; docs/simulated_assay.md names the source of each. Concentrations
and effects are invented: they are chosen for a plausible spread of expression, and are no estimates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from prixfixe.data.sequences import NUCLEOTIDES

IUPAC = {
    "A": "A", "C": "C", "G": "G", "T": "T", "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC",
    "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT",
}  # fmt: skip
MISMATCH = 0.12  # probability that a position of a bound site holds a nucleotide which the consensus does not name


@dataclass(frozen=True)
class Factor:
    """A DNA-binding factor, or anything else that acts through a sequence (the poly(dA:dT) tract).

    concentration: statistical weight of one perfect site, bound over unbound.
    effect: added to the latent activity when bound (activators above 0, repressors below).
    opening: added to the log-odds that the promoter is free of nucleosomes when bound.
    minus: weight of a site on the minus strand, relative to the plus strand.
    distal: weight of a site at the insert's 5' end, relative to one at its 3' end (near the start of transcription).
    """

    name: str
    consensus: str
    concentration: float
    effect: float
    opening: float = 0.0
    minus: float = 1.0
    distal: float = 1.0


@dataclass(frozen=True)
class Cooperation:
    """Two factors that help each other bind: `strength` times the weight for sites at most `distance` nt apart."""

    first: str
    second: str
    distance: int
    strength: float


FACTORS = (
    # openers: general regulatory factors, the RSC complex, poly(dA:dT)
    Factor("Reb1", "TTACCCG", 6, 0.25, opening=2.2),
    Factor("Abf1", "RTCRYNNNNNACG", 4, 0.25, opening=2.2),
    Factor("Rap1", "ACACCCRYACAY", 6, 0.5, opening=2.2),
    Factor("Rsc3", "CGCG", 1, 0.8, opening=5),
    Factor("poly(dA:dT)", "AAAAAAAA", 2, 0, opening=1, minus=0.5, distal=1.5),
    # activators
    Factor("Gcn4", "TGASTCA", 5, 1.2),
    Factor("Cbf1", "RTCACRTG", 5, 0.5, opening=0.6),
    Factor("Pho4", "CACGTK", 1.5, 0.7),
    Factor("Pho2", "WTAWTA", 0.5, 0.1),
    Factor("Hsf1", "TTCNNGAA", 3, 1.0, distal=0.5),
    Factor("Skn7", "GGCYGGC", 3, 0.9),
    Factor("Azf1", "AAAAGAAA", 3, 0.5, minus=0.4),
    Factor("Rpn4", "GGTGGCAAA", 5, 0.8),
    Factor("Sfp1", "RAAAAWTTTT", 3, 0.4),
    Factor("Gal4", "CGGNNNNNNNNNNNCCG", 5, 1.0),
    Factor("Leu3", "CCGGNNCCGG", 6, 0.8),
    Factor("Pdr1", "TCCGYGGA", 5, 0.8),
    Factor("Rds1", "CGGCCG", 2, 0.6, opening=0.5),
    Factor("Gcr1", "CTTCC", 0.8, 0.35),
    Factor("Swi4", "CACGAAA", 3, 0.5, minus=0.6),
    Factor("Mbp1", "ACGCGT", 2, 0.6),
    Factor("Ste12", "TGAAACA", 3, 0.5),
    Factor("Tec1", "CATTCY", 1, 0.3),
    Factor("Msn2", "AGGGG", 0.8, 0.4, distal=0.5),
    Factor("Yap1", "TTACTAA", 4, 0.6),
    Factor("Mcm1", "CCYWWWNNRG", 3, 0.4),
    Factor("TBP", "TATAWAWR", 3, 0.7, minus=0.3, distal=0.3),
    # repressors
    Factor("Ume6", "TAGCCGCC", 6, -3.0),
    Factor("Mot3", "HAGGYA", 0.4, -1.6, distal=0.6),
    Factor("Mga1", "AGAACA", 0.8, -2.0),
    Factor("Mig1", "WWWWSYGGGG", 3, -1.8),
    Factor("Rgt1", "CGGANNA", 0.6, -1.0),
    Factor("Xbp1", "CTCGA", 0.5, -1.5),
    Factor("Nrg1", "CCCTC", 0.6, -1.0),
    Factor("Rox1", "YATTGTT", 1.5, -2.2, distal=0.5),
)

COOPERATIONS = (
    Cooperation("Ste12", "Tec1", 20, 30),
    Cooperation("Hsf1", "Skn7", 25, 20),
    Cooperation("Pho4", "Pho2", 15, 30),
    Cooperation("Rap1", "Gcr1", 30, 20),
)


@cache
def site_weights(consensus: str) -> np.ndarray:
    """Statistical weight of each nucleotide at each position of a site, relative to the best. Shape (length, 4).

    A position that names m nucleotides gives each the probability (1 - MISMATCH) / m and shares MISMATCH among the
    others; binding energies are the log-odds of these (Berg and von Hippel 1987, J. Mol. Biol. 193:723).
    """
    named = np.array([[letter in IUPAC[symbol] for letter in NUCLEOTIDES[:4]] for symbol in consensus])
    count = named.sum(axis=1, keepdims=True)
    other = np.divide(MISMATCH, 4 - count, out=np.zeros(count.shape), where=count < 4)
    probability = np.where(named, (1 - MISMATCH * (count < 4)) / count, other)
    weights: np.ndarray = probability / probability.max(axis=1, keepdims=True)
    return weights
