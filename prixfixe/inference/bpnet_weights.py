"""BPNet and ChromBPNet as others have trained them, as run folders: bpnet-lite's state dicts (Schreiber, PyTorch) and
the .h5 files of ChromBPNet (Pampari et al. 2023, Keras).

Tensors are found by their names alone, widths and the number of layers by their shapes. Nothing in a file is executed:
of an .h5 file the arrays are read, not the model that Keras describes there. A pickled module is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prixfixe.common.errors import InputError
from prixfixe.common.extras import extra_module
from prixfixe.common.inputs import is_missing, open_input
from prixfixe.common.text import printable
from prixfixe.contract import Spec, TargetSpec
from prixfixe.networks.network import build
from prixfixe.networks.weights import prepare
from prixfixe.runs.imported import Imported, check, composed, in_kind, is_there, read_state_dict, write_run
from prixfixe.training.build import build_recipe, build_task

MODELS = ("bpnet", "chrombpnet")
LENGTH, POSITIONS = 2114, 1000  # of all of them
PARTS = {"recipe": "window", "first": "identity", "core": "bpnet", "final": "profile_counts"}
WANTED = (
    "the state dict of a bpnet-lite model, as torch.save(model.state_dict(), FILE) writes it where that model is "
    "trusted, or an .h5 file of ChromBPNet"
)
HDF5 = b"\x89HDF\r\n\x1a\n"  # what such a file begins with
MOST_NUMBERS = 1 << 28  # in an .h5 file's arrays
LAYERS = {  # bpnet-lite's names, and Keras's -> ours; layers are counted from 0, and by Keras from 1
    "iconv": "core.first",
    "fconv": "final.profile",
    "linear": "final.counts",
    "bpnet_1st_conv": "core.first",
    "prof_out_precrop": "final.profile",
    "logcount_predictions": "final.counts",
}
NOTES = (
    f"it takes sequences of {LENGTH:,} nt and predicts counts in the {POSITIONS:,} in their middle",
    "its mean over positions is over all that no padding has touched, as in ChromBPNet, and in bpnet-lite with its own "
    "trimming",
)
State = dict[str, Tensor]


def import_bpnet(file: Path, model: str, folder: Path, bias: Path | None = None) -> Imported:
    """Reads a trained network into a new run folder that `predict` takes.

    model: `bpnet`, one network, such as a bias model or ChromBPNet without its bias; `chrombpnet`, one beside a frozen
    bias model, which the same file holds or `bias`. The folder appears whole or not at all; one that holds these very
    weights already is left as it is. Raises InputError for a file that is damaged or would execute code, for tensors
    that are missing, left over or of another shape, and where `folder` holds something else.
    """
    files = [file] if bias is None else [file, bias]
    states = networks_of(file)
    if bias is not None and (model == "bpnet" or len(states) > 1):
        raise InputError(f"--bias {printable(bias)}: leave it out, --model chrombpnet takes one where FILE holds none")
    if model == "bpnet" or bias is not None:
        states = {"own": only(file, states)} | ({} if bias is None else {"bias": only(bias, networks_of(bias))})
    if model == "chrombpnet" and len(states) < 2:
        raise InputError(
            f"{printable(file)} holds one network, and --model chrombpnet has two: give the bias model's file with "
            "--bias FILE, or say --model bpnet"
        )
    hash_ = hashlib.sha256(b"".join(map(Path.read_bytes, files))).hexdigest()
    config = configuration(states, files[-1], hash_)
    columns = {"is_peak": Spec((), torch.bool)} if "bias" in states else {}
    constants = {"count_weight": 1.0, "positions": float(POSITIONS), "width": float(POSITIONS)}
    spec = TargetSpec(("profile",), (0.0,), (1.0,), constants=constants, columns=columns)
    task = build_task(config).with_spec(spec)
    network = build(build_recipe(config), config, task)
    prepare(network, config, {})
    ours, theirs = network.state_dict(), states["own"]
    if "bias" in states:
        theirs = theirs | {f"final.bias.{name}": tensor for name, tensor in states["bias"].items()}
        theirs["final.offset"] = torch.zeros(())  # their bias model has it added already
    check(theirs, {name: tuple(tensor.shape) for name, tensor in ours.items()}, file)
    network.load_state_dict(in_kind(theirs, ours, file))
    fingerprint = f"imported-{model}-{hash_[:16]}"  # no configuration's: training here is refused
    if not is_there(folder, fingerprint):
        source = {"file": ", ".join(map(str, files)), "sha256": hash_, "model": model, "notes": NOTES}
        write_run(folder, config, task, network, fingerprint, source)
    return Imported(folder, network.parameter_count(), NOTES)


def configuration(states: Mapping[str, State], bias: Path, hash_: str) -> dict[str, Any]:
    """The resolved configuration of networks with tensors of these shapes. bias: the file of the bias model."""
    overrides = [
        f"recipe.length={LENGTH}",
        "recipe.jitter=0",
        "task=profile",
        f"task.positions={POSITIONS}",
        "optim=constant",
    ]
    overrides += [*(f"{slot}={name}" for slot, name in PARTS.items()), "sweep=imported", "training.batch_size=64"]
    config = composed([*overrides, "dataset=table", "dataset.path='data that are not here'"], PARTS)
    parts = {"own": config}
    if "bias" in states:
        within = {slot: dict(config[slot]) for slot in ("first", "core", "final")}
        config["final"]["bias"] = {**without_train(within), "train": {"weights": bias.name, "sha256": hash_}}
        parts["bias"] = config["final"]["bias"]
    for name, state in states.items():
        parts[name]["core"] |= widths(state)
        parts[name]["final"] |= {"kernel_size": state["final.profile.weight"].shape[2]}
    return config


def without_train(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {slot: {key: value for key, value in node.items() if key != "train"} for slot, node in parts.items()}


def widths(state: State) -> dict[str, int]:
    """Of the core, from the shapes of its tensors."""
    channels, _, first = state["core.first.weight"].shape
    layers = sum(bool(re.fullmatch(r"core\.dilated\.\d+\.weight", name)) for name in state)
    kernel = state["core.dilated.0.weight"].shape[2] if layers else 3
    return {"channels": channels, "layers": layers, "first_kernel_size": first, "kernel_size": kernel}


# files


def networks_of(file: Path) -> dict[str, State]:
    """The networks of a file, `own` or `bias` or both, each by our names of its tensors."""
    if is_missing(file):
        raise InputError(f"{printable(file)}: no such file; give {WANTED}")
    with open_input(file) as opened:
        is_hdf5 = opened.read(len(HDF5)) == HDF5
    states: dict[str, State] = {}
    for name, tensor in (keras_tensors(file) if is_hdf5 else torch_tensors(file)).items():
        network, _, own = name.partition("/")
        states.setdefault(network, {})[own] = tensor
    for state in states.values():
        check_heads(state, file)
    return states


def only(file: Path, states: Mapping[str, State]) -> State:
    if len(states) != 1:
        raise InputError(
            f"{printable(file)} holds a network and its bias model: say --model chrombpnet, without --bias"
        )
    return next(iter(states.values()))


def torch_tensors(file: Path) -> State:
    """A state dict of bpnet-lite's BPNet, or of its ChromBPNet: by `own/` or `bias/` and our names."""
    found = {}
    for name, tensor in read_state_dict(file, WANTED).items():
        network, rest = "own", name
        for prefix, which in (("accessibility.", "own"), ("bias.", "bias")):
            if name.startswith(prefix) and "." in name.removeprefix(prefix):
                network, rest = which, name.removeprefix(prefix)
        layer, _, kind = rest.rpartition(".")
        found[f"{network}/{our_name(layer)}.{kind}"] = tensor
    return found


def our_name(layer: str) -> str:
    """Our name of a layer; one that is not known stays as it is, and is told as left over."""
    if match := re.fullmatch(r"rconvs\.(\d+)", layer):
        return f"core.dilated.{match[1]}"
    if match := re.fullmatch(r"bpnet_(\d+)conv", layer):
        return f"core.dilated.{int(match[1]) - 1}"
    return LAYERS.get(layer, layer)


def keras_tensors(file: Path) -> State:
    """The arrays below `model_weights` of an .h5 file, whose names end with LAYER/kernel:0 or LAYER/bias:0; those of
    the network beside a bias model begin with wo_bias_, its heads' with wo_bias_bpnet_."""
    h5py = extra_module("h5py", "keras", "an .h5 file")
    found: State = {}

    def note(name: str, node: Any) -> None:
        place = re.fullmatch(r"(?:.*/)?(wo_bias_(?:bpnet_(?=prof_|logcount_))?)?([^/]+)/(kernel|bias)(?::0)?", name)
        if not isinstance(node, h5py.Dataset) or place is None:
            return
        if node.dtype.kind != "f" or node.is_virtual or node.external or not 0 < node.size <= MOST_NUMBERS:
            raise InputError(f"{printable(file)}: {printable(name, 200)} is no array of numbers that it holds itself")
        values = torch.from_numpy(np.ascontiguousarray(node[()].T))  # Keras: (kernel, in, out), or (in, out)
        key = f"{'own' if place[1] else 'bias'}/{our_name(place[2])}.{'weight' if place[3] == 'kernel' else 'bias'}"
        if key in found:
            raise InputError(f"{printable(file)} holds {printable(name, 200)} twice")
        found[key] = values

    try:
        with open_input(file), h5py.File(file, "r") as opened:
            opened.get("model_weights", opened).visititems(note)
    except InputError:
        raise
    except Exception as error:  # of h5py, of many kinds; nothing in the file is executed
        raise InputError(f"{printable(file)} is damaged, or no .h5 file: {printable(error, 200)}") from error
    if not found:
        raise InputError(f"{printable(file)} holds no layers with weights; give {WANTED}")
    return found


def check_heads(state: State, file: Path) -> None:
    """Adds biases of 0 where heads have none. InputError where it is no BPNet, or of other outputs."""
    for layer in ("core.first", "final.profile", "final.counts"):
        weight = state.get(f"{layer}.weight")
        if weight is None or weight.ndim != (2 if layer == "final.counts" else 3):
            raise InputError(f"{printable(file)} holds no BPNet, whose tensors have other names; give {WANTED}")
        if layer != "core.first":
            state.setdefault(f"{layer}.bias", torch.zeros(len(weight)))
    outputs, inputs, _ = state["final.profile.weight"].shape
    if further := inputs - len(state["core.first.weight"]):
        raise InputError(f"{printable(file)} takes {further} control tracks, which no batch has here")
    if outputs != 1:
        raise InputError(f"{printable(file)} predicts {outputs} tracks, and task profile has one")
