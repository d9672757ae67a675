"""The parts on the menu: what stands in `conf/`, here and in the user's own folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from prixfixe.errors import InputError
from prixfixe.paths import conf_folder
from prixfixe.run_folder import SLOTS


@dataclass(frozen=True)
class Part:
    """One choice of one slot: the YAML file and what is in it."""

    slot: str
    name: str
    file: Path
    node: dict[str, Any]

    @property
    def values(self) -> dict[str, Any]:
        """The hyperparameters: everything but the class and a recipe's published optimiser."""
        return {key: value for key, value in self.node.items() if key not in ("_target_", "published")}


def menu(own: Path | None = None) -> list[Part]:
    """Every part of every slot, in the order of the slots; those of the user's own conf folder come last."""
    folders: Sequence[Path] = [conf_folder()] if own is None or own.resolve() == conf_folder() else [conf_folder(), own]
    return [read(file, slot) for slot in SLOTS for folder in folders for file in sorted((folder / slot).glob("*.yaml"))]


def read(file: Path, slot: str) -> Part:
    try:
        node = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is no YAML: {error}") from error
    if not isinstance(node, dict):
        raise InputError(f"{file} must hold `_target_` and the block's values")
    return Part(slot, file.stem, file, node)


def find(parts: Sequence[Part], name: str) -> list[Part]:
    """The parts of a name, as `bilstm` or `core/bilstm`; InputError with the choices where there is none."""
    found = [part for part in parts if name in (part.name, f"{part.slot}/{part.name}")]
    if not found:
        raise InputError(f"no part is called {name}; there are {', '.join(f'{p.slot}/{p.name}' for p in parts)}")
    return found


def partners(parts: Sequence[Part], part: Part) -> dict[str, dict[str, Any]]:
    """A configuration in which `part` can be tried: the first choice of every other slot."""
    chosen = {slot: next(p for p in parts if p.slot == slot).node for slot in SLOTS}
    return {**chosen, part.slot: part.node}
