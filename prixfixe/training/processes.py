"""One run on several devices: what its processes, started by torchrun, do together.

Every process holds the whole network and works on its own part of every step. Gradients are summed by hand and not by
torch's
DistributedDataParallel: a process that runs out of memory may then halve its micro-batch alone, without the others
waiting for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from prixfixe.common.errors import InputError, TrainingError
from prixfixe.contract import Batch
from prixfixe.data.recipe import Recipe


@dataclass(frozen=True)
class Processes:
    """rank: this process's number among `count`; the first, 0, is the only one that scores and writes.

    flat: where the gradients of a step stand one after the other to be summed, float32: made once, used in every step.
    """

    rank: int = 0
    count: int = 1
    flat: list[Tensor] = field(default_factory=list, repr=False, compare=False)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def part(self, recipe: Recipe, batch: Batch) -> Batch:
        """This process's part of a step's batch, in whole units of the recipe; every unit is in one part."""
        if self.count == 1:
            return batch
        parts = recipe.cut(batch, self.count)
        if len(parts) < self.count:  # which every process finds
            raise TrainingError(
                f"a step of {len(batch['x'])} rows is {len(parts)} x {recipe.unit} rows that are never torn apart, too "
                f"few for {self.count} processes: start fewer"
            )
        return parts[self.rank]

    def add_up(self, network: nn.Module, loss: Tensor, asked: bool) -> bool | Tensor:
        """Sums the network's gradients and the loss over the processes, in place; whether any of them was asked to
        stop."""
        if self.count == 1:
            return asked
        parameters = [p for p in network.parameters() if p.requires_grad]
        size = sum(p.numel() for p in parameters) + 2
        if len(self.flat) != 1 or self.flat[0].numel() != size or self.flat[0].device != loss.device:
            self.flat[:] = [torch.empty(size, device=loss.device)]
        *summed, total, anyone = self.flat[0].split([*(p.numel() for p in parameters), 1, 1])
        summed = [view.view_as(p) for view, p in zip(summed, parameters, strict=True)]
        for p in parameters:
            if p.grad is None:  # of a parameter that this process's part does not reach
                p.grad = torch.zeros_like(p)
        gradients = [p.grad for p in parameters if p.grad is not None]
        torch._foreach_copy_(summed, gradients)
        total.copy_(loss)
        anyone.fill_(float(asked))
        torch.distributed.all_reduce(self.flat[0])
        torch._foreach_copy_(gradients, summed)
        loss.copy_(total.view_as(loss))
        return anyone > 0

    def from_first(self, value: Any) -> Any:
        """The first process's value, in every process. The others wait for it."""
        if self.count == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box)
        return box[0]


def count_started() -> int:
    """How many processes torchrun has started for this run; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "TORCHELASTIC_RUN_ID" in os.environ else 1


@contextmanager
def processes(device: torch.device) -> Iterator[tuple[Processes, torch.device]]:
    """This process among those of its run, and its own device: the N-th GPU for the N-th process of a machine."""
    alone = count_started() == 1
    if device.type == "cuda":
        device = torch.device("cuda", (device.index or 0) if alone else int(os.environ["LOCAL_RANK"]))
        if torch.cuda.device_count() <= device.index:
            raise InputError(
                f"torchrun has started more processes than the {torch.cuda.device_count()} GPUs here: "
                "--nproc-per-node gpu"
            )
        torch.cuda.set_device(device)  # the one that torch.cuda.manual_seed means
    if alone:
        yield Processes(), device
        return
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(torch.distributed.get_rank(), torch.distributed.get_world_size()), device
    finally:
        torch.distributed.destroy_process_group()
