"""A bundle: a trained model to give away. What is in its folder, and whether that is what was put there.

A bundle of one run is that run's folder, trimmed to what is needed, with bundle.json and README.md (the model card);
one of several runs has them in members/0, members/1, ... Nothing of a bundle is executed. bundle.json names every file
with its sha256, and holds example sequences with the predictions that they must get.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prixfixe.common.errors import InputError
from prixfixe.common.inputs import is_missing, open_input
from prixfixe.common.text import counted, printable
from prixfixe.runs.bounded import damaged
from prixfixe.runs.reader import LARGE, BundleFacts, read_object, validated

if TYPE_CHECKING:
    from prixfixe.inference.model import Model

FILE, CARD = "bundle.json", "README.md"
FORMAT = 1
OF_SPREAD, OF_LARGEST = 1e-4, 1e-6
MOST_FILES = 100_000
FREE = {CARD, ".gitattributes"}  # for people, who may edit them: nothing reads them here
PATHS = ("path", "validation", "test", "weights", "genome", "regions", "directory")  # settings that name files
KEPT_BY_EVALUATE = re.compile(r"(members/[0-9]+/)?(evaluation\.json|test\.npz)")


def is_bundle(folder: Path) -> bool:
    return folder.is_dir() and not is_missing(folder / FILE)


def tolerance(expected: np.ndarray) -> np.ndarray:
    """How far the predictions of the same weights may be off elsewhere, (tasks,): 1e-4 of their spread (standard
    deviation), and 1e-6 of the largest for float32's last digits. expected: (n, tasks)."""
    return np.asarray(OF_SPREAD * expected.std(axis=0) + OF_LARGEST * np.abs(expected).max(axis=0))


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are those that were put there. facts: bundle.json."""

    path: Path
    facts: dict[str, Any]

    @property
    def members(self) -> list[Path]:
        """The folders of its runs."""
        return [self.path / member["folder"] for member in self.facts["members"]]

    def code_needed(self) -> str:
        """What to say where a class of the user's own is not to be had; '' where there is none."""
        code = self.facts.get("code") or []
        if not code:
            return ""
        shown = ", ".join(f"{one['name']} in {self.path / one['file']}" for one in code)
        packages = ", ".join(dict.fromkeys(one["name"].partition(".")[0] for one in code))
        return (
            f"the bundle's model has parts of its author's own, whose source is shown there and is not run: "
            f"{printable(shown, 1000)}; read it, install {printable(packages, 200)} if you trust it, and name it in a "
            "YAML of your conf folder"
        )

    def check_predictions(self, models: Sequence[Model]) -> None:
        """InputError where its models do not predict for the examples what they predicted where it was made."""
        import torch

        examples = self.facts.get("examples")
        if not examples:
            return
        for model, wanted in zip(models, examples["predictions"], strict=True):
            with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
                found = model.predict(examples["sequences"], columns=examples["columns"])
            expected = np.array(wanted, dtype=np.float64)
            found = found.reshape(len(found), -1)
            if found.shape != expected.shape:
                raise damaged(self.path / FILE, "its examples are not of its model's tasks")
            off = np.abs(found - expected)
            if (off > tolerance(expected)).any():
                raise InputError(
                    f"{model.name} predicts other values here than where its bundle was made: off by {off.max():.3g} "
                    f"for an example, allowed are {tolerance(expected).min():.3g} ({OF_SPREAD:g} of the examples' "
                    "spread). Its weights are damaged, or this platform computes otherwise: get the bundle again, and "
                    "try --device cpu"
                )


def open_bundle(folder: Path, links_to: Path | None = None) -> Bundle:
    """Reads bundle.json and checks that the folder holds its files and no others, each with its sha256.

    links_to: the one folder that files may be links into (the cache of a hub). Raises InputError, which names the
    files, where one is missing, unexpected, another, a link, or no file.
    """
    facts = validated(BundleFacts, read_object(folder / FILE, LARGE), folder / FILE)
    if facts["format"] != FORMAT:
        raise InputError(
            f"{printable(folder)} is a bundle of format {facts['format']}, made by prixfixe {facts['prixfixe']}: this "
            f"prixfixe reads format {FORMAT}; install a newer one"
        )
    _check_members(folder, facts)
    listed = facts["files"]
    may_be = {f"{place}sources/{sha256}.safetensors": sha256 for place, sha256 in _left_out(facts)}
    there = _files_in(folder, links_to)
    missing = [name for name in listed if name not in there]
    unexpected = [
        name
        for name in there
        if not (name in listed or name in may_be or name in FREE | {FILE} or KEPT_BY_EVALUATE.fullmatch(name))
    ]
    changed = [name for name, about in listed.items() if name in there and not _same(folder / name, **about)]
    changed += [name for name, sha256 in may_be.items() if name in there and not _same(folder / name, sha256)]
    problems = {"missing": missing, "changed since it was made": changed, "not of the bundle": unexpected}
    said = [
        f"{counted(len(names), 'file')} {what} ({printable(', '.join(sorted(names)[:5]), 500)})"
        for what, names in problems.items()
        if names
    ]
    if said:
        raise InputError(f"{printable(folder)} is no whole bundle: {'; '.join(said)}; get it again")
    return Bundle(folder, facts)


def _check_members(folder: Path, facts: dict[str, Any]) -> None:
    """That members are where bundles have them, and the examples of them."""
    members = [member["folder"] for member in facts["members"]]
    expected = [""] if len(members) == 1 else [f"members/{number}" for number in range(len(members))]
    if members != expected:
        raise damaged(folder / FILE, f"its members are in {', '.join(members)}")
    for place in members:
        for name in ("config.yaml", "targets.json", "weights.safetensors"):
            if f"{place}/{name}".lstrip("/") not in facts["files"]:
                raise damaged(folder / FILE, f"it names no {name} of {place or 'its run'}")
    examples = facts.get("examples")
    if examples:
        rows, tasks = len(examples["sequences"]), len(facts["tasks"])
        shapes = {(len(one), *{len(values) for values in one}) for one in examples["predictions"]}
        if shapes != {(rows, tasks)} or len(examples["predictions"]) != len(members):
            raise damaged(folder / FILE, "its examples have not a prediction a sequence, task and member")


def _left_out(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The place of each member, and the sha256 of what it starts from and has not with it."""
    found = []
    for member in facts["members"]:
        place = f"{member['folder']}/" if member["folder"] else ""
        found += [(place, sha256) for sha256 in member.get("sources_left_out") or ()]
    return found


def _files_in(folder: Path, links_to: Path | None) -> list[str]:
    """The names of all files below a folder; InputError for a link that leads elsewhere, and for what is no file."""
    found: list[str] = []
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place) / name
            shown = path.relative_to(folder).as_posix()
            kind = path.lstat().st_mode
            if stat.S_ISLNK(kind):
                real = Path(os.path.realpath(path))
                if links_to is None or name in folders or real.parent != Path(os.path.realpath(links_to)):
                    raise InputError(f"{printable(folder)}: {printable(shown)} is a link, which no bundle has")
            elif not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
                raise InputError(f"{printable(folder)}: {printable(shown)} is no file, which no bundle has")
            if name in files:
                found.append(shown)
        if len(found) > MOST_FILES:
            raise InputError(f"{printable(folder)} holds more than {MOST_FILES:,} files, which no bundle has")
    return found


def _same(file: Path, sha256: str, bytes: int | None = None) -> bool:
    return (bytes is None or file.stat().st_size == bytes) and digest(file) == sha256


def digest(file: Path) -> str:
    """The sha256 of a file, in hexadecimal digits."""
    with open_input(file) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()  # type: ignore[arg-type]


def without_places(value: Any, key: str = "") -> Any:
    """Settings with the last name alone of every path, so that nothing of this machine's folders is in them."""
    if isinstance(value, Mapping):
        return {name: without_places(item, str(name)) for name, item in value.items()}
    if isinstance(value, list):
        return [without_places(item, key) for item in value]
    if isinstance(value, str) and is_place(value, key):
        return last_name(value)
    return value


def is_place(text: str, key: str = "") -> bool:
    """Whether a setting is a path of this machine: by its name, its form, or because it is there."""
    if key in PATHS or text.startswith(("/", "~", "./", "../", "file:", "sqlite:")):
        return True
    return "/" in text and "://" not in text and os.path.lexists(text)


def last_name(path: str) -> str:
    return path if "://" in path and not path.startswith(("file:", "sqlite:")) else Path(path).name or "data"
