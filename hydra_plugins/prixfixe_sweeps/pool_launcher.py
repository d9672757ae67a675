"""Every combination in a process of its own, several at a time."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import version
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict


class PoolLauncher(Launcher):
    """Runs jobs in processes that are forked from a server which has torch imported already, `jobs` at a time.

    A job that raises, exits or is killed costs only itself.
    """

    def __init__(self, jobs: int | None) -> None:
        self.jobs = jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from prixfixe.pool import run_in_pool

        setup_globals()
        common = (self.hydra_context, self.task_function, self.config)
        arguments = [(*common, list(overrides), initial_job_idx + i) for i, overrides in enumerate(job_overrides)]
        outcomes = run_in_pool(_job, arguments, self.jobs, lambda index, reason: self.record_death(job_overrides[index], reason))
        returns = []
        for outcome in outcomes:
            job_return = JobReturn()
            job_return.return_value = outcome
            job_return.status = JobStatus.FAILED if isinstance(outcome, Exception) else JobStatus.COMPLETED
            returns.append(job_return)
        return returns

    def record_death(self, overrides: Sequence[str], reason: str) -> None:
        """Says in the run's folder, and on standard error, that its process ended without an answer."""
        from prixfixe.run_folder import RunFolder
        from prixfixe.sweep import job_line

        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        HydraConfig.instance().set_config(config)
        folder = RunFolder(Path(config.hydra.sweep.dir) / config.hydra.sweep.subdir)
        folder.write_status("failed", reason=reason)
        print(job_line(folder.path, None, reason), file=sys.stderr, flush=True)


def _job(context: HydraContext, task: TaskFunction, config: DictConfig, overrides: list[str], number: int) -> Any:
    """What a process of the pool does: Hydra's own way to run one job of a sweep. Returns what the task returns."""
    setup_globals()
    version.setbase("1.3")
    job_config = context.config_loader.load_sweep_config(config, overrides)
    with open_dict(job_config):
        job_config.hydra.job.id = f"{os.getpid()}"
        job_config.hydra.job.num = number
    HydraConfig.instance().set_config(job_config)
    finished = run_job(
        hydra_context=context, task_function=task, config=job_config, job_dir_key="hydra.sweep.dir", job_subdir_key="hydra.sweep.subdir"
    )
    return finished.return_value
