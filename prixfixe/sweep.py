"""A sweep's plan and its account: which combinations it has, how far it is, what failed."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from prixfixe.errors import InputError, SweepError
from prixfixe.files import write_json
from prixfixe.progress import duration
from prixfixe.run_folder import RunFolder


def resolved(config: DictConfig) -> dict[str, Any]:
    """The configuration of one run as plain values, without Hydra's own part. InputError where a value is still missing."""
    try:
        content = OmegaConf.to_container(
            OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]), resolve=True, throw_on_missing=True
        )
    except MissingMandatoryValue as error:
        key = str(error.full_key or error).removeprefix("Missing mandatory value: ")
        raise InputError(f"{key} has no value: say {key}=..., as in dataset=table dataset.path=promoters.tsv") from error
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def prepare_dataset(config: Mapping[str, Any]) -> None:
    """Reads a dataset once before many jobs do: bad input is refused here, and what can be kept is kept."""
    from prixfixe.experiment import dataset

    dataset(config).read()


@dataclass(frozen=True)
class Plan:
    """The combinations of a sweep: folder name -> the overrides that run it. Kept as sweep.json in the sweep's folder."""

    folder: Path
    jobs: dict[str, list[str]]

    @property
    def file(self) -> Path:
        return self.folder / "sweep.json"

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """The plan in a folder; an empty one where there is none."""
        content = RunFolder(folder).read_json(folder / "sweep.json")
        return cls(folder, content.get("jobs", {}))

    def write(self, started: float) -> None:
        """Writes the plan together with the combinations that the folder was to hold already."""
        known = self.read(self.folder).jobs
        write_json(self.file, {"started": started, "current": list(self.jobs), "jobs": {**known, **self.jobs}})

    def statuses(self) -> dict[str, dict[str, Any]]:
        return {name: RunFolder(self.folder / name).status() for name in self.jobs}

    def failure(self) -> SweepError | None:
        """What the sweep ends with where some combinations are not done: their names, reasons, and the way to run them."""
        open_ones = {name: status for name, status in self.statuses().items() if status.get("state") != "done"}
        if not open_ones:
            return None
        lines = [f"{len(open_ones)} of {len(self.jobs)} combinations are not done:"]
        for name, status in open_ones.items():
            lines.append(f"  {name}: {status.get('reason') or status.get('state', 'never started')}")
            lines.append(f"    prixfixe train {command(self.jobs[name], self.folder / name)}")
        return SweepError("\n".join(lines))


def command(overrides: list[str], folder: Path) -> str:
    """The words after `prixfixe train` that run one combination of a sweep in its own folder."""
    return shlex.join([*overrides, "hydra.mode=RUN", f"hydra.run.dir='{folder}'"])


def job_line(folder: Path, metrics: Mapping[str, Any] | None, reason: str | None) -> str:
    """What a job of a sweep says at its end: its number among all, its name, its scores or its reason, the time left."""
    content = RunFolder(folder.parent).read_json(folder.parent / "sweep.json")
    names = content.get("current", [])
    began = content.get("started", time.time())
    ended = [n for n in names if RunFolder(folder.parent / n).status().get("state") in ("done", "failed")]
    left = (time.time() - began) / max(len(ended), 1) * (len(names) - len(ended))
    head = f"[{len(ended):>{len(str(len(names)))}}/{len(names)}] {folder.name:<52}"
    if metrics is None:
        return f"{head} FAILED: {reason}"
    return (
        f"{head} KL {_number(metrics['kl'])}  r {_number(metrics['pearson_r'])}  rho {_number(metrics['spearman_rho'])}  "
        f"{metrics['training_seconds']:5.1f} s  left {duration(left)}"
    )


def _number(value: float | None) -> str:
    return "  -  " if value is None else f"{value:5.3f}"
