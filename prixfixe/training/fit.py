"""The training loop: one flat function, the same for every combination and every task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from prixfixe.common.progress import TrainingProgress
from prixfixe.contract import Batch
from prixfixe.training.gradients import SavedBuffers, backward, find_micro_batch, seed_from
from prixfixe.training.job import Job
from prixfixe.training.keeper import Keeper
from prixfixe.training.scoring import PRECISIONS


def fit(job: Job) -> dict[str, Any]:
    """Trains, scores after every epoch (or `score_every` steps), keeps the weights of the best by the task's `select`;
    returns the best scores.

    Goes on from the folder's newest checkpoint where there is one. All that is random in a step follows from the seed
    and the step (dropout from the process, too), so that a run that was interrupted ends with the weights of one that
    was not. Scoring draws from none of it. Writes history.csv, targets.json, weights.safetensors, validation.npz and
    checkpoints. Raises TrainingError where the loss is not finite or not even one unit fits into memory,
    InterruptedRunError when told to stop.
    """
    network, recipe, data, loop, processes = job.network, job.recipe, job.data, job.loop, job.processes
    keeper = Keeper(job)
    account = keeper.restore()
    precision, saved_buffers = PRECISIONS[account.precision], SavedBuffers(network)
    generator = torch.Generator(data.train.codes.device)

    def batch_of(chosen: Tensor) -> Batch:
        generator.manual_seed(seed_from(loop.seed, account.step, 0, 1))
        return recipe.training_batch(data.train, chosen, data.task, generator, network.training_columns)

    if account.micro_batch is None and account.step < job.total_steps:
        network.train()
        first = next(remaining_steps(job, account.step, generator))
        part = processes.part(recipe, batch_of(first))
        keeper.fits_in_parts_of(find_micro_batch(network, recipe, part, precision))
    with TrainingProgress(
        job.total_steps, loop.epochs, data.task, begun=account.step, show=job.show_progress
    ) as progress:
        keeper.start(progress)
        ended = keeper.is_scoring_step() and keeper.score()  # which a run was stopped before
        for chosen in () if ended else remaining_steps(job, account.step, generator):
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
            asked = processes.add_up(network, loss, job.stop.signal is not None)
            if loop.clip_norm is not None:
                clip_grad_norm_(network.parameters(), loop.clip_norm)
            if loop.clip_value is not None:
                clip_grad_value_(network.parameters(), loop.clip_value)
            rate = job.optimizer.param_groups[0]["lr"]
            job.optimizer.step()
            job.optimizer.zero_grad()
            job.scheduler.step()
            keeper.after_step(loss, rate, len(batch["x"]), micro_batch, asked)
            if keeper.is_scoring_step() and keeper.score():
                break
    return keeper.result()


def remaining_steps(job: Job, done: int, generator: torch.Generator) -> Iterator[Tensor]:
    """The sample numbers of every step after the `done` first ones; the order of an epoch is drawn as it begins."""
    train, loop = job.data.train, job.loop
    for epoch in range(done // job.steps_per_epoch + 1, loop.epochs + 1):
        order = job.recipe.epoch(train, loop.batch_size, generator.manual_seed(seed_from(loop.seed, epoch)))
        yield from order[max(0, done - (epoch - 1) * job.steps_per_epoch) :]
