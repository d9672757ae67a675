"""The training loop: one flat function, the same for every combination and every task."""

from __future__ import annotations

import csv
import io
import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from prixfixe.bins import Bins
from prixfixe.contract import Batch
from prixfixe.errors import TrainingError
from prixfixe.files import atomic_path, write_text
from prixfixe.network import Network
from prixfixe.progress import TrainingProgress
from prixfixe.recipe import Recipe, Samples
from prixfixe.run_folder import RunFolder
from prixfixe.scoring import autocast, predict, score

CHECK_EVERY = 20  # steps between two looks at the losses, each of which waits for the device


@dataclass
class Loop:
    """How long, how much at a time, and how precisely."""

    epochs: int
    batch_size: int
    micro_batch: int | None
    precision: torch.dtype
    clip_norm: float | None
    clip_value: float | None
    seed: int


def fit(
    network: Network,
    recipe: Recipe,
    train: Samples,
    validation: Samples,
    measured: np.ndarray,
    bins: Bins,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    loop: Loop,
    folder: RunFolder,
    *,
    show_progress: bool,
) -> dict[str, Any]:
    """Trains, scores after every epoch, keeps the weights of the epoch with the highest Pearson r; returns that epoch's scores.

    measured: the validation expression, float64. Writes history.csv and weights.safetensors.
    Raises TrainingError where the loss is not finite or not even one sample fits into memory.
    """
    device = train.codes.device
    generator = torch.Generator(device).manual_seed(loop.seed)
    total = len(train) * recipe.samples_per_sequence
    steps_per_epoch = math.ceil(total / loop.batch_size)
    micro_batch = loop.micro_batch
    best: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    unchecked: list[tuple[int, float, Tensor]] = []  # step, learning rate, loss
    step = inputs = 0
    training_seconds = 0.0

    with TrainingProgress(loop.epochs * steps_per_epoch, loop.epochs, show=show_progress) as progress:
        for epoch in range(1, loop.epochs + 1):
            network.train()
            began = time.monotonic()
            losses = torch.zeros((), device=device)
            # equal parts, so that no epoch ends with a step of a few samples
            for chosen in torch.randperm(total, generator=generator, device=device).tensor_split(steps_per_epoch):
                batch = recipe.training_batch(train, chosen, bins, generator)
                loss, micro_batch = backward(network, batch, micro_batch, loop.precision)
                if loop.clip_norm is not None:
                    clip_grad_norm_(network.parameters(), loop.clip_norm)
                if loop.clip_value is not None:
                    clip_grad_value_(network.parameters(), loop.clip_value)
                unchecked.append((step, optimizer.param_groups[0]["lr"], loss))
                optimizer.step()
                optimizer.zero_grad()
                scheduler.step()
                step += 1
                inputs += len(batch["y"])
                losses += loss
                progress.after_step(epoch, len(batch["y"]), loss)
                if len(unchecked) == CHECK_EVERY or step % steps_per_epoch == 0:
                    check_finite(unchecked)
                    unchecked.clear()
            training_seconds += time.monotonic() - began

            scores = score(measured, *predict(network, recipe, validation, batch_size=loop.batch_size, precision=loop.precision), bins)
            row = {
                "epoch": epoch,
                "step": step,
                "loss": float(losses) / steps_per_epoch,
                **scores,
                "learning_rate": optimizer.param_groups[0]["lr"],
                "seconds": round(training_seconds, 3),
            }
            history.append(row)
            write_text(folder.history_file, as_csv(history))
            if not best or scores["pearson_r"] > best["pearson_r"] or math.isnan(best["pearson_r"]):
                best = {**scores, "best_epoch": epoch}
                save_weights(network, folder)
            progress.after_epoch(row)

    return {
        **best,
        "samples_per_second": round(inputs / training_seconds, 1),
        "training_seconds": round(training_seconds, 2),
        "epochs": loop.epochs,
        "steps": step,
        "micro_batch": micro_batch,
    }


def backward(network: Network, batch: Batch, micro_batch: int | None, precision: torch.dtype) -> tuple[Tensor, int | None]:
    """The loss of a batch, its gradients added up from as many parts as memory needs; and the part size that fitted.

    Gradients are those of the whole batch. Only blocks that normalise over the batch see the parts.
    """
    size = len(batch["y"])
    while True:
        try:
            total = torch.zeros((), device=batch["y"].device)
            for start in range(0, size, micro_batch or size):
                part = {key: value[start : start + (micro_batch or size)] for key, value in batch.items()}
                with autocast(total.device, precision):
                    prediction = network(part)
                loss = network.loss(prediction, part) * (len(part["y"]) / size)
                loss.backward()
                total += loss.detach()
            return total, micro_batch
        except torch.OutOfMemoryError as error:
            network.zero_grad()
            if micro_batch == 1:
                raise TrainingError(f"out of memory with one sample at a time: {error}") from error
            micro_batch = math.ceil((micro_batch or size) / 2)


def check_finite(losses: list[tuple[int, float, Tensor]]) -> None:
    """Raises TrainingError for the first loss that is not finite."""
    values = torch.stack([loss for _, _, loss in losses]).tolist()
    for (step, rate, _), value in zip(losses, values, strict=True):
        if not math.isfinite(value):
            raise TrainingError(f"the loss is not finite ({value}) at step {step + 1}; the last learning rate was {rate:.3g}")


def save_weights(network: Network, folder: RunFolder) -> None:
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with atomic_path(folder.weights_file) as temporary:
        temporary.write_bytes(save(weights))


def as_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
