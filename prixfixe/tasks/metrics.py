"""Scores of predicted against measured expression (Rafi et al. 2024, Methods), computed in float64.

A correlation has no value where fewer than two sequences are compared or where either side is constant: it is NaN
then, never 0, and whoever writes it as JSON writes null. A NaN in the input gives NaN, unless `missing` says that a
measurement which is NaN was not made: then each task is scored on the rows where it was. A prediction that is NaN
always gives NaN.

Arrays are (n,) for one task or (n, tasks); several tasks give the mean of their scores, which is NaN if one of them is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

FEWEST_MEASURED = 3  # of one row there is no correlation, and of two it is 1 or -1


def pearson_r(measured: ArrayLike, predicted: ArrayLike) -> float:
    """Pearson correlation, the mean over tasks."""
    return float(correlate(*_by_task(measured, predicted)).mean())


def spearman_rho(measured: ArrayLike, predicted: ArrayLike) -> float:
    """Spearman rank correlation, equal values sharing their mean rank; the mean over tasks."""
    from scipy.stats import rankdata  # most of a second, which a listing of parts need not wait for

    by_task = _by_task(measured, predicted)
    return float(correlate(*(rankdata(values, axis=-1) for values in by_task)).mean())


def mse(measured: ArrayLike, predicted: ArrayLike) -> float:
    """Mean squared error in the measurement's own units squared, the mean over tasks."""
    truth, guess = _by_task(measured, predicted)
    return float(np.square(truth - guess).mean()) if truth.size else np.nan


def kl_divergence(target_probs: ArrayLike, log_probs: ArrayLike) -> float:
    """Soft-classification KL divergence in nats: sum of p (log p - log q) over the bins, mean over the sequences.

    target_probs: p, shape (n, bins), where 0 log 0 = 0. log_probs: natural log of q, shape (n, bins).
    It is infinite where q is 0 and p is not (Penzar et al. 2023, the soft-classification loss).
    """
    p, log_q = np.asarray(target_probs, dtype=np.float64), np.asarray(log_probs, dtype=np.float64)
    if p.shape != log_q.shape or p.ndim != 2:
        raise ValueError(f"expected two arrays of shape (n, bins), got {p.shape} and {log_q.shape}")
    if not len(p):
        return np.nan
    some = p != 0  # NaN included, so that it is not hidden
    terms = np.zeros_like(p)
    terms[some] = p[some] * (np.log(p[some]) - log_q[some])
    return float(terms.sum(axis=1).mean())


def scores(measured: ArrayLike, predicted: ArrayLike, *, missing: bool = False) -> dict[str, float]:
    """`pearson_r`, `spearman_rho`, `mse` and the number of sequences `n`.

    Of (n, tasks) each is the plain mean of the tasks' own scores, for MSE also where their units differ, and `n` counts
    a sequence once, not once a task. `scores_by_task` keeps the tasks apart.
    missing: a measurement that is NaN was not made. A task that was measured in fewer than `FEWEST_MEASURED` rows adds
    nothing to the means, unless all were, and `n` counts the sequences of which a task was.
    """
    truth, guess = _by_task(measured, predicted)
    if missing and np.isnan(truth).any():
        kept = [_measured(*task) for task in zip(truth, guess, strict=True)]
        enough = [task for task in kept if len(task[0]) >= FEWEST_MEASURED]
        by_task = [scores(*task) for task in enough or kept if len(task[0])]
        names = ("pearson_r", "spearman_rho", "mse")
        means = {name: float(np.mean([found[name] for found in by_task])) if by_task else np.nan for name in names}
        return {**means, "n": int((~np.isnan(truth)).any(axis=0).sum())}
    return {
        "pearson_r": pearson_r(measured, predicted),
        "spearman_rho": spearman_rho(measured, predicted),
        "mse": mse(measured, predicted),
        "n": len(np.asarray(measured)),
    }


def scores_by_task(
    measured: ArrayLike, predicted: ArrayLike, tasks: Sequence[str], *, missing: bool = False
) -> dict[str, dict[str, float]]:
    """`pearson_r`, `spearman_rho` and `mse` of each task by its name; the arrays are (n, tasks), or (n,) for one."""
    by_task = zip(*_by_task(measured, predicted), strict=True)
    names = ("pearson_r", "spearman_rho", "mse")
    all_scores = [scores(*(_measured(truth, guess) if missing else (truth, guess))) for truth, guess in by_task]
    return {task: {name: found[name] for name in names} for task, found in zip(tasks, all_scores, strict=True)}


def correlate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson correlation along the last axis: float64 (..., n) and (..., n) give (...)."""
    if a.shape[-1] < 2:
        return np.full(a.shape[:-1], np.nan)
    # told from the values themselves: the mean of a constant may differ from it by a rounding error
    constant = (a.min(axis=-1) == a.max(axis=-1)) | (b.min(axis=-1) == b.max(axis=-1))
    a, b = a - a.mean(axis=-1, keepdims=True), b - b.mean(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (a * b).sum(axis=-1) / np.sqrt((a * a).sum(axis=-1)) / np.sqrt((b * b).sum(axis=-1))
    return np.asarray(np.where(constant, np.nan, np.clip(r, -1.0, 1.0)))


def _by_task(measured: ArrayLike, predicted: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 of shape (tasks, n)."""
    truth, guess = np.asarray(measured, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if truth.shape != guess.shape or truth.ndim not in (1, 2):
        raise ValueError(f"expected two arrays of one shape, (n,) or (n, tasks), got {truth.shape} and {guess.shape}")
    return np.atleast_2d(truth.T), np.atleast_2d(guess.T)


def _measured(truth: np.ndarray, guess: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows of one task, (n,) each, in which it was measured."""
    rows = ~np.isnan(truth)
    return truth[rows], guess[rows]
