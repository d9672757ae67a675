"""Predictions of a network for whole sets of sequences, and their scores.

Sequences are predicted in fp32, in training as in `prixfixe predict`, so that the scores by which an epoch is chosen
are those of the predictions that its weights will make.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prixfixe.common.errors import TrainingError
from prixfixe.common.memory import halved
from prixfixe.contract import Batch
from prixfixe.data.recipe import Recipe, Samples
from prixfixe.networks.network import Network
from prixfixe.tasks import metrics
from prixfixe.tasks.bins import Bins

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
AT_ONCE = {
    "cpu": 32,
    "cuda": 1024,
}  # sequences; a CPU takes up to twice the time where a batch's layers do not fit its caches
RESIDUAL_ROWS = 10_000  # of training, whose residuals give a scalar prediction its distribution


@dataclass
class AtOnce:
    """How many sequences enter a network at a time: halved for good where memory does not hold as many."""

    size: int


def predict(
    network: Network, recipe: Recipe, samples: Samples, *, batch_size: int | AtOnce
) -> tuple[np.ndarray, np.ndarray | None]:
    """The expression of every sequence and, from final blocks that have them, its bin log-probabilities.

    Both strands' predictions are averaged where the recipe feeds them separately: expressions as they are, bins as
    probabilities.
    batch_size: how many sequences enter the network at a time, or fewer where memory does not hold as many.
    Returns float64 (n,) or (n, tasks), in the measurement's own units, and float64 (n, ..., bins) or None.
    Raises TrainingError where memory does not hold one sequence.
    """
    expression, log_probs = predict_on_device(network, recipe, samples, batch_size=batch_size)
    return to_host(expression), None if log_probs is None else to_host(log_probs)


@torch.no_grad()
def predict_on_device(
    network: Network, recipe: Recipe, samples: Samples, *, batch_size: int | AtOnce
) -> tuple[Tensor, Tensor | None]:
    """The same, float32 and left on the device: a GPU may still be at work on it, and is not waited for."""
    network.eval()
    at_once = batch_size if isinstance(batch_size, AtOnce) else AtOnce(batch_size)
    expressions: list[Tensor] = []
    log_probs: list[Tensor] = []
    done = 0
    while done < len(samples) or not expressions:
        try:
            for views in recipe.scoring_batches(samples[done:], at_once.size):
                expression, binned = _of_views(network, views)
                expressions.append(expression)
                log_probs += [] if binned is None else [binned]
                done += len(expression)
        except RuntimeError as error:
            fewer = halved(min(at_once.size, len(samples) - done), error)
            if fewer is None:
                raise TrainingError(
                    f"out of memory with one sequence at a time ({str(error).splitlines()[0]})"
                ) from error
            at_once.size = fewer
    return torch.cat(expressions), torch.cat(log_probs) if log_probs else None


def _of_views(network: Network, views: Sequence[Batch]) -> tuple[Tensor, Tensor | None]:
    """The predictions of one batch, the mean over its views."""
    predictions = [network.forward(batch) for batch in views]  # a compiled one would be compiled anew
    expression = torch.stack([p.expression.float() for p in predictions]).mean(0)
    binned = [p.log_probs.float() for p in predictions if p.log_probs is not None]
    return expression, torch.stack(binned).logsumexp(0) - np.log(len(binned)) if binned else None


def to_host(predictions: Tensor) -> np.ndarray:
    """As float64; waits for the device."""
    return predictions.double().cpu().numpy()


def residual_rows(train: Samples, seed: int) -> Samples:
    """The training rows that give `residual_sd`: RESIDUAL_ROWS of them, drawn by a seed, or all where there are fewer.

    No source of random numbers but its own is drawn from.
    """
    if len(train) <= RESIDUAL_ROWS:
        return train
    drawn = np.random.default_rng(seed).choice(len(train), RESIDUAL_ROWS, replace=False)
    return train[torch.from_numpy(np.sort(drawn)).to(train.codes.device)]


def residual_sd(measured: np.ndarray, expression: np.ndarray) -> tuple[float, ...]:
    """The root mean square of a task's residuals, in its own units: one number a task.

    measured, expression: (n,) or (n, tasks), of training rows. Where nothing was measured, NaN, is left out; a task
    that no row measures gives NaN.
    """
    squares = np.square(expression - measured).reshape(len(measured), -1)
    counts = (~np.isnan(measured)).reshape(len(measured), -1).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return tuple(
            np.sqrt(np.where(np.isnan(measured).reshape(squares.shape), 0, squares).sum(axis=0) / counts).tolist()
        )


def score(
    measured: np.ndarray,
    expression: np.ndarray,
    log_probs: np.ndarray | None,
    bins: Bins,
    sds: Sequence[float] | None = None,
) -> dict[str, Any]:
    """kl, pearson_r, spearman_rho, mse and n: the numbers that every combination is compared by (Rafi et al. 2024).

    measured: (n,) or (n, tasks), NaN where a task was not measured; each is scored where it was, and several give the
    mean of their scores.
    sds: of each task, see `divergences`.
    """
    kl = [value for value, n in divergences(measured, expression, log_probs, bins, sds) if n]
    return {"kl": float(np.mean(kl)) if kl else np.nan, **metrics.scores(measured, expression, missing=True)}


def divergences(
    measured: np.ndarray,
    expression: np.ndarray,
    log_probs: np.ndarray | None,
    bins: Bins,
    sds: Sequence[float] | None,
) -> list[tuple[float, int]]:
    """Each task's soft-classification KL divergence, and in how many rows it was measured.

    A scalar prediction, without log_probs, is given the normal distribution around it with the task's deviation of
    `sds` (`residual_sd`, in the task's own units), cut into the bins of the measurement. Without sds it has no
    divergence: NaN.
    """
    truth, guess = measured.reshape(len(measured), -1), expression.reshape(len(measured), -1)
    binned = None if log_probs is None else log_probs.reshape(len(measured), -1, bins.number)
    found = []
    for task in range(truth.shape[1]):
        rows, own = ~np.isnan(truth[:, task]), bins.of_task(task)
        if binned is not None:
            log_q = binned[rows, task]
        elif sds is not None:
            log_q = own.log_probabilities(torch.from_numpy(guess[rows, task]), sds[task]).numpy()
        else:
            log_q = np.full((int(rows.sum()), bins.number), np.nan)
        target = own.probabilities(torch.from_numpy(np.array(truth[rows, task], dtype=np.float64))).numpy()
        found.append((metrics.kl_divergence(target, log_q), int(rows.sum())))
    return found


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Mixed precision where `precision` is not float32."""
    return torch.autocast(device.type, dtype=precision, enabled=precision is not torch.float32)
