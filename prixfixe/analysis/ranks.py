"""Who is really better: ranks of models over bootstrap samples, as in the challenge (Rafi et al. 2024, Methods).

10,000 samples of 10 % of the test set; on each, the models are ranked by Pearson score and by Spearman score, and the
two ranks are averaged. Samples are drawn with replacement, a tenth of `all` and a tenth of each subset on its own, the
same ones for all models. (The intervals of `prixfixe.analysis.evaluation` keep `all` and its subsets together.)

Friedman's test (scipy) and Nemenyi's critical difference are a few lines here: scikit-posthocs would bring seaborn and
give p-values of pairs, from which the difference that the diagrams draw would have to be worked out again.

Measured (benchmarks/statistics): of 6 equally good models on 2,000 sequences, ranks over samples of a tenth tell no
pair apart, and 99.7 % of the ranks on a fresh tenth lie in their interval; Friedman's test and the critical difference,
over disjoint parts of the sequences, find a difference in 6 of 100 cases.

How this takes seconds for 81 models and 71,103 sequences: a sample is a vector of counts, and a correlation needs
nothing but sums over the sample. So a matrix of counts (samples, n) times a matrix of the models' values, squares and
products with the measured ones (n, columns) gives the correlations of all models in many samples at once, in 32 bits
and right to 1e-5 for Pearson's r. Spearman's rho needs ranks within each sample, a sort for each model and sample.
Where samples are small and these are not too many (RANKED_UP_TO, RANKED_AT_MOST), they are made; otherwise the ranks
among all sequences stand for them: the same order, with a spacing that differs by chance. With 81 models and 71,103
sequences this changes rho by at most 0.002, a quarter of its spread over samples, and an average rank by at most 0.3
places, 0.08 in the mean (over 40 samples; benchmarks/results.py measures it).
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_matrix
from scipy.stats import friedmanchisquare, rankdata, studentized_range

from prixfixe.analysis.evaluation import BOOTSTRAP_FRACTION, BOOTSTRAP_SAMPLES, subset_values
from prixfixe.analysis.results import Row
from prixfixe.common.errors import InputError
from prixfixe.common.progress import slow_work
from prixfixe.common.text import printable
from prixfixe.runs.folder import RunFolder
from prixfixe.runs.reader import SUBSET, read_evaluation
from prixfixe.runs.reader import read_predictions as read_predictions_file
from prixfixe.tasks.metrics import correlate
from prixfixe.tasks.scores import Score

TEST, VALIDATION = "test set", "validation"
CORRELATIONS, AUROC = ("pearson_r", "spearman_rho"), ("auroc",)
RANKED = (CORRELATIONS, AUROC)  # scores that can be computed again from kept predictions, and are ranked together
CONFIDENCE = 0.95
BLOCKS, LEAST_BLOCK = 100, 20  # of a critical difference: how many disjoint parts, of at least how many sequences
# sequences in a sample, and values in all, that are ranked anew in every sample: seconds
RANKED_UP_TO, RANKED_AT_MOST = 1000, 60_000_000
MODELS_AT_ONCE, COUNTS_AT_ONCE = 96, 2**24  # bound the memory: 6 float32 a model and sequence, 4 bytes a count


@dataclass(frozen=True)
class Ranks:
    """Average ranks of M models over bootstrap samples, 1 the best; in the order of `names`, best first.

    by_score: the mean rank by each score; average_rank: their average; (M,). low, high: where the average of the ranks
    lies in 95 % of the samples, (M,). indistinguishable: pairs i < j of which neither is ahead in 97.5 % of the
    samples. share: the size of a sample as a share of n sequences. source: "test set" or "validation". subsets: those
    whose weighted scores are ranked, or just `all`.
    left_out: runs without usable predictions of these sequences, with the reason. exact: whether Spearman's rho was
    computed with ranks made anew in every sample, in all subsets.
    """

    names: list[str]
    by_score: dict[str, np.ndarray]
    average_rank: np.ndarray
    low: np.ndarray
    high: np.ndarray
    indistinguishable: list[tuple[int, int]]
    samples: int
    share: float
    source: str
    n: int
    subsets: list[str]
    left_out: list[str]
    exact: bool


@dataclass(frozen=True)
class CriticalDifference:
    """Average ranks of models or parts over blocks, best first, and who cannot be told apart (Demšar 2006, JMLR 7).

    average_rank: (k,), in the order of names. p: of Friedman's test that all are equal, None for two. difference: two
    whose average ranks are less than this apart cannot be told apart (Nemenyi, 5 %). groups: maximal runs (first, last)
    of indices into names within it.
    blocks: over how many blocks, and `over` what they are.
    """

    names: list[str]
    average_rank: np.ndarray
    p: float | None
    difference: float
    groups: list[tuple[int, int]]
    blocks: int
    over: str


@dataclass(frozen=True)
class Predictions:
    """Predictions of the same n sequences by several runs.

    measured: (n,) or (n, tasks); predicted: the runs', each of that shape; names: the runs', where those of one name
    are averaged.
    subsets: name -> rows (m,) or pairs (m, 2), `all` first. weights: of the subsets in the scores; 1 where
    none is given. scores: of RANKED, what the runs are ranked by.
    """

    names: list[str]
    measured: np.ndarray
    predicted: list[np.ndarray]
    subsets: dict[str, np.ndarray]
    source: str
    left_out: list[str]
    weights: Mapping[str, float] = field(default_factory=dict)
    scores: tuple[str, ...] = CORRELATIONS


def ranked_scores(own: Collection[str]) -> tuple[str, ...]:
    """The scores of RANKED that runs with these scores are ranked by; InputError where there are none."""
    found = next((names for names in RANKED if set(names) <= set(own)), None)
    if found is None:
        raise InputError(f"ranks are by {' or '.join(map(' and '.join, RANKED))}; these runs have {', '.join(own)}")
    return found


def bootstrap_ranks(
    runs: Sequence[RunFolder],
    samples: int = BOOTSTRAP_SAMPLES,
    share: float = BOOTSTRAP_FRACTION,
    seed: int = 0,
    names: Sequence[str] | None = None,
    scores: tuple[str, ...] = CORRELATIONS,
) -> Ranks:
    """Ranks of runs by their kept predictions: of the test set where all have been evaluated on one, else of the
    validation set.

    names: of the runs; those of one name are seeds, whose scores are averaged in every sample before they are ranked.
    Without them, the folders' names. scores: of RANKED; on a test set with subsets the weighted scores are ranked.
    Raises InputError where fewer than two models have predictions of the same sequences.
    """
    return rank_models(read_predictions(runs, names, scores), samples, share, seed)


def rank_models(
    kept: Predictions, samples: int = BOOTSTRAP_SAMPLES, share: float = BOOTSTRAP_FRACTION, seed: int = 0
) -> Ranks:
    """As `bootstrap_ranks`, of predictions that have been read."""
    models, members = _models(kept)
    scores = members @ bootstrap_scores(kept, samples, share, seed)  # (samples, models, scores)
    ranks = rankdata(-scores, axis=1)
    both = ranks.mean(axis=2)
    order = np.argsort(both.mean(axis=0), kind="stable")
    ranks, both = ranks[:, order], both[:, order]
    low, high = np.percentile(both, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)], axis=0)
    return Ranks(
        [models[i] for i in order],
        dict(zip(kept.scores, ranks.mean(axis=0).T, strict=True)),
        both.mean(axis=0),
        low,
        high,
        _indistinguishable(both),
        samples,
        share,
        kept.source,
        len(kept.measured),
        list(kept.subsets),
        kept.left_out,
        all(_is_exact(kept, samples, share, rows) for rows in kept.subsets.values()),
    )


def read_predictions(
    runs: Sequence[RunFolder], names: Sequence[str] | None = None, scores: tuple[str, ...] = CORRELATIONS
) -> Predictions:
    """The predictions that can be compared: those of the test set, or else of the validation set, that most runs
    share."""
    names = [run.name for run in runs] if names is None else names
    best: Predictions | None = None
    for source in (TEST, VALIDATION):
        found = read_source(runs, names, source, scores)
        if found is not None and (best is None or len(found.names) > len(best.names)):
            best = found
    if best is None or len(set(best.names)) < 2:
        raise InputError(
            "ranks need two models or more with predictions of the same sequences (validation.npz or test.npz "
            "in the run folders)" + (f": {best.left_out[0]}" if best and best.left_out else "")
        )
    return best


def bootstrap_scores(kept: Predictions, samples: int, share: float, seed: int) -> np.ndarray:
    """The scores of every run on the same bootstrap samples: (samples, runs, scores)."""
    runs = len(kept.predicted)
    scores = np.zeros((samples, runs, len(kept.scores)))
    weights = np.array([kept.weights.get(name, 1.0) for name in kept.subsets])
    generators = np.random.default_rng(seed).spawn(len(kept.subsets))
    work = samples * runs * sum(map(len, kept.subsets.values()))
    with slow_work(f"scores of {runs} runs on {samples:,} bootstrap samples", work) as advance:
        for rows, weight, generator in zip(kept.subsets.values(), weights / weights.sum(), generators, strict=True):
            state = generator.bit_generator.state
            for start in range(0, runs, MODELS_AT_ONCE):
                generator.bit_generator.state = state  # the same samples for all runs
                some = slice(start, start + MODELS_AT_ONCE)
                found = _subset_scores(kept, some, rows, generator, samples, share, advance)
                if len(kept.subsets) > 1 and kept.scores == CORRELATIONS:
                    found[..., 0] **= 2  # r^2 is what the challenge weighs; a single r, which may be negative, is not
                scores[:, some] += weight * found
    return np.nan_to_num(scores, nan=-2.0)  # no score, as of a constant prediction, is worse than any


def _subset_scores(
    kept: Predictions,
    runs: slice,
    rows: np.ndarray,
    generator: np.random.Generator,
    samples: int,
    share: float,
    advance: Callable[[int], None],
) -> np.ndarray:
    """The scores of some runs in every sample of a subset: (samples, runs, scores), means over the tasks.

    advance: is told how much is done, in samples times runs times rows.
    """
    truths, guesses = _by_task(kept, runs, rows)
    size = _sample_size(share, len(rows))
    of_sums = [_columns(truths, guesses)] if kept.scores == CORRELATIONS else []
    if not (by_ranks := _is_exact(kept, samples, share, rows)):
        of_sums.append(_columns(rankdata(truths, axis=-1), rankdata(guesses, axis=-1)))
    found = np.empty((len(truths), samples, guesses.shape[1], len(kept.scores)))
    for part, drawn in draws(generator, samples, len(rows), size):
        counted = counts(drawn, len(rows)) if of_sums else None
        for (score, columns), task in itertools.product(enumerate(of_sums), range(len(truths))):
            found[task, part, :, score] = _from_sums((counted @ columns[task]).astype(np.float64), size)
        for task, truth in enumerate(truths if by_ranks else ()):
            measured = truth[drawn] if kept.scores == AUROC else rankdata(truth[drawn], axis=-1)
            for run, guess in enumerate(guesses[task]):
                found[task, part, run, -1] = _of_ranks(kept, measured, rankdata(guess[drawn], axis=-1))
        advance(len(drawn) * guesses.shape[1] * len(rows))
    return _over_tasks(kept, found)


def _by_task(kept: Predictions, runs: slice, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What was measured, (tasks, m), and predicted, (tasks, runs, m), of some rows or pairs.

    A prediction of a label that was not measured is infinite, so that it changes the rank of no other.
    """
    truths = subset_values(kept.measured, rows).reshape(len(rows), -1).T
    guesses = [subset_values(predicted, rows).reshape(len(rows), -1).T for predicted in kept.predicted[runs]]
    return truths, np.where(np.isnan(truths)[:, None], np.inf, np.stack(guesses, axis=1))


def _of_ranks(kept: Predictions, measured: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """The score that ranks of predictions give, (..., m), which is the last one: AUROC against labels, or Spearman's
    rho against ranks of what was measured."""
    if kept.scores == CORRELATIONS:
        return correlate(measured, ranks)
    positive, negative = measured == 1, measured == 0
    ones = positive.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):  # one label alone: NaN
        return ((ranks * positive).sum(axis=-1) - ones * (ones + 1) / 2) / (ones * negative.sum(axis=-1))


def _over_tasks(kept: Predictions, scores: np.ndarray) -> np.ndarray:
    """Means over tasks, the first axis: of AUROC over those of which both labels are there, of correlations over
    all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of none
        return np.asarray((np.nanmean if kept.scores == AUROC else np.mean)(scores, axis=0))


def _columns(truths: np.ndarray, guesses: np.ndarray) -> np.ndarray:
    """All that the correlations of (tasks, m) with (tasks, runs, m) need sums of, standardised: y, y^2, and of every
    run x, x^2, x y; float32 (tasks, m, 2 + 3 runs)."""
    y, x = _standard(truths[:, None]), _standard(guesses)
    return np.concatenate([y, y**2, x, x**2, x * y], axis=1).swapaxes(1, 2).astype(np.float32)


def _from_sums(sums: np.ndarray, size: int) -> np.ndarray:
    """Correlations (samples, runs) from sums (samples, 2 + 3 runs) over samples of this size; NaN where a side is
    constant."""
    means = sums / size
    y, yy = means[:, :1], means[:, 1:2]
    x, xx, xy = np.split(means[:, 2:], 3, axis=1)
    spread_x, spread_y = xx - x * x, yy - y * y
    spread_x[spread_x < 1e-6] = spread_y[spread_y < 1e-6] = np.nan  # but rounding: values are standardised
    return np.clip((xy - x * y) / np.sqrt(spread_x * spread_y), -1.0, 1.0)


def _standard(values: np.ndarray) -> np.ndarray:
    """Mean 0 and standard deviation 1 along the last axis, so that 32 bits are enough; a constant is all 0."""
    centred = values - values.mean(axis=-1, keepdims=True)
    spread = centred.std(axis=-1, keepdims=True)
    constant = np.ptp(values, axis=-1, keepdims=True) == 0
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, spread))


def draws(generator: np.random.Generator, samples: int, n: int, size: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Samples with replacement of n rows: row numbers, int32 (block, size), block by block."""
    block = max(1, COUNTS_AT_ONCE // n)
    for start in range(0, samples, block):
        part = slice(start, min(start + block, samples))
        yield part, generator.integers(0, n, (part.stop - start, size), dtype=np.int32)


def counts(drawn: np.ndarray, n: int) -> np.ndarray:
    """How often each of n rows is in each sample of (samples, size): float32 (samples, n)."""
    samples, size = drawn.shape
    each = csr_matrix(
        (np.ones(drawn.size, np.float32), drawn.ravel(), np.arange(samples + 1) * size), shape=(samples, n)
    )
    return np.asarray(each.toarray())  # adds up what is drawn more than once


def _sample_size(share: float, n: int) -> int:
    return max(2, round(share * n))


def _is_exact(kept: Predictions, samples: int, share: float, rows: np.ndarray) -> bool:
    """Whether a subset's predictions are ranked anew in every sample, as AUROC always needs it."""
    size = _sample_size(share, len(rows))
    values = samples * size * kept.measured[0].size * len(kept.predicted)
    return kept.scores == AUROC or (size <= RANKED_UP_TO and values <= RANKED_AT_MOST)


def _indistinguishable(ranks: np.ndarray) -> list[tuple[int, int]]:
    """Pairs i < j of columns of (samples, models), best first, where i is not ahead of j in 97.5 % of the samples; ties
    count half."""
    pairs = []
    for i in range(ranks.shape[1]):
        ahead = (np.sign(ranks[:, i + 1 :] - ranks[:, i, None]).mean(axis=0) + 1) / 2
        pairs += [(i, i + 1 + int(j)) for j in np.flatnonzero(ahead < (1 + CONFIDENCE) / 2)]
    return pairs


def _models(kept: Predictions) -> tuple[list[str], np.ndarray]:
    """The models, and the matrix (models, runs) that averages the runs of each."""
    models = list(dict.fromkeys(kept.names))
    members = np.array([[name == model for name in kept.names] for model in models], dtype=np.float64)
    return models, members / members.sum(axis=1, keepdims=True)


def read_source(
    runs: Sequence[RunFolder], names: Sequence[str], source: str, scores: tuple[str, ...] = CORRELATIONS
) -> Predictions | None:
    """The largest group of runs that predict the same sequences; None where none does. Of several tasks, correlations
    are over the rows in which all were measured."""
    groups: dict[bytes, Predictions] = {}
    left_out: list[str] = []
    where: dict[str, bytes] = {}
    for run, name in zip(runs, names, strict=True):
        try:
            arrays = read_predictions_file(run.test_file if source == TEST else run.validation_file)
            weights = subset_weights(run) if source == TEST else {}
        except InputError as error:
            left_out.append(str(error))
            continue
        measured, predicted, test_set = arrays["measured"], arrays["predicted"], str(arrays.get("test_set", ""))
        if scores == CORRELATIONS and np.isnan(measured).any():
            whole = ~np.isnan(measured).reshape(len(measured), -1).any(axis=1)
            measured, predicted = measured[whole], predicted[whole]
            arrays, weights = {"measured": measured}, {}
            if len(measured) < 2:
                left_out.append(f"{printable(run.name)}: in no two rows were all of its tasks measured")
                continue
        if not np.isfinite(predicted).all():
            left_out.append(f"{printable(run.name)}: predicts values that are not finite")
            continue
        key = where[run.name] = str(measured.shape).encode() + measured.tobytes() + test_set.encode()
        if key not in groups:
            groups[key] = Predictions([], measured, [], _subsets(arrays, weights), source, left_out, weights, scores)
        groups[key].names.append(name)
        groups[key].predicted.append(predicted)
    if not groups:
        return None
    most = max(groups, key=lambda key: len(groups[key].names))
    left_out += [
        f"{printable(name)}: its {source} holds other sequences than that of most runs"
        for name, key in where.items()
        if key != most
    ]
    return groups[most]


def subset_weights(run: RunFolder) -> dict[str, float]:
    """Of the subsets that a run was evaluated on, the weights that its evaluation.json names, in its order."""
    subsets = read_evaluation(run.evaluation_file).get("subsets") or ()
    return {part["name"]: part.get("weight", 1.0) for part in subsets}


def _subsets(arrays: Mapping[str, np.ndarray], order: Iterable[str]) -> dict[str, np.ndarray]:
    """`all`, and the test set's subsets where the file holds them as arrays subset_<name>, in the order given."""
    found = {name.removeprefix(SUBSET): rows for name, rows in arrays.items() if name.startswith(SUBSET)}
    named = {name: found.pop(name) for name in order if name in found} | found
    return {"all": np.arange(len(arrays["measured"])), **named}


def cd_groups(scores: np.ndarray, names: Sequence[str], over: str) -> CriticalDifference:
    """Friedman's test and Nemenyi's critical difference of k models over blocks.

    scores: (blocks, k), higher is better; at least 2 blocks and 2 models, else ValueError.
    """
    blocks, k = scores.shape
    if blocks < 2 or k < 2:
        raise ValueError(f"a critical difference needs two blocks and two models, not {blocks} and {k}")
    average = rankdata(-scores, axis=1).mean(axis=0)
    order = np.argsort(average, kind="stable")
    average = average[order]
    difference = float(studentized_range.isf(0.05, k, np.inf) / np.sqrt(2) * np.sqrt(k * (k + 1) / (6 * blocks)))
    with np.errstate(invalid="ignore"):  # ranks that are all alike
        p = float(friedmanchisquare(*scores.T).pvalue) if k > 2 else None
    p = 1.0 if p is not None and np.isnan(p) else p
    groups: list[tuple[int, int]] = []
    for first in range(k):
        last = int(np.searchsorted(average, average[first] + difference, side="right")) - 1
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return CriticalDifference([names[i] for i in order], average, p, difference, groups, blocks, over)


def model_cd(kept: Predictions) -> CriticalDifference:
    """Models over disjoint parts of the sequences, as many as hold 20 of them each and at most 100, ranked by their
    scores in each."""
    n = len(kept.measured)
    if n < 2 * LEAST_BLOCK:
        raise InputError(f"a critical difference needs {2 * LEAST_BLOCK} sequences, and the {kept.source} has {n}")
    models, members = _models(kept)
    parts = np.array_split(np.random.default_rng(0).permutation(n), min(BLOCKS, n // LEAST_BLOCK))
    ranks = np.zeros((len(parts), len(models)))
    for block, rows in enumerate(parts):
        truths, guesses = _by_task(kept, slice(None), rows)
        measured = truths if kept.scores == AUROC else rankdata(truths, axis=-1)
        values = [_of_ranks(kept, measured[:, None], rankdata(guesses, axis=-1))]
        values += [correlate(truths[:, None], guesses)] if kept.scores == CORRELATIONS else []
        for value in values:
            score = np.nan_to_num(_over_tasks(kept, value), nan=-2.0)
            ranks[block] += rankdata(-(members @ score)) / len(values)
    return cd_groups(-ranks, models, f"disjoint parts of the {kept.source}")


def part_cd(rows: Sequence[Row], slot: str, score: Score) -> CriticalDifference | None:
    """The parts of a slot over the contexts (the other slots' parts) in which all of them are done; None with fewer
    than two of either."""
    from prixfixe.analysis.effects import contexts

    parts, table = contexts(rows, slot, score)
    if len(parts) < 2 or len(table) < 2:
        return None
    return cd_groups(-score.loss(table), parts, "combinations of the other slots")
