"""Every combination as a job of a Slurm array."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, ListConfig, OmegaConf


class SlurmLauncher(Launcher):
    """Submits the jobs as an array and waits for them. Values that are None are left to the site.

    A job that is preempted, or comes to its time limit, is requeued and goes on from its checkpoint. One that ends
    without an answer is recorded with Slurm's reason. Ctrl-C cancels the jobs; where this process dies otherwise they
    go on, and the same command finds them.
    """

    def __init__(
        self,
        *,
        array_parallelism: int,
        partition: str | None,
        account: str | None,
        qos: str | None,
        constraint: str | None,
        gpus_per_node: int | None,
        cpus_per_task: int,
        mem_gb: float | None,
        timeout_min: int,
        max_num_timeout: int,
        signal_delay_s: int,
        setup: ListConfig | None,
        additional_parameters: DictConfig,
    ) -> None:
        self.array_parallelism, self.max_num_timeout = array_parallelism, max_num_timeout
        parameters = {
            "timeout_min": timeout_min,
            "gpus_per_node": gpus_per_node or None,
            "cpus_per_task": cpus_per_task,
            "mem_gb": mem_gb,
            "stderr_to_stdout": True,
            "slurm_array_parallelism": array_parallelism,
            "slurm_partition": partition,
            "slurm_account": account,
            "slurm_qos": qos,
            "slurm_constraint": constraint,
            "slurm_signal_delay_s": signal_delay_s,
            "slurm_setup": None if setup is None else OmegaConf.to_container(setup),
            "slurm_srun_args": [
                f"--cpus-per-task={cpus_per_task}"
            ],  # since Slurm 22.05 srun does not take it over from sbatch
            "slurm_additional_parameters": {"requeue": True, **additional_parameters},
        }
        self.parameters = {name: value for name, value in parameters.items() if value is not None}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from prixfixe.sweeps import slurm
        from prixfixe.sweeps.cluster_job import ClusterJob, board

        common = (self.hydra_context, self.task_function, self.config)
        jobs = [ClusterJob(*common, list(overrides), initial_job_idx + i) for i, overrides in enumerate(job_overrides)]
        works = {" ".join(job.overrides): job for job in jobs}
        sweep = Path(self.config.hydra.sweep.dir).absolute()
        parameters = {"name": f"prixfixe-{sweep.name}", **self.parameters}
        ids = slurm.submit(sweep / ".slurm", works, self.max_num_timeout, parameters)
        try:
            with board(jobs, self.array_parallelism) as told:
                slurm.follow(sweep / ".slurm", ids, told)
        except KeyboardInterrupt:
            slurm.cancel(ids)
            raise
        return told.returns()
