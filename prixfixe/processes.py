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
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from prixfixe.errors import InputError


@dataclass(frozen=True)
class Processes:
    """rank: this process's number among `count`; the first, 0, is the only one that scores and writes."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def part(self, chosen: Tensor) -> Tensor:
        """This process's part of a step's samples, (n,) -> about (n / count,); every sample is in one part."""
        return chosen.tensor_split(self.count)[self.rank]

    def add_up(self, network: nn.Module, loss: Tensor, asked: bool) -> bool | Tensor:
        """Sums the network's gradients and the loss over the processes, in place; whether any of them was asked to
        stop."""
        if self.count == 1:
            return asked
        parameters = [p for p in network.parameters() if p.requires_grad]
        for p in parameters:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        tensors = [p.grad for p in parameters if p.grad is not None] + [loss]
        flat = torch.cat(
            [*(tensor.float().flatten() for tensor in tensors), torch.full((1,), float(asked), device=loss.device)]
        )
        torch.distributed.all_reduce(flat)
        *summed, anyone = flat.split([*(tensor.numel() for tensor in tensors), 1])
        for tensor, total in zip(tensors, summed, strict=True):
            tensor.copy_(total.view_as(tensor))
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
