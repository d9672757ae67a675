"""The contract between the parts, stated once. B is the batch, C channels, L positions (design of Rafi et al. 2024).

| part    | takes                                | gives                                                              |
|---------|--------------------------------------|--------------------------------------------------------------------|
| dataset | files                                | columns of n rows: `sequence`, measurements, anything asked for    |
| recipe  | columns                              | a `Batch`: `x` (B, C, L) or int64 (B, L), keys of its own; steps   |
| first   | (B, C, L), or int64 (B, L)           | (B, C', L')                                                        |
| core    | (B, C', L')                          | (B, C'', L'')                                                      |
| final   | (B, C'', L'')                        | a `Prediction`: named outputs; and its loss against a batch        |
| task    | measured columns                     | targets in the batch; the outputs that it scores; their scores     |

Columns, keys of a batch and outputs of a prediction are three dictionaries with declared shapes and dtypes (`Spec`). A
part names the keys that it needs (`requires`); a key that no recipe and no task gives is the dataset's column of that
name. A pairing that lacks a key, an output or a shape is refused when the network is built, and both sides are named.

A block is a `torch.nn.Module` whose constructor takes the `InputSpec` of what it will be given and then keyword-only
hyperparameters (the YAML in `conf/` is the one place for their values). First and core blocks state `out_channels`;
lengths are inferred from the block itself, on meta tensors, when the network is built. Nothing changes a batch in
place.

What was not measured is NaN in `y`, (B,) or (B, tasks), and in `y_probs`, (B, bins) or (B, tasks, bins). A loss leaves
it out before it computes with it, as `mean_over_measured` does: NaN * 0 is NaN, in gradients, too.

Authors of parts import from here alone: bases, specs, layers and encoding.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from prixfixe.tasks.bins import Bins

if TYPE_CHECKING:
    from prixfixe.common.errors import ContractError as ContractError
    from prixfixe.common.errors import InputError as InputError
    from prixfixe.data.datasets import Dataset as Dataset
    from prixfixe.data.datasets import Split as Split
    from prixfixe.data.encoding import one_hot as one_hot
    from prixfixe.data.encoding import place as place
    from prixfixe.data.encoding import reverse_complement as reverse_complement
    from prixfixe.data.encoding import strands as strands
    from prixfixe.data.flanks import Construct
    from prixfixe.data.measurements import Measurements as Measurements
    from prixfixe.data.recipe import GroupedRecipe as GroupedRecipe
    from prixfixe.data.recipe import Recipe as Recipe
    from prixfixe.data.recipe import Samples as Samples
    from prixfixe.data.sequences import Sequences as Sequences
    from prixfixe.networks.initialise import autosome_ as autosome_
    from prixfixe.networks.initialise import keras_ as keras_
    from prixfixe.networks.layers import KERAS_BATCH_NORM as KERAS_BATCH_NORM
    from prixfixe.networks.layers import LSTM as LSTM
    from prixfixe.networks.layers import BatchNorm1d as BatchNorm1d
    from prixfixe.networks.layers import Conv1d as Conv1d
    from prixfixe.networks.layers import Dropout as Dropout
    from prixfixe.networks.layers import GroupedConv as GroupedConv
    from prixfixe.networks.layers import ParallelConvs as ParallelConvs
    from prixfixe.networks.layers import concatenate as concatenate
    from prixfixe.networks.mask_filling import MaskFilling as MaskFilling
    from prixfixe.tasks.scores import Score as Score
    from prixfixe.tasks.task import Task as Task

Batch = dict[str, Tensor]

# What hyperparameters are, for a block's constructor: a value out of these bounds is refused before anything is built.
Count = Annotated[int, Ge(1), Le(100_000)]  # of channels, units, positions of a kernel
Share = Annotated[float, Ge(0), Le(1)]  # of what dropout leaves out

# What else an author needs, and where it is defined.
OFFERED = {
    "Recipe": "prixfixe.data.recipe",
    "GroupedRecipe": "prixfixe.data.recipe",
    "Samples": "prixfixe.data.recipe",
    "one_hot": "prixfixe.data.encoding",
    "place": "prixfixe.data.encoding",
    "reverse_complement": "prixfixe.data.encoding",
    "strands": "prixfixe.data.encoding",
    "ContractError": "prixfixe.common.errors",
    "InputError": "prixfixe.common.errors",
    "Dataset": "prixfixe.data.datasets",
    "Split": "prixfixe.data.datasets",
    "Measurements": "prixfixe.data.measurements",
    "Sequences": "prixfixe.data.sequences",
    "Task": "prixfixe.tasks.task",
    "Score": "prixfixe.tasks.scores",
    "BatchNorm1d": "prixfixe.networks.layers",
    "Conv1d": "prixfixe.networks.layers",
    "Dropout": "prixfixe.networks.layers",
    "GroupedConv": "prixfixe.networks.layers",
    "LSTM": "prixfixe.networks.layers",
    "ParallelConvs": "prixfixe.networks.layers",
    "concatenate": "prixfixe.networks.layers",
    "MaskFilling": "prixfixe.networks.mask_filling",
    "autosome_": "prixfixe.networks.initialise",
    "keras_": "prixfixe.networks.initialise",
    "KERAS_BATCH_NORM": "prixfixe.networks.layers",
}


def __getattr__(name: str) -> Any:
    if name in OFFERED:
        return getattr(importlib.import_module(OFFERED[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class Spec(NamedTuple):
    """What stands under a name for every row: tensors of shape (B, *shape).

    length_axis: which axis of `shape` runs along the positions of `x`, where one does. A block that changes the length
    then maps the key (`Block.map_key`), or the parts behind it cannot ask for it.
    names: of a column of groups, the words of the training rows in order: the numbers 0, 1, ... stand for them, in
    every part of the data.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    length_axis: int | None = None
    names: tuple[str, ...] = ()


KeySpec = Spec  # as version 0.1 called it


@dataclass(frozen=True)
class InputSpec:
    """What a block will be given: float tensors of shape (B, channels, length), or int64 ones (B, length).

    channels: 0 where a recipe gives tokens, int64 (B, length).
    strand_boundary: the position at which the reverse complement begins, where a recipe joins both strands in one
    input; None where all positions are on the plus strand.
    heads: how many of the first positions are expression heads, which the final block will read back.
    tokens: how many symbols a recipe's position may hold: 4 nucleotides, or the size of its vocabulary.
    positions: of the recipe's input, whatever length the blocks have made of it; 0 is `length`.
    """

    channels: int
    length: int
    strand_boundary: int | None = None
    heads: int = 0
    tokens: int = 4
    positions: int = 0


@dataclass(frozen=True)
class TargetSpec:
    """What a final block predicts: one or several tasks, in the measurement's own units.

    mean, std: of the training targets, one number a task; a scalar final block standardises with them.
    bins: how an expression becomes bin probabilities, and back; None where the task has none.
    residual_sd: of a network that is trained and predicts expression alone, the root mean square of its residuals on
    training rows, one number a task; see `prixfixe.tasks.expression.residual_sd`. None where it is not known or not
    needed.
    constants: what else a task has found in the training rows: numbers, by name.
    columns: the columns of the dataset that blocks may ask for.
    construct: how the training sequences are built; None where a run of version 0.1 has kept nothing of it.
    """

    tasks: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    bins: Bins | None = None
    residual_sd: tuple[float, ...] | None = None
    constants: Mapping[str, float] = field(default_factory=dict)
    columns: Mapping[str, Spec] = field(default_factory=dict)
    construct: Construct | None = None

    def of_tasks(self, *shape: int) -> tuple[int, ...]:
        """The shape of a row's numbers: one task has no axis of its own, several have the first."""
        return shape if len(self.tasks) == 1 else (len(self.tasks), *shape)


class Prediction:
    """What a network says of a batch: its outputs by name, each (B, ...).

    A task says which it scores (`Task.outputs`). Expression: `expression`, (B,) or (B, tasks), in the measurement's own
    units; and `log_probs`, log-probabilities of the bins, (B, bins) or (B, tasks, bins), from final blocks that are
    trained to give them. Without them it is a scalar prediction.
    auxiliary: outputs of the recipe's auxiliary heads by name; only while training.
    """

    def __init__(
        self,
        expression: Tensor | None = None,
        log_probs: Tensor | None = None,
        auxiliary: dict[str, Tensor] | None = None,
        **outputs: Tensor | None,
    ) -> None:
        given = {"expression": expression, "log_probs": log_probs, **outputs}
        self.outputs = {name: output for name, output in given.items() if output is not None}
        self.auxiliary = auxiliary or {}

    def __getitem__(self, name: str) -> Tensor:
        return self.outputs[name]

    @property
    def expression(self) -> Tensor:
        return self.outputs["expression"]

    @property
    def log_probs(self) -> Tensor | None:
        return self.outputs.get("log_probs")

    def __repr__(self) -> str:
        return f"Prediction({', '.join(f'{name} {tuple(output.shape)}' for name, output in self.outputs.items())})"


class Block(nn.Module, ABC):
    """Base of first and core blocks: (B, C, L) -> (B, out_channels, L').

    requires: batch keys passed to `forward` by name, beside x: the recipe's, or columns of the dataset.
    adapters: names of the submodules (dense layers, pointwise convolutions) that low-rank adapters go to, or the ends
    of their names; a property where they follow from the hyperparameters. None where a block takes no adapters.
    """

    requires: ClassVar[tuple[str, ...]] = ()
    adapters: ClassVar[tuple[str, ...]] = ()
    out_channels: int

    @abstractmethod
    def forward(self, x: Tensor, **keys: Tensor) -> Tensor: ...

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Called once, before anything is trained, with the batches of all training and validation rows as they are
        scored, on the device and with their targets: what a block finds there goes into its buffers. The network is in
        eval mode, without gradients. By default nothing is read."""

    def map_key(self, name: str, value: Tensor) -> Tensor:
        """A key with a length axis as it stands for this block's output; overridden by blocks that change the length.

        NotImplementedError where the block cannot: no part behind it may then ask for such a key.
        """
        raise NotImplementedError

    def split_for_adapters(self) -> None:
        """Takes layers apart that compute several things at once, so that `adapters` can name a part of them; in place,
        when the weights are loaded. A block without such layers has nothing to do."""

    def join_after_adapters(self) -> None:
        """Undoes `split_for_adapters`, when the adapters are merged into the weights."""


class AuxiliaryHead(nn.Module, ABC):
    """A second output of the core that a recipe trains along with the prediction; its loss is added to the final
    block's."""

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor: ...

    @abstractmethod
    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """A scalar, weighted as it is to be added: the mean over what `size` counts."""

    def size(self, batch: Batch) -> Tensor | int:
        """What `loss` is a mean over, in this batch or part of one; by default its rows."""
        return len(batch["x"])


class FinalBlock(nn.Module, ABC):
    """Base of final blocks: (B, C, L) -> `Prediction`, and the loss of that prediction.

    A final block may ask for H learned positions in front of the core's input (expression heads, Kwak et al. 2024),
    which it reads back as the first H positions of the core's output; this needs a core that keeps the length.
    expression_heads: the name of its hyperparameter that says how many, H; None where it asks for none.
    requires: batch keys that `forward` takes by name, `x` among them, or that `loss` or `prepare` read beside the
    task's: those are not needed where the network predicts.
    adapters: as of `Block`.

    A hyperparameter with a `train` of its own in the YAML, `bias: {train: {weights: null}}`, is a whole network of
    another run, frozen (`nn.Module`, a batch -> a `Prediction`), or None where `weights` names none.
    """

    expression_heads: ClassVar[str | None] = None
    requires: ClassVar[tuple[str, ...]] = ()
    adapters: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def forward(self, features: Tensor, **keys: Tensor) -> Prediction: ...

    def prepare(self, batches: Iterable[Batch]) -> None:
        """As of `Block`."""

    @abstractmethod
    def loss(self, prediction: Prediction, batch: Batch) -> Tensor:
        """A scalar: the mean over what `size` counts."""

    def size(self, batch: Batch) -> Tensor | int:
        """What `loss` is a mean over, in this batch or part of one: by default what was measured of `y`, or else rows.

        The gradient of a step is then the same in however many parts it is computed.
        """
        y = batch.get("y")
        return len(batch["x"]) if y is None else (~y.isnan()).sum()


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
