"""Files that parts start from: where they lie, and whether they are still those that a run began with."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from prixfixe.common.errors import InputError
from prixfixe.common.inputs import is_missing, open_input
from prixfixe.common.text import printable
from prixfixe.networks.parts import LOADED, Origin, has_adapter, is_kept, judge_all, networks_in, training_of
from prixfixe.runs.folder import RunFolder

BLOCKS = ("first", "core", "final")


@dataclass(frozen=True)
class Source:
    """What a part starts from.

    slot: the part's, or the place in it of a whole network, such as `final.bias`. weights: the setting. path: of the
    file that it means. file: where that is read, which may be a copy in the run's folder `sources`; None where it is
    gone. sha256: of its content. run: the folder of the run that starts from it. tensors: how many of them the part
    has, once they are loaded.
    """

    slot: str
    weights: str
    path: Path
    file: Path | None
    sha256: str
    run: Path
    tensors: int = 0

    def facts(self) -> dict[str, Any]:
        """Its entry in sources.json."""
        return {"weights": self.weights, "path": str(self.path), "sha256": self.sha256, "tensors": self.tensors}

    def refused(self, what: str) -> InputError:
        kept = self.run / "sources" / f"{self.sha256}.safetensors"
        return InputError(
            f"{self.slot} of {printable(self.run)} starts from {printable(self.path)}, {what}: put back the file whose "
            f"sha256 is {self.sha256}, or copy it as {printable(kept)}, which is looked for first"
        )

    def read(self) -> dict[str, Tensor]:
        if self.file is None:
            raise self.refused("which is gone")
        return read_tensors(self.file)


def find_sources(parts: Mapping[str, Mapping[str, Any]], run: RunFolder, *, trained: bool = False) -> dict[str, Source]:
    """What the parts of a configuration start from, by slot; InputError where it is not there, or another file than a
    run has begun with.

    trained: the run has weights of its own; only what is not in these is sought. Whole networks are in them.
    """
    recorded, found = run.sources(), {}
    for slot in BLOCKS:
        train = training_of(parts[slot])
        if train["weights"] is not None and (not trained or is_kept(train)):
            facts = recorded.get(slot, {})
            found[slot] = _find(slot, train, run.path, facts if facts.get("weights") == train["weights"] else {})
        for name, node in {} if trained else networks_in(parts[slot]).items():
            place, train = f"{slot}.{name}", training_of(node)
            if train["weights"] is not None:
                facts = recorded.get(place, {})
                found[place] = _find(place, train, run.path, facts if facts.get("weights") == train["weights"] else {})
    return found


def _find(slot: str, train: Mapping[str, Any], run: Path, facts: Mapping[str, Any]) -> Source:
    """facts: of sources.json, of a run that has begun."""
    weights, known = str(train["weights"]), train["sha256"] or facts.get("sha256") or ""
    kept = run / "sources" / f"{known}.safetensors"
    if known and not is_missing(kept):
        path = Path(facts["path"]) if facts else kept
        source = Source(slot, weights, path, kept, checksum(kept), run)
    else:
        path = Path(facts["path"]) if facts else _locate(weights, slot)
        if facts and is_missing(path):
            return Source(slot, weights, path, None, known, run)
        source = Source(slot, weights, path, path, checksum(path), run)
    if source.sha256 != known and (train["sha256"] or source.file == kept):
        wanted = replace(source, sha256=known)
        raise wanted.refused(f"and {printable(source.file)} is another file now (sha256 {source.sha256})")
    return source


def _locate(weights: str, slot: str) -> Path:
    """The file that a setting means: a .safetensors file, or that of a run or a bundle, absolute."""
    where = f"{slot}.train.weights={printable(weights, 300)}"
    path = Path(weights).expanduser().absolute()
    if is_missing(path):
        raise InputError(f"{where}: there is no such file or folder; give a run folder or a .safetensors file")
    if not path.is_dir():
        return path
    run = RunFolder(path)
    if not is_missing(run.config_file):
        config = run.config()
        for part in BLOCKS if slot not in BLOCKS else ():
            if is_kept(training_of(config.get(part) or {})):
                raise InputError(f"{where}: {part} of that run starts from yet other weights; give a run without")
        train = training_of(config.get(slot) or {})
        if has_adapter(train):
            raise InputError(
                f"{where}: {slot} of that run is an adapter on other weights; write both as one file and give that: "
                'python -c \'import prixfixe; prixfixe.load("RUN").save_weights("FILE.safetensors")\''
            )
        if train["weights"] is not None and is_kept(train):  # it has none of these in its own file
            source = _find(slot, train, path, run.sources().get(slot, {}))
            if source.file is None:
                raise source.refused("which is gone")
            return source.file
    if is_missing(run.weights_file):
        raise InputError(f"{where}: it holds no {run.weights_file.name}; give a folder of a run that has ended")
    return run.weights_file


def checksum(file: Path) -> str:
    """The sha256 of a file's content. A sweep asks for that of one file once a combination: it is read once."""
    with open_input(file) as opened:
        facts = os.fstat(opened.fileno())
        known = (file, facts.st_ino, facts.st_size, facts.st_mtime_ns)
        if known not in _checksums:
            _checksums[known] = hashlib.file_digest(opened, "sha256").hexdigest()  # type: ignore[arg-type]
    return _checksums[known]


_checksums: dict[tuple[Path, int, int, int], str] = {}


def pinned(parts: Mapping[str, Any], sources: Mapping[str, Source], origin: Origin = LOADED) -> dict[str, Any]:
    """A configuration that says beside every `weights` which content that is (`sha256`), and of whole networks which
    parts they have. origin: of that configuration."""
    changed = dict(parts)
    for place, source in sources.items():
        slot, _, name = place.partition(".")
        node = changed[slot]
        if name:
            inner = {**_parts_of(source, origin), "train": {**node[name]["train"], "sha256": source.sha256}}
            changed[slot] = {**node, name: inner}
        else:
            changed[slot] = {**node, "train": {**node["train"], "sha256": source.sha256}}
    return changed


def _parts_of(source: Source, origin: Origin) -> dict[str, Any]:
    """First, core and final of the run that a whole network is of: as its configuration has them, or, where that is
    gone, that of the run which holds the network."""
    theirs, (slot, _, name) = RunFolder(source.path.parent), source.slot.partition(".")
    holder = RunFolder(source.run)
    if not is_missing(theirs.config_file):
        file, config = theirs.config_file, theirs.config()
    else:
        file = holder.config_file
        config = {} if is_missing(holder.config_file) else (holder.config().get(slot) or {}).get(name) or {}
    if missing := [part for part in BLOCKS if not isinstance(config.get(part), Mapping)]:
        raise InputError(
            f"{source.slot}.train.weights={printable(source.weights, 300)}: no run folder whose config.yaml has a "
            f"{missing[0]}; give the folder of the run that trained the network"
        )
    parts = {part: {key: value for key, value in config[part].items() if key != "train"} for part in BLOCKS}
    try:
        judge_all(parts, Origin(run=theirs.path, conf=origin.conf))
    except InputError as error:
        raise InputError(f"{source.slot}, of which {printable(file)} says: {error}") from error
    return parts


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. InputError where it is damaged, or no regular file."""
    with open_input(file):  # a pipe or a device would be waited for
        try:
            return load_file(file)
        except (SafetensorError, OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
            raise InputError(
                f"{printable(file)} is damaged, or no safetensors file ({printable(error, 200)}): copy it again, or "
                "train its run again with --force"
            ) from error
