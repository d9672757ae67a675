"""All that the training loop is given."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from prixfixe.data.measurements import Measurements
from prixfixe.data.recipe import Recipe, Samples
from prixfixe.networks.network import Network
from prixfixe.runs.folder import RunFolder
from prixfixe.runs.log import RunLog
from prixfixe.tasks.task import Task
from prixfixe.training.processes import Processes
from prixfixe.training.signals import StopRequest


@dataclass(frozen=True)
class Data:
    """What is trained on and scored on. held_out: the rows of `validation` with what was measured of them."""

    train: Samples
    validation: Samples
    held_out: Measurements
    task: Task


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


@dataclass(frozen=True)
class Job:
    """A network, what it is trained on and how, and where its progress goes."""

    network: Network
    recipe: Recipe
    data: Data
    optimizer: Optimizer
    scheduler: LRScheduler
    loop: Loop
    folder: RunFolder
    log: RunLog
    stop: StopRequest
    processes: Processes
    show_progress: bool

    @cached_property
    def steps_per_epoch(self) -> int:
        return self.recipe.steps(self.data.train, self.loop.batch_size)

    @property
    def total_steps(self) -> int:
        return self.loop.epochs * self.steps_per_epoch
