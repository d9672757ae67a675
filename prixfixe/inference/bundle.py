"""Writes a bundle: what it takes to use a trained model elsewhere, and nothing of this machine; see
`prixfixe.runs.bundle` for what is in it."""

from __future__ import annotations

import inspect
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prixfixe.common.errors import InputError
from prixfixe.common.files import json_values, writable, write_json, write_text
from prixfixe.common.inputs import is_missing
from prixfixe.common.paths import FRAMEWORK
from prixfixe.common.text import printable
from prixfixe.common.version import version_of
from prixfixe.inference.export import FILES, Exported, export
from prixfixe.inference.load import load
from prixfixe.inference.model import Model
from prixfixe.inference.model_card import model_card
from prixfixe.inference.predictor import Predictor
from prixfixe.runs.bundle import (
    CARD,
    FILE,
    FORMAT,
    OF_LARGEST,
    OF_SPREAD,
    digest,
    is_bundle,
    last_name,
    without_places,
)
from prixfixe.runs.folder import RunFolder, as_yaml
from prixfixe.runs.sources import find_sources

EXAMPLES = 8  # sequences
KEPT_OF_STATUS = ("state", "reason", "configuration_hash", "versions", "started", "ended")


def write_bundle(
    model: Predictor,
    folders: Sequence[Path],
    output: Path,
    *,
    license: str = "other",
    exports: Sequence[str] = (),
    without_sources: bool = False,
    force: bool = False,
    config_dir: Path | None = None,
) -> list[str]:
    """Writes the bundle of a model, or of an ensemble, whose runs are in `folders`. Returns what the user should know.

    license: an identifier, such as mit, for the card. exports: of `prixfixe.inference.export.FILES`. without_sources:
    what frozen parts and adapters start from is left out. force: a bundle that is there is replaced.
    The bundle is loaded and compared with the model before it gets its name. Raises InputError where a run is not done,
    the folder is taken, or an export is refused; no bundle is there then.
    """
    _check_free(output, force)
    members = [""] if len(folders) == 1 else [f"members/{number}" for number in range(len(folders))]
    remarks: list[str] = []
    with _new_folder(output, force) as temporary:
        examples = example_rows(model)
        facts: dict[str, Any] = {
            "format": FORMAT,
            "prixfixe": version_of("prixfixe"),
            "task": model.members[0].task.name,
            "tasks": list(model.tasks),
            "predicts": None if model.members[0].task.predicts is None else model.predicted,
            "simulated": model.simulated,
            "flanks": list(model.flanks),
            "needs": list(model.needs),
            "members": [],
            "tolerance": {"of_spread": OF_SPREAD, "of_largest": OF_LARGEST},
            "examples": None if examples is None else {**examples, "predictions": _expected(model, examples)},
            "code": [],
        }
        if examples is None:
            remarks.append("without examples: it predicts nothing a sequence, or needs a column that lies in a file")
        for place, one, folder in zip(members, model.members, folders, strict=True):
            where = temporary / place
            where.mkdir(parents=True, exist_ok=True)
            about = _write_member(RunFolder(folder), where)
            facts["members"].append({"folder": place, **about, **_encoding(one)})
            facts["members"][-1]["exports"] = _export(one, examples, exports, where)
            facts["code"] += _show_code(one, temporary, [code["name"] for code in facts["code"]])
        if without_sources:
            for member in facts["members"]:
                files = (temporary / member["folder"]).glob("sources/*.safetensors")
                member["sources_left_out"] = sorted(file.stem for file in files)
        write_text(temporary / CARD, model_card(model, folders, facts, license))
        _write_facts(temporary, facts)
        load([temporary], device="cpu", config_dir=config_dir)  # compares the examples, too
        if without_sources:
            remarks += _leave_out_sources(temporary, facts)
            _write_facts(temporary, facts)
    remarks += [
        f"{one['file']} shows the source of {one['name']}, and nothing that it imports" for one in facts["code"]
    ]
    return remarks


def _write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in (CARD, FILE):  # a card may be edited
            files[name] = {"sha256": digest(path), "bytes": path.stat().st_size}
    write_json(folder / FILE, json_values({**facts, "files": files}))


def _check_free(output: Path, force: bool) -> None:
    if is_missing(output) or (output.is_dir() and not any(output.iterdir())):
        return
    if not is_bundle(output):
        raise InputError(f"-o {printable(output)} is there and no bundle: give the name of a new folder")
    if not force:
        raise InputError(
            f"-o {printable(output)} holds a bundle: give another folder, or have it replaced with --force"
        )


@contextmanager
def _new_folder(output: Path, force: bool) -> Iterator[Path]:
    """A temporary folder beside the output, which gets its name once all is written."""
    output = Path(os.path.abspath(output))
    with writable(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{output.name[:100]}.", dir=output.parent))
    new = beside / "new"
    try:
        new.mkdir()
        yield new
        with writable(output):
            _check_free(output, force)
            old = beside / "old"
            if not is_missing(output):
                output.rename(old)
            try:
                new.rename(output)
            except OSError:
                if not is_missing(old):
                    old.rename(output)
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write_member(run: RunFolder, where: Path) -> dict[str, Any]:
    """A run's files without anything of this machine, and what its parts start from."""
    status, config = run.status(), run.config()
    if status.get("state") not in ("done", None):
        raise InputError(f"{printable(run.path)} is not done (its state is {run.state()}): finish the run first")
    new = RunFolder(where)
    write_text(new.config_file, as_yaml({**without_places(config), "logger": None}))
    shutil.copyfile(run.targets_file, new.targets_file)
    shutil.copyfile(run.weights_file, new.weights_file)
    if status:
        write_json(new.status_file, {key: status[key] for key in KEPT_OF_STATUS if key in status})
    if metrics := run.metrics():
        write_json(new.metrics_file, json_values(without_places(metrics)))
    facts: dict[str, dict[str, Any]] = run.sources()
    for slot, source in find_sources(config, run, trained=True).items():
        if source.file is None:
            raise source.refused("which is gone")
        kept = where / "sources" / f"{source.sha256}.safetensors"
        kept.parent.mkdir(exist_ok=True)
        shutil.copyfile(source.file, kept)
        facts[slot] = facts.get(slot) or source.facts()
    if facts:
        write_json(new.sources_file, {slot: _source_facts(one) for slot, one in facts.items()})
    return {
        "run": printable(Path(os.path.abspath(run.path)).name, 200),
        "configuration_hash": status.get("configuration_hash"),
        "seed": config.get("seed", 0),
    }


def _source_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    path = Path(facts["path"])
    return {**facts, "weights": last_name(facts["weights"]), "path": f"{path.parent.name}/{path.name}".lstrip("/")}


def _encoding(model: Model) -> dict[str, Any]:
    """How a row enters the network, for who feeds it without prixfixe."""
    inputs = model.recipe.inputs
    return {
        "recipe": type(model.recipe).__name__,
        "channels": inputs.channels,
        "length": inputs.length,
        "longest": model.longest,
        "views": model.recipe.views,
        "parameters": sum(parameter.numel() for parameter in model.network.parameters()),
    }


def _expected(model: Predictor, examples: Mapping[str, Any]) -> list[Any]:
    found = model.predict_members(examples["sequences"], columns=examples["columns"])
    return list(found.reshape(*found.shape[:2], -1).tolist())


def example_rows(model: Predictor) -> dict[str, Any] | None:
    """Sequences as the training data had them, drawn with a fixed seed, one of them with an N and one shorter; and the
    further columns that the model needs.

    None of a task that predicts nothing a sequence, and where a column lies in a file and so cannot be written down.
    """
    if model.members[0].task.predicts is None:
        return None
    random, construct = np.random.default_rng(0), model.construct
    length = max(min(model.longest, 1 << 16), 1)
    shares, left, right = (0.25,) * 4, "", ""
    if construct is not None:
        left, right = construct.left.removeprefix(model.flanks[0]), construct.right.removesuffix(model.flanks[1])
        shares = construct.composition
        length = max(min(construct.insert, length - len(left) - len(right)), 1)
    chosen = np.asarray(shares) / np.sum(shares)
    inserts = ["".join(random.choice(list("ACGT"), length, p=chosen)) for _ in range(EXAMPLES)]
    inserts[-2] = inserts[-2][: length // 2] + "N" + inserts[-2][length // 2 + 1 :]
    inserts[-1] = inserts[-1][: max(length * 9 // 10, 1)]
    columns = {name: _example_column(model, name, random) for name in model.needs}
    if any(values is None for values in columns.values()):
        return None
    return {"sequences": [f"{left}{insert}{right}" for insert in inserts], "columns": columns}


def _example_column(model: Predictor, name: str, random: np.random.Generator) -> list[Any] | None:
    member = next(one for one in model.members if name in one.needs)
    spec, source = member.task.spec.columns.get(name), member.sources((name,))[-1]
    if spec is None or source.kind == "file":
        return None
    if source.alphabet is not None:
        letters = list(source.alphabet.letters)[:4]
        return ["".join(random.choice(letters, min(spec.shape[0], 1000))) for _ in range(EXAMPLES)]
    if spec.names:
        return [spec.names[row % len(spec.names)] for row in range(EXAMPLES)]
    values = random.integers(0, 2, (EXAMPLES, *spec.shape))
    return list((values.astype(bool) if source.kind == "contains" else values.astype(float)).tolist())


def _export(model: Model, examples: Mapping[str, Any] | None, kinds: Sequence[str], where: Path) -> list[Any]:
    if not kinds:
        return []
    if examples is None:
        raise InputError(f"{model.name} has no examples that an export could be compared on: bundle it without one")
    rows = model.rows_of(examples["sequences"], {name: examples["columns"][name] for name in model.needs})
    found: list[Exported] = [export(model, rows, kind, where) for kind in FILES if kind in kinds]
    return [asdict(one) for one in found]


def _show_code(model: Model, folder: Path, shown: Sequence[str]) -> list[dict[str, str]]:
    """Puts the source of parts of the user's own into the bundle, as text that no Python imports."""
    found = []
    network = model.network
    frameworks = (FRAMEWORK / "prixfixe", FRAMEWORK / "blocks", Path(torch.__file__).resolve().parent)
    for part in (model.recipe, network.first, network.core, network.final, model.task):
        own = type(part)
        file = Path(inspect.getfile(own)).resolve()
        name = f"{own.__module__}.{own.__qualname__}"
        if name in shown or any(file.is_relative_to(place) for place in frameworks):
            continue
        place = folder / "source" / f"{own.__module__}.py.txt"
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, place)
        found.append({"name": name, "file": f"source/{place.name}"})
    return found


def _leave_out_sources(folder: Path, facts: Mapping[str, Any]) -> list[str]:
    """Removes what parts start from; what must be put back, a sentence a file."""
    remarks = []
    for member in facts["members"]:
        place = folder / member["folder"]
        origins = {one["sha256"]: one["path"] for one in RunFolder(place).sources().values()}
        for sha256 in member["sources_left_out"]:
            file = place / "sources" / f"{sha256}.safetensors"
            what = f"it needs {file.relative_to(folder)} beside it, which is"
            remarks.append(f"{what} {printable(origins.get(sha256, 'a file of weights'))}")
            file.unlink()
        if member["sources_left_out"]:
            (place / "sources").rmdir()
    return remarks
