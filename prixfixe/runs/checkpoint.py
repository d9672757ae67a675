"""What a run needs to go on where it stopped, in one file without pickle.

A checkpoint is a safetensors file whose name holds its step and a hash of its content. It is written beside the one
before, which goes only when the new one is whole; a damaged one is passed over.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prixfixe.common.errors import InputError
from prixfixe.common.files import atomic_path
from prixfixe.common.inputs import open_input
from prixfixe.common.text import printable
from prixfixe.runs.bounded import checked
from prixfixe.runs.lock import check_held

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 2
NAME = re.compile(r"checkpoint-([0-9]{1,18})-([0-9a-f]{16})\.safetensors")


def save_checkpoint(folder: Path, step: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> Path:
    """Writes the checkpoint of a step and removes all but the two newest. facts: anything that JSON holds."""
    from safetensors.torch import save

    content = save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, {"facts": json.dumps(facts)}
    )
    path = folder / f"checkpoint-{step:09d}-{_hash(content)}.safetensors"
    check_held(folder)
    with atomic_path(path, follow=False) as temporary:
        temporary.write_bytes(content)
    for old in checkpoints(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def load_checkpoint(
    folder: Path, fits: Callable[[dict[str, Tensor], dict[str, Any], int], str | None] = lambda *_: None
) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The tensors, on the CPU, and facts of the newest checkpoint that is whole; None where there is none.

    fits: of tensors, facts and step, what is wrong with them, or None. A checkpoint that does not fit is damaged, as
    one whose content is another than its name says: it is named, removed, and the one before is used.
    """
    from safetensors import SafetensorError, safe_open

    for path in checkpoints(folder):
        problem: str | None = "its content is another than was written"
        with suppress(InputError, SafetensorError, KeyError, TypeError, ValueError, RecursionError, OSError):
            if path.name.endswith(f"-{_hash_of(path)}.safetensors"):
                with safe_open(path, framework="pt") as file:
                    facts = checked(json.loads(file.metadata()["facts"]))
                    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                if (problem := fits(tensors, facts, _step(path))) is None:
                    return tensors, facts
        what = f"{printable(path)} is damaged and removed ({printable(problem, 200)})"
        print(f"warning: {what}; going on from the one before", file=sys.stderr)
        with suppress(OSError):  # of several processes one removes it first
            path.unlink(missing_ok=True)
    return None


def _step(path: Path) -> int:
    match = NAME.fullmatch(path.name)
    return int(match[1]) if match else 0


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, newest first. Its run may be writing and removing some at this moment."""
    found = []
    for path in folder.glob("checkpoint-*"):
        if match := NAME.fullmatch(path.name):
            with suppress(OSError):
                found.append((int(match[1]), path.stat().st_mtime, path))
    return [path for _, _, path in sorted(found, reverse=True)]


def remove_checkpoints(folder: Path) -> None:
    check_held(folder)
    for path in checkpoints(folder):
        path.unlink(missing_ok=True)


def _hash_of(path: Path) -> str:
    with open_input(path) as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()  # type: ignore[arg-type]


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()
