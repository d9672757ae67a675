"""Every combination in a process of its own, several at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class PoolLauncher(Launcher):
    """Runs jobs in processes that are forked from a server which has torch imported already, `jobs` at a time.

    A job that raises, exits, is killed or takes its GPU's context down costs only itself. The settings are those of
    conf/hydra/launcher/pool.yaml.
    """

    def __init__(self, jobs: int | None, jobs_per_gpu: int, retries: int, timeout_minutes: float | None) -> None:
        self.jobs, self.jobs_per_gpu, self.retries, self.timeout_minutes = jobs, jobs_per_gpu, retries, timeout_minutes

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Raises InputError for a setting that makes no sense, and for a device that is not there."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config
        _check("jobs", self.jobs, int, least=1, or_null=True)
        _check("jobs_per_gpu", self.jobs_per_gpu, int, least=1)
        _check("retries", self.retries, int, least=0)
        _check("timeout_minutes", self.timeout_minutes, int | float, or_null=True)
        device = OmegaConf.select(config, "training.device")
        self.device = device if isinstance(device, str) else "auto"  # the sweeper refuses what is none
        if self.device != "auto":
            from prixfixe.training.settings import find_device

            find_device(self.device)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from prixfixe.sweeps.hydra_job import job_names, job_return
        from prixfixe.sweeps.live_view import watch
        from prixfixe.sweeps.pool import cpu_count, gpu_names, run_in_pool

        setup_globals()
        gpus = [] if self.device == "cpu" else gpu_names()
        its_own = []  # what each job's overrides get besides
        if self.device.startswith("cuda:"):
            gpus = [gpus[int(self.device.removeprefix("cuda:"))]]
            its_own = ["training.device=cuda"]  # the only one that the job sees
        at_a_time = self.jobs or len(gpus) * self.jobs_per_gpu or cpu_count()
        common = (self.hydra_context, self.task_function, self.config, bool(gpus))
        arguments = [
            (*common, [*overrides, *its_own], initial_job_idx + i) for i, overrides in enumerate(job_overrides)
        ]
        with watch(*job_names(self.hydra_context, self.config, job_overrides), at_a_time) as watcher:
            outcomes = run_in_pool(
                _job,
                arguments,
                at_a_time=at_a_time,
                gpus=gpus,
                retries=self.retries,
                timeout=None if self.timeout_minutes is None else 60 * self.timeout_minutes,
                watcher=watcher,
            )
        return [job_return(outcome) for outcome in outcomes]


def _check(name: str, value: Any, kind: Any, *, least: int | None = None, or_null: bool = False) -> None:
    from prixfixe.common.errors import InputError

    good = isinstance(value, kind) and not isinstance(value, bool) and (value > 0 if least is None else value >= least)
    if not good and not (or_null and value is None):
        number = "a whole number" if kind is int else "a number"
        limit = "above 0" if least is None else f"at least {least}"
        raise InputError(f"hydra.launcher.{name}={value}: {number}, {limit}" + (", or null" if or_null else ""))


def _job(
    context: HydraContext, task: TaskFunction, config: DictConfig, on_gpu: bool, overrides: list[str], number: int
) -> Any:
    """What a process of the pool does. Returns what the task returns."""
    from prixfixe.sweeps.hydra_job import run_hydra_job

    if on_gpu:
        import torch

        if not torch.cuda.is_available():  # or the job would train on the CPU, for weeks
            raise OSError(f"the GPU {os.environ['CUDA_VISIBLE_DEVICES']} is there no more: CUDA cannot use it")
    return run_hydra_job(context, task, config, overrides, number)
