"""The training loop: one flat function, the same for every combination and every task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from prixfixe.common.progress import TrainingProgress
from prixfixe.contract import Batch
from prixfixe.data.recipe import Recipe
from prixfixe.networks.network import Network
from prixfixe.runs.folder import RunFolder
from prixfixe.runs.log import RunLog
from prixfixe.training.gradients import SavedBuffers, backward, find_micro_batch, seed_from
from prixfixe.training.keeper import Data, Keeper
from prixfixe.training.processes import Processes
from prixfixe.training.scoring import PRECISIONS
from prixfixe.training.signals import StopRequest


@dataclass(frozen=True)
class Loop:
    """How long, how much at a time, how precisely, and how often to score (steps; None: after every epoch) and to save
    (seconds). patience: scorings in a row without a better one after which a run ends; None: it never does."""

    epochs: int
    batch_size: int
    micro_batch: int | None
    precision: str
    clip_norm: float | None
    clip_value: float | None
    seed: int
    checkpoint_seconds: float
    score_every: int | None = None
    patience: int | None = None


def fit(
    network: Network,
    recipe: Recipe,
    data: Data,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    loop: Loop,
    folder: RunFolder,
    *,
    log: RunLog,
    stop: StopRequest,
    processes: Processes,
    show_progress: bool,
) -> dict[str, Any]:
    """Trains, scores after every epoch (or `score_every` steps), keeps the weights of the best by the task's `select`;
    returns the best scores.

    Goes on from the folder's newest checkpoint where there is one. All that is random in a step follows from the seed
    and the step (dropout from the process, too), so that a run that was interrupted ends with the weights of one that
    was not. Scoring draws from none of it. Writes history.csv, targets.json, weights.safetensors, validation.npz and
    checkpoints. Raises TrainingError where the loss is not finite or not even one unit fits into memory,
    InterruptedRunError when told to stop.
    """
    total_steps = loop.epochs * recipe.steps(data.train, loop.batch_size)
    keeper = Keeper(network, recipe, data, optimizer, scheduler, loop, folder, log, stop, processes, show_progress)
    account = keeper.restore(total_steps)
    precision, saved_buffers = PRECISIONS[account.precision], SavedBuffers(network)
    generator = torch.Generator(data.train.codes.device)

    def batch_of(chosen: Tensor) -> Batch:
        generator.manual_seed(seed_from(loop.seed, account.step, 0, 1))
        return recipe.training_batch(data.train, chosen, data.task, generator, network.columns)

    if account.micro_batch is None and account.step < total_steps:
        network.train()
        first = next(remaining_steps(recipe, data, loop, account.step, generator))
        part = processes.part(recipe, batch_of(first))
        keeper.fits_in_parts_of(find_micro_batch(network, recipe, part, precision))
    with TrainingProgress(total_steps, loop.epochs, data.task, begun=account.step, show=show_progress) as progress:
        keeper.start(progress)
        ended = keeper.is_scoring_step() and keeper.score()  # which a run was stopped before
        for chosen in () if ended else remaining_steps(recipe, data, loop, account.step, generator):
            batch = batch_of(chosen)
            loss, micro_batch = backward(
                network,
                recipe,
                processes.part(recipe, batch),
                account.micro_batch,
                precision,
                seed_from(loop.seed, account.step, processes.rank, 1),
                step_sizes=None if processes.count == 1 else network.sizes(batch),
                saved=saved_buffers,
            )
            asked = processes.add_up(network, loss, stop.signal is not None)
            if loop.clip_norm is not None:
                clip_grad_norm_(network.parameters(), loop.clip_norm)
            if loop.clip_value is not None:
                clip_grad_value_(network.parameters(), loop.clip_value)
            rate = optimizer.param_groups[0]["lr"]
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
            keeper.after_step(loss, rate, len(batch["x"]), micro_batch, asked)
            if keeper.is_scoring_step() and keeper.score():
                break
    return keeper.result()


def remaining_steps(recipe: Recipe, data: Data, loop: Loop, done: int, generator: torch.Generator) -> Iterator[Tensor]:
    """The sample numbers of every step after the `done` first ones; the order of an epoch is drawn as it begins."""
    steps = recipe.steps(data.train, loop.batch_size)
    for epoch in range(done // steps + 1, loop.epochs + 1):
        order = recipe.epoch(data.train, loop.batch_size, generator.manual_seed(seed_from(loop.seed, epoch)))
        yield from order[max(0, done - (epoch - 1) * steps) :]
