"""What a run needs to go on where it stopped, in one file without pickle.

A checkpoint is a safetensors file whose name holds its step and a hash of its content. It is written beside the one
before, which goes only when the new one is whole; a damaged one is passed over.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prixfixe.files import atomic_path

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 2
NAME = re.compile(r"checkpoint-(\d+)-([0-9a-f]{16})\.safetensors")


def save_checkpoint(folder: Path, step: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> Path:
    """Writes the checkpoint of a step and removes all but the two newest. facts: anything that JSON holds."""
    from safetensors.torch import save

    content = save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, {"facts": json.dumps(facts)}
    )
    path = folder / f"checkpoint-{step:09d}-{_hash(content)}.safetensors"
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    for old in checkpoints(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The tensors, on the CPU, and facts of the newest checkpoint that is whole; None where there is none."""
    from safetensors import SafetensorError, safe_open

    for path in checkpoints(folder):
        with suppress(
            SafetensorError, KeyError, TypeError, ValueError, FileNotFoundError
        ):  # of several processes one removes it first
            if path.name.endswith(f"-{_hash(path.read_bytes())}.safetensors"):
                with safe_open(path, framework="pt") as file:
                    return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["facts"])  # noqa: SIM118
        print(f"warning: {path} is damaged and removed; going on from the one before", file=sys.stderr)
        path.unlink(missing_ok=True)
    return None


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, newest first. Its run may be writing and removing some at this moment."""
    found = []
    for path in folder.glob("checkpoint-*"):
        if match := NAME.fullmatch(path.name):
            with suppress(FileNotFoundError):
                found.append((int(match[1]), path.stat().st_mtime, path))
    return [path for _, _, path in sorted(found, reverse=True)]


def remove_checkpoints(folder: Path) -> None:
    for path in checkpoints(folder):
        path.unlink(missing_ok=True)


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()
