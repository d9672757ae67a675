"""All that a run is at one step, and its way into a checkpoint and back."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from prixfixe.checkpoint import load_checkpoint, save_checkpoint
from prixfixe.contract import TargetSpec
from prixfixe.errors import InputError
from prixfixe.files import atomic_path, write_arrays, write_text
from prixfixe.network import Network
from prixfixe.run_folder import RunFolder
from prixfixe.runs.targets import save_targets

PREDICTED = "predicted"  # the name of the best epoch's predictions among the best tensors


@dataclass
class TrainingState:
    """How far a run is and what came out so far.

    losses: the sum of the epoch's losses. best: the weights of the best epoch and its validation predictions, on the
    CPU.
    """

    network: Network
    optimizer: Optimizer
    scheduler: LRScheduler
    losses: Tensor
    best: dict[str, Tensor] = field(default_factory=dict)
    account: Account = field(default_factory=lambda: Account())

    def keep_best(
        self, scores: Mapping[str, Any], predicted: np.ndarray, residual_sd: tuple[float, ...] | None
    ) -> None:
        """Makes this epoch the best one."""
        self.account.best = {**scores, "best_epoch": self.account.epoch}
        self.account.residual_sd = None if residual_sd is None else list(residual_sd)
        self.best = {
            name: tensor.detach().cpu().clone().contiguous() for name, tensor in self.network.state_dict().items()
        }
        self.best[PREDICTED] = torch.from_numpy(predicted)

    def write_results(self, folder: RunFolder, measured: np.ndarray, targets: TargetSpec) -> None:
        """history.csv and, of the best epoch, targets.json, weights.safetensors and validation.npz."""
        if self.account.history:
            write_text(folder.history_file, as_csv(self.account.history))
        if self.best:
            sds = self.account.residual_sd
            save_targets(folder, replace(targets, residual_sd=None if sds is None else tuple(sds)))
            weights = {name: tensor for name, tensor in self.best.items() if name != PREDICTED}
            with atomic_path(folder.weights_file) as temporary:
                temporary.write_bytes(save(weights))
            write_arrays(folder.validation_file, measured=measured, predicted=self.best[PREDICTED].numpy())

    def save(self, folder: Path, processes: int) -> None:
        """Writes a checkpoint. processes: how many train this run together."""
        optimizer = self.optimizer.state_dict()
        tensors, values = {"losses": self.losses}, dict[str, Any]()
        tensors |= {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
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

    def restore(self, folder: Path, processes: int) -> bool:
        """Takes up the newest checkpoint of a folder; False where there is none. InputError where it is of another kind
        of run."""
        found = load_checkpoint(folder)
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
            self.network.load_state_dict(_below("network.", tensors))
            self.optimizer.load_state_dict({"state": optimizer, "param_groups": facts["param_groups"]})
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"the checkpoint in {folder} is of another version's network ({error}); --force begins the run anew"
            ) from error
        self.scheduler.load_state_dict(facts["scheduler"])
        self.losses.copy_(tensors["losses"])
        self.best = _below("best.", tensors)
        self.account = Account(**facts["account"])
        return True


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


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def as_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
