"""How long the scores of one model take, with bootstrap, on a test set as large as the published one.

    python benchmarks/evaluate.py [-o FILE] [--repeats 3]

The test set is made of random numbers in the published sizes; times do not depend on what is measured.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from machine import machine

from prixfixe.analysis.evaluation import BOOTSTRAP_SAMPLES, evaluate
from prixfixe.common.files import write_json
from prixfixe.data.sequences import Sequences
from prixfixe.data.testset import TestSet
from prixfixe.dream.testset import WEIGHTS

ROWS = 71_103
# unique rows and pairs of the published subsets; of the SNV pairs the number in Rafi et al. 2024, Table 1
SIZES = {"high": 968, "low": 997, "native": 578, "random": 6_349, "challenging": 1_953}
PAIR_SIZES = {"SNVs": 44_340, "motif_perturbation": 3_287, "motif_tiling": 2_624}


def random_test_set(generator: np.random.Generator) -> TestSet:
    subsets = {"all": np.arange(ROWS)}
    for name, size in SIZES.items():
        subsets[name] = np.sort(generator.choice(ROWS, size, replace=False))
    for name, size in PAIR_SIZES.items():
        subsets[name] = generator.integers(0, ROWS, (size, 2))
    codes = generator.integers(0, 4, (ROWS, 110), dtype=np.uint8)
    return TestSet(
        Sequences.from_padded(codes, np.full(ROWS, 110, dtype=np.int32)),
        generator.normal(size=ROWS),
        subsets,
        weights=WEIGHTS,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="write the result here as JSON, too")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()

    generator = np.random.default_rng(0)
    test_set = random_test_set(generator)
    predictions = test_set.expression + generator.normal(size=ROWS)
    result = {
        **machine("numpy", "scipy"),
        "rows": ROWS,
        "subsets": {**SIZES, **PAIR_SIZES},
        "repeats": arguments.repeats,
        "median_seconds": {},
    }
    print(f"{'bootstrap samples':>18} {'seconds':>8}")
    for samples in (0, BOOTSTRAP_SAMPLES):
        seconds = []
        for _ in range(arguments.repeats):
            start = time.perf_counter()
            evaluate(test_set, predictions, bootstrap=samples)
            seconds.append(time.perf_counter() - start)
        result["median_seconds"][str(samples)] = statistics.median(seconds)
        print(f"{samples:>18,} {statistics.median(seconds):>8.2f}")
    if arguments.output:
        write_json(arguments.output, result)


if __name__ == "__main__":
    main()
