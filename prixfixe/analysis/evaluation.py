"""Subset scores of one model's predictions, the weighted scores, and their bootstrap intervals; scores on a plain
table.

Rafi et al. 2024, Table 1 and Methods: over `all` and the eight subsets, Pearson score = sum of w r^2 / sum of w and
Spearman score = sum of w rho / sum of w. r and rho of a subset of pairs are those of the differences in expression,
alternative minus reference.

Where this differs from the published evaluation:

1. Weights are renormalised over the subsets that a test set has; the published one needs all of them.
2. The public leaderboard's sequences stay unless they are left out on request; there it is the other way round.
3. A correlation without a value (see `prixfixe.tasks.metrics`) makes a weighted score NaN, never 0.
4. A bootstrap sample draws, with replacement, a tenth of the families of rows: a family is a row with all that pairs
   tie to it, and it counts in `all` and in every subset that it belongs to, as often as it is drawn. A tenth of the
   rows drawn one by one would hold both rows of a pair only one time in a hundred. So `all` and its subsets stay
   together, as they would in another test set, and the spread of the weighted scores is all there. (A family of more
   than a hundredth of the rows would decide a sample alone: its rows are drawn one by one, and a pair goes with its
   alternative.) The intervals are those of a tenth of the data, about three times as wide as those of all of it.
5. Where a sample draws fewer than 20 rows or pairs of a subset, an interval says nothing, and none is given, nor one of
   the weighted scores, of which it is a part. r^2 of a few rows is biased upwards, rho downwards: the samples of the
   weighted scores are moved by how far their mean lies from the score of all rows.

A plain table has no subsets and nothing of the challenge: each task is scored on all rows, nothing is summed up over
tasks, and a bootstrap sample has as many rows as the table, so that its intervals are the usual ones of 95 %
(`expanded_percentiles`; none of fewer than 20 rows).

Measured (benchmarks/statistics, docs/statistics.md): intervals on a test set of 4,000 rows are 0.98 to 1.09 times as
wide as the range that holds the scores of 95 % of test sets of a tenth of the size, those of the weighted scores 1.01
and 1.02 times, and hold 93 to 96 % of these scores.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from prixfixe.common.errors import InputError
from prixfixe.common.files import json_values
from prixfixe.common.progress import slow_work
from prixfixe.data.splits import strand_hash
from prixfixe.data.tables import ID_NAMES, SEQUENCE_NAMES, first_row, read_measurements
from prixfixe.data.testset import TestSet
from prixfixe.tasks import metrics
from prixfixe.tasks.ceiling import NoiseCeiling, expanded_percentiles, noise_ceiling, row_keys
from prixfixe.tasks.scores import EXPRESSION
from prixfixe.tasks.scores import Score as ScoreOfTask

if TYPE_CHECKING:
    from prixfixe.data.measurements import Measurements
    from prixfixe.tasks.task import Task

BOOTSTRAP_SAMPLES = 10_000
BOOTSTRAP_FRACTION = 0.1
TABLE_BOOTSTRAP_SAMPLES = 1_000  # of all rows each: enough for an interval, where ranks need more
INTERVAL_PERCENTILES = (2.5, 97.5)
LEAST_DRAWN = 20  # rows or pairs of a subset in a sample
LARGEST_FAMILY = 0.01  # of the rows
SAMPLED_AT_ONCE = 2**17  # rows and pairs: what the processor's cache holds

# column names of a table of predictions that need not be told, compared in lower case
PREDICTION_NAMES = ("prediction", "predicted", "predicted_expression")

Interval = tuple[float, float]


@dataclass(frozen=True)
class Score:
    """A score and its bootstrap interval, `None` without a bootstrap, or where its samples would be too small."""

    value: float
    interval: Interval | None


@dataclass(frozen=True)
class SubsetScores:
    """The scores of one subset of n rows or n pairs; of pairs they compare differences in expression.

    mse: in the measurement's own units squared; `None` where predictions are on another scale than the measurement.
    """

    name: str
    pairs: bool
    n: int
    weight: float
    pearson_r: Score
    r_squared: float
    spearman_rho: Score
    mse: float | None


@dataclass(frozen=True)
class Evaluation:
    """All scores of one model on one test set. `absent` names the subsets that the test set lacks."""

    pearson_score: Score
    spearman_score: Score
    subsets: tuple[SubsetScores, ...]
    absent: tuple[str, ...]
    bootstrap_samples: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it: plain dictionaries and lists, null where a score has no value."""
        content: dict[str, Any] = json_values(asdict(self))
        return content


@dataclass(frozen=True)
class TaskScores:
    """The scores of one task on n rows, in their order.

    column: which column of the table it was compared with. values: each score by its name, with an interval where one
    was drawn; `None` where it has no meaning: mse and kl where predictions are on another scale than the measurement,
    kl of what is no run, since only a run has bins. ceiling: of pearson_r, where enough sequences are repeated.
    """

    name: str
    column: str
    n: int
    values: Mapping[str, Score | float | None]
    ceiling: NoiseCeiling | None = None

    def value(self, name: str) -> float | None:
        """A score without its interval."""
        found = self.values.get(name)
        return found.value if isinstance(found, Score) else found

    def interval(self, name: str) -> Interval | None:
        found = self.values.get(name)
        return found.interval if isinstance(found, Score) else None

    def to_dict(self) -> dict[str, Any]:
        values = {name: asdict(value) if isinstance(value, Score) else value for name, value in self.values.items()}
        if (known := self.ceiling) is not None:
            about = {"rows": known.rows, "sequences": known.sequences}
            values["noise_ceiling"] = {"value": known.value, "interval": (known.low, known.high), **about}
        return {"name": self.name, "column": self.column, "n": self.n, **values}


@dataclass(frozen=True)
class TableEvaluation:
    """All scores of one model on a plain table, a task each. scores: as the run's task (`task`) declares them."""

    tasks: tuple[TaskScores, ...]
    bootstrap_samples: int
    task: str = "expression"
    scores: tuple[ScoreOfTask, ...] = EXPRESSION

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it; see `Evaluation.to_dict`."""
        declared = [asdict(score) for score in self.scores]
        tasks = [task.to_dict() for task in self.tasks]
        about = {"task": self.task, "scores": declared, "bootstrap_samples": self.bootstrap_samples}
        content: dict[str, Any] = json_values({"tasks": tasks, **about})
        return content


def evaluate(
    test_set: TestSet,
    predictions: ArrayLike,
    *,
    bootstrap: int = BOOTSTRAP_SAMPLES,
    seed: int = 0,
    same_scale: bool = False,
) -> Evaluation:
    """Scores predictions, shape (n,), of the test set's n sequences, in their order.

    bootstrap: number of samples for the intervals, 0 for none. same_scale: predictions and the test set's expression
    are in the same units, so that the mean squared error means something.
    """
    predicted = np.asarray(predictions, dtype=np.float64)
    if predicted.shape != (len(test_set),):
        raise ValueError(f"expected one prediction for each of {len(test_set)} sequences, got shape {predicted.shape}")
    if not np.isfinite(predicted).all():
        raise ValueError("predictions must be finite")
    resampled = _bootstrap_correlations(
        test_set.expression, predicted, test_set.subsets, bootstrap, seed, BOOTSTRAP_FRACTION
    )
    weights = np.array([test_set.weights[name] for name in test_set.subsets])
    enough = [BOOTSTRAP_FRACTION * len(rows) >= LEAST_DRAWN for rows in test_set.subsets.values()]

    subsets = []
    for column, (name, rows) in enumerate(test_set.subsets.items()):
        truth, guess = subset_values(test_set.expression, rows), subset_values(predicted, rows)
        r, rho = metrics.pearson_r(truth, guess), metrics.spearman_rho(truth, guess)
        limits = [_interval(resampled[:, column, place]) if enough[column] else None for place in (0, 1)]
        error = metrics.mse(truth, guess) if same_scale else None
        about = name, rows.ndim == 2, len(rows), test_set.weights[name]
        subsets.append(SubsetScores(*about, Score(r, limits[0]), r**2, Score(rho, limits[1]), error))
    correlations = np.array([[subset.pearson_r.value, subset.spearman_rho.value] for subset in subsets])
    pearson, spearman = _weighted_scores(correlations, weights)
    samples = _weighted_scores(resampled if all(enough) else resampled[:0], weights)
    return Evaluation(
        pearson_score=Score(float(pearson), _interval(_centred(samples[:, 0], pearson, 0.0))),
        spearman_score=Score(float(spearman), _interval(_centred(samples[:, 1], spearman, -1.0))),
        subsets=tuple(subsets),
        absent=tuple(name for name in test_set.weights if name not in test_set.subsets),
        bootstrap_samples=bootstrap,
    )


def evaluate_table(
    test_set: TestSet,
    predictions: ArrayLike,
    *,
    names: Sequence[str] | None = None,
    bootstrap: int = TABLE_BOOTSTRAP_SAMPLES,
    seed: int = 0,
    same_scale: bool = False,
    kl: Sequence[float] | None = None,
) -> TableEvaluation:
    """Scores predictions, of the shape of the table's expression, (n,) or (n, tasks), task by task.

    A task is scored on the rows in which it was measured: the table's expression is NaN in the others.
    names: the tasks', where they are not those of the table's columns. kl: each task's KL divergence, where it is
    known.
    The rest as in `evaluate`.
    """
    predicted = np.asarray(predictions, dtype=np.float64)
    if predicted.shape != test_set.expression.shape:
        raise ValueError(f"expected predictions of shape {test_set.expression.shape}, got {predicted.shape}")
    if not np.isfinite(predicted).all():
        raise ValueError("predictions must be finite")
    n = len(test_set)
    scored = []
    values = zip(test_set.expression.reshape(n, -1).T, predicted.reshape(n, -1).T, strict=True)
    keys = row_keys(strand_hash(test_set.sequences), test_set.columns)
    for task, (name, column, (truth, guess)) in enumerate(
        zip(names or test_set.tasks, test_set.tasks, values, strict=True)
    ):
        rows = np.flatnonzero(~np.isnan(truth))
        scores = metrics.scores(truth[rows], guess[rows])
        drawn = bootstrap if len(rows) >= LEAST_DRAWN else 0
        resampled = _bootstrap_correlations(truth, guess, {"all": rows}, drawn, seed, 1.0)[:, 0]
        limits = [_interval(resampled[:, place], expanded_percentiles(len(rows))) for place in (0, 1)]
        of_task: dict[str, Score | float | None] = {
            "pearson_r": Score(scores["pearson_r"], limits[0]),
            "r_squared": scores["pearson_r"] ** 2,
            "spearman_rho": Score(scores["spearman_rho"], limits[1]),
            "mse": scores["mse"] if same_scale else None,
            "kl": kl[task] if kl is not None else None,
        }
        ceiling = None if keys is None else noise_ceiling(keys, truth)
        scored.append(TaskScores(name, column, len(rows), of_task, ceiling))
    return TableEvaluation(tuple(scored), bootstrap)


def evaluate_outputs(
    task: Task,
    measured: Measurements,
    outputs: Mapping[str, np.ndarray],
    *,
    columns: Sequence[str],
    bootstrap: int = TABLE_BOOTSTRAP_SAMPLES,
    seed: int = 0,
) -> TableEvaluation:
    """Scores a run's outputs of n rows as its task does, each of several tasks by itself; every score's interval is of
    bootstrap samples of as many rows.

    measured: the rows, with what was measured of them under the names of the run's tasks. columns: where that stands in
    the table.
    """
    names = measured.tasks
    task.check(measured)

    def scores_of(part: Measurements, some: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
        return task.score_each(part, some) if len(names) > 1 else {names[0]: task.score(part, some)}

    found = scores_of(measured, outputs)
    samples: list[dict[str, dict[str, Any]]] = []
    enough = bootstrap if len(measured) >= LEAST_DRAWN else 0
    generator = np.random.default_rng(seed)
    with slow_work(f"scores on {enough:,} bootstrap samples", enough) as advance:
        for _ in range(enough):
            rows = generator.integers(0, len(measured), len(measured))
            samples.append(scores_of(measured[rows], {key: output[rows] for key, output in outputs.items()}))
            advance(1)
    scored = []
    for name, column in zip(names, columns, strict=True):
        own, percentiles = found[name], expanded_percentiles(found[name]["n"])
        values: dict[str, Score] = {}
        for score in task.scores:
            drawn = np.array([sample[name].get(score.name, np.nan) for sample in samples])
            limits = _interval(drawn, percentiles) if own["n"] >= LEAST_DRAWN else None
            values[score.name] = Score(own[score.name], limits)
        scored.append(TaskScores(name, column, own["n"], values))
    return TableEvaluation(tuple(scored), bootstrap, task.name, task.scores)


def subset_values(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """What a subset compares: the values of its rows (m,), or of its pairs (m, 2) alternative minus reference."""
    chosen: np.ndarray = values[rows]
    if rows.ndim == 1:
        return chosen
    differences: np.ndarray = chosen[:, 0] - chosen[:, 1]
    return differences


def read_predictions(path: str | Path, test_set: TestSet, *, column: str | None = None) -> np.ndarray:
    """The prediction of each of the test set's n sequences, shape (n,), from any program's table.

    The table (any that `read_measurements` reads) has a sequence column and a column of predictions: named `column`, or
    as in `PREDICTION_NAMES`, or the only other one; without a header they are the first two. Rows are matched by
    sequence, never by position; rows of other sequences are passed over. Raises InputError where a sequence has no
    prediction, or two that differ by more than rounding (1e-4 of their size).
    """
    path = Path(path)
    table = read_measurements(path, expression=_prediction_column(path, column), advice="Choose one with --column NAME")
    found: dict[str, float] = {}
    for row, (sequence, value) in enumerate(zip(table.sequences.to_strings(), table.expression.tolist(), strict=True)):
        first = found.setdefault(sequence, value)
        if not math.isclose(first, value, rel_tol=1e-4, abs_tol=1e-6):
            raise InputError(
                f"{path}, data row {row + 1}: predicts {value} for {sequence}, an earlier row {first}; keep one of them"
            )
    wanted = test_set.sequences.to_strings()
    missing = [row for row, sequence in enumerate(wanted) if sequence not in found]
    if missing:
        raise InputError(
            f"{path}: no prediction for {len(missing)} of the test set's {len(wanted)} sequences; the first is row "
            f"{missing[0]} (from 0), {wanted[missing[0]]}"
        )
    return np.array([found[sequence] for sequence in wanted])


def _prediction_column(path: Path, column: str | None) -> str | None:
    """The name of the column of predictions; None where the table has no header."""
    cells, is_header = first_row(path)
    if not is_header and len(cells) > 1:
        return column
    lower = [cell.lower() for cell in cells]
    if not any(name in lower for name in SEQUENCE_NAMES):
        raise InputError(
            f"{path}: no column named {' or '.join(SEQUENCE_NAMES)}; predictions are matched to the test set by "
            "sequence, since matching by position would not notice another order"
        )
    if column is not None:
        return column
    known = [cell for cell in cells if cell.lower() in PREDICTION_NAMES]
    others = [cell for cell in cells if cell.lower() not in SEQUENCE_NAMES + ID_NAMES]
    if len(known) != 1 and len(others) != 1:
        raise InputError(
            f"{path}: cannot tell which column holds the predictions: name it with --column; the columns are "
            f"{', '.join(cells)}"
        )
    return known[0] if len(known) == 1 else others[0]


def _weighted_scores(correlations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Pearson and Spearman score (..., 2) from r and rho of each subset (..., subsets, 2)."""
    r, rho = correlations[..., 0], correlations[..., 1]
    scores: np.ndarray = np.stack([r**2 @ weights, rho @ weights], axis=-1) / weights.sum()
    return scores


def families(subsets: Mapping[str, np.ndarray], n: int) -> np.ndarray:
    """What is drawn together: the number of each of n rows' family, (n,).

    Rows that pairs tie together are one family, unless it is larger than LARGEST_FAMILY: then each is one of its own.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    pairs = np.concatenate([np.empty((0, 2), dtype=np.int64), *(rows for rows in subsets.values() if rows.ndim == 2)])
    tied = coo_matrix((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    family: np.ndarray = connected_components(tied, directed=False)[1].astype(np.int64)
    large = np.bincount(family)[family] > max(2.0, LARGEST_FAMILY * n)
    family[large] = n + np.arange(large.sum())
    return family


def family_of_items(family: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The family with which each row, or each pair, of a subset is drawn: that of the row, or of the alternative."""
    found: np.ndarray = family[rows if rows.ndim == 1 else rows[:, 0]]
    return found


def _bootstrap_correlations(
    measured: np.ndarray,
    predicted: np.ndarray,
    subsets: Mapping[str, np.ndarray],
    samples: int,
    seed: int,
    share: float,
) -> np.ndarray:
    """r and rho in every subset of every bootstrap sample, which has this share of the families: (samples, subsets, 2).

    All subsets' rows and pairs are items in one row: by subset, and within it by the measured value. A block of samples
    is one flat array of drawn items, sorted; a segment of it is a subset in a sample, and all sums are over segments.
    """
    result = np.empty((samples, len(subsets), 2))
    if not samples:
        return result
    family = families(subsets, len(measured))
    of_item, truths, guesses, truth_codes, guess_codes = [], [], [], [], []
    total = 0
    for rows in subsets.values():
        truth, guess = subset_values(measured, rows), subset_values(predicted, rows)
        ascending = np.argsort(truth, kind="stable")
        of_item.append(family_of_items(family, rows)[ascending])
        truths.append(_standard(truth[ascending]))
        guesses.append(_standard(guess[ascending]))
        truth_codes.append(total + _value_codes(truth[ascending]))
        guess_codes.append(total + _value_codes(guess[ascending]))
        total += len(rows)
    x, y = np.concatenate(truths), np.concatenate(guesses)
    truth_code, guess_code = np.concatenate(truth_codes), np.concatenate(guess_codes)
    drawn_with, sizes = np.unique(np.concatenate(of_item), return_inverse=True, return_counts=True)[1:]
    items = np.argsort(drawn_with, kind="stable")  # those of the first family, then those of the second, ...
    first = np.cumsum(sizes) - sizes
    firsts = np.cumsum([0, *(len(rows) for rows in subsets.values())])

    generator = np.random.default_rng(seed)
    size = max(2, round(share * len(sizes)))
    block = max(1, round(SAMPLED_AT_ONCE / (share * total)))
    for start in range(0, samples, block):
        part = slice(start, min(start + block, samples))
        count = part.stop - start
        families_drawn = generator.integers(0, len(sizes), (count, size), dtype=np.int32)
        lengths = sizes[families_drawn]
        many = lengths.sum(axis=1)
        sample = np.repeat(np.arange(count), many)
        lengths = lengths.ravel()
        begin = first[families_drawn].ravel() - (np.cumsum(lengths) - lengths)  # in `items`, less what stands before it
        drawn = items[np.repeat(begin, lengths) + np.arange(lengths.sum())] + total * sample
        drawn.sort()
        edges = np.searchsorted(drawn, (total * np.arange(count)[:, None] + firsts[:-1]).ravel())
        length = np.diff(edges, append=len(drawn))
        drawn -= total * sample
        middle = np.repeat(edges + (length + 1) / 2, length)  # the mean rank of a segment

        code = truth_code[drawn] + total * sample
        truth_rank = _flat_ranks(code) - middle
        bits = len(drawn).bit_length()
        # a code and its position in one integer: a plain sort, several times as fast as argsort, gives ranks and order
        keys = ((guess_code[drawn] + total * sample) << bits) | np.arange(len(drawn))
        keys.sort()
        guess_rank = _flat_ranks(keys >> bits) - middle
        in_order = truth_rank[keys & ((1 << bits) - 1)]
        a, b = x[drawn], y[drawn]

        sums = functools.partial(_segment_sums, edges=edges, length=length)
        with np.errstate(invalid="ignore", divide="ignore"):
            of_ranks = sums(truth_rank**2) * sums(guess_rank**2)  # exact: 0 where a side is constant
            rho = sums(in_order * guess_rank) / np.sqrt(of_ranks)
            mean_a, mean_b = sums(a) / length, sums(b) / length
            spread = (sums(a * a) / length - mean_a**2) * (sums(b * b) / length - mean_b**2)
            r = (sums(a * b) / length - mean_a * mean_b) / np.sqrt(spread)
        for place, values in enumerate((r, rho)):
            result[part, :, place] = np.where(of_ranks > 0, np.clip(values, -1.0, 1.0), np.nan).reshape(count, -1)
    return result


def _value_codes(values: np.ndarray) -> np.ndarray:
    """Integers in the order of the values, equal for equal values."""
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _standard(values: np.ndarray) -> np.ndarray:
    """Mean 0 and standard deviation 1, so that sums of squares lose nothing; a constant is all 0."""
    centred = values - values.mean() if len(values) else values
    spread = centred.std() if len(values) else 0.0
    return np.asarray(centred / spread if spread > 0 else np.zeros(len(values)))


def _segment_sums(values: np.ndarray, edges: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Sums of the segments of some values that begin at `edges`, 0 of those without any."""
    sums = np.zeros(len(edges))
    sums[length > 0] = np.add.reduceat(values, edges[length > 0])
    return sums


def _flat_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks 1..m of ascending values, equal values sharing their mean rank."""
    new = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=new[1:])
    starts = np.flatnonzero(new)
    counts = np.diff(starts, append=len(values))
    return np.repeat(starts + (counts + 1) / 2, counts)


def _centred(samples: np.ndarray, score: float, least: float) -> np.ndarray:
    """Samples moved so that their mean is the score, as far as `least` and 1 allow."""
    there = samples[~np.isnan(samples)]
    return np.clip(there - there.mean() + score, least, 1.0) if len(there) else there


def _interval(samples: np.ndarray, percentiles: tuple[float, float] = INTERVAL_PERCENTILES) -> Interval | None:
    """The percentile interval of one score; samples without a value, which small subsets may give, are passed over."""
    samples = samples[~np.isnan(samples)]
    if not len(samples):
        return None
    low, high = np.percentile(samples, percentiles)
    return float(low), float(high)
