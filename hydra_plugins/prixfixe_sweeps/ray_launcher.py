"""Every combination as a task of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

SAVED_WITHIN = 30.0  # seconds after Ctrl-C that runs have to save themselves


class RayLauncher(Launcher):
    """Runs the jobs where Ray finds room. A job whose machine or process dies is started again, and goes on from its
    checkpoint."""

    def __init__(self, *, address: str | None, num_cpus: float, num_gpus: float, max_retries: int) -> None:
        self.address, self.num_cpus, self.num_gpus, self.max_retries = address, num_cpus, num_gpus, max_retries

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from prixfixe.common.errors import InputError
        from prixfixe.sweeps.cluster_job import ClusterJob, board

        try:
            import ray
            from ray.exceptions import RayError
        except ModuleNotFoundError as error:
            raise InputError("hydra/launcher=ray needs Ray: pip install 'prixfixe[ray]'") from error

        common = (self.hydra_context, self.task_function, self.config)
        jobs = [ClusterJob(*common, list(overrides), initial_job_idx + i) for i, overrides in enumerate(job_overrides)]
        try:
            ray.init(address=self.address, log_to_driver=False, logging_level="ERROR")
        except ConnectionError as error:
            raise InputError(f"hydra.launcher.address={self.address}: {error}") from error
        try:
            # max_calls: every job has a process of its own, so that none leaves anything on its GPU
            task = ray.remote(
                num_cpus=self.num_cpus, num_gpus=self.num_gpus, max_retries=self.max_retries, max_calls=1
            )(_run)
            places = {task.remote(job): place for place, job in enumerate(jobs)}
            with board(jobs, self.at_a_time(ray.cluster_resources())) as told:
                waiting = set(places.values())
                while places:
                    ended, _ = ray.wait([*places], timeout=1)
                    for place in [place for place in waiting if told.folders[place].state() == "running"]:
                        told.running(place)
                        waiting.remove(place)
                    for reference in ended:
                        place = places.pop(reference)
                        waiting.discard(place)
                        try:
                            told.answered(place, ray.get(reference))
                        except RayError as error:
                            told.lost(place, f"Ray: {type(error).__name__}: {str(error).splitlines()[0]}")
                    told.view.tick()
        except KeyboardInterrupt:
            for reference in places:
                ray.cancel(reference)  # as Ctrl-C: the run saves itself
            ray.wait([*places], num_returns=len(places), timeout=SAVED_WITHIN)
            raise
        finally:
            ray.shutdown()
        return told.returns()

    def at_a_time(self, resources: Mapping[str, float]) -> int:
        """How many jobs a cluster has room for."""
        asked = {"CPU": self.num_cpus, "GPU": self.num_gpus}
        return max(
            1, int(min((resources.get(name, 0) / number for name, number in asked.items() if number), default=1))
        )


def _run(job: Callable[[], Any]) -> Any:
    return job()
