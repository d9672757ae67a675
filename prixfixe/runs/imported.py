"""Published weights as run folders: what their files hold, read without executing anything, and the folder, written
whole."""

from __future__ import annotations

import os
import pickle
import re
import tempfile
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors.torch import save
from torch import Tensor

from prixfixe.common.errors import InputError
from prixfixe.common.files import writable, write_json, write_text
from prixfixe.common.inputs import is_missing, open_input
from prixfixe.common.paths import conf_folder
from prixfixe.common.text import printable
from prixfixe.networks.network import Network
from prixfixe.runs.folder import RunFolder, as_yaml
from prixfixe.runs.targets import save_targets
from prixfixe.tasks.task import Task

SHOWN = 4  # names in a message, of each kind


@dataclass(frozen=True)
class Imported:
    """What was imported: the folder, its trainable parameters, and what a user should know of its predictions."""

    folder: Path
    parameters: int
    notes: tuple[str, ...]


def read_state_dict(file: Path, wanted: str) -> dict[str, Tensor]:
    """The tensors of a file that `torch.save` wrote. Nothing in the file is executed: one that asks for it is
    refused. wanted: what to give instead, in a message."""
    shown = printable(file)
    if is_missing(file):
        raise InputError(f"{shown}: no such file; give {wanted}")
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
            f"done; give {wanted}"
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
            f"{'; ...' if len(strange) > SHOWN else ''}; give {wanted}"
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


def check(state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], file: Path) -> None:
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


def in_kind(values: Mapping[str, Tensor], ours: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Tensors in the kinds of number that the network has; InputError where one is too large for it."""
    cast = {name: tensor.to(ours[name].dtype).contiguous() for name, tensor in values.items()}
    if lost := [name for name, tensor in cast.items() if not torch.isfinite(tensor).all()]:
        raise InputError(
            f"{printable(file)} holds values that are not finite, or too large for {len(lost)} of this model's "
            f"tensors: {', '.join(lost[:SHOWN])}{', ...' if len(lost) > SHOWN else ''}"
        )
    return cast


def composed(overrides: Sequence[str], choices: Mapping[str, str]) -> dict[str, Any]:
    """The resolved configuration of `prixfixe train OVERRIDES`. choices: what the run's parts are called."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import open_dict

    from prixfixe.sweeps.plan import resolved

    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        config = hydra.compose("train", [*overrides])
    with open_dict(config):
        config.choices = dict(choices)
    return resolved(config)


def is_there(folder: Path, fingerprint: str) -> bool:
    """Whether a run of this identity is in a folder already."""
    status = RunFolder(folder).status()
    return status.get("configuration_hash") == fingerprint and status.get("state") == "done"


def write_run(
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
