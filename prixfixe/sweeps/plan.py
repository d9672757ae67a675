"""A sweep's plan and its account: which combinations it has, how far it is, what failed."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from prixfixe.common.errors import InputError, SweepError
from prixfixe.common.files import write_json
from prixfixe.common.overrides import quoted
from prixfixe.common.simulated import is_simulated, simulated_suffix
from prixfixe.common.text import counted, printable
from prixfixe.runs.folder import RunFolder, flatten, identity
from prixfixe.runs.lock import holder
from prixfixe.runs.reader import read_plan
from prixfixe.tasks.scores import on_a_line


def resolved(config: DictConfig) -> dict[str, Any]:
    """The configuration of one run as plain values, without Hydra's own part. InputError where a value is still
    missing."""
    try:
        content = OmegaConf.to_container(
            OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]),
            resolve=True,
            throw_on_missing=True,
        )
    except MissingMandatoryValue as error:
        key = str(error.full_key or error).removeprefix("Missing mandatory value: ")
        example = "dataset=table dataset.path=promoters.tsv"
        raise InputError(f"{key} has no value: say {key}=..., as in {example}") from error
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def equal_settings(config: Mapping[str, Any], differ: Sequence[Sequence[str]]) -> bool:
    """Whether all settings of one of the lists have the same value. InputError for one that is not there."""
    values = flatten(config)
    for name in (name for names in differ for name in names):
        if name not in values:
            raise InputError(f"hydra.sweeper.differ: there is no setting {printable(name, 100)}")
    return any(all(values[name] == values[names[0]] for name in names) for names in differ)


def plan_sweep(
    folder: Path,
    names: Sequence[str],
    batch: Sequence[list[str]],
    configs: Sequence[Mapping[str, Any]],
    launched_with: Sequence[str] = (),
) -> tuple[Plan, list[list[str]]]:
    """Plans a sweep: the plan, and the overrides of the combinations that are still to run.

    names, batch, configs: each combination's folder name, overrides, and resolved configuration. launched_with: see
    `Plan`. Every dataset is read once here, so that bad input is refused before anything starts. Raises InputError
    where two combinations would share a folder, or a folder holds a run of another configuration.
    """
    from prixfixe.runs.sources import find_sources, pinned
    from prixfixe.training.experiment import with_precision_used
    from prixfixe.training.processes import count_started

    if count_started() > 1:
        raise InputError("torchrun trains one run on several devices; a sweep is many runs: start it without torchrun")
    if not names:
        raise InputError("this sweep has no combinations: hydra.sweeper.differ leaves out all of them")
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise InputError(
            f"several combinations of this sweep would share the folder {twice}; give what differs a place in their "
            "names, as in core.hidden=64,128 'variant=hidden${core.hidden}'"
        )
    of_data: dict[str, list[Mapping[str, Any]]] = {}
    for config in configs:
        of_data.setdefault(json.dumps(config["dataset"], sort_keys=True), []).append(config)
    contents = {key: content_checked(alike) for key, alike in of_data.items()}
    still_open: dict[str, list[str]] = {}
    for name, overrides, config in zip(names, batch, configs, strict=True):
        content = contents[json.dumps(config["dataset"], sort_keys=True)]
        run = RunFolder(folder / name)
        config = pinned(config, find_sources(config, run))
        config = with_precision_used(config, run, content, precision="fp32")  # on whatever device it is done
        if not run.is_done(config, identity(config, content)):
            still_open[name] = overrides
    plan = Plan(folder, dict(zip(names, batch, strict=True)), launched_with)
    plan.write()
    done = len(names) - len(still_open)
    suffix = simulated_suffix(any(map(is_simulated, configs)))
    what = f"{counted(len(names), 'combination')} in {printable(folder)}{suffix}"
    so_far = f"{done} done already, " if done else ""
    print(f"{what}: {so_far}{len(still_open)} to run", file=sys.stderr)
    return plan, [*still_open.values()]


def elsewhere(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration whose device is that of another machine, which is not sought here."""
    training = config.get("training")
    if not isinstance(training, Mapping) or not isinstance(training.get("device"), str):
        return dict(config)  # which is refused
    return {**config, "training": {**training, "device": "cpu"}}


def content_checked(configs: Sequence[Mapping[str, Any]]) -> str:
    """The content hash of the dataset that some combinations share, read once; prints what there is to say of it.

    Raises InputError where nothing can be trained on it. What one recipe cannot take costs only its combinations.
    """
    from prixfixe.networks.parts import OWN
    from prixfixe.runs.loggers import configured_logger
    from prixfixe.training.build import build_dataset, build_task
    from prixfixe.training.experiment import remarks

    configured_logger(configs[0], OWN)
    split = build_dataset(configs[0], OWN).read()
    build_task(configs[0], OWN).fitted(split.train)
    said = dict.fromkeys(split.warnings)
    for config in {json.dumps(config["recipe"]): config for config in configs}.values():
        with suppress(InputError):
            said |= dict.fromkeys(remarks(config, split, OWN))
    for remark in said:
        print(f"warning: {printable(remark)}", file=sys.stderr)
    return split.content


@dataclass(frozen=True)
class Plan:
    """The combinations of a sweep: folder name -> the overrides that run it. Kept as sweep.json in the sweep's folder.

    launched_with: further words of the command line that every one of them needs, such as --config-dir.
    """

    folder: Path
    jobs: dict[str, list[str]]
    launched_with: Sequence[str] = ()

    @property
    def file(self) -> Path:
        return self.folder / "sweep.json"

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """The plan in a folder; an empty one where there is none. InputError where it is damaged."""
        file = folder / "sweep.json"
        content = read_plan(file)
        plan = cls(folder, content.get("jobs", {}), content.get("launched_with", []))
        if wrong := next(filter(_is_of_hydra, (word for words in plan.jobs.values() for word in words)), None):
            raise InputError(f"{printable(file)} is damaged: {printable(wrong, 200)} is no setting of a combination")
        if not _says_where(plan.launched_with):
            raise InputError(f"{printable(file)} is damaged: launched_with says more than where YAMLs are")
        return plan

    @staticmethod
    def asked(folder: Path) -> list[str]:
        """The combinations that the latest start was asked for, those done before included."""
        return list(read_plan(folder / "sweep.json").get("asked", []))

    def write(self) -> None:
        """Writes the plan, together with the combinations that the folder was to hold already, and what they were
        launched with."""
        known = self.read(self.folder)
        launched_with = [*(self.launched_with or known.launched_with)]
        jobs = {**known.jobs, **self.jobs}
        write_json(self.file, {"asked": list(self.jobs), "launched_with": launched_with, "jobs": jobs})

    def open(self) -> dict[str, str]:
        """The combinations that are not done, each with the reason."""
        return {name: reason for name in self.jobs if (reason := why_open(RunFolder(self.folder / name)))}

    def count(self) -> str:
        """4 of 81 combinations done."""
        return f"{len(self.jobs) - len(self.open())} of {counted(len(self.jobs), 'combination')} done"

    def command(self, name: str) -> str:
        """The command that runs one combination by itself, in the folder where the sweep has it."""
        own = ["hydra.mode=RUN", f"hydra.run.dir={quoted(str(self.folder / name))}"]
        return f"prixfixe train {shlex.join([*self.launched_with, *self.jobs[name], *own])}"

    def failure(self) -> SweepError | None:
        """What the sweep ends with where some combinations are not done: their names, reasons, and the way to run
        them."""
        open_ones = self.open()
        if not open_ones:
            return None
        are = "is" if len(self.jobs) == 1 else "are"
        lines = [f"{len(open_ones)} of {counted(len(self.jobs), 'combination')} {are} not done:"]
        lines += [f"  {name}: {reason}" for name, reason in open_ones.items()]
        lines += ["The same command again runs just these. One by itself:", f"  {self.command(next(iter(open_ones)))}"]
        return SweepError("\n".join(lines))


def _is_of_hydra(override: str) -> bool:
    """Whether a word is anything but SETTING=VALUE of a combination: a setting of Hydra's own, or an option."""
    key, equals, _ = override.lstrip("+~").partition("=")
    return not equals or key.startswith(("hydra", "-"))


def _says_where(words: Sequence[str]) -> bool:
    """Whether words of a command line are what a sweep keeps: --config-dir FOLDER, hydra.searchpath=..."""
    rest = [*words]
    while rest[:1] == ["--config-dir"] and len(rest) > 1:
        rest = rest[2:]
    return all(word.startswith("hydra.searchpath=") for word in rest)


def why_open(folder: RunFolder) -> str | None:
    """Why a run is not done, in a few words; None where it is done."""
    try:
        status, state = folder.status(), folder.state()
    except InputError as error:
        return str(error)
    if state == "done":
        return None
    if state == "running":
        return f"running elsewhere: {holder(folder.path) or 'until a moment ago'}"
    silent = {"missing": "never started", "stopped": "its process is gone, and said nothing"}
    return silent.get(state, str(status.get("reason") or state))


def record_end(folder: RunFolder, reason: str, began: float, *, overrule: bool = False) -> bool:
    """Records that a run's process ended without saying so itself; whether there was something to record.

    began: when the process was started, in seconds since 1970. What the run itself has recorded since then stays;
    overrule: unless it is done.
    """
    status = folder.status()
    if folder.ended_since(began) and (status["state"] == "done" or not overrule):
        return False
    folder.write_status("failed", reason=reason)
    return True


def end_line(name: str, metrics: Mapping[str, Any] | None, reason: str | None) -> str:
    """How a job of a sweep has ended: its name, with its scores or with the reason why it has none."""
    if metrics is None:
        return f"{printable(name):<52} FAILED: {printable(reason)}"
    scores = on_a_line(metrics)
    simulated = "  simulated" if metrics.get("simulated") else ""
    return f"{printable(name):<52} {'  '.join(scores)}{simulated}  {metrics.get('training_seconds', math.nan):5.1f} s"
