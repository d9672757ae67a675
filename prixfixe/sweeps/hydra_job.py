"""The jobs of a sweep: their configurations, their names, and how one is run, as Hydra's own launchers do."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import version
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.config_source import ConfigResult
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from prixfixe.sweeps.hydra_internals import ConfigRepository
from prixfixe.sweeps.plan import Plan


class RememberedFiles(ConfigRepository):
    """Hydra's configuration files, each read once and not once a combination, which is half the time of composing one.

    A composition changes what it gets, hence the copies. Pickle makes them, of this process's own objects and never of
    a file's, four times as fast as deepcopy.
    """

    def __init__(self, search_path: ConfigSearchPath) -> None:
        super().__init__(search_path)
        self.read: dict[tuple[Any, ...], bytes] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> RememberedFiles:
        return copy.copy(self)  # every composition takes one, to set its own sources; what was read is common to all

    def load_config(self, config_path: str) -> ConfigResult | None:
        key = (config_path, *((source.provider, source.path) for source in self.sources))
        if key not in self.read:
            self.read[key] = pickle.dumps(super().load_config(config_path))
        result: ConfigResult | None = pickle.loads(self.read[key])
        return result


def job_names(
    context: HydraContext, config: DictConfig, batch: Sequence[Sequence[str]]
) -> tuple[Path, list[str], list[str]]:
    """The sweep's folder, the folder names of all its combinations, and those of the jobs in `batch`."""
    folder = Path(config.hydra.sweep.dir)
    planned = {tuple(overrides): name for name, overrides in Plan.read(folder).jobs.items()}
    names = [planned.get(tuple(overrides)) or _composed_name(context, config, overrides) for overrides in batch]
    return folder, Plan.asked(folder) or names, names


def _composed_name(context: HydraContext, config: DictConfig, overrides: Sequence[str]) -> str:
    """The folder name of a job that no plan holds, as under another sweeper."""
    job_config = context.config_loader.load_sweep_config(config, list(overrides))
    HydraConfig.instance().set_config(job_config)
    name = str(job_config.hydra.sweep.subdir)
    HydraConfig.instance().set_config(config)
    return name


def run_hydra_job(
    context: HydraContext, task: TaskFunction, config: DictConfig, overrides: Sequence[str], number: int
) -> Any:
    """Composes the job's configuration in this process and calls the task with it; returns, or raises, what the task
    does."""
    setup_globals()
    version.setbase("1.3")
    if any(word.startswith("hydra.searchpath=") for word in config.hydra.overrides.hydra):
        Plugins.instance()  # which know the kinds of folders; a worker of the pool has none yet
    job_config = context.config_loader.load_sweep_config(config, list(overrides))
    with open_dict(job_config):
        job_config.hydra.job.id = str(number)
        job_config.hydra.job.num = number
    HydraConfig.instance().set_config(job_config)
    return value_of(run_job(task, job_config, "hydra.sweep.dir", "hydra.sweep.subdir", context))


def value_of(finished: JobReturn) -> Any:
    """What a job returned; or raises what it raised, without the words of Hydra's own that its property would add."""
    if finished.status is JobStatus.FAILED:
        raise finished._return_value
    return finished.return_value


def job_return(value: Any) -> JobReturn:
    """What Hydra is told of a job: what it returned, or the exception that says why it did not."""
    told = JobReturn()
    told.return_value = value
    told.status = JobStatus.FAILED if isinstance(value, Exception) else JobStatus.COMPLETED
    return told
