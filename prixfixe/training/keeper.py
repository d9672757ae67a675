"""What stands around a step of training: the clock, checkpoints, signals, scores, and the best weights so far."""

from __future__ import annotations

import math
import sys
import time
from signal import SIGTERM
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prixfixe.common.errors import InterruptedRunError, TrainingError
from prixfixe.common.progress import TrainingProgress
from prixfixe.data.recipe import Samples
from prixfixe.training.job import Job
from prixfixe.training.scoring import AT_ONCE, AtOnce, predict, residual_rows
from prixfixe.training.state import Account, TrainingState

CHECK_EVERY = 20  # steps between two looks at the losses, each of which waits for the device


class Keeper:
    """Keeps account of a run: one call after every step, one for every scoring.

    1. `restore`: goes on from a checkpoint. 2. `after_step`: counts, looks for losses that are not finite, saves
    checkpoints, and ends the run where it is told to. 3. `score`: scores, and keeps the best weights. 4. `result`.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        data, loop = job.data, job.loop
        device = data.train.codes.device
        self.every = loop.score_every or job.steps_per_epoch
        losses = torch.zeros((), device=device)
        self.state = TrainingState(job.network, job.optimizer, job.scheduler, losses, data.task, every=self.every)
        self.at_once = AtOnce(AT_ONCE[device.type])
        self.sample: Samples | None = None
        self.missing = bool(data.train.y is not None and data.train.y.isnan().any())
        self.unchecked: list[tuple[int, float, Tensor]] = []  # step, learning rate, loss

    @property
    def account(self) -> Account:
        return self.state.account

    def restore(self) -> Account:
        """The account of the newest checkpoint, or of a run that begins."""
        job = self.job
        begun = self.state.restore(
            job.folder.path,
            job.processes.count,
            epochs=job.loop.epochs,
            steps_per_epoch=job.steps_per_epoch,
            predicted=np.shape(job.data.task.measured(job.data.held_out)),
        )
        if begun and job.processes.is_first:
            self.state.write_results(job.folder, job.data.held_out)
            job.log.event("resume", step=self.account.step)
            if job.show_progress:
                print(f"going on after step {self.account.step} of {job.total_steps}", file=sys.stderr)
        self.account.micro_batch = job.loop.micro_batch or self.account.micro_batch
        self.account.precision = job.loop.precision
        return self.account

    def start(self, progress: TrainingProgress) -> None:
        self.progress = progress
        self.job.network.train()
        self.saved = self.clock = time.monotonic()

    def fits_in_parts_of(self, micro_batch: int | None) -> None:
        """Notes the part size, in rows, at which a step fits into memory."""
        if micro_batch != self.account.micro_batch:
            self.job.log.event("out_of_memory", step=self.account.step, micro_batch=micro_batch)
            self.account.micro_batch = micro_batch

    def after_step(self, loss: Tensor, rate: float, rows: int, micro_batch: int | None, asked: bool | Tensor) -> None:
        """Counts a step. Raises TrainingError for a loss that is not finite, and InterruptedRunError, with a checkpoint
        saved, where the run was told to stop.

        rows: of the step's batch. micro_batch: the part size that fitted. asked: whether a process was told to stop.
        """
        account = self.account
        self.fits_in_parts_of(micro_batch)
        self.unchecked.append((account.step, rate, loss))
        self.state.losses += loss
        account.step += 1
        account.inputs += rows
        self.progress.after_step(self.epoch, rows // self.job.processes.count, loss)
        if looked := len(self.unchecked) == CHECK_EVERY or self.is_scoring_step():
            self.check_finite()
        account.training_seconds += time.monotonic() - self.clock
        stopping = bool(asked) if looked or isinstance(asked, bool) else False
        overdue = time.monotonic() - self.saved > self.job.loop.checkpoint_seconds
        if self.job.processes.is_first and (stopping or overdue):
            self.check_finite()
            self.state.save(self.job.folder.path, self.job.processes.count)
            self.job.log.event("checkpoint", step=account.step)
            self.saved = time.monotonic()
        if stopping:
            number = self.job.stop.signal or SIGTERM  # another of the run's processes was asked
            raise InterruptedRunError(
                f"interrupted by {number.name} after step {account.step} of {self.job.total_steps}; the same command "
                "goes on from there",
                number,
            )
        self.clock = time.monotonic()

    @property
    def epoch(self) -> int:
        """Of the last step."""
        return max(0, self.account.step - 1) // self.job.steps_per_epoch + 1

    def is_scoring_step(self) -> bool:
        """Whether the steps that are done are to be scored, and have not been."""
        step = self.account.step
        return step > self.account.scored_step and (step % self.every == 0 or step == self.job.total_steps)

    def check_finite(self) -> None:
        """Raises TrainingError for the first loss that is not finite, of those not looked at yet."""
        values = torch.stack([loss for _, _, loss in self.unchecked]).tolist() if self.unchecked else []
        for (step, rate, _), value in zip(self.unchecked, values, strict=True):
            if not math.isfinite(value):
                hint = (
                    "; batch['y'] is NaN where a task was not measured, which the final block's loss must leave out: "
                    "prixfixe.contract.mean_over_measured"
                )
                raise TrainingError(
                    f"the loss is not finite ({value}) at step {step + 1}; the last learning rate was {rate:.3g}"
                    + (hint if self.missing and math.isnan(value) else "")
                )
        self.unchecked.clear()

    def score(self) -> bool:
        """Scores the network as it is, the first process for all; whether the run is at the end of its patience."""
        account = self.account
        account.scored_step, account.epoch = account.step, account.step // self.job.steps_per_epoch + 1
        ended = self._score() if self.job.processes.is_first else False
        self.state.losses.zero_()
        if self.job.loop.patience is not None:
            ended = bool(self.job.processes.from_first(ended))
        self.clock = time.monotonic()
        return ended

    def _score(self) -> bool:
        account, data, network, recipe = self.account, self.job.data, self.job.network, self.job.recipe
        began = time.monotonic()
        self.at_once.size = min(self.at_once.size, account.micro_batch or self.at_once.size)
        outputs = predict(network, recipe, data.task, data.validation, batch_size=self.at_once)
        account.scored += len(data.validation)
        task = data.task
        if task.asks_for_training_rows(outputs):
            self.sample = self.sample or residual_rows(data.train, self.job.loop.seed)
            fitted = predict(network, recipe, task, self.sample, batch_size=self.at_once)
            task = task.calibrated(self.sample, fitted)
            account.scored += len(self.sample)
        network.train()
        account.scoring_seconds += time.monotonic() - began
        scores = task.score(data.held_out, outputs)
        steps = account.step - (account.history[-1]["step"] if account.history else 0)
        row = {
            "epoch": self.epoch,
            "step": account.step,
            "loss": float(self.state.losses) / steps,
            **scores,
            "learning_rate": self.state.optimizer.param_groups[0]["lr"],
            "seconds": round(account.training_seconds, 3),
        }
        if "loss" in scores:  # the training loss has a column of its own beside a task's score of that name
            row["training_loss"] = float(self.state.losses) / steps
        account.history.append(row)
        best, select = account.best, task.select
        account.since_best += 1
        if not best or select.better(scores[select.name], best[select.name]) or math.isnan(best[select.name]):
            self.state.keep_best(scores, outputs, task, self.epoch)
            account.since_best = 0
        self.state.write_results(self.job.folder, data.held_out)
        self.job.log.scores(account.step, {key: value for key, value in row.items() if key != "step"})
        self.progress.after_epoch(row)
        return self.job.loop.patience is not None and account.since_best >= self.job.loop.patience

    def result(self) -> dict[str, Any]:
        """The best scores, and what they cost."""
        account = self.account
        scored = round(account.scored / account.scoring_seconds, 1) if account.scored else None
        return {
            **account.best,
            "samples_per_second": round(account.inputs / account.training_seconds, 1),
            "training_seconds": round(account.training_seconds, 2),
            "inference_per_second": scored,
            "epochs": self.epoch,
            "steps": account.step,
            "micro_batch": account.micro_batch,
            "precision": account.precision,
        }
