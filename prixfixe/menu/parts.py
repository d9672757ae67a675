"""The parts on the menu: what stands in `conf/`, here and in the user's own folder."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from prixfixe.common.errors import InputError
from prixfixe.common.paths import conf_folder
from prixfixe.runs.folder import SLOTS


@dataclass(frozen=True)
class Part:
    """One choice of one slot: the YAML file and what is in it.

    problem: why the file cannot be used, with its line where the parser gives one; `node` is empty then.
    """

    slot: str
    name: str
    file: Path
    node: dict[str, Any]
    problem: str = ""

    @property
    def values(self) -> dict[str, Any]:
        """The hyperparameters: everything but the class and a recipe's published optimiser."""
        return {key: value for key, value in self.node.items() if key not in ("_target_", "published")}


def menu(own: Path | None = None) -> list[Part]:
    """Every part of every slot, in the order of the slots; those of the user's own conf folder come last.

    Where both have a name it is the framework's, as in `prixfixe train`.
    """
    folders: Sequence[Path] = [conf_folder()] if own is None or own.resolve() == conf_folder() else [conf_folder(), own]
    parts: dict[tuple[str, str], Part] = {}
    for slot in SLOTS:
        for folder in folders:
            for file in sorted((folder / slot).glob("*.yaml")):
                if (slot, file.stem) not in parts:
                    parts[slot, file.stem] = read(file, slot)
    return [*parts.values()]


def read(file: Path, slot: str) -> Part:
    """The part of a file; one that cannot be used says so itself, so that it does not stand in the way of the
    others."""
    try:
        node = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        begun = (
            f" {error.context} from line {error.context_mark.line + 1}" if error.context and error.context_mark else ""
        )
        return Part(slot, file.stem, file, {}, f"{file}{line}: no YAML: {error.problem}{begun}")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        return Part(slot, file.stem, file, {}, f"{file}: no text: {str(error).splitlines()[0]}")
    except OSError as error:
        return Part(slot, file.stem, file, {}, f"{file} cannot be read: {error.strerror}")
    if not isinstance(node, dict):
        return Part(slot, file.stem, file, {}, f"{file} must hold `_target_` and the block's values")
    return Part(slot, file.stem, file, node)


def find(parts: Sequence[Part], name: str) -> list[Part]:
    """The parts of a name, as `bilstm` or `core/bilstm`; InputError with the choices where there is none."""
    found = [part for part in parts if name in (part.name, f"{part.slot}/{part.name}")]
    if not found:
        raise InputError(f"no part is called {name}; there are {', '.join(f'{p.slot}/{p.name}' for p in parts)}")
    return found


@functools.cache
def defaults() -> dict[str, str]:
    """The choice of every slot that `prixfixe train` makes where nothing is said: slot -> name."""
    entries = yaml.safe_load((conf_folder() / "train.yaml").read_text(encoding="utf-8"))["defaults"]
    return {slot: name for entry in entries if isinstance(entry, dict) for slot, name in entry.items() if slot in SLOTS}


def partners(parts: Sequence[Part], part: Part) -> dict[str, dict[str, Any]]:
    """A configuration in which `part` can be tried: the default choice of every other slot. InputError where a file
    cannot be used."""
    chosen = {slot: next(p for p in parts if (p.slot, p.name) == (slot, name)) for slot, name in defaults().items()} | {
        part.slot: part
    }
    for one in (part, *chosen.values()):
        if one.problem:
            raise InputError(one.problem)
    return {slot: chosen[slot].node for slot in SLOTS}
