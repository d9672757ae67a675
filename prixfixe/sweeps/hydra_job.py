"""One job of a sweep, run as Hydra's own launchers do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra import version
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict


def run_hydra_job(context: HydraContext, task: TaskFunction, config: DictConfig, overrides: Sequence[str], number: int) -> Any:
    """Composes the job's configuration in this process and calls the task with it; returns, or raises, what the task does."""
    setup_globals()
    version.setbase("1.3")
    job_config = context.config_loader.load_sweep_config(config, list(overrides))
    with open_dict(job_config):
        job_config.hydra.job.id = str(number)
        job_config.hydra.job.num = number
    HydraConfig.instance().set_config(job_config)
    finished = run_job(task, job_config, "hydra.sweep.dir", "hydra.sweep.subdir", context)
    if finished.status is JobStatus.FAILED:
        raise finished._return_value  # its property would raise it, too, after words of Hydra's own
    return finished.return_value
