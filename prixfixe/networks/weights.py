"""Weights from elsewhere: parts that start from another run's, that are frozen, or that carry a low-rank adapter.

A run writes what it has trained and what cannot be had elsewhere (`own_state`). Where the rest comes from stands in its
sources.json, with a hash, and is checked whenever it is read. Files are safetensors; nothing in them is executed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from prixfixe.common.errors import ContractError, InputError
from prixfixe.common.text import counted, printable
from prixfixe.contract import Block
from prixfixe.networks.network import BLOCKS, Network
from prixfixe.networks.parts import find_class, has_adapter, is_kept, training_of
from prixfixe.runs.sources import Source

SHOWN = 4  # names in a message, of each kind
NOT_FINITE = "with values that are not finite"


def prepare(
    network: Network, parts: Mapping[str, Mapping[str, Any]], sources: Mapping[str, Source]
) -> dict[str, Source]:
    """Makes a network what the parts' `train` says, in place, before anything is trained; what was loaded, by slot.

    1. The tensors of `sources` are loaded. 2. Frozen parts, and whole networks that parts hold, get no gradients, and
    stay in eval mode. 3. Adapters are put in: the rest of their parts gets no gradients, and its batch norm stays in
    eval mode. Raises InputError where tensors do not fit, a block takes no adapter, or nothing is left to train.
    """
    loaded = {slot: _load(network, source) for slot, source in sources.items()}
    in_eval: list[nn.Module] = [*network.networks().values()]
    for inner in in_eval:
        inner.requires_grad_(False)
    for slot, block in network.blocks().items():
        train = training_of(parts[slot])
        if train["frozen"]:
            block.requires_grad_(False)
            if slot == "final" and network.heads is not None:
                network.heads.requires_grad_(False)
            in_eval.append(block)
        if has_adapter(train):
            _add_adapter(slot, block, train["lora"])
            in_eval += [module for module in block.modules() if isinstance(module, _NormBase)]
    network.in_eval = tuple(in_eval)
    network.train(network.training)
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    if not any(slot_of(name) in BLOCKS for name in trained):
        raise InputError("first, core and final are all frozen: nothing is left to train; leave one of them as it is")
    kept = {slot for slot in BLOCKS if (train := training_of(parts[slot]))["weights"] is not None and is_kept(train)}
    within = tuple(f"{place}." for place in network.networks())  # which a run writes itself
    named = [name for name in network.state_dict() if slot_of(name) in kept and not name.startswith(within)]
    network.from_sources = frozenset(name for name in named if name not in trained)
    return loaded


def slot_of(name: str) -> str:
    """The part that a tensor of a network belongs to: the final block's are its expression heads, too."""
    return "final" if name == "heads" else name.partition(".")[0]


def _load(network: Network, source: Source) -> Source:
    theirs = source.read()
    where = f"{source.slot}.train.weights: {printable(source.file)}"
    inner = network.networks().get(source.slot)
    if inner is not None:
        infinite = [name for name, tensor in theirs.items() if not torch.isfinite(tensor).all()]
        if problem := unlike(theirs, inner.state_dict()) or _in_words({NOT_FINITE: infinite}):
            raise InputError(f"{where} does not fit its run's config.yaml: {printable(problem, 2000)}")
        inner.load_state_dict(theirs)
        return replace(source, tensors=len(theirs))
    mine = {name: tensor for name, tensor in theirs.items() if slot_of(name) == source.slot}
    if not mine:
        begin = ", ".join(dict.fromkeys(f"{name.partition('.')[0]}." for name in theirs)) or "nothing"
        compiled = any(name.startswith("_orig_mod.") for name in theirs)
        advice = "save the network that was compiled, its _orig_mod" if compiled else "rename them"
        raise InputError(
            f"{where} has no tensor of {source.slot}: its names must begin with {source.slot}. and begin with "
            f"{printable(begin, 300)}; {advice}"
        )
    ours = {name: tensor for name, tensor in network.state_dict().items() if slot_of(name) == source.slot}
    infinite = [name for name, tensor in mine.items() if not torch.isfinite(tensor).all()]
    if problem := unlike(mine, ours) or _in_words({NOT_FINITE: infinite}):
        raise InputError(
            f"{where} does not fit this {source.slot}: {printable(problem, 2000)}; its block and its values must be "
            "those that the weights were trained with"
        )
    network.load_state_dict(mine, strict=False)
    return replace(source, tensors=len(mine))


def unlike(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> str:
    """In what tensors are not those wanted: names, shapes, kinds of number; '' where they are."""
    both = [name for name in ours if name in theirs]
    kinds = {
        "missing": [name for name in ours if name not in theirs],
        "left over": [name for name in theirs if name not in ours],
        "of another shape": [
            f"{name} {tuple(theirs[name].shape)}, not {tuple(ours[name].shape)}"
            for name in both
            if theirs[name].shape != ours[name].shape
        ],
        "of another kind": [n for n in both if theirs[n].is_floating_point() != ours[n].is_floating_point()],
    }
    return _in_words(kinds)


def _in_words(kinds: Mapping[str, Sequence[str]]) -> str:
    """2 tensors missing: core.a, core.b; 1 tensor left over: core.c."""
    return "; ".join(
        f"{counted(len(names), 'tensor')} {kind}: {', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''}"
        for kind, names in kinds.items()
        if names
    )


def _add_adapter(slot: str, block: nn.Module, lora: Mapping[str, Any]) -> None:
    """Low-rank adapters (Hu et al. 2022) on the layers that a block names; the only parameters of it that are
    trained."""
    names: Sequence[str] = getattr(block, "adapters", ())
    if not names:
        raise InputError(
            f"{slot}.train.lora.rank={lora['rank']}: {type(block).__name__} names no layers for adapters; "
            f"{', '.join(_blocks_with_adapters())} do (Block.adapters)"
        )
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise InputError(f"{slot}.train.lora needs peft: pip install 'prixfixe[lora]'") from error
    if isinstance(block, Block):
        block.split_for_adapters()
    config = LoraConfig(
        r=lora["rank"], lora_alpha=lora["alpha"], lora_dropout=lora["dropout"], target_modules=list(names)
    )
    try:
        inject_adapter_in_model(config, block)
    except ValueError as error:
        raise ContractError(f"{slot} block {type(block).__name__} takes no adapters where it says: {error}") from error


def _blocks_with_adapters() -> list[str]:
    from prixfixe.menu.parts import menu  # for a message alone

    blocks = [part for part in menu() if part.slot in BLOCKS and part.node]
    return [f"{p.slot}={p.name}" for p in blocks if getattr(find_class(p.node["_target_"], nn.Module), "adapters", ())]


def own_state(network: Network) -> dict[str, Tensor]:
    """The tensors of a network that its run writes: all but those that came from elsewhere and are as they came."""
    return {name: tensor for name, tensor in network.state_dict().items() if name not in network.from_sources}


def load_own_state(network: Network, tensors: Mapping[str, Tensor]) -> None:
    """Takes back what `own_state` gave; RuntimeError where it is anything else."""
    if problem := unlike(tensors, own_state(network)):
        raise RuntimeError(problem)
    network.load_state_dict(tensors, strict=False)


def plain_state(network: Network) -> dict[str, Tensor]:
    """The tensors of the network without adapters: each one merged into the weights of its layer."""
    plain = copy.deepcopy(network)
    for block in plain.blocks().values():
        for name, layer in [*block.named_modules()]:
            if hasattr(layer, "lora_A"):
                layer.merge()
                parent, _, child = name.rpartition(".")
                setattr(block.get_submodule(parent), child, layer.get_base_layer())
        if isinstance(block, Block):
            block.join_after_adapters()
    return plain.state_dict()
