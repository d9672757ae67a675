"""All that a run is at one step, and its way into a checkpoint and back."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from prixfixe.common.errors import InputError
from prixfixe.common.files import atomic_path, write_arrays, write_text
from prixfixe.data.measurements import Measurements
from prixfixe.networks.network import Network
from prixfixe.networks.weights import load_own_state, own_state
from prixfixe.runs.checkpoint import load_checkpoint, save_checkpoint
from prixfixe.runs.folder import RunFolder
from prixfixe.runs.lock import check_held
from prixfixe.runs.reader import CheckpointFacts, problem
from prixfixe.runs.targets import save_targets
from prixfixe.tasks.task import Task

PREDICTED = "predicted"  # the name of the best epoch's predictions among the best tensors


@dataclass
class TrainingState:
    """How far a run is and what came out so far.

    losses: the sum of the losses since the last scoring. every: the steps between two scorings. best: the weights of
    the best epoch and its validation predictions, on the CPU.
    """

    network: Network
    optimizer: Optimizer
    scheduler: LRScheduler
    losses: Tensor
    task: Task
    every: int
    best: dict[str, Tensor] = field(default_factory=dict)
    account: Account = field(default_factory=lambda: Account())

    def keep_best(self, scores: Mapping[str, Any], outputs: Mapping[str, np.ndarray], task: Task, epoch: int) -> None:
        """Makes the network as it is the best one. task: calibrated."""
        self.account.best = {**scores, "best_epoch": epoch}
        sds = task.spec.residual_sd
        self.account.residual_sd = None if sds is None else list(sds)
        self.best = {
            name: tensor.detach().cpu().clone().contiguous() for name, tensor in own_state(self.network).items()
        }
        if task.predicts is not None:
            self.best[PREDICTED] = torch.from_numpy(outputs[task.predicts])

    def write_results(self, folder: RunFolder, held_out: Measurements) -> None:
        """history.csv and, of the best epoch, targets.json, weights.safetensors and validation.npz. BusyError where
        another process has taken the folder over."""
        check_held(folder.path)
        if self.account.history:
            write_text(folder.history_file, as_csv(self.account.history), follow=False)
        if self.best:
            sds = self.account.residual_sd
            spec = replace(self.task.spec, residual_sd=None if sds is None else tuple(sds))
            save_targets(folder, self.task.with_spec(spec))
            weights = {name: tensor for name, tensor in self.best.items() if name != PREDICTED}
            with atomic_path(folder.weights_file, follow=False) as temporary:
                temporary.write_bytes(save(weights))
            if PREDICTED in self.best:
                arrays = {"measured": self.task.measured(held_out), "predicted": self.best[PREDICTED].numpy()}
                write_arrays(folder.validation_file, follow=False, **arrays)

    def save(self, folder: Path, processes: int) -> None:
        """Writes a checkpoint. processes: how many train this run together."""
        optimizer = self.optimizer.state_dict()
        tensors, values = {"losses": self.losses}, dict[str, Any]()
        tensors |= {f"network.{name}": tensor for name, tensor in own_state(self.network).items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        for index, state in optimizer["state"].items():
            for key, value in state.items():
                (tensors if isinstance(value, Tensor) else values)[f"optimizer.{index}.{key}"] = value
        facts = {
            "processes": processes,
            "account": asdict(self.account),
            "param_groups": optimizer["param_groups"],
            "optimizer": values,
            "scheduler": self.scheduler.state_dict(),
        }
        save_checkpoint(folder, self.account.step, tensors, facts)

    def restore(
        self, folder: Path, processes: int, *, epochs: int, steps_per_epoch: int, predicted: tuple[int, ...]
    ) -> bool:
        """Takes up the newest checkpoint of a folder that is one of this run; False where there is none. InputError
        where it is of another kind of run.

        predicted: the shape of the validation predictions.
        """

        def fits(tensors: dict[str, Tensor], facts: dict[str, Any], step: int) -> str | None:
            return self.unfit(tensors, facts, step, epochs, steps_per_epoch, predicted)

        found = load_checkpoint(folder, fits)
        if found is None:
            return False
        tensors, facts = found
        if facts["processes"] != processes:
            raise InputError(
                f"{folder} was begun with {facts['processes']} processes and goes on with as many only, not with "
                f"{processes}, since its "
                f"numbers would be others: torchrun --nproc-per-node {facts['processes']} ..., or --force to "
                "begin it anew"
            )
        optimizer: dict[int, dict[str, Any]] = {}
        for name, value in {**facts["optimizer"], **_below("optimizer.", tensors)}.items():
            index, _, key = name.removeprefix("optimizer.").partition(".")
            optimizer.setdefault(int(index), {})[key] = value
        try:
            load_own_state(self.network, _below("network.", tensors))
            self.optimizer.load_state_dict({"state": optimizer, "param_groups": facts["param_groups"]})
            self.scheduler.load_state_dict(facts["scheduler"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise InputError(
                f"the checkpoint in {folder} is of another version's network ({error}); --force begins the run anew"
            ) from error
        self.losses.copy_(tensors["losses"])
        self.best = _below("best.", tensors)
        self.account = Account(**facts["account"])
        return True

    def unfit(
        self,
        tensors: Mapping[str, Tensor],
        facts: Mapping[str, Any],
        step: int,
        epochs: int,
        steps_per_epoch: int,
        predicted: tuple[int, ...],
    ) -> str | None:
        """Why tensors and facts cannot be those of a checkpoint of this run at this step; None where they can.

        Whether the network's tensors are those of this network is not asked here: others are another version's.
        """
        try:
            CheckpointFacts.model_validate(facts)
        except ValidationError as error:
            return problem(error)
        account, scheduler = facts["account"], facts["scheduler"]
        if unknown := account.keys() - {one.name for one in fields(Account)}:
            return f"its account holds {min(unknown)}"
        epoch, history, best = account["epoch"], account["history"], account["best"]
        first = (epoch - 1) * steps_per_epoch
        if account["step"] != step or epoch > epochs + 1 or not first <= step <= first + steps_per_epoch:
            return f"step {account['step']} of epoch {epoch} is none of this run"
        scored = account.get("scored_step", 0)
        if (
            scored > step
            or len(history) != -(-scored // self.every)
            or bool(best) != bool(history)
            or any(row.keys() != history[0].keys() for row in history)
        ):
            return "its history is not that of its epochs"
        chosen_by = best.get(self.task.select.name)
        if best and not (type(best.get("best_epoch")) is int and isinstance(chosen_by, float | int)):
            return "its best epoch is none"
        if not _alike(facts["param_groups"], self.optimizer.state_dict()["param_groups"]):
            return "its optimizer is another"
        known = self.scheduler.state_dict()
        if any(not _alike(value, known[key]) if key in known else hasattr(type(self.scheduler), key)
               for key, value in scheduler.items()):  # fmt: skip
            return "its schedule is another"
        if type(self.scheduler).step is LRScheduler.step and scheduler.get("last_epoch") != step:
            return "its schedule is at another step"
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for name in [*facts["optimizer"], *_below("optimizer.", tensors)]:
            index = name.removeprefix("optimizer.").partition(".")[0]
            if not index.isdecimal() or len(index) > 9 or int(index) >= len(parameters):
                return f"its optimizer holds {name}"
            tensor = tensors.get(f"optimizer.{name}")
            if tensor is not None and tensor.shape not in ((), parameters[int(index)].shape):
                return f"its optimizer holds {name} of another shape"
        network, kept = _below("network.", tensors), _below("best.", tensors)
        if tensors["losses"].shape != self.losses.shape:
            return "its losses are none"
        held_out = kept.pop(PREDICTED, None)
        shape = predicted if best and self.task.predicts is not None else None
        if bool(kept) != bool(best) or (None if held_out is None else held_out.shape) != shape:
            return "its best predictions are not those of the validation set"
        if kept and {name: tensor.shape for name, tensor in kept.items()} != {
            name: tensor.shape for name, tensor in network.items()
        }:
            return "its best weights are not those of its network"
        return None


@dataclass
class Account:
    """The counts and scores of a run, as JSON holds them."""

    epoch: int = 1
    step: int = 0
    inputs: int = 0
    training_seconds: float = 0.0
    scored: int = 0
    scoring_seconds: float = 0.0
    micro_batch: int | None = None
    precision: str = ""
    best: dict[str, Any] = field(default_factory=dict)
    residual_sd: list[float] | None = None  # of the best epoch; see TargetSpec
    history: list[dict[str, Any]] = field(default_factory=list)
    scored_step: int = 0  # the last step after which the network was scored
    since_best: int = 0  # scorings


def _alike(given: Any, known: Any) -> bool:
    """Whether a value that JSON holds may stand for one that an optimizer or a schedule has: of the same kind, with the
    same keys or as many values."""
    if isinstance(known, Mapping):
        return (
            isinstance(given, Mapping)
            and given.keys() == known.keys()
            and all(_alike(given[k], known[k]) for k in known)
        )
    if isinstance(known, list | tuple):
        return isinstance(given, list) and len(given) == len(known) and all(map(_alike, given, known))
    if isinstance(known, int | float) and not isinstance(known, bool):
        return isinstance(given, int | float) and not isinstance(given, bool)
    return known is None or type(given) is type(known)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def as_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
