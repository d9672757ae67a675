"""A run folder: its files, its name, and what makes two runs the same."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from prixfixe.checkpoint import remove_checkpoints
from prixfixe.errors import InputError
from prixfixe.files import write_json, write_text
from prixfixe.lock import holder

SafeLoader = getattr(
    yaml, "CSafeLoader", yaml.SafeLoader
)  # the same in C, ten times as fast, where PyYAML was built with it
SLOTS = ("recipe", "first", "core", "final")


def run_name(choices: Mapping[str, str], seed: int, variant: str | None = None) -> str:
    """autosome+conv+bilstm+mlp, then the variant's name where a sweep varies other values, then +seed3 for any seed but
    0."""
    return "+".join(
        [
            *(str(choices[slot]) for slot in SLOTS),
            *([str(variant)] if variant else []),
            *([f"seed{seed}"] if seed else []),
        ]
    )


def identity(config: Mapping[str, Any], content: str) -> str:
    """A hash of all that decides a run's numbers: the resolved configuration and the data's content.

    Not of where the data lies, where it runs, what the sweep is called, or what is written down about it.
    """
    return hashlib.sha256(json.dumps({**decisive(config), "content": content}, sort_keys=True).encode()).hexdigest()[
        :16
    ]


def decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that decides a run's numbers."""
    without = {
        "dataset": ("path", "validation", "test", "test_fold"),  # all of which the data's content holds
        "training": ("device", "micro_batch", "compile", "checkpoint_minutes"),
    }
    return {
        key: {k: v for k, v in value.items() if k not in without[key]} if key in without else value
        for key, value in config.items()
        if key not in ("sweep", "variant", "force", "logger")
    }


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
    def validation_file(self) -> Path:
        return self.path / "validation.npz"

    @property
    def evaluation_file(self) -> Path:
        return self.path / "evaluation.json"

    @property
    def test_file(self) -> Path:
        return self.path / "test.npz"

    @property
    def log_file(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def error_file(self) -> Path:
        return self.path / "error.txt"

    def config(self) -> dict[str, Any]:
        """The resolved configuration; InputError where this is no run folder."""
        try:
            content = yaml.load(self.config_file.read_text(encoding="utf-8"), Loader=SafeLoader)
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(
                f"{self.path} is no run folder: it has no config.yaml; give one such as "
                "runs/demo/autosome+conv+bilstm+mlp"
            ) from None
        except (UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(f"{self.config_file} cannot be read: {error}") from error
        if not isinstance(content, dict):
            raise InputError(f"{self.config_file} holds no configuration")
        return content

    def read_json(self, file: Path) -> dict[str, Any]:
        """One of the folder's JSON files; {} where it is not there."""
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise InputError(f"{file} is damaged: {error}") from error
        if not isinstance(content, dict):
            raise InputError(f"{file} is damaged: it holds no JSON object")
        return content

    def status(self) -> dict[str, Any]:
        return self.read_json(self.status_file)

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
                f"{self.path} holds a run of another configuration ({difference(self.config(), config)}); "
                "give this one another folder with sweep=NAME, or have that one replaced with --force"
            )
        return False

    def begin(self, config: Mapping[str, Any], fingerprint: str) -> None:
        """Makes the folder that of a run. `force` in the configuration removes what an earlier one has left, once: a
        job that its launcher starts again, with the same `force`, goes on.
        """
        before, force = self.status(), config.get("force")
        if force and (before.get("configuration_hash"), before.get("force")) != (fingerprint, force):
            self.clear()
        self.error_file.unlink(missing_ok=True)
        write_text(self.config_file, yaml.safe_dump(dict(config), sort_keys=False))
        self.write_status("running", configuration_hash=fingerprint, force=force)

    def clear(self) -> None:
        """Removes a run's files, and nothing else."""
        remove_checkpoints(self.path)
        files = (
            self.status_file,
            self.config_file,
            self.targets_file,
            self.history_file,
            self.metrics_file,
            self.weights_file,
        )
        logs = (self.log_file, self.path / "logger.json", *self.path.glob("events.out.tfevents.*"))
        for file in (*files, *logs, self.validation_file, self.evaluation_file, self.test_file, self.error_file):
            file.unlink(missing_ok=True)

    def ended_since(self, began: float) -> bool:
        """Whether the run has come to an end, done or failed, after `began` (seconds since 1970)."""
        status = self.status()
        return (
            status.get("state") in ("done", "failed")
            and datetime.fromisoformat(status["ended"]).timestamp() >= began - 1
        )

    def write_status(self, state: str, *, reason: str | None = None, **facts: Any) -> None:
        """state: running, done or failed. Other facts already there stay."""
        before = self.status()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        started = {"started": now} if state == "running" else {"ended": now}
        write_json(
            self.status_file, {**before, "versions": versions(), **started, **facts, "state": state, "reason": reason}
        )


def versions() -> dict[str, str]:
    """What the run's numbers were made with."""
    packages = ("prixfixe", "torch", "numpy", "hydra-core")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


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
