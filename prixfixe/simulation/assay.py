"""Random promoters as they are ordered, and their expression as it is measured: cells sorted into 18 bins."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from prixfixe.common.errors import InputError
from prixfixe.data.datasets import Dataset, Split, checked_fraction, training_share
from prixfixe.data.measurements import Measurements
from prixfixe.data.near_duplicates import near_duplicates
from prixfixe.data.sequences import N, Sequences
from prixfixe.data.splits import split
from prixfixe.dream.construct import LEFT_FLANK, RIGHT_FLANK
from prixfixe.simulation.model import true_expression

VERSION = 1  # of the simulation: goes up when a size and seed give other numbers than before
INSERT = 80  # nt, as ordered

# What follows is set to figures of the real measurements, as far as a small sample shows them: docs/simulated_assay.md
COMPOSITION = (0.225, 0.192, 0.281, 0.302)  # A C G T in random inserts
SHORTEST, LONGEST = 57, 105
LENGTH_SHARES = {81: 0.0046, 80: 0.8193, 79: 0.1275, 78: 0.0239, 77: 0.0078, 76: 0.0046, 75: 0.0027, 74: 0.0017}
SHARE_SHORTER, SHARE_LONGER = 0.0065, 0.0014  # spread evenly over SHORTEST..73 and 82..LONGEST
ONE_CELL = 0.49  # probability that a cell is a promoter's last: numbers of cells are geometric
CELL_NOISE = 1.2  # standard deviation of a cell's expression, in bins
MISPLACED = 0.008  # share of cells that land in any bin
EXTRA_READS = 4.0  # mean reads of a cell beyond the first; they weight its bin
BINS = 18

CHUNK = 1 << 15  # promoters that share one stream of random numbers; part of what a seed means
TRAINING, TEST = 0, 1  # second word of the seed, so that the two never share a stream


@dataclass(frozen=True)
class SimulatedMeasurements:
    """Simulated promoters, what was measured, and what there was to measure.

    true_expression: float64, shape (n,), 0 to 17, without noise: the ceiling for any model.
    """

    measurements: Measurements
    true_expression: np.ndarray

    def __len__(self) -> int:
        return len(self.measurements)


class Simulated(Dataset):
    """The simulated assay: `size` random promoters and their measured expression, in bins 0 to 17."""

    def __init__(
        self,
        *,
        size: Annotated[int, Le(10**8)],
        seed: Annotated[int, Ge(0)],
        validation_fraction: float,
        training_fraction: float = 1.0,
    ) -> None:
        if size < 20:
            raise InputError(f"dataset.size={size}: too few promoters to train and score on; take at least 20")
        self.size, self.seed, self.validation_fraction = size, seed, validation_fraction
        self.training_fraction = checked_fraction(training_fraction)

    def read(self) -> Split:
        measurements = simulate(self.size, self.seed).measurements
        train, validation = split(measurements, validation_fraction=self.validation_fraction, seed=self.seed)
        content = (
            f"simulated version={VERSION} size={self.size} seed={self.seed} "
            f"validation_fraction={self.validation_fraction}"
        )
        train = training_share(train, self.training_fraction, self.seed)
        near = near_duplicates(measurements.sequences[validation], measurements.sequences[train])
        return Split(
            measurements[train],
            measurements[validation],
            content=content,
            simulated=True,
            near_duplicates=near.share,
        )


def simulate(n: int, seed: int) -> SimulatedMeasurements:
    """n random promoters, complete with flanks, most of them measured in one cell.

    The same n and seed give the same promoters on any number of cores.
    """
    width = len(LEFT_FLANK) + LONGEST + len(RIGHT_FLANK)
    codes = np.full((n, width), N, dtype=np.uint8)
    lengths, expression, truth = np.empty(n, dtype=np.int32), np.empty(n), np.empty(n)
    start = 0
    for chunk in simulate_chunks(n, seed):
        rows = slice(start, start := start + len(chunk))
        sequences = chunk.measurements.sequences
        codes[rows, : sequences.padded().shape[1]] = sequences.padded()
        lengths[rows] = sequences.lengths
        expression[rows] = chunk.measurements.expression
        truth[rows] = chunk.true_expression
    longest = int(lengths.max(initial=0))
    return SimulatedMeasurements(Measurements(Sequences.from_padded(codes[:, :longest], lengths), expression), truth)


def simulate_chunks(n: int, seed: int) -> Iterator[SimulatedMeasurements]:
    """The promoters of `simulate` in order, CHUNK at a time, so that memory does not grow with n."""

    def chunk(number: int) -> SimulatedMeasurements:
        rng = np.random.default_rng([seed, TRAINING, number])
        sequences = random_promoters(min(CHUNK, n - number * CHUNK), rng)
        truth = true_expression(sequences)
        cells = rng.geometric(ONE_CELL, size=len(truth))
        return SimulatedMeasurements(Measurements(sequences, measure(truth, cells, rng)), truth)

    workers = os.cpu_count() or 1
    waiting: deque[Future[SimulatedMeasurements]] = deque()
    with ThreadPoolExecutor(workers) as pool:  # numpy works outside the interpreter's lock
        for number in range(-(-n // CHUNK)):
            waiting.append(pool.submit(chunk, number))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def random_promoters(n: int, rng: np.random.Generator) -> Sequences:
    """Random inserts of the real set's lengths and composition between the constant flanks."""
    lengths = insert_lengths(n, rng)
    inserts = draw(COMPOSITION, (n, int(lengths.max(initial=0))), rng)
    inserts[np.arange(inserts.shape[1]) >= lengths[:, None]] = N
    return add_flanks(Sequences.from_padded(inserts, lengths))


def insert_lengths(n: int, rng: np.random.Generator) -> np.ndarray:
    values = np.arange(SHORTEST, LONGEST + 1)
    shares = np.where(values < min(LENGTH_SHARES), SHARE_SHORTER, SHARE_LONGER)
    shares = shares / np.where(values < min(LENGTH_SHARES), min(LENGTH_SHARES) - SHORTEST, LONGEST - max(LENGTH_SHARES))
    for length, share in LENGTH_SHARES.items():
        shares[length - SHORTEST] = share
    return rng.choice(values, size=n, p=shares / shares.sum()).astype(np.int32)


def draw(probabilities: tuple[float, ...], shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Random nucleotide codes; two random bytes each, so that probabilities hold to 1 in 65,536."""
    thresholds = (np.cumsum(probabilities)[:3] * 65536).astype(np.uint16)
    random = rng.integers(0, 65536, size=shape, dtype=np.uint16)
    codes = np.zeros(shape, dtype=np.uint8)
    for threshold in thresholds:
        codes += random >= threshold
    return codes


def add_flanks(inserts: Sequences) -> Sequences:
    """Complete promoters: left flank, insert, right flank."""
    left, right = Sequences.from_strings([LEFT_FLANK, RIGHT_FLANK]).padded()
    left, right = left[: len(LEFT_FLANK)], right[: len(RIGHT_FLANK)]
    n, width = inserts.padded().shape
    codes = np.full((n, len(left) + width + len(right)), N, dtype=np.uint8)
    codes[:, : len(left)] = left
    codes[:, len(left) : len(left) + width] = inserts.padded()
    ends = len(left) + inserts.lengths[:, None] + np.arange(len(right))
    np.put_along_axis(codes, ends, np.broadcast_to(right, ends.shape), axis=1)
    return Sequences.from_padded(codes, inserts.lengths + np.int32(len(left) + len(right)))


def measure(truth: np.ndarray, cells: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sorts `cells` cells of each promoter into bins and averages the bins, weighted by reads. Shape (n,), float64.

    A cell's bin is its promoter's expression plus normal noise, rounded, and held within 0..17; a few are misplaced.
    """
    starts = np.cumsum(cells) - cells
    bins = np.rint(np.repeat(truth, cells) + rng.normal(0, CELL_NOISE, size=cells.sum())).clip(0, BINS - 1)
    stray = np.flatnonzero(rng.random(len(bins)) < MISPLACED)
    bins[stray] = rng.integers(0, BINS, size=len(stray))
    # whole numbers of reads, so that cells of one bin average to exactly that bin
    reads = 1.0 + rng.poisson(rng.exponential(EXTRA_READS, size=len(bins)))
    expression: np.ndarray = np.add.reduceat(bins * reads, starts) / np.add.reduceat(reads, starts)
    return expression
