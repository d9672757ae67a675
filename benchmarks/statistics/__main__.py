"""What the statistics promise, measured: how often something is said of what is not there, and how often an interval
holds what it should.

    python benchmarks/statistics [SECTION ...] [--quick] [-o benchmarks/statistics.json]

Sections: effects, intervals, against, evaluate, tables, ranks, ceilings; all of them where none is named. Everything is
simulated, where the truth is known, and seeded; minutes on 2 cores. Near 5 %, a share of N cases has a standard error
of about 0.22 / sqrt(N): 0.011 at 400.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parent.parent))

import grids
import replicates
import sides
import testsets
from machine import machine
from measured import as_markdown

from prixfixe.analysis import effects, ranks
from prixfixe.common.files import write_json

Numbers = dict[str, float]
GRIDS = {
    "1 sweep": {},
    "3 sweeps": {"sweeps": 3},
    "3 seeds": {"seeds": 3},
    "1 sweep, skewed": {"kind": "skewed"},
}


def repeated(measure: Callable[[int], Any], times: int) -> Iterable[Any]:
    """A measurement so many times, with the seeds 0, 1, ..., on all cores."""
    with ProcessPoolExecutor() as pool:
        yield from pool.map(measure, range(times), chunksize=max(1, times // 32))


def false_of_grid(seed: int, settings: dict[str, Any]) -> dict[str, bool]:
    effects.RESAMPLES = 9  # no test depends on the intervals
    rows = grids.null_grid(np.random.default_rng(seed), **settings)
    return {**grids.false_sentences(rows), "Friedman, one slot": grids.false_differences(rows)}


def false_effects(times: int) -> dict[str, Numbers]:
    """Share of grids of 81 without any effect of which `--effects` says one: the family-wise error."""
    found = {}
    for name, settings in GRIDS.items():
        cases = [*repeated(partial(false_of_grid, settings=settings), times)]
        found[name] = {key: float(np.mean([case[key] for case in cases])) for key in cases[0]} | {"grids": times}
    return found


def covered_by_contexts(seed: int, n: int, kind: str) -> bool:
    return grids.interval_holds_the_mean(np.random.default_rng([seed, n]), n, kind)


def intervals(times: int) -> dict[str, Numbers]:
    """Share of 95 % intervals of a mean difference over n contexts that hold the truth; and of Student's t alone."""
    found: dict[str, Numbers] = {}
    for kind in grids.DISTRIBUTIONS:
        for n in (9, 18, 27):
            measure = partial(covered_by_contexts, n=n, kind=kind)
            found.setdefault(kind, {})[f"{n} contexts"] = float(np.mean([*repeated(measure, times)]))
        found[kind]["intervals"] = times
    return found


def called(seed: int, seeds: int, uneven: float) -> list[str]:
    ranks.RANKED_AT_MOST = 0  # Pearson r is asked for, and no ranks made anew
    return sides.null_changes(np.random.default_rng([seed, seeds]), seeds, uneven=uneven)


def false_changes(times: int) -> dict[str, Numbers]:
    """Shares of what `--against` calls changes where nothing has changed."""
    found = {}
    for name, uneven in (("both sides vary alike", 1.0), ("the new side varies 3 times as much", 3.0)):
        for seeds in (1, 2, 5):
            words: Counter[str] = Counter()
            for some in repeated(partial(called, seeds=seeds, uneven=uneven), times):
                words.update(some)
            shares = {word: words[word] / words.total() for word in sorted(words)}
            changes = words["better"] + words["worse"]
            label = f"{seeds} seed{'s' if seeds > 1 else ''}, {name}"
            found[label] = {"better or worse": changes / words.total(), **shares, "changes": words.total()}
    return found


def widths(seed: int, quick: bool) -> Numbers:
    sizes = (
        {"test_sets": 2, "fresh": 100, "bootstrap": 200} if quick else {"test_sets": 4, "fresh": 600, "bootstrap": 600}
    )
    return testsets.weighted_widths(np.random.default_rng(seed), **sizes)


def evaluate(times: int, *, quick: bool) -> dict[str, Numbers]:
    """Widths of the intervals on a test set of 4,000 rows with subsets, as multiples of the range that holds the scores
    of 95 % of test sets of a tenth of the size; and the share of these scores within them."""
    cases = [*repeated(partial(widths, quick=quick), times)]
    means = {name: float(np.mean([case[name] for case in cases])) for name in cases[0]}
    within = {name.removesuffix(", within"): value for name, value in means.items() if name.endswith(", within")}
    return {name: {"width": means[name], "within": value} for name, value in within.items()}


def covered_by_tables(seed: int, n: int, kind: str, truth: Numbers) -> dict[str, bool]:
    return testsets.table_intervals_hold_the_truth(np.random.default_rng([seed, n]), n, kind, truth)


def tables(times: int) -> dict[str, Numbers]:
    """Share of 95 % intervals of r and rho on a plain table of n rows (1,000 samples) that hold the truth."""
    found: dict[str, Numbers] = {}
    for kind in grids.DISTRIBUTIONS:
        truth = testsets.true_scores(kind)
        for n in (20, 50, 200):
            cases = [*repeated(partial(covered_by_tables, n=n, kind=kind, truth=truth), times)]
            for score in cases[0]:
                found.setdefault(f"{score}, {kind}", {})[f"{n} rows"] = float(np.mean([case[score] for case in cases]))
        for score in cases[0]:
            found[f"{score}, {kind}"]["tables"] = times
    return found


def ranked(seed: int) -> Numbers:
    ranks.RANKED_AT_MOST = 0
    return testsets.ranks_of_equals(np.random.default_rng(seed))


def equal_models(times: int) -> dict[str, Numbers]:
    """Of 6 models that are equally good, on 2,000 validation sequences: the share of pairs that `--ranks` tells apart,
    of critical differences that tell any apart, and of ranks on a fresh tenth within the interval."""
    cases = [*repeated(ranked, times)]
    return {
        "6 equal models": {name: float(np.mean([case[name] for case in cases])) for name in cases[0]} | {"sets": times}
    }


def covered_by_ceilings(seed: int, repeated: int, kind: str) -> dict[str, bool]:
    return replicates.ceiling_holds_the_truth(np.random.default_rng([seed, repeated]), repeated, kind)


def ceilings(times: int) -> dict[str, Numbers]:
    """Share of 95 % intervals of the noise ceiling that hold it, and r of the true function."""
    found: dict[str, Numbers] = {}
    for kind in grids.DISTRIBUTIONS:
        for number in (20, 50, 200):
            cases = [*repeated(partial(covered_by_ceilings, repeated=number, kind=kind), times)]
            shares = {name: float(np.mean([case[name] for case in cases])) for name in cases[0]}
            found[f"{number} sequences twice, {kind} noise"] = shares | {"data sets": times}
    return found


def measure(section: str, *, quick: bool) -> dict[str, Numbers]:
    if section == "effects":
        return false_effects(16 if quick else 400)
    if section == "intervals":
        return intervals(100 if quick else 2000)
    if section == "against":
        return false_changes(2 if quick else 25)
    if section == "evaluate":
        return evaluate(2 if quick else 4, quick=quick)
    if section == "tables":
        return tables(50 if quick else 600)
    if section == "ceilings":
        return ceilings(20 if quick else 400)
    return equal_models(4 if quick else 100)


SECTIONS = ("effects", "intervals", "against", "evaluate", "tables", "ranks", "ceilings")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python benchmarks/statistics", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument(
        "--quick", action="store_true", help="few cases: to see that everything works, not to be quoted"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="a JSON file, which keeps what it has of other sections"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    for section in arguments.sections or SECTIONS:
        found = measure(section, quick=arguments.quick)
        print(f"## {section}\n\n{as_markdown({'found': found})}\n", flush=True)
        if arguments.output:
            there = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
            about = machine("numpy", "scipy", "statsmodels")
            write_json(arguments.output, {**there, section: {**about, "quick": arguments.quick, "found": found}})


if __name__ == "__main__":
    main()
