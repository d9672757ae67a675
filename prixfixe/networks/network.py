"""First, core and final layers as one network, checked against the contract when it is built."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from prixfixe.common.errors import ContractError, InputError
from prixfixe.contract import (
    BASE_KEYS,
    AuxiliaryHead,
    Batch,
    FinalBlock,
    InputSpec,
    KeySpec,
    Prediction,
    TargetSpec,
    shape_in_words,
)
from prixfixe.data.recipe import Recipe
from prixfixe.networks.parts import LOADED, Origin, factory, find_class

DOES_NOT_FIT = (
    RuntimeError,
    ValueError,
    IndexError,
    TypeError,
)  # what torch and a block raise for an input of another shape
MOST_HEADS = 1 << 16
MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # bytes


class Network(nn.Module):
    """x (B, C, L) -> `Prediction`.

    1. The first layers turn `x` into (B, C', L').
    2. Where the final block asks for H expression heads, H learned positions are put in front: (B, C', H + L').
    3. The core gives (B, C'', L'').
    4. The final block gives the prediction; while training, the recipe's auxiliary heads read the core's output as
       well, without the expression heads.
    """

    def __init__(
        self,
        first: nn.Module,
        core: nn.Module,
        final: FinalBlock,
        *,
        in_core: InputSpec,
        auxiliary: Mapping[str, AuxiliaryHead],
    ) -> None:
        super().__init__()
        self.first, self.core, self.final = first, core, final
        self.width = in_core.channels
        self.heads = nn.Parameter(torch.randn(in_core.channels, in_core.heads)) if in_core.heads else None
        self.auxiliary = nn.ModuleDict(auxiliary)

    def forward(self, batch: Batch) -> Prediction:
        features = self.first(batch["x"], **_wanted(self.first, batch))
        if self.heads is not None:
            features = _in_front(self.heads, features)
        features = self.core(features, **_wanted(self.core, batch))
        with torch.autocast(features.device.type, enabled=False):  # a prediction has more digits than bf16
            prediction: Prediction = self.final(features.to(batch["x"].dtype))
        if self.training:
            positions = features if self.heads is None else features[:, :, self.heads.shape[1] :]
            prediction.auxiliary = {name: head(positions) for name, head in self.auxiliary.items()}
        return prediction

    def loss(self, prediction: Prediction, batch: Batch) -> Tensor:
        """The final block's loss plus every auxiliary one, a scalar."""
        loss = self.final.loss(prediction, batch)
        for name, output in prediction.auxiliary.items():
            loss = loss + self.auxiliary[name].loss(output, batch)  # type: ignore[operator]
        return loss

    def parameter_count(self) -> int:
        """Trainable parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


def _in_front(heads: Tensor, features: Tensor) -> Tensor:
    """(C, H) in front of (B, C, L) -> (B, C, H + L), with channels last as `prixfixe.networks.layers` has them."""
    return torch.cat([heads.T.expand(len(features), -1, -1), features.transpose(1, 2)], dim=1).transpose(1, 2)


def _wanted(block: nn.Module, batch: Batch) -> Batch:
    return {key: batch[key] for key in getattr(block, "requires", ())}


def build(
    recipe: Recipe, parts: Mapping[str, Mapping[str, Any]], targets: TargetSpec, *, origin: Origin = LOADED
) -> Network:
    """Builds the network of a recipe and the nodes `first`, `core` and `final` of the configuration.

    origin: where the configuration came from, which decides what its names may stand for.
    Shapes are inferred block by block on meta tensors, nothing is computed. Raises ContractError, with both blocks and
    their shapes, where one does not fit the other, and InputError where a hyperparameter does not fit its block.
    """
    nodes = {slot: {k: v for k, v in parts[slot].items() if k != "max_lr"} for slot in ("first", "core", "final")}
    names = {slot: str(node.get("_target_", slot)).rpartition(".")[2] for slot, node in nodes.items()}
    given = recipe.inputs
    first = _construct(
        factory(nodes["first"], nn.Module, where="first", given=1, origin=origin),
        given,
        slot="first",
        name=names["first"],
    )
    _check_keys(first, recipe, f"first block {names['first']}")
    after_first = _infer(first, given, recipe, f"recipe {type(recipe).__name__}", f"first block {names['first']}")

    heads = _expression_heads(nodes["final"], origin)
    in_core = InputSpec(after_first.channels, after_first.length + heads, heads=heads)
    core = _construct(
        factory(nodes["core"], nn.Module, where="core", given=1, origin=origin),
        in_core,
        slot="core",
        name=names["core"],
    )
    _check_keys(core, recipe, f"core block {names['core']}")
    giver = f"first block {names['first']}" + (f" with {heads} expression heads" if heads else "")
    after_core = _infer(core, in_core, recipe, giver, f"core block {names['core']}")
    if heads and after_core.length != in_core.length:
        raise ContractError(
            f"final block {names['final']} reads {heads} expression heads back and needs a core that keeps the "
            "length, but core block "
            f"{names['core']} turns {in_core.length} positions into {after_core.length}; choose another core or "
            "another final block"
        )

    final = _construct(
        factory(nodes["final"], FinalBlock, where="final", given=2, origin=origin),
        after_core,
        targets,
        slot="final",
        name=names["final"],
    )
    _check_keys(final, recipe, f"final block {names['final']}")
    positions = InputSpec(after_core.channels, after_core.length - heads)
    network = Network(first, core, final, in_core=in_core, auxiliary=recipe.auxiliary_heads(positions))
    _check_prediction(network, after_core, targets, names)
    return network


def _expression_heads(node: Mapping[str, Any], origin: Origin) -> int:
    """How many expression heads a final block asks for."""
    asked_by = find_class(str(node.get("_target_", "")), FinalBlock, origin).expression_heads
    heads = 0 if asked_by is None else node.get(asked_by, 0)
    if not isinstance(heads, int) or isinstance(heads, bool) or not 0 <= heads <= MOST_HEADS:
        raise InputError(f"final.{asked_by}={heads!r}: a number of positions, 0 to {MOST_HEADS:,}")
    return heads


def learning_rate_groups(network: Network, parts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The parameters in one group a block, each with the highest learning rate that its YAML allows (`max_lr`, or
    None)."""
    blocks: dict[str, Iterable[nn.Parameter]] = {
        slot: getattr(network, slot).parameters() for slot in ("first", "core", "final")
    }
    blocks["auxiliary"] = network.auxiliary.parameters()
    blocks["heads"] = [] if network.heads is None else [network.heads]
    groups = [
        {
            "name": name,
            "params": [p for p in parameters if p.requires_grad],
            "max_lr": parts.get(name, {}).get("max_lr"),
        }
        for name, parameters in blocks.items()
    ]
    return [group for group in groups if group["params"]]


def _construct(make: Callable[..., Any], *arguments: Any, slot: str, name: str) -> Any:
    spec = arguments[0]
    _check_size(make, *arguments, slot=slot, name=name)
    try:
        return make(*arguments)
    except InputError:
        raise
    except Exception as error:
        raise ContractError(
            f"{slot} block {name} cannot be built for (batch, {spec.channels}, {spec.length}): {in_one_line(error)}"
        ) from error


def _check_size(make: Callable[..., Any], *arguments: Any, slot: str, name: str) -> None:
    """Raises InputError for a block whose weights are more than this machine's memory. They are counted on meta
    tensors, which hold nothing."""
    try:
        with torch.device("meta"):
            block = make(*arguments)
            size = sum(tensor.numel() * tensor.element_size() for tensor in (*block.parameters(), *block.buffers()))
    except Exception:  # what is wrong with it is told where it is built
        return
    if size > MEMORY:
        raise InputError(
            f"{slot} block {name} would have {size / 1e9:,.0f} GB of weights, and this machine has "
            f"{MEMORY / 1e9:,.0f} GB of memory; choose smaller values of {slot}, or a shorter input"
        )


def in_one_line(error: Exception) -> str:
    """An error of a block: what it says, its kind, and the line of the block (not of torch) where it came."""
    ours = (str(Path(torch.__file__).parent), str(Path(__file__).parent))
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
    where = f", {Path(lines[-1].filename).name} line {lines[-1].lineno}" if lines else ""
    return f"{error} ({type(error).__name__}{where})"


def _check_keys(block: nn.Module, recipe: Recipe, who: str) -> None:
    """Raises ContractError where a block asks for a batch key that the recipe lacks, or that is not there at
    prediction. A final block's loss may read what was measured."""
    wanted = set(getattr(block, "requires", ()))
    if lacking := sorted(wanted - {*BASE_KEYS, *recipe.keys}):
        raise ContractError(
            f"{who} needs {', '.join(lacking)} in the batch; recipe {type(recipe).__name__} gives "
            f"{', '.join((*BASE_KEYS, *recipe.keys))}"
        )
    measured = sorted(wanted & {"y", "y_probs"})
    if measured and not isinstance(block, FinalBlock):
        raise ContractError(
            f"{who} needs {', '.join(measured)}, which is measured and not there at prediction; a first or core block "
            f"may ask for {', '.join(('x', *recipe.keys))}"
        )


def _infer(block: nn.Module, given: InputSpec, recipe: Recipe, giver: str, taker: str) -> InputSpec:
    """What `block` makes of (batch, channels, length)."""
    shape = (2, given.channels, given.length)
    try:
        known = {"x": KeySpec((recipe.inputs.channels, recipe.inputs.length), torch.float32), **recipe.keys}
        result = _tried(block, shape, {key: known[key] for key in getattr(block, "requires", ())})
    except Exception as error:
        raise ContractError(
            f"{taker} does not take what {giver} gives, {shape_in_words(shape)}: {in_one_line(error)}"
        ) from error
    if not isinstance(result, Tensor) or result.ndim != 3 or len(result) != 2:
        got = shape_in_words(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise ContractError(
            f"{taker} is given {shape_in_words(shape)} by {giver} and must give (batch, channels, length), but gives "
            f"{got}"
        )
    stated = getattr(block, "out_channels", None)
    if stated is None:
        raise ContractError(
            f"{taker} does not set self.out_channels; it gives {shape_in_words(result.shape)} for "
            f"{shape_in_words(shape)}"
        )
    if stated != result.shape[1]:
        raise ContractError(
            f"{taker} states out_channels={stated} but gives {shape_in_words(result.shape)} for {shape_in_words(shape)}"
        )
    return InputSpec(result.shape[1], result.shape[2])


def _check_prediction(network: Network, given: InputSpec, targets: TargetSpec, names: Mapping[str, str]) -> None:
    shape = (2, given.channels, given.length)
    taker, giver = f"final block {names['final']}", f"core block {names['core']}"
    try:
        prediction = _tried(network.final, shape, {})
    except Exception as error:
        raise ContractError(
            f"{taker} does not take what {giver} gives, {shape_in_words(shape)}: {in_one_line(error)}"
        ) from error
    tasks = () if len(targets.tasks) == 1 else (len(targets.tasks),)
    if not isinstance(prediction, Prediction):
        raise ContractError(f"{taker} must give a Prediction, but gives {type(prediction).__name__}")
    if tuple(prediction.expression.shape) != (2, *tasks):
        raise ContractError(
            f"{taker} must predict expression of shape {shape_in_words((2, *tasks))}, but gives "
            f"{shape_in_words(prediction.expression.shape)}"
        )
    expected = (2, *tasks, targets.bins.number)
    if prediction.log_probs is not None and tuple(prediction.log_probs.shape) != expected:
        raise ContractError(
            f"{taker} must give log_probs of shape {shape_in_words(expected)}, but gives "
            f"{shape_in_words(prediction.log_probs.shape)}"
        )


@torch.no_grad()
def _tried(block: nn.Module, shape: tuple[int, int, int], keys: Mapping[str, KeySpec]) -> Any:
    """What a block gives at scoring, on meta tensors: shapes without numbers. A block that needs numbers is given two
    samples of zeros."""

    def given(device: str) -> Any:
        weights = {name: tensor.to(device) for name, tensor in (*block.named_parameters(), *block.named_buffers())}
        arrays = {key: torch.zeros((2, *spec.shape), dtype=spec.dtype, device=device) for key, spec in keys.items()}
        return functional_call(block, weights, (torch.zeros(shape, device=device),), arrays)

    block.eval()
    try:
        return given("meta")
    except DOES_NOT_FIT:
        return given("cpu")
    finally:
        block.train()
