"""Predictions of a network for whole sets of sequences, and their scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from prixfixe import metrics
from prixfixe.bins import Bins
from prixfixe.network import Network
from prixfixe.recipe import Recipe, Samples

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
AT_ONCE = {
    "cpu": 32,
    "cuda": 1024,
}  # sequences; a CPU takes up to twice the time where a batch's layers do not fit its caches


def predict(
    network: Network, recipe: Recipe, samples: Samples, *, batch_size: int, precision: torch.dtype = torch.float32
) -> tuple[np.ndarray, np.ndarray | None]:
    """The expression of every sequence and, from final blocks that have them, its bin log-probabilities.

    Both strands' predictions are averaged where the recipe feeds them separately: expressions as they are, bins as
    probabilities.
    Returns float64 (n,) or (n, tasks), in the measurement's own units, and float64 (n, ..., bins) or None.
    """
    expression, log_probs = predict_on_device(network, recipe, samples, batch_size=batch_size, precision=precision)
    return to_host(expression), None if log_probs is None else to_host(log_probs)


@torch.no_grad()
def predict_on_device(
    network: Network, recipe: Recipe, samples: Samples, *, batch_size: int, precision: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor | None]:
    """The same, float32 and left on the device: a GPU may still be at work on it, and is not waited for."""
    network.eval()
    expressions, log_probs = [], []
    for views in recipe.scoring_batches(samples, batch_size):
        with autocast(samples.codes.device, precision):
            predictions = [network.forward(batch) for batch in views]  # a compiled one would be compiled anew
        expressions.append(torch.stack([p.expression.float() for p in predictions]).mean(0))
        if binned := [p.log_probs.float() for p in predictions if p.log_probs is not None]:
            log_probs.append(torch.stack(binned).logsumexp(0) - np.log(len(binned)))
    return torch.cat(expressions), torch.cat(log_probs) if log_probs else None


def to_host(predictions: Tensor) -> np.ndarray:
    """As float64; waits for the device."""
    return predictions.double().cpu().numpy()


def score(measured: np.ndarray, expression: np.ndarray, log_probs: np.ndarray | None, bins: Bins) -> dict[str, Any]:
    """kl, pearson_r, spearman_rho, mse and n: the numbers that every combination is compared by (Rafi et al. 2024).

    A scalar prediction is turned into bin probabilities exactly as the measurements are.
    """
    if log_probs is None:
        log_probs = bins.log_probabilities(torch.from_numpy(expression)).numpy()
    target = bins.probabilities(torch.from_numpy(np.array(measured, dtype=np.float64))).numpy()
    kl = metrics.kl_divergence(target.reshape(-1, bins.number), log_probs.reshape(-1, bins.number))
    return {"kl": kl, **metrics.scores(measured, expression)}


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Mixed precision where `precision` is not float32."""
    return torch.autocast(device.type, dtype=precision, enabled=precision is not torch.float32)
