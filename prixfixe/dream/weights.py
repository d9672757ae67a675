"""The published PyTorch weights (Rafi et al. 2024, Zenodo 10633252) as run folders.

The weights archive holds a plain state dict a combination, `i_j_k_l/model_best.pth`: i, j, k, l number the recipe,
first, core and final layers, 0 Autosome.org, 1 BHI, 2 Unlock_DNA. Every tensor is found by its name and must have the
shape that our part has; the nucleotide channels, A G C T there, are put into our order. Where a published part computes
something else than ours, it is refused with the difference (docs/fidelity.md has them all).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prixfixe.common.errors import InputError
from prixfixe.common.text import printable
from prixfixe.contract import TargetSpec
from prixfixe.networks.network import Network, build
from prixfixe.runs.folder import SLOTS
from prixfixe.runs.imported import Imported, check, composed, in_kind, is_there, read_state_dict, write_run
from prixfixe.tasks.bins import Bins
from prixfixe.training.build import build_recipe, build_task

PARTS = {  # in the order of the archive's numbers
    "recipe": ("autosome", "bhi", "unlockdna"),
    "first": ("conv", "parallel_conv", "kmer"),
    "core": ("efficientnet", "bilstm", "proformer"),
    "final": ("soft_bins", "mlp", "expression_heads"),
}
FOLDERS = {"dream_cnn": "0_1_0_0", "dream_rnn": "0_1_1_0", "dream_attn": "0_0_2_0"}
WANTED = "a model_best.pth of the published weights archive"
TRAINED_ON = "the published training set (Zenodo record 10633252)"
PUBLISHED_ORDER = {  # of the input channels, as indices of ours
    "autosome": (0, 2, 1, 3, 4, 5),  # A G C T is_reverse is_singleton
    "bhi": (0, 2, 1, 3),
    "unlockdna": (0, 1, 2, 3, 4, 5),
}


def import_weights(file: Path, model: str, folder: Path) -> Imported:
    """Reads a published state dict into a new run folder that `predict` and `evaluate` take.

    model: dream_cnn, dream_rnn, dream_attn, or the archive's name of a combination, as 0_1_0_0.
    The folder appears whole or not at all; one that holds these very weights already is left as it is. Raises
    InputError for a file that is damaged or would execute code, for tensors that are missing, left over or of another
    shape, for a combination whose published parts differ from ours, and where `folder` holds something else.
    """
    numbers = combination(model)
    choices = {slot: PARTS[slot][number] for slot, number in zip(SLOTS, numbers, strict=True)}
    if differences := differing(choices):
        raise InputError(f"--model {model}: the published parts differ from ours: {'; '.join(differences)}")
    state = read_state_dict(file, WANTED)
    config = configuration(model, choices, state)
    # a published scalar block gives what it was trained on
    task = build_task(config).with_spec(TargetSpec(("expression",), (0.0,), (1.0,), Bins()))
    network = build(build_recipe(config), config, task)
    network.load_state_dict(translated(state, network, choices["recipe"], file))
    hash_ = hashlib.sha256(file.read_bytes()).hexdigest()
    fingerprint = f"imported-{model}-{hash_[:16]}"  # no configuration's: training here is refused
    imported = Imported(folder, network.parameter_count(), tuple(notes(choices)))
    if is_there(folder, fingerprint):
        return imported
    source = {
        "file": str(file),
        "sha256": hash_,
        "model": model,
        "published_folder": "_".join(map(str, numbers)),
        "notes": imported.notes,
    }
    write_run(folder, config, task, network, fingerprint, source)
    return imported


def combination(model: str) -> tuple[int, ...]:
    """The four numbers of a model: dream_cnn -> (0, 1, 0, 0)."""
    folder = FOLDERS.get(model, model)
    if not re.fullmatch(r"[012]_[012]_[012]_[012]", folder):
        raise InputError(
            f"--model {model}: choose {', '.join(FOLDERS)}, bpnet, chrombpnet, or a folder of the weights archive: "
            "four numbers for recipe, first, core and final layers, 0 Autosome.org, 1 BHI, 2 Unlock_DNA, as 0_1_0_0"
        )
    return tuple(map(int, folder.split("_")))


def differing(choices: dict[str, str]) -> Iterable[str]:
    """In what the published parts of a combination compute something else than ours, so that their weights mean nothing
    here."""
    if choices["final"] == "expression_heads":
        return [
            "the published final layers of Unlock_DNA read their expression heads from the first positions of "
            "the sequence, ours has "
            "learned positions of its own in front, as Kwak et al. 2024 print it"
        ]
    return []


def notes(choices: dict[str, str]) -> Iterable[str]:
    """What the predictions of these weights are, where it is not the expression of the assay."""
    if choices["recipe"] == "bhi" and choices["final"] == "mlp":
        yield (
            "predictions are standardised, (expression - 11) / deviation; the file does not hold the deviation of its "
            "training set"
        )
    if choices["recipe"] == "unlockdna":
        yield (
            "predictions are standardised, (expression - mean) / deviation; the file does not hold those of its "
            "training set"
        )


def configuration(model: str, choices: dict[str, str], state: dict[str, Tensor]) -> dict[str, Any]:
    """The resolved configuration of a published model: its experiment, or the parts with the widths that the file's
    tensors have."""
    overrides = (
        [f"experiment={model}"] if model in FOLDERS else [f"{slot}={choice}" for slot, choice in choices.items()]
    )
    if model not in FOLDERS:
        overrides += ["training.epochs=80", "sweep=imported", *sizes(choices, state)]
    return composed([*overrides, "dataset=table", f"dataset.path='{TRAINED_ON}'"], choices)


def sizes(choices: dict[str, str], state: dict[str, Tensor]) -> list[str]:
    """Overrides for what differs between the archive's combinations: the first layers' width, the k-mers' length, the
    published MLP."""
    overrides = []
    if choices["first"] == "kmer" and (dense := state.get("first.kmer_dense.weight")) is not None and dense.ndim == 2:
        overrides += [
            f"first.channels={len(dense)}",
            f"first.k={dense.shape[1] // len(PUBLISHED_ORDER[choices['recipe']])}",
        ]
    if choices["first"] == "conv" and (conv := state.get("first.block.0.weight")) is not None:
        overrides += [f"first.channels={len(conv)}"]
    if choices["first"] == "parallel_conv" and (conv := state.get("first.conv_list.0.conv.weight")) is not None:
        overrides += [f"first.channels={2 * len(conv)}"]
    if choices["final"] == "mlp":
        overrides += ["final.normalise=false"]
    if choices["recipe"] == "unlockdna":
        overrides += ["recipe.mask_share=0"]  # the published final layers of the others have no head that fills masks
    return overrides


def translated(state: dict[str, Tensor], network: Network, recipe: str, file: Path) -> dict[str, Tensor]:
    """The published tensors under our names, in our order of channels. InputError names the missing, left over and
    misshapen ones."""
    ours = network.state_dict()
    check(state, published_shapes(ours), file)
    if "final.bins" in state and state["final.bins"].tolist() != list(range(len(state["final.bins"]))):
        raise InputError(
            f"{printable(file)}: final.bins are {state['final.bins'].tolist()}, not 0 to {len(state['final.bins']) - 1}"
        )
    order = list(PUBLISHED_ORDER[recipe])
    found = {}
    for name, tensor in ours.items():
        if name in OURS_ALONE:
            found[name] = tensor
        elif name == "first.dense.weight":  # (width, k * channels) there, (width, channels, k) here
            width, channels, k = tensor.shape
            found[name] = state["first.kmer_dense.weight"].view(width, k, channels)[:, :, order].transpose(1, 2)
        elif name == "first.position" and "first.strand" in ours:
            found[name] = torch.zeros_like(tensor)  # none is added there
        elif name == "first.position":  # there the second half is marked as the minus strand under every recipe
            is_minus = torch.arange(tensor.shape[1]) >= tensor.shape[1] // 2
            found[name] = state["first.strand_embedding.weight"][is_minus.long()].T
        else:
            values = state[published_name(name)]
            if values.is_floating_point() != tensor.is_floating_point():
                kind = str(values.dtype).removeprefix("torch.")
                raise InputError(f"{printable(file)}: {published_name(name)} is of {kind}; is --model right?")
            found[name] = values[:, order] if TAKES_INPUT.fullmatch(name) else values
    return in_kind(found, ours, file)


OURS_ALONE = ("final.mean", "final.std")  # set when the network was built
TAKES_INPUT = re.compile(r"first\.(block\.0|convs\.convs\.\d+)\.weight")


def published_shapes(ours: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the tensors that the published network of this state dict has."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, tensor in ours.items():
        if name == "first.dense.weight":
            width, channels, k = tensor.shape
            shapes["first.kmer_dense.weight"] = (width, k * channels)
        elif name == "first.position":
            width, length = tensor.shape
            shapes["first.strand_embedding.weight"] = (2, width)
            # built there, and never read
            shapes["first.pos_embedding.weight"] = (length, width)
            shapes |= {"first.expression_embedding.weight": (width, 1), "first.expression_embedding.bias": (width,)}
        elif name not in OURS_ALONE:
            shapes[published_name(name)] = tuple(tensor.shape)
        if name == "final.mapper.bias":
            shapes["final.bins"] = tuple(tensor.shape)
    return shapes


RENAMED = tuple(  # ours, theirs
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(first|core)\.convs\.convs\.(\d+)\.", r"\1.conv_list.\2.conv."),
        (r"(\.seqextractor\.inv_res_blc\d+\.\d+)\.gate\.", r"\1.fc."),
        (r"core\.position$", "core.pos_embedding.weight"),
        (r"\.feed_forward_([12])\.", r".ff\1."),
        (r"(\.ff[12])\.norm\.", r"\1.layernorm."),
        (r"(\.ff[12])\.expand\.", r"\1.linear1."),
        (r"(\.ff[12])\.contract\.", r"\1.linear2."),
        (r"\.norm_conv\.", ".layernorm1."),
        (r"\.norm_attention\.", ".layernorm2."),
        (r"\.attention\.to_qkv\.", ".attn.in_proj_"),
        (r"\.attention\.to_out\.", ".attn.out_proj."),
        (r"first\.dense\.bias", "first.kmer_dense.bias"),
        (r"first\.strand$", "first.strand_embedding.weight"),
        (r"final\.mapper\.", "final.mapper.0."),
    )
)


def published_name(name: str) -> str:
    """Our name of a tensor -> the published one, where they differ in nothing but the name."""
    if match := re.fullmatch(
        r"core\.stages\.(\d+)\.(.+)", name
    ):  # four modules a stage: the residual, and conv, batch norm, SiLU
        stage, place = divmod(int(match[1]), 4)
        name = (
            f"core.seqextractor.inv_res_blc{stage}.{match[2]}"
            if place == 0
            else f"core.seqextractor.resize_blc{stage}.{place - 1}.{match[2]}"
        )
    if match := re.fullmatch(r"final\.layers\.(\d+)\.(.+)", name):  # ours begins with flatten and the normalisation
        return f"final.main.{int(match[1]) - 2}.{match[2]}"
    for pattern, replacement in RENAMED:
        name = pattern.sub(replacement, name)
    return name
