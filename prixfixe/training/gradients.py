"""The gradients of one step, in as many parts as memory needs."""

from __future__ import annotations

import math
import traceback
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from prixfixe.common.errors import TrainingError
from prixfixe.common.memory import halved
from prixfixe.contract import Batch
from prixfixe.data.recipe import Recipe
from prixfixe.networks.network import Network
from prixfixe.training.scoring import autocast

Sizes = Sequence[Tensor | int]


def backward(
    network: Network,
    recipe: Recipe,
    batch: Batch,
    micro_batch: int | None,
    precision: torch.dtype,
    seed: int,
    *,
    step_sizes: Sizes | None = None,
    saved: SavedBuffers | None = None,
) -> tuple[Tensor, int | None]:
    """The loss of a batch, its gradients added up from as many parts as memory needs; and the part size that fitted.

    A part is whole units of the recipe, and counts by what its losses are means over: gradients are those of the whole
    batch, whatever the parts. Only what is averaged over samples inside the network, as batch norm does, sees the
    parts.
    What did not fit leaves no trace: random numbers and the running statistics begin anew, and its tensors are let go.
    micro_batch: rows; None is all. step_sizes: what the losses of the whole step are means over, where the batch is a
    process's part of it. saved: the network's, made once; None is new ones.
    """
    size = len(batch["x"])
    saved = saved or SavedBuffers(network)
    saved.save()
    while True:
        seed_dropout(seed, batch["x"].device)
        parts = recipe.cut(batch, math.ceil(size / (micro_batch or size)))
        prediction = loss = None
        try:
            whole = network.sizes(batch) if step_sizes is None and len(parts) > 1 else step_sizes
            losses: list[Tensor] = []
            for part in parts:
                with autocast(batch["x"].device, precision):
                    prediction = network(part)
                loss = summed(network.losses(prediction, part), whole)
                loss.backward()
                losses.append(loss.detach())
            return torch.stack(losses).sum(), micro_batch
        except ValueError as error:  # torch's, of batch norm that has one value to average
            if len(parts) < size or not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules()):
                raise
            raise TrainingError(f"one sample at a time is too few for {what_failed(error, network, batch)}") from error
        except RuntimeError as error:
            micro_batch = smaller(error, micro_batch or size, recipe, network, batch)
            network.zero_grad()
            saved.restore()


def find_micro_batch(network: Network, recipe: Recipe, batch: Batch, precision: torch.dtype) -> int | None:
    """The part size, in rows, at which a step of such a batch fits into memory; None where it fits whole. The step is
    tried, and leaves no trace."""
    saved = SavedBuffers(network)
    _, micro_batch = backward(network, recipe, batch, None, precision, 0, saved=saved)
    network.zero_grad()
    saved.restore()
    return micro_batch


def summed(losses: Sequence[tuple[Tensor, Tensor | int]], whole: Sizes | None) -> Tensor:
    """The sum of a part's losses, each as it counts in the step's. whole: what the step's are means over; None where
    the part is the step."""
    total: Tensor | None = None
    for place, (loss, size) in enumerate(losses):
        if whole is not None:
            share = torch.as_tensor(size).double() / torch.as_tensor(whole[place]).double().clamp(min=1)
            loss = loss * share.to(loss)
        total = loss if total is None else total + loss
    assert total is not None
    return total


def smaller(error: RuntimeError, rows: int, recipe: Recipe, network: Network, batch: Batch) -> int | None:
    """How many rows to try after so many failed; None is as many again. Raises what is no lack of memory, and
    TrainingError where not even one unit fits.

    Where torch was told to compute all that it can in one order, a block of a user's may need what has none: that is
    tried once more, and from then on in any order.
    """
    fixed = torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        fewer = halved(rows, error)
    except RuntimeError:
        if not fixed:
            raise
        torch.use_deterministic_algorithms(True, warn_only=True)
        return None if rows == len(batch["x"]) else rows
    if fewer is None or rows <= recipe.unit:
        unit = "one sample" if recipe.unit == 1 else f"the {recipe.unit} rows that are never torn apart"
        raise TrainingError(f"out of memory with {unit} at a time: {what_failed(error, network, batch)}") from error
    return max(fewer, recipe.unit)


def seed_from(*numbers: int) -> int:
    """One seed from several numbers, unlike that of any others."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def seed_dropout(seed: int, device: torch.device) -> None:
    """Seeds what blocks draw from on a device. torch.manual_seed seeds every kind of device there may be, a millisecond
    each time."""
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


class SavedBuffers:
    """A network's buffers, such as running statistics, as they were before a step that may not fit into memory.

    Copied into the same tensors every time, all of a kind at once: on a GPU a few launches a step.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.copies: list[Tensor] = []

    def save(self) -> None:
        buffers = list(self.network.buffers())
        if [*map(_kind, buffers)] != [*map(_kind, self.copies)]:  # at first, or where a block has put others there
            self.copies = [torch.empty_like(buffer) for buffer in buffers]
        _copy(buffers, self.copies)

    def restore(self) -> None:
        _copy(self.copies, list(self.network.buffers()))


def _kind(tensor: Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return tensor.shape, tensor.dtype, tensor.device


def _copy(sources: list[Tensor], targets: list[Tensor]) -> None:
    kinds: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for source, target in zip(sources, targets, strict=True):
        of_kind = kinds.setdefault(source.dtype, ([], []))
        of_kind[0].append(source)
        of_kind[1].append(target)
    for some_sources, some_targets in kinds.values():
        torch._foreach_copy_(some_targets, some_sources)


def what_failed(error: BaseException, network: Network, batch: Batch) -> str:
    """The block in whose forward pass an error came, with the shape of its input; else the backward pass."""
    where = f"the backward pass of an input of shape {(1, *batch['x'].shape[1:])}"
    for frame, _ in traceback.walk_tb(error.__traceback__):
        for slot in ("first", "core", "final"):
            block, given = getattr(network, slot), frame.f_locals.get("args")
            if frame.f_locals.get("self") is block and given and isinstance(given[0], Tensor):
                where = f"{slot} block {type(block).__name__}, given an input of shape {tuple(given[0].shape)}"
    return f"{where} ({str(error).splitlines()[0]})"
