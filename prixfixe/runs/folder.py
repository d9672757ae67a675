"""A run folder: its files, its name, and what makes two runs the same."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from prixfixe.common.errors import InputError
from prixfixe.common.files import write_json, write_text
from prixfixe.common.text import printable
from prixfixe.common.version import version_of
from prixfixe.runs.checkpoint import remove_checkpoints
from prixfixe.runs.lock import check_held, holder
from prixfixe.runs.reader import read_config, read_metrics, read_object, read_sources, read_status

SLOTS = ("recipe", "first", "core", "final")
LONGEST_REASON = 20_000  # letters of it in status.json
# settings that came later, each with the value that leaves a run as it was before: with that it is no part of identity
LATER = {"recipe": {"strand_flag": "is_reverse", "flip_insert": None, "shift": None, "beside": None}}


def run_name(
    choices: Mapping[str, str], seed: int, variant: str | None = None, dataset: Mapping[str, Any] | None = None
) -> str:
    """autosome+conv+bilstm+mlp, then the variant's name where a sweep varies other values, then +t1f0 for the folds of
    the dataset that are tested and validated on, then +seed3 for any seed but 0."""
    folds = fold_name(dataset.get("test_fold"), dataset.get("fold")) if dataset else ""
    names = [*(str(choices[slot]) for slot in SLOTS), variant, folds, f"seed{seed}" if seed else ""]
    return "+".join(str(name) for name in names if name)


def fold_name(test_fold: Any, fold: Any) -> str:
    """t1f0, t1, f0, or '' where neither is set; of several folds, fchr2L-chr2R."""
    named = (("t", test_fold), ("f", fold))
    return "".join(f"{letter}{joined_folds(value, '-')}" for letter, value in named if value is not None)


def joined_folds(fold: Any, mark: str) -> str:
    """A fold, or a list of them, as one text."""
    several = isinstance(fold, Sequence) and not isinstance(fold, str)
    return mark.join(map(str, fold)) if several else str(fold)


def identity(config: Mapping[str, Any], content: str) -> str:
    """A hash of all that decides a run's numbers: the resolved configuration and the data's content.

    Not of where the data and weights from elsewhere lie, where it runs, what the sweep is called, or what is written
    down about it.
    """
    return hashlib.sha256(json.dumps({**decisive(config), "content": content}, sort_keys=True).encode()).hexdigest()[
        :16
    ]


def decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that decides a run's numbers."""
    without = {
        "dataset": ("path", "validation", "test", "test_fold", "activity"),  # all of which the data's content holds
        "training": ("device", "micro_batch", "compile", "checkpoint_minutes"),
    }
    decides = {}
    for key, value in config.items():
        if key in ("first", "core", "final") and isinstance(value, Mapping):
            decides[key] = _decisive_part(value)
        elif key in LATER and isinstance(value, Mapping):
            decides[key] = {k: v for k, v in value.items() if (k, v) not in LATER[key].items()}
        elif key not in ("sweep", "variant", "force", "logger"):
            decides[key] = {k: v for k, v in value.items() if k not in without[key]} if key in without else value
    return decides


def _decisive_part(node: Mapping[str, Any]) -> dict[str, Any]:
    """A part with what its `train` asks for: nothing where it leaves all as it is; of weights from elsewhere their
    hash."""
    train = node.get("train")
    values = {}
    for key, value in node.items():
        inner = isinstance(value, Mapping) and "train" in value  # a whole network of another run
        if key != "train":
            values[key] = _decisive_part(value) if inner else value
    if not isinstance(train, Mapping):
        return values
    asked = {key: value for key, value in train.items() if value is not None and value is not False}
    if not (isinstance(asked.get("lora"), Mapping) and asked["lora"].get("rank")):
        asked.pop("lora", None)
    if "sha256" in asked:
        asked.pop("weights", None)
    return {**values, "train": asked} if asked else values


@dataclass(frozen=True)
class RunFolder:
    """The files of one run. Every one is written atomically, so each is there whole or not at all."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def status_file(self) -> Path:
        return self.path / "status.json"

    @property
    def targets_file(self) -> Path:
        return self.path / "targets.json"

    @property
    def history_file(self) -> Path:
        return self.path / "history.csv"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.json"

    @property
    def weights_file(self) -> Path:
        return self.path / "weights.safetensors"

    @property
    def sources_file(self) -> Path:
        return self.path / "sources.json"

    @property
    def validation_file(self) -> Path:
        return self.path / "validation.npz"

    @property
    def evaluation_file(self) -> Path:
        return self.path / "evaluation.json"

    @property
    def test_file(self) -> Path:
        return self.path / "test.npz"

    def test_part_file(self, part: str) -> Path:
        """The predictions of a test part of the run's own dataset."""
        return self.path / f"predictions_{part}.npz"

    @property
    def training_sample_file(self) -> Path:
        return self.path / "training_sample.npz"

    @property
    def log_file(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def error_file(self) -> Path:
        return self.path / "error.txt"

    def config(self) -> dict[str, Any]:
        """The resolved configuration; InputError where this is no run folder, or it is damaged."""
        return read_config(self.config_file)

    def read_json(self, file: Path) -> dict[str, Any]:
        """One of the folder's JSON files that has no schema; {} where it is not there."""
        return read_object(file)

    def status(self) -> dict[str, Any]:
        """What status.json says; {} where there is none."""
        return read_status(self.status_file)

    def metrics(self) -> dict[str, Any]:
        """What metrics.json says; {} where there is none."""
        return read_metrics(self.metrics_file)

    def sources(self) -> dict[str, dict[str, Any]]:
        """What sources.json says of weights from elsewhere, by slot; {} where there is none."""
        return read_sources(self.sources_file)

    def state(self) -> str:
        """done, failed, running, stopped (it was running, but no process has it any more) or missing."""
        state = str(self.status().get("state", "missing"))
        return "stopped" if state == "running" and holder(self.path) is None else state

    def is_done(self, config: Mapping[str, Any], fingerprint: str) -> bool:
        """Whether the run of this identity is done here. Raises InputError where a run of another one is, and says in
        what they differ, unless the configuration says `force`.
        """
        status = self.status()
        if status.get("configuration_hash") in (None, fingerprint):
            return status.get("state") == "done"
        if not config.get("force"):
            raise InputError(
                f"{printable(self.path)} holds a run of another configuration "
                f"({printable(difference(self.config(), config))}); "
                "give this one another folder with sweep=NAME, or have that one replaced with --force"
            )
        return False

    def begin(self, config: Mapping[str, Any], fingerprint: str) -> None:
        """Makes the folder that of a run. `force` in the configuration removes what an earlier one has left, once: a
        job that its launcher starts again, with the same `force`, goes on.
        """
        check_held(self.path)
        before, force = self.status(), config.get("force")
        if force and (before.get("configuration_hash"), before.get("force")) != (fingerprint, force):
            self.clear()
        self.error_file.unlink(missing_ok=True)
        write_text(self.config_file, as_yaml(config), follow=False)
        self.write_status("running", configuration_hash=fingerprint, force=force)

    def clear(self) -> None:
        """Removes a run's files, and nothing else."""
        check_held(self.path)
        remove_checkpoints(self.path)
        files = (
            self.status_file,
            self.config_file,
            self.targets_file,
            self.history_file,
            self.metrics_file,
            self.weights_file,
            self.sources_file,
            self.training_sample_file,
            *self.path.glob("predictions_*.npz"),
        )
        logs = (self.log_file, self.path / "logger.json", *self.path.glob("events.out.tfevents.*"))
        for file in (*files, *logs, self.validation_file, self.evaluation_file, self.test_file, self.error_file):
            file.unlink(missing_ok=True)

    def ended_since(self, began: float) -> bool:
        """Whether the run has come to an end, done or failed, after `began` (seconds since 1970)."""
        status = self.status()
        ended = status.get("ended")
        return (
            status.get("state") in ("done", "failed")
            and ended is not None
            and datetime.fromisoformat(ended).timestamp() >= began - 1
        )

    def write_status(self, state: str, *, reason: str | None = None, **facts: Any) -> None:
        """state: running, done or failed. Other facts already there stay. BusyError where another process has taken the
        folder over from this one."""
        check_held(self.path)
        before = self.status()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        started = {"started": now} if state == "running" else {"ended": now}
        reason = reason and reason[:LONGEST_REASON]
        content = {**before, "versions": versions(), **started, **facts, "state": state, "reason": reason}
        write_json(self.status_file, content, follow=False)

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """metrics.json, of plain values. BusyError as `write_status`."""
        check_held(self.path)
        write_json(self.metrics_file, metrics, follow=False)


class _Plain(yaml.SafeDumper):
    """Writes what is there twice twice: the reader takes no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def as_yaml(config: Mapping[str, Any]) -> str:
    """A configuration of plain values as the text of config.yaml."""
    return yaml.dump(dict(config), Dumper=_Plain, sort_keys=False)


def versions() -> dict[str, str]:
    """What the run's numbers were made with."""
    packages = ("prixfixe", "torch", "numpy", "hydra-core")
    return {"python": platform.python_version(), **{name: version_of(name) for name in packages}}


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """`training.epochs: 80 there, 4 here; ...`, the decisive values in which two configurations differ."""
    there, here = flatten(decisive(old)), flatten(decisive(new))
    lines = [
        f"{key}: {there.get(key, 'nothing')} there, {here.get(key, 'nothing')} here"
        for key in dict.fromkeys([*there, *here])
        if there.get(key) != here.get(key)
    ]
    return (
        "; ".join(lines[:5] + ([f"and {len(lines) - 5} more"] if len(lines) > 5 else [])) or "the content of the data"
    )


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat
