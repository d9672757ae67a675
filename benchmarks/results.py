"""How long `prixfixe results` takes, from run folders alone: the comparison, effects, ranks, and reading many folders.

    python benchmarks/results.py [-o FILE] [--sequences 71103] [--exact 40]

The runs are made up (tests/fabricated_runs.py): the grid of 81 with predictions of as many sequences as the public test
set has, and grids of 81, 810 and 8,100 folders without predictions. Also measured: how far Spearman's rho on a
bootstrap sample with the ranks of all sequences is from the one with ranks made anew in the sample, over `--exact`
samples and all models, and how far apart the average ranks that come of it are.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from scipy.stats import rankdata

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from fabricated_runs import make_grid

from prixfixe.analysis import ranks
from prixfixe.analysis.effects import analyse
from prixfixe.analysis.evaluation import BOOTSTRAP_FRACTION
from prixfixe.analysis.ranks import bootstrap_ranks, bootstrap_scores, draws, model_cd, read_predictions
from prixfixe.analysis.results import collect
from prixfixe.analysis.tables import as_text
from prixfixe.analysis.views import comparison
from prixfixe.common.files import write_json
from prixfixe.runs.folder import RunFolder
from prixfixe.tasks.scores import PEARSON


def timed(name: str, seconds: dict[str, float], function: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    result = function()
    seconds[name] = round(time.perf_counter() - start, 2)
    print(f"{name:<44} {seconds[name]:8.2f} s", flush=True)
    return result


def deviation(runs: list[RunFolder], samples: int) -> dict[str, float]:
    """Of rho with the ranks of all sequences from the exact rho, on the same samples."""
    kept = read_predictions(runs)
    n = len(kept.measured)
    ranks.RANKED_AT_MOST = 0  # so few samples would be ranked exactly otherwise
    quick = bootstrap_scores(kept, samples, BOOTSTRAP_FRACTION, 0)[..., 1]
    exact = np.empty_like(quick)
    for part, drawn in draws(np.random.default_rng(0).spawn(1)[0], samples, n, round(BOOTSTRAP_FRACTION * n)):
        for row, rows in zip(range(part.start, part.stop), drawn, strict=True):
            truth = rankdata(kept.measured[rows])
            exact[row] = [np.corrcoef(truth, rankdata(predicted[rows]))[0, 1] for predicted in kept.predicted]
    average = [rankdata(-scores, axis=1).mean(axis=0) for scores in (quick, exact)]
    return {
        "samples": samples,
        "largest_deviation_of_rho": float(np.abs(quick - exact).max()),
        "spread_of_rho_over_samples": float(exact.std(axis=0).mean()),
        "largest_deviation_of_an_average_rank": float(np.abs(average[0] - average[1]).max()),
        "mean_deviation_of_an_average_rank": float(np.abs(average[0] - average[1]).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="write the result here as JSON, too")
    parser.add_argument("--sequences", type=int, default=71_103)
    parser.add_argument(
        "--exact", type=int, default=40, help="samples on which rho is computed exactly as well (%(default)s)"
    )
    arguments = parser.parse_args()

    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        grid = make_grid(Path(temporary) / "grid81", n=arguments.sequences)
        results = timed("81 runs: read", seconds, lambda: collect([grid]))
        timed(
            "81 runs: table", seconds, lambda: as_text(comparison(results, None, None, by_run=False, all_columns=False))
        )
        timed("81 runs: effects, variance, findings", seconds, lambda: analyse(results.rows, PEARSON))
        runs = [RunFolder(Path(row["run"])) for row in results.done]
        kept = timed("81 runs: predictions read", seconds, lambda: read_predictions(runs))
        timed("81 runs: critical difference", seconds, lambda: model_cd(kept))
        timed("81 runs: 10,000 bootstrap ranks", seconds, lambda: bootstrap_ranks(runs))
        spearman = deviation(runs, arguments.exact)
        print(spearman)
        for seeds in (1, 10, 100):
            many = make_grid(Path(temporary) / f"seeds{seeds}", seeds=range(seeds), n=20, predictions=False)
            timed(f"{81 * seeds:,} folders: read", seconds, lambda many=many: collect([many]))
    result = {
        **machine("numpy", "scipy", "pandas", "statsmodels"),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "load": round(os.getloadavg()[0], 1),
        "sequences": arguments.sequences,
        "seconds": seconds,
        "spearman_with_ranks_of_all_sequences": spearman,
    }
    if arguments.output:
        write_json(arguments.output, result)


if __name__ == "__main__":
    main()
