"""The outputs of a network for whole sets of sequences.

Sequences are predicted in fp32, in training as in `prixfixe predict`, so that the scores by which an epoch is chosen
are those of the predictions that its weights will make. How they are scored is the task's business.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prixfixe.common.errors import TrainingError
from prixfixe.common.memory import halved
from prixfixe.data.recipe import Recipe, Samples
from prixfixe.networks.network import Network
from prixfixe.tasks.task import Task

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
    network: Network, recipe: Recipe, task: Task, samples: Samples, *, batch_size: int | AtOnce
) -> dict[str, np.ndarray]:
    """The outputs of every sequence by name, (n, ...) of float64, as the task combines those of its strands.

    batch_size: how many sequences enter the network at a time, or fewer where memory does not hold as many.
    Raises TrainingError where memory does not hold one sequence.
    """
    outputs = predict_on_device(network, recipe, task, samples, batch_size=batch_size)
    return {name: to_host(output) for name, output in outputs.items()}


@torch.no_grad()
def predict_on_device(
    network: Network, recipe: Recipe, task: Task, samples: Samples, *, batch_size: int | AtOnce
) -> dict[str, Tensor]:
    """The same, left on the device: a GPU may still be at work on it, and is not waited for."""
    network.eval()
    at_once = batch_size if isinstance(batch_size, AtOnce) else AtOnce(batch_size)
    found: dict[str, list[Tensor]] = {}
    done = 0
    while done < len(samples) or not found:
        try:
            for views in recipe.scoring_batches(samples[done:], at_once.size, network.columns):
                # a compiled one would be compiled anew
                outputs = task.combine([network.forward(batch) for batch in views], views)
                for name, output in outputs.items():
                    found.setdefault(name, []).append(output)
                done += len(views[0]["x"])
        except RuntimeError as error:
            fewer = halved(min(at_once.size, len(samples) - done), error)
            if fewer is None:
                raise TrainingError(
                    f"out of memory with one sequence at a time ({str(error).splitlines()[0]})"
                ) from error
            at_once.size = fewer
    return {name: torch.cat(outputs) for name, outputs in found.items()}


def to_host(predictions: Tensor) -> np.ndarray:
    """As float64; waits for the device."""
    return predictions.double().cpu().numpy()


def residual_rows(train: Samples, seed: int) -> Samples:
    """The training rows that `Task.calibrated` is given: RESIDUAL_ROWS of them, drawn by a seed, or all where there are
    fewer.

    No source of random numbers but its own is drawn from.
    """
    if len(train) <= RESIDUAL_ROWS:
        return train
    drawn = np.random.default_rng(seed).choice(len(train), RESIDUAL_ROWS, replace=False)
    return train[torch.from_numpy(np.sort(drawn)).to(train.codes.device)]


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Mixed precision where `precision` is not float32."""
    return torch.autocast(device.type, dtype=precision, enabled=precision is not torch.float32)
