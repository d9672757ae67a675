"""First, core and final layers as one network, checked against the contract when it is built."""

from __future__ import annotations

import inspect
import os
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from prixfixe.common.errors import ContractError, InputError
from prixfixe.contract import (
    AuxiliaryHead,
    Batch,
    Block,
    FinalBlock,
    InputSpec,
    Prediction,
    Spec,
    shape_in_words,
)
from prixfixe.data.recipe import Recipe
from prixfixe.networks.parts import LOADED, Origin, factory, find_class, networks_in, training_of, values_of
from prixfixe.tasks.task import Task

DOES_NOT_FIT = (RuntimeError, ValueError, IndexError, TypeError)  # what torch and a block raise for another shape
MOST_HEADS = 1 << 16
MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # bytes
BLOCKS = ("first", "core", "final")


class Network(nn.Module):
    """x (B, C, L) or int64 (B, L) -> `Prediction`.

    1. The first layers turn `x` into (B, C', L').
    2. Where the final block asks for H expression heads, H learned positions are put in front: (B, C', H + L').
    3. The core gives (B, C'', L'').
    4. The final block gives the prediction; while training, the recipe's auxiliary heads read the core's output as
       well, without the expression heads.
    A block is given the keys that it requires. A key with a length axis is mapped by every block that changes the
    length in front of the one that asks for it.

    columns: the columns of the dataset that blocks require as keys of their forward pass. training_columns: those, and
    what their losses require. mapped: of each block, the keys that it maps. outputs: names of what is predicted.
    in_eval: modules that stay in eval mode while the rest is trained. from_sources: names of tensors that are as they
    came from elsewhere (both of `prixfixe.networks.weights`).
    """

    def __init__(
        self,
        first: nn.Module,
        core: nn.Module,
        final: FinalBlock,
        *,
        in_core: InputSpec,
        auxiliary: Mapping[str, AuxiliaryHead],
        training_columns: Sequence[str] = (),
        mapped: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__()
        self.first, self.core, self.final = first, core, final
        self.width = in_core.channels
        self.heads = nn.Parameter(torch.randn(in_core.channels, in_core.heads)) if in_core.heads else None
        self.auxiliary = nn.ModuleDict(auxiliary)
        self.training_columns, self.mapped = tuple(training_columns), dict(mapped or {})
        self.takes = {slot: forward_keys(block) for slot, block in self.blocks().items()}
        taken = {key for keys in self.takes.values() for key in keys}
        self.columns = tuple(name for name in self.training_columns if name in taken)
        self.outputs: tuple[str, ...] = ()
        self.in_eval: tuple[nn.Module, ...] = ()
        self.from_sources: frozenset[str] = frozenset()

    def blocks(self) -> dict[str, Any]:
        return {slot: getattr(self, slot) for slot in BLOCKS}

    def networks(self) -> dict[str, Network]:
        """The whole networks that blocks hold, by their places, such as `final.bias`."""
        return {name: module for name, module in self.named_modules() if name and isinstance(module, Network)}

    def train(self, mode: bool = True) -> Network:
        super().train(mode)
        for module in self.in_eval:
            module.eval()
        return self

    def forward(self, batch: Batch) -> Prediction:
        keys = dict(batch)
        features = self._through("first", batch["x"], keys)
        if self.heads is not None:
            features = _in_front(self.heads, features)
        features = self._through("core", features, keys)
        whole = torch.float64 if features.dtype == torch.float64 else torch.float32
        with torch.autocast(features.device.type, enabled=False):  # a prediction has more digits than bf16
            prediction: Prediction = self._through("final", features.to(whole), keys)
        if self.training:
            positions = features if self.heads is None else features[:, :, self.heads.shape[1] :]
            prediction.auxiliary = {name: head(positions) for name, head in self.auxiliary.items()}
        return prediction

    def _through(self, slot: str, features: Tensor, keys: Batch) -> Any:
        block = getattr(self, slot)
        result = block(features, **{key: keys[key] for key in self.takes[slot]})
        for key in self.mapped.get(slot, ()):
            keys[key] = block.map_key(key, keys[key])
        return result

    def losses(self, prediction: Prediction, batch: Batch) -> list[tuple[Tensor, Tensor | int]]:
        """The final block's loss and every auxiliary one, each a scalar, with what it is a mean over; their sum is what
        is trained."""
        found = [(self.final.loss(prediction, batch), self.final.size(batch))]
        for name, output in prediction.auxiliary.items():
            head: Any = self.auxiliary[name]
            found.append((head.loss(output, batch), head.size(batch)))
        return found

    def sizes(self, batch: Batch) -> list[Tensor | int]:
        """What each of `losses` is a mean over."""
        heads: Any = self.auxiliary.values()
        return [self.final.size(batch), *(head.size(batch) for head in heads)]

    def loss(self, prediction: Prediction, batch: Batch) -> Tensor:
        """The final block's loss plus every auxiliary one, a scalar."""
        first, *others = (loss for loss, _ in self.losses(prediction, batch))
        for other in others:
            first = first + other
        return first

    def parameter_count(self) -> int:
        """Trainable parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


def forward_keys(block: nn.Module) -> tuple[str, ...]:
    """The keys of `requires` that a block's `forward` takes by name; those that only its loss reads are not among
    them."""
    required = getattr(block, "requires", ())
    parameters = inspect.signature(block.forward).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return tuple(required)
    names = {parameter.name for parameter in parameters}
    return tuple(key for key in required if key in names)


def _in_front(heads: Tensor, features: Tensor) -> Tensor:
    """(C, H) in front of (B, C, L) -> (B, C, H + L), with channels last as `prixfixe.networks.layers` has them."""
    return torch.cat([heads.T.expand(features.shape[0], -1, -1), features.transpose(1, 2)], dim=1).transpose(1, 2)


def build(recipe: Recipe, parts: Mapping[str, Mapping[str, Any]], task: Task, *, origin: Origin = LOADED) -> Network:
    """Builds the network of a recipe, the nodes `first`, `core` and `final` of the configuration, and a fitted task.

    origin: where the configuration came from, which decides what its names may stand for.
    Shapes are inferred block by block on meta tensors, nothing is computed. Raises ContractError, with both sides and
    their shapes, where one does not fit the other, and InputError where a hyperparameter does not fit its block.
    """
    nodes = {slot: values_of(parts[slot]) for slot in BLOCKS}
    for slot, node in nodes.items():
        for name, inner in networks_in(node).items():
            try:
                node[name] = _network_within(inner, recipe, task, origin)
            except InputError as error:
                raise type(error)(f"{slot}.{name}: {error}") from error
    who = {slot: block_in_words(slot, nodes[slot]) for slot in BLOCKS}
    known = Keys(recipe, task)
    known.check_task()
    inputs = recipe.inputs
    first = _construct("first", nodes, origin, inputs)
    known.check(first, who["first"])
    after_first = _infer(first, inputs, known, f"recipe {type(recipe).__name__}", who["first"])
    known.behind("first", first, inputs.length, after_first.length, who["first"])

    heads = _expression_heads(nodes["final"], origin)
    in_core = InputSpec(after_first.channels, after_first.length + heads, heads=heads)
    core = _construct("core", nodes, origin, in_core)
    known.check(core, who["core"])
    giver = who["first"] + (f" with {heads} expression heads" if heads else "")
    after_core = _infer(core, in_core, known, giver, who["core"])
    known.behind("core", core, in_core.length, after_core.length, who["core"])
    if heads and after_core.length != in_core.length:
        raise ContractError(
            f"{who['final']} reads {heads} expression heads back and needs a core that keeps the length, but "
            f"{who['core']} turns {in_core.length} positions into {after_core.length}; choose another core or another "
            "final block"
        )
    in_final = InputSpec(
        after_core.channels, after_core.length, tokens=inputs.tokens, positions=inputs.positions or inputs.length
    )
    final = _construct("final", nodes, origin, in_final, task.spec)
    known.check(final, who["final"])
    keys = known.given(final, who["final"])
    positions = InputSpec(after_core.channels, after_core.length - heads)
    network = Network(
        first,
        core,
        final,
        in_core=in_core,
        auxiliary=recipe.auxiliary_heads(positions) if task.with_auxiliary else {},
        training_columns=known.columns_asked_for,
        mapped=known.mapped,
    )
    _check_prediction(network, in_final, keys, known, who)
    return network


def _network_within(node: Mapping[str, Any], recipe: Recipe, task: Task, origin: Origin) -> Network | None:
    """The network that a part holds, of another run's parts; None where no run is named. Its names came from that
    run."""
    weights = training_of(node)["weights"]
    if weights is None:
        return None
    place = Path(str(weights)).expanduser()
    theirs = replace(origin, loaded=True, run=origin.run or (place if place.is_dir() else place.parent))
    return build(recipe, {slot: node[slot] for slot in BLOCKS}, task, origin=theirs)


class Keys:
    """The keys that parts may ask for: the recipe's, the task's, and columns of the dataset."""

    def __init__(self, recipe: Recipe, task: Task) -> None:
        self.recipe, self.task = recipe, task
        self.specs = {"x": input_spec(recipe.inputs), **recipe.keys}
        self.columns_asked_for: list[str] = []
        self.before: list[tuple[str, nn.Module, int, int, str]] = []  # of `behind`
        self.mapped: dict[str, list[str]] = {}  # of each block, the keys that it maps for those behind it

    def check_task(self) -> None:
        """Raises ContractError where the recipe lacks a key that the task needs, or moves its windows too far."""
        margin = self.task.margin
        if margin is not None and self.recipe.turns_inserts:
            raise ContractError(
                f"recipe {type(self.recipe).__name__} turns inserts, and task {self.task.name} has measurements along "
                "the sequence, which would stay as they are: leave recipe.flip_insert out"
            )
        if margin is not None and self.recipe.most_shift > margin:
            raise ContractError(
                f"recipe {type(self.recipe).__name__} moves windows by up to {self.recipe.most_shift} nt, and task "
                f"{self.task.name} has measurements for {margin} nt on either side: less jitter, or wider data"
            )
        if lacking := [key for key in self.task.needs if key not in self.specs]:
            raise ContractError(
                f"task {self.task.name} needs {', '.join(lacking)} in the batch; recipe {type(self.recipe).__name__} "
                f"gives {', '.join(self.specs)}: choose a recipe that masks, such as "
                "recipe=plain recipe.mask_share=0.15"
            )

    def check(self, block: nn.Module, who: str) -> None:
        """Raises ContractError where a block asks for a key that nobody gives, or that is not there at prediction. A
        final block's loss may read what was measured."""
        for key in getattr(block, "requires", ()):
            if key in self.specs:
                continue
            if key in self.task.keys:
                if key in forward_keys(block) or not isinstance(block, FinalBlock):
                    raise ContractError(
                        f"{who} needs {key}, which is measured and not there at prediction; it may ask for "
                        f"{', '.join(self.specs)}"
                    )
            elif key in self.task.spec.columns:
                self.specs[key] = self.task.spec.columns[key]
                self.columns_asked_for.append(key)
            else:
                columns = ", ".join(self.task.spec.columns) or "none"
                raise ContractError(
                    f"{who} needs {key} in the batch; recipe {type(self.recipe).__name__} gives "
                    f"{', '.join((*self.specs, *self.task.keys))}, and the dataset has the columns {columns}"
                )

    def behind(self, slot: str, block: nn.Module, length: int, after: int, who: str) -> None:
        """Notes a block that turns `length` positions into `after`: what follows is given keys as it maps them."""
        if length != after:
            self.before.append((slot, block, length, after, who))

    def given(self, block: nn.Module, who: str) -> dict[str, Spec]:
        """What the keys are that the next block's forward takes, mapped by those in front of it. ContractError where
        one of these cannot."""
        return {key: self._mapped(key, who) for key in forward_keys(block)}

    def _mapped(self, key: str, who: str) -> Spec:
        spec = self.specs[key]
        if key == "x" or spec.length_axis is None:
            return spec
        for slot, block, length, after, mapper in self.before:
            asks = f"{who} needs {key}, which has one value a position, but {mapper} turns {length} positions into"
            if not isinstance(block, Block) or type(block).map_key is Block.map_key:
                raise ContractError(f"{asks} {after} and does not map it (Block.map_key): choose another")
            try:
                value = _computed(partial(_mapped_zeros, block, key, spec))
            except Exception as error:
                raise ContractError(f"{asks} {after} and does not map it: {in_one_line(error)}") from error
            shape = tuple(value.shape[1:]) if isinstance(value, Tensor) else ()
            if len(shape) != len(spec.shape) or shape[spec.length_axis] != after:
                got = shape_in_words((2, *shape)) if isinstance(value, Tensor) else type(value).__name__
                raise ContractError(f"{asks} {after} and makes {got} of it (Block.map_key)")
            spec = Spec(shape, value.dtype, spec.length_axis)
            if key not in self.mapped.setdefault(slot, []):
                self.mapped[slot].append(key)
        return spec


def input_spec(inputs: InputSpec) -> Spec:
    """What stands under `x`."""
    if inputs.channels:
        return Spec((inputs.channels, inputs.length), torch.float32, 1)
    return Spec((inputs.length,), torch.int64, 0)


def _expression_heads(node: Mapping[str, Any], origin: Origin) -> int:
    """How many expression heads a final block asks for."""
    asked_by = find_class(str(node.get("_target_", "")), FinalBlock, origin).expression_heads
    heads = 0 if asked_by is None else node.get(asked_by, 0)
    if not isinstance(heads, int) or isinstance(heads, bool) or not 0 <= heads <= MOST_HEADS:
        raise InputError(f"final.{asked_by}={heads!r}: a number of positions, 0 to {MOST_HEADS:,}")
    return heads


def learning_rate_groups(network: Network, parts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The parameters that are trained in one group a block, each with the highest learning rate that its `train` allows
    (`max_lr`, or None) and, where it says one, its `weight_decay`."""
    blocks: dict[str, Iterable[nn.Parameter]] = {
        slot: getattr(network, slot).parameters() for slot in ("first", "core", "final")
    }
    blocks["auxiliary"] = network.auxiliary.parameters()
    blocks["heads"] = [] if network.heads is None else [network.heads]
    groups = []
    for name, parameters in blocks.items():
        train = training_of(parts.get(name, {}))
        trained = [p for p in parameters if p.requires_grad]
        group = {"name": name, "params": trained, "max_lr": train["max_lr"]}
        if train["weight_decay"] is not None:
            group["weight_decay"] = train["weight_decay"]
        if trained:
            groups.append(group)
    return groups


def block_in_words(slot: str, node: Mapping[str, Any]) -> str:
    return f"{slot} block {str(node.get('_target_', slot)).rpartition('.')[2]}"


def _construct(slot: str, nodes: Mapping[str, Mapping[str, Any]], origin: Origin, *arguments: Any) -> Any:
    """The block of a slot. arguments: what its constructor takes beside its hyperparameters, first what it is given."""
    base = FinalBlock if slot == "final" else nn.Module
    make = factory(nodes[slot], base, where=slot, given=len(arguments), origin=origin)
    who, given = block_in_words(slot, nodes[slot]), arguments[0]
    _check_size(make, arguments, who, slot)
    try:
        return make(*arguments)
    except InputError:
        raise
    except Exception as error:
        raise ContractError(
            f"{who} cannot be built for (batch, {given.channels}, {given.length}): {in_one_line(error)}"
        ) from error


def _check_size(make: Callable[..., Any], arguments: Sequence[Any], who: str, slot: str) -> None:
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
            f"{who} would have {size / 1e9:,.0f} GB of weights, and this machine has {MEMORY / 1e9:,.0f} GB of memory; "
            f"choose smaller values of {slot}, or a shorter input"
        )


def in_one_line(error: Exception) -> str:
    """An error of a block: what it says, its kind, and the line of the block (not of torch) where it came."""
    ours = (str(Path(torch.__file__).parent), str(Path(__file__).parent))
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
    where = f", {Path(lines[-1].filename).name} line {lines[-1].lineno}" if lines else ""
    return f"{error} ({type(error).__name__}{where})"


def _infer(block: nn.Module, given: InputSpec, known: Keys, giver: str, taker: str) -> InputSpec:
    """What `block` makes of (batch, channels, length)."""
    spec = input_spec(given)
    shape, keys = shape_in_words((2, *spec.shape)), known.given(block, taker)
    try:
        result = _tried(block, spec, keys)
    except Exception as error:
        raise ContractError(f"{taker} does not take what {giver} gives, {shape}: {in_one_line(error)}") from error
    if not isinstance(result, Tensor) or result.ndim != 3 or len(result) != 2:
        got = shape_in_words(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise ContractError(
            f"{taker} is given {shape} by {giver} and must give (batch, channels, length), but gives {got}"
        )
    stated = getattr(block, "out_channels", None)
    given_back = f"{shape_in_words(result.shape)} for {shape}"
    if stated is None:
        raise ContractError(f"{taker} does not set self.out_channels; it gives {given_back}")
    if stated != result.shape[1]:
        raise ContractError(f"{taker} states out_channels={stated} but gives {given_back}")
    return InputSpec(result.shape[1], result.shape[2])


def _check_prediction(
    network: Network, given: InputSpec, keys: Mapping[str, Spec], known: Keys, who: Mapping[str, str]
) -> None:
    """Raises ContractError where the final block does not give what the task scores, in its shape."""
    task, taker = known.task, who["final"]
    spec = Spec((given.channels, given.length), torch.float32)
    try:
        prediction = _tried(network.final, spec, keys)
    except Exception as error:
        gives = f"{taker} does not take what {who['core']} gives, {shape_in_words((2, *spec.shape))}"
        raise ContractError(f"{gives}: {in_one_line(error)}") from error
    if not isinstance(prediction, Prediction):
        raise ContractError(f"{taker} must give a Prediction, but gives {type(prediction).__name__}")
    wanted, optional = task.outputs(known.recipe.inputs), task.optional_outputs(known.recipe.inputs)
    if lacking := [name for name in wanted if name not in prediction.outputs]:
        raise ContractError(
            f"task {task.name} scores {', '.join(lacking)}, which {taker} does not give (it gives "
            f"{', '.join(prediction.outputs) or 'nothing'}): choose another final block, or another task"
        )
    network.outputs = tuple(prediction.outputs)
    for name, output in prediction.outputs.items():
        expected = {**wanted, **optional}.get(name)
        if expected is not None and tuple(output.shape) != (2, *expected.shape):
            raise ContractError(
                f"{taker} must predict {name} of shape {shape_in_words((2, *expected.shape))}, but gives "
                f"{shape_in_words(output.shape)}"
            )


@torch.no_grad()
def _tried(block: nn.Module, spec: Spec, keys: Mapping[str, Spec]) -> Any:
    """What a block gives at scoring for two samples of zeros; see `_computed`."""

    def given(device: str) -> Any:
        weights = {name: tensor.to(device) for name, tensor in (*block.named_parameters(), *block.named_buffers())}
        arrays = {key: _zeros(one, device) for key, one in keys.items()}
        return functional_call(block, weights, (_zeros(spec, device),), arrays)

    block.eval()
    try:
        return _computed(given)
    finally:
        block.train()


def _computed(given: Callable[[str], Any]) -> Any:
    """What is computed on meta tensors: shapes without numbers; or on the CPU, where that needs numbers."""
    try:
        return given("meta")
    except DOES_NOT_FIT:
        return given("cpu")


def _mapped_zeros(block: Block, key: str, spec: Spec, device: str) -> Any:
    return block.map_key(key, _zeros(spec, device))


def _zeros(spec: Spec, device: str) -> Tensor:
    """Of two samples."""
    return torch.zeros((2, *spec.shape), dtype=spec.dtype, device=device)
