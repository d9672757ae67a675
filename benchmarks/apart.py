"""The rows of a validation table of which no training row tells: no same sequence or insert on either strand, no window
that overlaps; and how far counts of k-mers go on all rows and on those.

    python benchmarks/apart.py TRAIN.tsv VALIDATION.tsv --sequence seq --expression mean_value -o APART.tsv
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from prixfixe.analysis.kmer_ridge import fit_kmer_ridge
from prixfixe.data.splits import told_of
from prixfixe.data.tables import read_measurements
from prixfixe.tasks.metrics import pearson_r


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("validation", type=Path)
    parser.add_argument("--sequence", required=True, metavar="COLUMN")
    parser.add_argument(
        "--expression", required=True, metavar="COLUMN", action="append", help="again for further tasks"
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    columns = {"sequence": arguments.sequence, "expression": arguments.expression}
    train, validation = (read_measurements(path, **columns) for path in (arguments.train, arguments.validation))
    table = pd.read_csv(arguments.validation, sep="\t", dtype=str, keep_default_na=False)
    told = told_of(train, validation)
    if len(table) != len(told):
        sys.exit(f"{arguments.validation}: {len(table)} rows, of which {len(told)} are measured: leave the others out")
    table[~told].to_csv(arguments.output, sep="\t", index=False)
    print(f"{(~told).sum()} of {len(told)} rows in {arguments.output}", file=sys.stderr)
    ridge = fit_kmer_ridge(train)
    print(ridge.description)
    predicted = ridge.predict(validation.sequences)
    measured = np.asarray(validation.expression).reshape(predicted.shape)
    for task, truth, guess in zip(validation.tasks, measured.T, predicted.T, strict=True):
        for what, rows in (("all rows", slice(None)), ("apart", ~told)):
            pairs = truth[rows], guess[rows]
            drawn = bootstrap(pairs, pearson_r, paired=True, vectorized=False, n_resamples=1000, rng=0)
            low, high = drawn.confidence_interval
            print(f"{task}, {what}: Pearson r {pearson_r(*pairs):.3f} [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main()
