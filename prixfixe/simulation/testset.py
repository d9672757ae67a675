"""A simulated test set with the eight subsets of Rafi et al. 2024 (Nature Biotechnology, Table 1 and Methods)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prixfixe.common.errors import InputError
from prixfixe.data.measurements import Measurements
from prixfixe.data.sequences import COMPLEMENT, A, Sequences, T
from prixfixe.simulation.assay import COMPOSITION, INSERT, TEST, SimulatedMeasurements, add_flanks, draw, measure
from prixfixe.simulation.factors import FACTORS, Factor, site_weights
from prixfixe.simulation.model import binding_weights, true_expression

# Numbers in the published test set: sequences in all and in each subset, pairs in the last three
PUBLISHED_SIZE = 71_103
PUBLISHED_SUBSETS = {
    "high": 968, "low": 997, "native": 997, "random": 6_349, "challenging": 1_953,
    "SNVs": 44_340, "motif_perturbation": 3_287, "motif_tiling": 2_624,
}  # fmt: skip
SMALLEST = 500

CELLS = 100  # mean number of cells seen of a test sequence
GENERATIONS = 12  # of the genetic algorithm: few enough that expression still varies within high and low
CANDIDATES = 10  # for each challenging sequence chosen
VARIANTS = 5  # motif perturbations of one reference, with 1, 2, ... nucleotides changed
TILED_STARTS = INSERT - 7  # where a site of 8 nt fits; motif tilings of one background
PERTURBED = ("Ume6", "Skn7", "Mga1", "Mot3", "Azf1", "Reb1", "Hsf1", "poly(dA:dT)")  # sites of 6 to 8 nt

# Native-like promoters: which nucleotide (A C G T, columns) follows which (rows). Rich in A and T, which come in runs.
NATIVE_FIRST = (0.32, 0.18, 0.18, 0.32)
NATIVE_NEXT = ((0.38, 0.16, 0.17, 0.29), (0.33, 0.20, 0.15, 0.32), (0.32, 0.18, 0.19, 0.31), (0.26, 0.18, 0.18, 0.38))
NATIVE_SITES = 1.5  # mean number of planted sites
NATIVE_TRACTS = 0.5  # mean number of planted poly(dA:dT) tracts
TRACT_LENGTHS = (7, 16)

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]  # references, their variants, each variant's reference


@dataclass(frozen=True)
class SimulatedTestSet:
    """Test sequences and which of them belong to each subset.

    subsets: row numbers, int64, shape (k,), or for the pair subsets (k, 2): alternative and reference.
    """

    simulated: SimulatedMeasurements
    subsets: dict[str, np.ndarray]


def simulate_test_set(size: int, seed: int) -> SimulatedTestSet:
    """`size` test sequences in the published proportions, each measured in about 100 cells.

    Raises InputError for a size that leaves subsets of a few sequences.
    """
    if size < SMALLEST:
        raise InputError(f"a test set of {size} sequences is too small for its subsets: ask for {SMALLEST} or more")
    count = {name: round(size * number / PUBLISHED_SIZE) for name, number in PUBLISHED_SUBSETS.items()}
    rng = np.random.default_rng([seed, TEST])
    parts = {
        "high": evolved(count["high"], 1, rng),
        "low": evolved(count["low"], -1, rng),
        "native": native_like(count["native"], rng),
        "random": random_inserts(count["random"], rng),
        "challenging": challenging(count["challenging"], rng),
    }
    subsets, rows = {}, 0
    for name, inserts in parts.items():
        subsets[name] = np.arange(rows, rows := rows + len(inserts))

    def add_pairs(name: str, references: np.ndarray, variants: np.ndarray, variant_of: np.ndarray) -> None:
        nonlocal rows
        alternative = rows + len(references) + np.arange(len(variants))
        subsets[name] = np.stack([alternative, rows + variant_of], axis=1)
        parts[name] = np.concatenate([references, variants])
        rows += len(parts[name])

    add_pairs("motif_perturbation", *motif_perturbations(count["motif_perturbation"], rng))
    add_pairs("motif_tiling", *motif_tilings(count["motif_tiling"], rng))
    references = size - rows - count["SNVs"]  # whatever is missing to `size` serves as references
    add_pairs("SNVs", *single_variants(inserts_of_both_kinds(references, rng), count["SNVs"], rng))

    inserts = np.concatenate(list(parts.values()))
    sequences = add_flanks(Sequences.from_padded(inserts, np.full(size, INSERT, dtype=np.int32)))
    truth = true_expression(sequences)
    measured = measure(truth, np.maximum(rng.poisson(CELLS, size), 1), rng)
    return SimulatedTestSet(SimulatedMeasurements(Measurements(sequences, measured), truth), subsets)


def insert_expression(inserts: np.ndarray) -> np.ndarray:
    return true_expression(complete(inserts))


def complete(inserts: np.ndarray) -> Sequences:
    return add_flanks(Sequences.from_padded(inserts, np.full(len(inserts), inserts.shape[1], dtype=np.int32)))


def random_inserts(n: int, rng: np.random.Generator) -> np.ndarray:
    """Codes of random inserts, shape (n, 80), uint8, as in all functions here."""
    return draw(COMPOSITION, (n, INSERT), rng)


def inserts_of_both_kinds(n: int, rng: np.random.Generator) -> np.ndarray:
    """Half random, half native-like inserts."""
    return np.concatenate([random_inserts(n - n // 2, rng), native_like(n // 2, rng)])


def evolved(n: int, sign: int, rng: np.random.Generator) -> np.ndarray:
    """Inserts of extreme expression, high for sign 1 and low for -1, by a genetic algorithm against the true model.

    In each generation every insert has one child, by one-point crossover with another insert and one mutation, and
    gives way to it if the child is more extreme; so lineages stay apart and the results differ (deterministic
    crowding).
    """
    inserts = random_inserts(n, rng)
    fitness = sign * insert_expression(inserts)
    for _ in range(GENERATIONS):
        crossing = rng.integers(0, INSERT, size=(n, 1))
        children = np.where(np.arange(INSERT) < crossing, inserts, inserts[rng.permutation(n)])
        substitute(children, np.arange(n), rng.integers(0, INSERT, size=n), rng)
        childrens_fitness = sign * insert_expression(children)
        fitter = childrens_fitness > fitness
        inserts[fitter], fitness[fitter] = children[fitter], childrens_fitness[fitter]
    return inserts


def native_like(n: int, rng: np.random.Generator) -> np.ndarray:
    """Inserts with the look of yeast promoters: a Markov chain rich in A and T, planted sites and poly(dA:dT) tracts.

    No genome is behind them.
    """
    inserts = np.empty((n, INSERT), dtype=np.uint8)
    inserts[:, 0] = draw(NATIVE_FIRST, (n,), rng)
    thresholds = np.cumsum(NATIVE_NEXT, axis=1)[:, :3]
    for position in range(1, INSERT):
        inserts[:, position] = (rng.random((n, 1)) >= thresholds[inserts[:, position - 1]]).sum(axis=1)
    for row, number in enumerate(rng.poisson(NATIVE_SITES, n)):
        for factor in rng.choice(len(FACTORS), number):
            plant(inserts[row], site(FACTORS[factor], rng), rng)
    for row, number in enumerate(rng.poisson(NATIVE_TRACTS, n)):
        for _ in range(number):
            plant(inserts[row], tract(rng), rng)
    return inserts


def challenging(n: int, rng: np.random.Generator) -> np.ndarray:
    """The inserts whose expression an additive model gets most wrong, out of 10 times as many candidates.

    The additive model is the least-squares fit of expression to the factors' separate occupancies: it knows every
    binding site, but neither nucleosomes nor cooperation nor the saturation of expression.
    """
    candidates = inserts_of_both_kinds(CANDIDATES * n, rng)
    sequences = complete(candidates)
    weights, _ = binding_weights(sequences)
    bound = np.column_stack([np.ones(len(candidates)), weights / (1 + weights)])
    truth = true_expression(sequences)
    coefficients = np.linalg.lstsq(bound, truth, rcond=None)[0]
    return candidates[np.argsort(-np.abs(truth - bound @ coefficients), kind="stable")[:n]]


def single_variants(references: np.ndarray, n: int, rng: np.random.Generator) -> Pairs:
    """References, n different single-nucleotide variants of them, and each variant's reference."""
    reference, position, step = np.unravel_index(
        rng.choice(references.size * 3, size=n, replace=False), (*references.shape, 3)
    )
    variants = references[reference]
    rows = np.arange(n)
    variants[rows, position] = (variants[rows, position] + 1 + step) % 4
    return references, variants, reference


def motif_perturbations(n: int, rng: np.random.Generator) -> Pairs:
    """References with a planted site, n variants with up to 5 nucleotides of it changed, and each one's reference."""
    references = inserts_of_both_kinds(-(-n // VARIANTS), rng)
    variant_of = np.arange(n) // VARIANTS
    planted = [site(perturbed_factor(rng), rng) for _ in references]
    starts = [plant(insert, motif, rng) for insert, motif in zip(references, planted, strict=True)]
    variants = references[variant_of]
    for row, reference in enumerate(variant_of):
        changed = rng.choice(len(planted[reference]), size=1 + row % VARIANTS, replace=False)
        substitute(variants, row, starts[reference] + changed, rng)
    return references, variants, variant_of


def motif_tilings(n: int, rng: np.random.Generator) -> Pairs:
    """Random backgrounds, n variants with a background's site at different positions, and each one's background."""
    backgrounds = random_inserts(-(-n // TILED_STARTS), rng)
    variant_of = np.arange(n) // TILED_STARTS
    variants = backgrounds[variant_of]
    for background in range(len(backgrounds)):
        motif = site(perturbed_factor(rng), rng)
        starts = rng.permutation(INSERT - len(motif) + 1)
        for row, start in zip(np.flatnonzero(variant_of == background), starts, strict=False):
            variants[row, start : start + len(motif)] = motif
    return backgrounds, variants, variant_of


def perturbed_factor(rng: np.random.Generator) -> Factor:
    name = rng.choice(PERTURBED)
    return next(factor for factor in FACTORS if factor.name == name)


def site(factor: Factor, rng: np.random.Generator) -> np.ndarray:
    """Codes of a perfect site of the factor, on either strand; letters that the consensus leaves open are drawn."""
    named = site_weights(factor.consensus) == 1
    codes: np.ndarray = (named * rng.random(named.shape)).argmax(axis=1).astype(np.uint8)
    return codes if rng.random() < 0.5 else COMPLEMENT[codes[::-1]]


def tract(rng: np.random.Generator) -> np.ndarray:
    return np.full(rng.integers(*TRACT_LENGTHS), rng.choice([A, T]), dtype=np.uint8)


def plant(insert: np.ndarray, motif: np.ndarray, rng: np.random.Generator) -> int:
    """Writes the motif into one insert at a random position and returns its start."""
    start = int(rng.integers(0, len(insert) - len(motif) + 1))
    insert[start : start + len(motif)] = motif
    return start


def substitute(inserts: np.ndarray, rows: np.ndarray | int, positions: np.ndarray, rng: np.random.Generator) -> None:
    """Changes the nucleotides at these rows and positions, in place, each to one of the three others."""
    inserts[rows, positions] = (inserts[rows, positions] + rng.integers(1, 4, size=len(positions))) % 4
