"""How well the intervals of `prixfixe evaluate` and of `--ranks` cover, and how wide they are."""

from __future__ import annotations

import numpy as np

from prixfixe.data.sequences import Sequences
from prixfixe.data.testset import TestSet
from prixfixe.evaluation import evaluate

SHARES = {"high": 0.05, "low": 0.05, "native": 0.1, "random": 0.25, "challenging": 0.1}
NOISE = 0.8  # of predictions, in standard deviations of the measurement


def test_set_of(expression: np.ndarray, subsets: dict[str, np.ndarray], tasks: tuple[str, ...] = ()) -> TestSet:
    n = len(expression)
    sequences = Sequences.from_padded(np.zeros((n, 1), dtype=np.uint8), np.ones(n, dtype=np.int32))
    return TestSet(sequences, expression, subsets, tasks=tasks)


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


def values(evaluation):
    found = {name: getattr(evaluation, name) for name in ("pearson_score", "spearman_score")}
    for subset in evaluation.subsets:
        found |= {f"r of {subset.name}": subset.pearson_r, f"rho of {subset.name}": subset.spearman_rho}
    return {name: (score.value, score.interval) for name, score in found.items()}
