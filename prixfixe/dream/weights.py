"""The published PyTorch weights (Rafi et al. 2024, Zenodo 10633252) as run folders.

The weights archive holds a plain state dict a combination, `i_j_k_l/model_best.pth`: i, j, k, l number the recipe,
first, core and final layers, 0 Autosome.org, 1 BHI, 2 Unlock_DNA. Every tensor is found by its name and must have the
shape that our part has; the nucleotide channels, A G C T there, are put into our order. Where a published part computes
something else than ours, it is refused with the difference (docs/fidelity.md has them all).
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import tempfile
import warnings
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import hydra
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import open_dict
from safetensors.torch import save
from torch import Tensor

from prixfixe.common.errors import InputError
from prixfixe.common.files import writable, write_json, write_text
from prixfixe.common.inputs import is_missing, open_input
from prixfixe.common.paths import conf_folder
from prixfixe.common.text import printable
from prixfixe.contract import TargetSpec
from prixfixe.networks.network import Network, build
from prixfixe.runs.folder import SLOTS, RunFolder, as_yaml
from prixfixe.runs.targets import save_targets
from prixfixe.sweeps.plan import resolved
from prixfixe.tasks.bins import Bins
from prixfixe.tasks.task import Task
from prixfixe.training.build import build_recipe, build_task

PARTS = {  # in the order of the archive's numbers
    "recipe": ("autosome", "bhi", "unlockdna"),
    "first": ("conv", "parallel_conv", "kmer"),
    "core": ("efficientnet", "bilstm", "proformer"),
    "final": ("soft_bins", "mlp", "expression_heads"),
}
FOLDERS = {"dream_cnn": "0_1_0_0", "dream_rnn": "0_1_1_0", "dream_attn": "0_0_2_0"}
TRAINED_ON = "the published training set (Zenodo record 10633252)"
PUBLISHED_ORDER = {  # of the input channels, as indices of ours
    "autosome": (0, 2, 1, 3, 4, 5),  # A G C T is_reverse is_singleton
    "bhi": (0, 2, 1, 3),
    "unlockdna": (0, 1, 2, 3, 4, 5),
}
SHOWN = 4  # names in a message, of each kind


@dataclass(frozen=True)
class Imported:
    """What was imported: the folder, its trainable parameters, and what a user should know of its predictions."""

    folder: Path
    parameters: int
    notes: tuple[str, ...]


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
    state = read_state_dict(file)
    config = configuration(model, choices, state)
    # a published scalar block gives what it was trained on
    task = build_task(config).with_spec(TargetSpec(("expression",), (0.0,), (1.0,), Bins()))
    network = build(build_recipe(config), config, task)
    network.load_state_dict(translated(state, network, choices["recipe"], file))
    hash_ = hashlib.sha256(file.read_bytes()).hexdigest()
    fingerprint = f"imported-{model}-{hash_[:16]}"  # no configuration's: training here is refused
    imported = Imported(folder, network.parameter_count(), tuple(notes(choices)))
    there = RunFolder(folder).status()
    if there.get("configuration_hash") == fingerprint and there.get("state") == "done":
        return imported
    source = {
        "file": str(file),
        "sha256": hash_,
        "model": model,
        "published_folder": "_".join(map(str, numbers)),
        "notes": imported.notes,
    }
    _write(folder, config, task, network, fingerprint, source)
    return imported


def combination(model: str) -> tuple[int, ...]:
    """The four numbers of a model: dream_cnn -> (0, 1, 0, 0)."""
    folder = FOLDERS.get(model, model)
    if not re.fullmatch(r"[012]_[012]_[012]_[012]", folder):
        raise InputError(
            f"--model {model}: choose {', '.join(FOLDERS)}, or a folder of the weights archive: four numbers for "
            "recipe, first, core and "
            "final layers, 0 Autosome.org, 1 BHI, 2 Unlock_DNA, as 0_1_0_0"
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


def read_state_dict(file: Path) -> dict[str, Tensor]:
    """The tensors of a file that `torch.save` wrote. Nothing in the file is executed: one that asks for it is
    refused."""
    shown = printable(file)
    if is_missing(file):
        raise InputError(f"{shown}: no such file; give a model_best.pth of the published weights archive")
    try:
        with open_input(file) as opened:
            _refuse_compressed(opened)
            opened.seek(0)
            with warnings.catch_warnings(action="ignore"):  # of unusual files; what cannot be read is refused below
                content = torch.load(opened, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([\w.]+)|Unsupported (?:class|global)[^\w]*([\w.]+)", str(error))
        what = f" ({asked[1] or asked[2]})" if asked else ""
        raise InputError(
            f"{shown} is no plain state dict: it is damaged, or asks for code to be executed{what}, which was not "
            "done; give a model_best.pth of the published weights archive"
        ) from error
    except Exception as error:  # whatever a pickle of that kind may bring about; none of it is executed
        said = printable(str(error).partition("\n")[0] or "it is cut off", 200)
        raise InputError(f"{shown} is no file that torch wrote, or it is damaged: {said}") from error
    if (
        not isinstance(content, dict)
        or not content
        or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())
    ):
        raise InputError(f"{shown} is no plain state dict: it must hold tensors by name, and nothing else")
    if strange := [f"{name} is {reason}" for name, tensor in content.items() if (reason := unusual(tensor))]:
        raise InputError(
            f"{shown} holds tensors that are no weights: {printable('; '.join(strange[:SHOWN]), 400)}"
            f"{'; ...' if len(strange) > SHOWN else ''}; give a model_best.pth of the published weights archive"
        )
    return content


def unusual(tensor: Tensor) -> str | None:
    """What keeps a tensor from being plain numbers in memory, judged before anything is computed with it; None where
    it is: dense, strided, on the CPU, of real floating-point or whole numbers, each of them stored."""
    if type(tensor) not in (Tensor, torch.nn.Parameter):
        return f"a {type(tensor).__name__}"
    if tensor.is_nested or tensor.layout != torch.strided:
        return "not dense" if not tensor.is_nested else "nested"
    if tensor.is_quantized:
        return "quantised"
    if tensor.device.type != "cpu":
        return f"on the device {tensor.device}"
    if tensor.is_complex() or tensor.dtype == torch.bool:
        return f"of {str(tensor.dtype).removeprefix('torch.')}"
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        return "larger than what is stored of it"
    return None


def _refuse_compressed(file: BinaryIO) -> None:
    """torch stores its archives uncompressed; a small file that unpacks to a large one is none of its."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ValueError("its archive is compressed")


def configuration(model: str, choices: dict[str, str], state: dict[str, Tensor]) -> dict[str, Any]:
    """The resolved configuration of a published model: its experiment, or the parts with the widths that the file's
    tensors have."""
    overrides = (
        [f"experiment={model}"] if model in FOLDERS else [f"{slot}={choice}" for slot, choice in choices.items()]
    )
    if model not in FOLDERS:
        overrides += ["training.epochs=80", "sweep=imported", *sizes(choices, state)]
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        config = hydra.compose("train", [*overrides, "dataset=table", f"dataset.path='{TRAINED_ON}'"])
    with open_dict(config):
        config.choices = choices
    return resolved(config)


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
    cast = {name: values.to(ours[name].dtype).contiguous() for name, values in found.items()}
    if lost := [name for name, values in cast.items() if not torch.isfinite(values).all()]:
        raise InputError(
            f"{printable(file)} holds values that are not finite, or too large for {len(lost)} of this model's "
            f"tensors: {', '.join(lost[:SHOWN])}{', ...' if len(lost) > SHOWN else ''}"
        )
    return cast


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


def check(state: dict[str, Tensor], expected: dict[str, tuple[int, ...]], file: Path) -> None:
    """Raises InputError where the tensors are not exactly the expected ones, by name, or hold values that are not
    finite."""
    wrong = [
        f"{name} has shape {tuple(state[name].shape)}, not {shape}"
        for name, shape in expected.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    problems = [
        f"{len(found)} {kind}: {', '.join(found[:SHOWN])}{', ...' if len(found) > SHOWN else ''}"
        for kind, found in (
            ("missing", [name for name in expected if name not in state]),
            ("left over", [name for name in state if name not in expected]),
            ("of another shape", wrong),
            ("with values that are not finite", [name for name, tensor in state.items() if not _is_finite(tensor)]),
        )
        if found
    ]
    if problems:
        raise InputError(
            f"{printable(file)} holds other weights than this model has: tensors {printable('; '.join(problems))}; "
            "is --model right?"
        )


def _is_finite(tensor: Tensor) -> bool:
    """Of types of one byte, which have no such test, as float32."""
    return bool(torch.isfinite(tensor.float() if tensor.is_floating_point() and tensor.itemsize == 1 else tensor).all())


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


def _write(
    folder: Path,
    config: dict[str, Any],
    task: Task,
    network: Network,
    fingerprint: str,
    source: dict[str, Any],
) -> None:
    """Writes the run into a folder beside `folder`, then gives it that name, so that it is there whole or not at
    all."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"{printable(folder)} is there already and holds something else; give a new folder with -o, or remove "
            "that one"
        )
    with writable(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with writable(folder), tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        run = RunFolder(Path(temporary) / "run")
        write_text(run.config_file, as_yaml(config))
        save_targets(run, task)
        run.weights_file.write_bytes(save({name: tensor.contiguous() for name, tensor in network.state_dict().items()}))
        write_json(run.metrics_file, {"parameters": network.parameter_count(), "simulated": False})
        run.write_status("done", configuration_hash=fingerprint, imported_from=source)
        if folder.is_dir():
            folder.rmdir()
        os.rename(run.path, folder)
