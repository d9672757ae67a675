"""How well the intervals of `prixfixe evaluate` and of `--ranks` cover, and how wide they are."""

from __future__ import annotations

import numpy as np
from grids import DISTRIBUTIONS
from scipy.stats import rankdata

from prixfixe.analysis.evaluation import Evaluation, Interval, evaluate, evaluate_table
from prixfixe.analysis.ranks import VALIDATION, Predictions, model_cd, rank_models
from prixfixe.data.sequences import Sequences
from prixfixe.data.testset import TestSet
from prixfixe.dream.testset import WEIGHTS
from prixfixe.tasks.metrics import pearson_r, spearman_rho

SHARES = {"high": 0.05, "low": 0.05, "native": 0.1, "random": 0.25, "challenging": 0.1}
NOISE = 0.8  # of predictions, in standard deviations of the measurement


def test_set_of(expression: np.ndarray, subsets: dict[str, np.ndarray], tasks: tuple[str, ...] = ()) -> TestSet:
    n = len(expression)
    sequences = Sequences.from_padded(np.zeros((n, 1), dtype=np.uint8), np.ones(n, dtype=np.int32))
    return TestSet(sequences, expression, subsets, tasks=tasks, weights=WEIGHTS)


def null_test_set(generator: np.random.Generator, n: int) -> TestSet:
    """n rows with subsets in about the proportions of the published test set: rows, and a third of all in pairs of a
    variant with its reference, of which half of the expression is the same."""
    expression = generator.normal(size=n)
    order, first = np.arange(n), 0
    subsets = {"all": order}
    for name, share in SHARES.items():
        subsets[name] = order[first : first + round(share * n)]
        first += round(share * n)
    references = order[first::3][: (n - first) // 3]  # families of three: a reference and two variants
    pairs = np.concatenate([np.stack([references + step, references], axis=1) for step in (1, 2)])
    expression[pairs[:, 0]] = np.sqrt(0.5) * (expression[pairs[:, 1]] + expression[pairs[:, 0]])
    for name, some in zip(
        ("SNVs", "motif_perturbation", "motif_tiling"),
        np.split(pairs, [len(pairs) // 2, 3 * len(pairs) // 4]),
        strict=True,
    ):
        subsets[name] = some
    return test_set_of(expression, subsets)


def predictions(generator: np.random.Generator, test_set: TestSet) -> np.ndarray:
    """Right but for noise, more of it in `challenging`."""
    noise = NOISE * generator.normal(size=len(test_set))
    noise[test_set.subsets["challenging"]] *= 2
    return np.asarray(test_set.expression + noise)


def weighted_widths(
    generator: np.random.Generator, *, test_sets: int, fresh: int, bootstrap: int, n: int = 4000
) -> dict[str, float]:
    """Width of the interval of each score, as a multiple of the range that holds the scores of 95 % of fresh test sets
    of a tenth of the size; and how many of these scores lie within the interval."""
    scores: dict[str, list[float]] = {}
    for _ in range(fresh):
        small = null_test_set(generator, n // 10)
        for name, score in values(evaluate(small, predictions(generator, small), bootstrap=0)).items():
            scores.setdefault(name, []).append(score[0])
    found: dict[str, list[float]] = {}
    for _ in range(test_sets):
        large = null_test_set(generator, n)
        for name, (_, limits) in values(evaluate(large, predictions(generator, large), bootstrap=bootstrap)).items():
            if limits is not None:
                low, high = np.percentile(scores[name], [2.5, 97.5])
                found.setdefault(name, []).append((limits[1] - limits[0]) / (high - low))
                found.setdefault(f"{name}, within", []).append(
                    float(np.mean([limits[0] <= score <= limits[1] for score in scores[name]]))
                )
    return {name: float(np.mean(some)) for name, some in found.items()}


def values(evaluation: Evaluation) -> dict[str, tuple[float, Interval | None]]:
    """Every score that has an interval, by name."""
    found = {name: getattr(evaluation, name) for name in ("pearson_score", "spearman_score")}
    for subset in evaluation.subsets:
        found |= {f"r of {subset.name}": subset.pearson_r, f"rho of {subset.name}": subset.spearman_rho}
    return {name: (score.value, score.interval) for name, score in found.items()}


def pairs_of(generator: np.random.Generator, n: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Measured values of n rows, of this distribution, and predicted ones: the same with noise."""
    measured = DISTRIBUTIONS[kind](generator, n)
    return measured, measured + generator.normal(size=n)


def true_scores(kind: str) -> dict[str, float]:
    """r, which the variances give, and rho, of a million rows."""
    variance = 3.0 if kind == "heavy tails" else 1.0
    rho = spearman_rho(*pairs_of(np.random.default_rng(12345), 1_000_000, kind))
    return {"r": float(np.sqrt(variance / (variance + 1))), "rho": rho}


def table_intervals_hold_the_truth(
    generator: np.random.Generator, n: int, kind: str, truth: dict[str, float]
) -> dict[str, bool]:
    measured, predicted = pairs_of(generator, n, kind)
    table = test_set_of(measured, {"all": np.arange(n)}, tasks=("expression",))
    (task,) = evaluate_table(table, predicted, seed=int(generator.integers(2**32))).tasks
    found = {}
    for name, score in (("r", "pearson_r"), ("rho", "spearman_rho")):
        interval = task.interval(score)
        assert interval is not None
        found[name] = interval[0] <= truth[name] <= interval[1]
    return found


def ranks_of_equals(generator: np.random.Generator, models: int = 6, n: int = 2000) -> dict[str, float]:
    """Of some models that are equally good: the share of pairs that bootstrap ranks tell apart, whether the critical
    difference tells any apart, and the share of models whose rank on a fresh tenth of the rows lies in its interval."""
    measured = generator.normal(size=n + n // 10)
    predicted = [measured + 0.5 * generator.normal(size=len(measured)) for _ in range(models)]
    names = [f"model {number}" for number in range(models)]
    kept = Predictions(names, measured[:n], [one[:n] for one in predicted], {"all": np.arange(n)}, VALIDATION, [])
    found = rank_models(kept, 1000, 0.1)
    difference = model_cd(kept)
    fresh = [[score(measured[n:], one[n:]) for one in predicted] for score in (pearson_r, spearman_rho)]
    rank = dict(zip(names, rankdata(-np.array(fresh), axis=1).mean(axis=0), strict=True))
    limits = zip(found.names, found.low, found.high, strict=True)
    return {
        "pairs told apart": 1 - len(found.indistinguishable) / (models * (models - 1) / 2),
        "ranks within": float(np.mean([low <= rank[name] <= high for name, low, high in limits])),
        "Friedman, any difference": float(difference.p is not None and difference.p < 0.05),
        "critical difference, any told apart": float(difference.groups != [(0, models - 1)]),
    }
