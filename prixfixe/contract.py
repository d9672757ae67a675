"""The contract between the four slots, stated once. B is the batch, C channels, L positions (design of Rafi et al.
2024).

| part   | takes                                       | gives                                                 |
|--------|---------------------------------------------|-------------------------------------------------------|
| recipe | sequences and their measured expression     | a `Batch`: `x` (B, C, L), `y`, `y_probs`, keys of its own |
| first  | (B, C, L)                                   | (B, C', L')                                           |
| core   | (B, C', L')                                 | (B, C'', L'')                                         |
| final  | (B, C'', L'')                               | a `Prediction`, and its loss against a batch          |

A block is a `torch.nn.Module` whose constructor takes the `InputSpec` of what it will be given and then keyword-only
hyperparameters (the YAML in `conf/` is the one place for their values). First and core blocks state `out_channels`;
lengths are inferred from the block itself, on meta tensors, when the network is built. Nothing changes a batch in
place.

`y`, (B,) or (B, tasks), and `y_probs`, (B, bins) or (B, tasks, bins), are NaN where a task was not measured. A loss
leaves these out before it computes with them, as `mean_over_measured` does: NaN * 0 is NaN, in gradients, too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, NamedTuple

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from prixfixe.tasks.bins import Bins

Batch = dict[str, Tensor]
BASE_KEYS = ("x", "y", "y_probs")

# What hyperparameters are, for a block's constructor: a value out of these bounds is refused before anything is built.
Count = Annotated[int, Ge(1), Le(100_000)]  # of channels, units, positions of a kernel
Share = Annotated[float, Ge(0), Le(1)]  # of what dropout leaves out


@dataclass(frozen=True)
class InputSpec:
    """What a block will be given: tensors of shape (B, channels, length).

    strand_boundary: the position at which the reverse complement begins, where a recipe joins both strands in one
    input; None where all positions are on the plus strand.
    heads: how many of the first positions are expression heads, which the final block will read back.
    """

    channels: int
    length: int
    strand_boundary: int | None = None
    heads: int = 0


class KeySpec(NamedTuple):
    """What stands under a key of a recipe's own in its batches: tensors of shape (B, *shape)."""

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class TargetSpec:
    """What a final block predicts: one or several tasks, in the measurement's own units.

    mean, std: of the training targets, one number a task; a scalar final block standardises with them.
    bins: how an expression becomes bin probabilities, and back.
    residual_sd: of a network that is trained and predicts expression alone, the root mean square of its residuals on
    training rows, one number a task; see `prixfixe.training.scoring.residual_sd`. None where it is not
    known or not needed.
    """

    tasks: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bins: Bins
    residual_sd: tuple[float, ...] | None = None


@dataclass
class Prediction:
    """What a network says of a batch.

    expression: (B,) or, for several tasks, (B, tasks), in the measurement's own units.
    log_probs: log-probabilities of the bins, (B, bins) or (B, tasks, bins), from final blocks that are trained to
    give them. Without them it is a scalar prediction.
    auxiliary: outputs of the recipe's auxiliary heads by name; only while training.
    """

    expression: Tensor
    log_probs: Tensor | None = None
    auxiliary: dict[str, Tensor] = field(default_factory=dict)


class Block(nn.Module, ABC):
    """Base of first and core blocks: (B, C, L) -> (B, out_channels, L')."""

    requires: ClassVar[tuple[str, ...]] = ()  # batch keys passed to `forward` by name, beside x
    out_channels: int

    @abstractmethod
    def forward(self, x: Tensor, **keys: Tensor) -> Tensor: ...


class AuxiliaryHead(nn.Module, ABC):
    """A second output of the core that a recipe trains along with the prediction; its loss is added to the final
    block's."""

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor: ...

    @abstractmethod
    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """A scalar, weighted as it is to be added."""


class FinalBlock(nn.Module, ABC):
    """Base of final blocks: (B, C, L) -> `Prediction`, and the loss of that prediction.

    A final block may ask for H learned positions in front of the core's input (expression heads, Kwak et al. 2024),
    which it reads back as the first H positions of the core's output; this needs a core that keeps the length.
    expression_heads: the name of its hyperparameter that says how many, H; None where it asks for none.
    """

    expression_heads: ClassVar[str | None] = None
    requires: ClassVar[tuple[str, ...]] = ()  # batch keys that `loss` reads beside x, y and y_probs

    @abstractmethod
    def forward(self, features: Tensor) -> Prediction: ...

    @abstractmethod
    def loss(self, prediction: Prediction, batch: Batch) -> Tensor:
        """A scalar: the mean over the batch, or over what was measured of it."""


class ScalarFinalBlock(FinalBlock):
    """Base of final blocks that regress the standardised expression.

    The standardisation constants are buffers, so that predictions come out in the measurement's own units wherever the
    weights go. Subclasses give standardised values to `to_units` and compare in standardised units with `standardised`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, targets: TargetSpec) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(targets.mean))
        self.register_buffer("std", torch.tensor(targets.std))

    def to_units(self, standardised: Tensor) -> Prediction:
        """standardised: (B, tasks)."""
        expression = standardised * self.std + self.mean
        return Prediction(expression=expression.squeeze(-1) if expression.shape[-1] == 1 else expression)

    def standardised(self, expression: Tensor) -> Tensor:
        """(B,) or (B, tasks) in the measurement's own units -> (B, tasks) with mean 0 and deviation 1 over the training
        set."""
        return (expression.reshape(len(expression), -1) - self.mean) / self.std


def mean_over_measured(loss: Callable[[Tensor, Tensor], Tensor], prediction: Tensor, target: Tensor) -> Tensor:
    """A loss as the mean over what was measured; 0, attached to the graph, where nothing was.

    loss: of two tensors of one shape, the mean over all their entries, each 0 where both are equal, as F.mse_loss and
    F.huber_loss. prediction, target: of one shape; target is NaN where nothing was measured. There the prediction
    itself, detached, stands in for it, so that neither loss nor gradient comes from there.
    """
    measured = ~target.isnan()
    return rescaled(loss(prediction, torch.where(measured, target, prediction.detach())), measured)


def rescaled(loss: Tensor, measured: Tensor) -> Tensor:
    """A mean over all entries, to which those that were not measured add 0, as the mean over the others.

    measured: bool, of the entries' shape. The device is not waited for.
    """
    return loss * (measured.numel() / measured.sum().clamp(min=1).double()).to(loss.dtype)


def shape_in_words(shape: tuple[int, ...] | torch.Size | Any) -> str:
    """(2, 256, 150) -> '(batch, 256, 150)', as shapes stand in messages."""
    return "(" + ", ".join(["batch", *map(str, tuple(shape)[1:])]) + ")"
