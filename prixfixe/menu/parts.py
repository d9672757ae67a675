"""The parts on the menu: what stands in `conf/`, here and in the user's own folder."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from prixfixe.common.errors import InputError
from prixfixe.common.paths import conf_folder
from prixfixe.runs.folder import SLOTS

GROUPS = ("task", "dataset", *SLOTS)


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
        return {key: value for key, value in self.node.items() if key not in ("_target_", "published", "train")}


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
    """The choice of every slot, of the task and of the dataset that `prixfixe train` makes where nothing is said."""
    entries = yaml.safe_load((conf_folder() / "train.yaml").read_text(encoding="utf-8"))["defaults"]
    chosen = {group: name for entry in entries if isinstance(entry, dict) for group, name in entry.items()}
    return {group: chosen[group] for group in GROUPS}


@functools.cache
def grid() -> dict[str, list[str]]:
    """The parts of the published grid, slot -> names: what `experiment=grid81` sweeps over."""
    content = yaml.safe_load((conf_folder() / "experiment" / "grid81.yaml").read_text(encoding="utf-8"))
    return {slot: content["hydra"]["sweeper"]["params"][slot].split(",") for slot in SLOTS}


def pairing(part: Part) -> dict[str, str]:
    """The choices beside which a part is tried: group -> name, of the slots, the task and the dataset.

    They are the defaults for a part of the published grid. Of any other they are what a line `# prixfixe train
    recipe=... task=...` of its own YAML names, or else the first experiment that chooses it, and the defaults where
    these say nothing.
    """
    named: dict[str, str] = {}
    if part.name not in grid()[part.slot]:
        named = next(filter(None, (_of_its_own(part), *_of_experiments(part))), {})
    return defaults() | named | {part.slot: part.name}


def _command(part: Part) -> list[tuple[str, str]]:
    """The overrides, setting and value, of the first line with a command in a part's YAML."""
    text = part.file.read_text(encoding="utf-8") if part.file.is_file() else ""
    found = re.search(r"^#.*prixfixe train (.*)$", text, flags=re.MULTILINE)
    words = [word.partition("=") for word in found[1].split()] if found else []
    return [(setting, value) for setting, _, value in words if value]


def _of_its_own(part: Part) -> dict[str, str]:
    """What the command in a part's YAML chooses."""
    return {group: name for group, name in _command(part) if group in GROUPS}


def values_beside(part: Part) -> dict[str, Any]:
    """The values, by dotted setting, that the command in a part's YAML gives: `recipe.length=249`."""
    settings = {setting: value for setting, value in _command(part) if setting.partition(".")[0] in SLOTS}
    return {setting: yaml.safe_load(value) for setting, value in settings.items() if "." in setting}


def _of_experiments(part: Part) -> Iterator[dict[str, str]]:
    """What the experiments choose that choose this part."""
    for folder in dict.fromkeys((conf_folder(), part.file.resolve().parents[1])):
        for file in sorted((folder / "experiment").glob("*.yaml")):
            choices: dict[str, str] = {}
            for entry in yaml.safe_load(file.read_text(encoding="utf-8")).get("defaults", []):
                if isinstance(entry, dict):
                    [(group, name)] = entry.items()
                    choices[group.removeprefix("override ").strip("/")] = name
            if choices.get(part.slot) == part.name:
                yield {group: name for group, name in choices.items() if group in GROUPS}


def partners(parts: Sequence[Part], part: Part) -> dict[str, Any]:
    """A configuration in which `part` can be tried: the choices of its `pairing`, with the task and the dataset that it
    is made for. InputError where a file cannot be used."""
    if part.problem:
        raise InputError(part.problem)
    config: dict[str, Any] = {}
    for group, name in pairing(part).items():
        if group in SLOTS:
            chosen = part if group == part.slot else find(parts, f"{group}/{name}")[0]
            if chosen.problem:
                raise InputError(chosen.problem)
            config[group] = chosen.node
        else:
            config |= _group(group, name, part)
    for setting, value in values_beside(part).items():
        slot, _, key = setting.partition(".")
        config[slot] = {**config[slot], key: value}
    resolved: Any = OmegaConf.to_container(OmegaConf.create(config), resolve=True)
    return resolved


def _group(group: str, name: str, part: Part) -> dict[str, Any]:
    """What a choice of the task or the dataset adds to a configuration; InputError where there is no such choice.

    A dataset that asks for a file is stood for by its simulated twin.
    """
    folders = dict.fromkeys((conf_folder(), part.file.resolve().parents[1]))
    twins = (f"simulated_{name}", name) if group == "dataset" else (name,)
    files = [folder / group / f"{twin}.yaml" for twin in twins for folder in folders]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise InputError(f"{part.file} names {group}={name}, and there is no such file in {group}/")
    text = file.read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    return content if "@package _global_" in text else {group: content}
