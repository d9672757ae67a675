"""Simulated enhancers with coordinates, measured in two ways that share some motifs and differ in others.

The stand-in for fly STARR-seq (de Almeida et al. 2022) where none is at hand; see docs/simulated_assay.md. Nothing here
is a measurement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prixfixe.data.measurements import Measurements
from prixfixe.data.sequences import COMPLEMENT, NUCLEOTIDES, Sequences
from prixfixe.data.tables import chromosome_number
from prixfixe.simulation.assay import draw
from prixfixe.simulation.factors import IUPAC
from prixfixe.simulation.table import SimulatedTable

VERSION = 1  # goes up when a size and seed give other numbers than before
TASKS = ("Dev_log2_enrichment", "Hk_log2_enrichment")  # as the real table has them
CHROMOSOMES = ("chr2L", "chr2R", "chr3L", "chr3R", "chrX")
WINDOW, TILES = 249, (0, 100)  # nt; the windows of a locus begin there, and overlap
LOCUS = WINDOW + TILES[-1]
SPACING = 20_000  # nt from one locus to the next, on average
COMPOSITION = (0.29, 0.21, 0.21, 0.29)  # A C G T
SITES = 4.0  # planted in a locus, on average
NOISE = 0.5  # standard deviation of a measurement
WITHOUT = (-0.6, -0.9)  # activity of a window without sites, of each task


@dataclass(frozen=True)
class Motif:
    """A site by its consensus (IUPAC letters), on either strand; effects: what its presence adds to each task."""

    name: str
    consensus: str
    effects: tuple[float, float]


# Consensus sites are the literature's; effects are invented. The first four act in one task, the next two in both
# alike, the last in both against each other.
MOTIFS = (
    Motif("GATA", "WGATAAG", (1.6, 0.0)),
    Motif("twist", "CACATGT", (1.4, 0.0)),
    Motif("DREF", "TATCGATA", (0.0, 2.0)),
    Motif("Ohler1", "GGTCACAC", (0.0, 1.6)),
    Motif("ETS", "CCGGAAGT", (1.2, 1.2)),
    Motif("CREB", "TGACGTCA", (1.0, 0.8)),
    Motif("AP-1", "TGASTCA", (1.8, -0.6)),
)


def true_activity(sequences: Sequences) -> np.ndarray:
    """What there is to measure: float64 (n, 2), log2 enrichment without noise, the same for both strands.

    Of each motif the sites are counted on both strands; c sites add 1 - 2^-c times twice its effect, so that the first
    adds the effect and further ones ever less.
    """
    codes = sequences.padded()
    activity = np.tile(np.array(WITHOUT), (len(codes), 1))
    for motif in MOTIFS:
        sites = matches(codes, motif.consensus)
        backward = matches(other_strand(codes), motif.consensus)[:, ::-1]
        count = (sites | backward).sum(axis=1)
        activity += np.outer(2 * (1 - 0.5**count), motif.effects)
    return activity


def simulate_enhancers(size: int, seed: int) -> Measurements:
    """`size` windows of 249 nt: of each locus two that overlap, each on both strands, neighbours in the table.

    fold: the chromosome. regions: where the window lies. columns: `is_reverse`, bool (n,), whether it is given as the
    minus strand.
    """
    rng = np.random.default_rng([seed, 2])
    loci = -(-size // (2 * len(TILES)))
    letters = draw(COMPOSITION, (loci, LOCUS), rng)
    plant(letters, MOTIFS, SITES, rng)
    per_chromosome = -(-loci // len(CHROMOSOMES))
    chromosome, slot = np.divmod(np.arange(loci), per_chromosome)
    begin = slot * SPACING + rng.integers(0, SPACING - LOCUS, size=loci)
    windows = np.stack([letters[:, tile : tile + WINDOW] for tile in TILES], axis=1)
    both = np.stack([windows, other_strand(windows)], axis=2).reshape(-1, WINDOW)[:size]
    each = 2 * len(TILES)
    starts = (np.repeat(begin, each) + np.tile(np.repeat(TILES, 2), loci))[:size]
    of_chromosome = np.repeat(chromosome, each)[:size]
    numbers = np.array([chromosome_number(name.lower().removeprefix("chr")) for name in CHROMOSOMES])
    sequences = Sequences.from_padded(both, np.full(size, WINDOW))
    return Measurements(
        sequences,
        true_activity(sequences) + rng.normal(0, NOISE, size=(size, len(TASKS))),
        TASKS,
        fold=np.array(CHROMOSOMES)[of_chromosome],
        regions=np.stack([numbers[of_chromosome], starts, starts + WINDOW], axis=1),
        columns={"is_reverse": np.tile([False, True], size)[:size]},
    )


class SimulatedStarrseq(SimulatedTable):
    """Simulated enhancers; their own folds are chromosomes.

    fold_column: seqnames, as the real table calls it: `folds` of what is left beside the chromosome that is tested.
    """

    assay = "enhancers"
    version = VERSION
    simulate = staticmethod(simulate_enhancers)


def plant(letters: np.ndarray, motifs: Sequence[Motif], sites: float, rng: np.random.Generator) -> None:
    """Writes sites into random letters, uint8 (n, length): on average `sites` a row (Poisson), of motifs drawn evenly,
    anywhere, on either strand; later ones may cover earlier ones."""
    count, length = letters.shape
    number = rng.poisson(sites, size=count)
    where = np.repeat(np.arange(count), number)
    which = rng.integers(0, len(motifs), size=len(where))
    for place, motif in enumerate(motifs):
        some = where[which == place]
        start = rng.integers(0, length - len(motif.consensus) + 1, size=len(some))
        planted = np.stack([_drawn(letter, len(some), rng) for letter in motif.consensus], axis=1)
        turned = rng.random(len(some)) < 0.5
        planted[turned] = other_strand(planted[turned])
        letters[some[:, None], start[:, None] + np.arange(planted.shape[1])] = planted


def matches(codes: np.ndarray, consensus: str) -> np.ndarray:
    """At which positions a site begins: bool (n, positions - sites' length + 1)."""
    width = codes.shape[1] - len(consensus) + 1
    found = np.ones((len(codes), width), dtype=bool)
    for place, letter in enumerate(consensus):
        allowed = np.array([nucleotide in IUPAC[letter] for nucleotide in NUCLEOTIDES])
        found &= allowed[codes[:, place : place + width]]
    return found


def other_strand(codes: np.ndarray) -> np.ndarray:
    """The reverse complements of codes (n, length)."""
    return np.asarray(COMPLEMENT[codes][..., ::-1])


def _drawn(letter: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Nucleotides that a consensus letter allows: uint8 (count,)."""
    allowed = np.array([NUCLEOTIDES.index(nucleotide) for nucleotide in IUPAC[letter]], dtype=np.uint8)
    return rng.choice(allowed, size=count)
