"""Simulated lentiMPRA: inserts in both orientations between the real assay's adapters, whose activity is known.

The stand-in for human lentiMPRA (Agarwal et al. 2025) where none is at hand; see docs/simulated_assay.md. Nothing here
is a measurement.
"""

from __future__ import annotations

import numpy as np

from prixfixe.data.flanks import add_flanks
from prixfixe.data.lentimpra import ADAPTERS
from prixfixe.data.measurements import Measurements
from prixfixe.data.sequences import Sequences
from prixfixe.simulation.assay import draw
from prixfixe.simulation.enhancers import Motif, matches, other_strand, plant
from prixfixe.simulation.table import SimulatedTable

VERSION = 1  # goes up when a size and seed give other numbers than before
TASK = "mean_value"  # as the real table has it
INSERT, FOLDS = 200, 10
COMPOSITION = (0.26, 0.24, 0.24, 0.26)  # A C G T
SITES = 3.0  # planted in an insert, on average
REPLICATES, NOISE = 3, 0.8  # measured of each insert, and the standard deviation of one of them
NOISE_OF_MEAN = NOISE / REPLICATES**0.5
WITHOUT = -1.8  # activity of an insert without sites
AGAINST = 0.6  # what is left of the effect of some sites on the minus strand

# Consensus sites are the literature's; effects, of a site on the plus and on the minus strand, are invented.
MOTIFS = (
    Motif("AP-1", "TGASTCA", (0.9, 0.9)),
    Motif("ETS", "CCGGAAGT", (0.7, 0.7 * AGAINST)),
    Motif("NRF1", "GCGCATGCGC", (1.0, 1.0)),
    Motif("CREB", "TGACGTCA", (0.8, 0.8)),
    Motif("GATA", "WGATAAG", (0.6, 0.6)),
    Motif("HNF1", "GTTAATNATTAAC", (1.1, 1.1)),
    Motif("YY1", "AAGATGGCGGC", (0.8, 0.8 * AGAINST)),
    Motif("REST", "TTCAGCACCACGGACAG", (-1.2, -1.2)),
)


def true_activity(sequences: Sequences) -> np.ndarray:
    """What there is to measure: float64 (n,), log2 of RNA over DNA without noise, of inserts between their adapters.

    Of each motif the c sites on a strand add 1 - 2^-c times twice the effect that they have there, so that the first
    adds it whole and further ones ever less. A site that is its own reverse complement is one on the plus strand.
    """
    codes = sequences.padded()
    backward_codes = other_strand(codes)
    activity = np.full(len(codes), WITHOUT)
    for motif in MOTIFS:
        forward = matches(codes, motif.consensus)
        backward = matches(backward_codes, motif.consensus)[:, ::-1] & ~forward
        for sites, effect in zip((forward, backward), motif.effects, strict=True):
            activity += 2 * (1 - 0.5 ** sites.sum(axis=1)) * effect
    return activity


def simulate_inserts(size: int, seed: int) -> Measurements:
    """`size` inserts of 200 nt between the adapters: each in both orientations, neighbours in the table.

    expression: the mean of three replicates. fold: 0 to 9, of both orientations the same. columns: `is_reverse`, bool
    (n,), and `replicates`, float32 (n, 3).
    """
    rng = np.random.default_rng([seed, 5])
    count = -(-size // 2)
    letters = draw(COMPOSITION, (count, INSERT), rng)
    plant(letters, MOTIFS, SITES, rng)
    both = np.stack([letters, other_strand(letters)], axis=1).reshape(-1, INSERT)[:size]
    sequences = add_flanks(Sequences.from_padded(both, np.full(size, INSERT, dtype=np.int32)), *ADAPTERS)
    replicates = true_activity(sequences)[:, None] + rng.normal(0, NOISE, size=(size, REPLICATES))
    return Measurements(
        sequences,
        replicates.mean(axis=1),
        (TASK,),
        fold=np.repeat(rng.permutation(count) % FOLDS, 2)[:size],
        columns={"is_reverse": np.tile([False, True], count)[:size], "replicates": replicates.astype(np.float32)},
    )


class SimulatedLentimpra(SimulatedTable):
    """Simulated inserts; their own folds are 0 to 9."""

    assay = "lentimpra"
    version = VERSION
    simulate = staticmethod(simulate_inserts)
