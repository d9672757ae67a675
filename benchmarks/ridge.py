"""How much of the expression a linear model of k-mer counts explains: of a table, or of the simulated assay.

    python benchmarks/ridge.py [TABLE] [--size 6370] [--penalty 3000]

Ridge regression on the counts of all 1- to 5-mers on both strands, standardised; Pearson r on the last tenth of the
rows.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from prixfixe.data.measurements import Measurements
from prixfixe.data.sequences import N, Sequences
from prixfixe.data.tables import read_measurements
from prixfixe.simulation import simulate
from prixfixe.tasks.metrics import pearson_r

LONGEST = 5


def kmer_counts(sequences: Sequences) -> np.ndarray:
    """Counts of every k-mer up to 5 nt, both strands together. Shape (n, features), float64."""
    blocks = []
    for k in range(1, LONGEST + 1):
        counts = np.zeros((len(sequences), 4**k + 1))
        for codes in (sequences.padded(), sequences.reverse_complement().padded()):
            windows = np.lib.stride_tricks.sliding_window_view(codes, k, axis=1)
            index = np.where((windows == N).any(2), 4**k, (windows.astype(np.int64) * 4 ** np.arange(k)).sum(2))
            for row, numbers in enumerate(index):
                counts[row] += np.bincount(numbers, minlength=4**k + 1)
        blocks.append(counts[:, :-1])  # the last one counts windows with N
    return np.hstack(blocks)


def held_out_r(measurements: Measurements, penalty: float) -> float:
    features, expression = kmer_counts(measurements.sequences), np.asarray(measurements.expression)
    train = len(expression) * 9 // 10
    deviation = features[:train].std(0)
    scaled = ((features - features[:train].mean(0)) / np.where(deviation > 0, deviation, 1))[:, deviation > 0]
    gram = scaled[:train].T @ scaled[:train] + penalty * np.eye(scaled.shape[1])
    weights = np.linalg.solve(gram, scaled[:train].T @ (expression[:train] - expression[:train].mean()))
    return pearson_r(expression[train:], scaled[train:] @ weights)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "table", nargs="?", type=Path, help="a table of sequence and expression; default: the simulated assay"
    )
    parser.add_argument("--size", type=int, default=6370, help="promoters to simulate; default: %(default)s")
    parser.add_argument("--penalty", type=float, default=3000.0, help="default: %(default)s")
    args = parser.parse_args()
    measurements = read_measurements(args.table) if args.table else simulate(args.size, seed=1).measurements
    name = args.table or f"simulated, {args.size} promoters"
    print(
        f"{name}: Pearson r {held_out_r(measurements, args.penalty):.3f} on "
        f"{len(measurements) - len(measurements) * 9 // 10} held out"
    )


if __name__ == "__main__":
    main()
