"""A sweep's plan and its account: which combinations it has, how far it is, what failed."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from prixfixe.errors import InputError, SweepError
from prixfixe.files import write_json
from prixfixe.progress import duration
from prixfixe.run_folder import RunFolder, identity


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


def plan_sweep(
    folder: Path, names: Sequence[str], batch: Sequence[list[str]], configs: Sequence[Mapping[str, Any]]
) -> tuple[Plan, list[list[str]]]:
    """Plans a sweep: the plan, and the overrides of the combinations that are still to run.

    names, batch, configs: each combination's folder name, overrides, and resolved configuration. Every dataset is read once here,
    so that bad input is refused before anything starts. Raises InputError where two combinations would share a folder, or a folder
    holds a run of another configuration.
    """
    from prixfixe.experiment import dataset

    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise InputError(
            f"several combinations of this sweep would share the folder {twice}; sweep over the slots or the seed, "
            "or give every value a sweep=NAME of its own"
        )
    contents: dict[str, str] = {}
    still_open = []
    for name, overrides, config in zip(names, batch, configs, strict=True):
        key = json.dumps(config["dataset"], sort_keys=True)
        if key not in contents:
            contents[key] = dataset(config).read().content
        if not RunFolder(folder / name).is_done(config, identity(config, contents[key])):
            still_open.append(overrides)
    plan = Plan(folder, dict(zip(names, batch, strict=True)))
    plan.write(started=time.time(), current=[name for name, overrides in plan.jobs.items() if overrides in still_open])
    done = len(names) - len(still_open)
    print(
        f"{len(names)} combinations in {folder}: " + (f"{done} done already, " if done else "") + f"{len(still_open)} to run",
        file=sys.stderr,
    )
    return plan, still_open


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

    def write(self, started: float, current: list[str]) -> None:
        """Writes the plan, together with the combinations that the folder was to hold already.

        started: when, in seconds since 1970. current: the combinations that are run now.
        """
        known = self.read(self.folder).jobs
        write_json(self.file, {"started": started, "current": current, "jobs": {**known, **self.jobs}})

    def statuses(self) -> dict[str, dict[str, Any]]:
        return {name: RunFolder(self.folder / name).status() for name in self.jobs}

    def failure(self) -> SweepError | None:
        """What the sweep ends with where some combinations are not done: their names, reasons, and the way to run them."""
        open_ones = {name: status for name, status in self.statuses().items() if status.get("state") != "done"}
        if not open_ones:
            return None
        lines = [f"{len(open_ones)} of {len(self.jobs)} combinations are not done:"]
        lines += [f"  {name}: {status.get('reason') or status.get('state', 'never started')}" for name, status in open_ones.items()]
        first = next(iter(open_ones))
        lines += [
            "The same command again runs just these. One by itself:",
            f"  prixfixe train {shlex.join([*self.jobs[first], 'hydra.mode=RUN', f'hydra.run.dir={self.folder / first}'])}",
        ]
        return SweepError("\n".join(lines))


def job_line(folder: Path, metrics: Mapping[str, Any] | None, reason: str | None) -> str:
    """What a job of a sweep says at its end: its number among all, its name, its scores or its reason, the time left."""
    content = RunFolder(folder.parent).read_json(folder.parent / "sweep.json")
    names, began = content.get("current", []), content.get("started", time.time())
    ended = sum(RunFolder(folder.parent / name).ended_since(began) for name in names)
    left = (time.time() - began) / max(ended, 1) * (len(names) - ended)
    head = f"[{ended:>{len(str(len(names)))}}/{len(names)}] {folder.name:<52}"
    if metrics is None:
        return f"{head} FAILED: {reason}"
    return (
        f"{head} KL {_number(metrics['kl'])}  r {_number(metrics['pearson_r'])}  rho {_number(metrics['spearman_rho'])}  "
        f"{metrics['training_seconds']:5.1f} s  left {duration(left)}"
    )


def _number(value: float | None) -> str:
    return "  -  " if value is None else f"{value:5.3f}"
