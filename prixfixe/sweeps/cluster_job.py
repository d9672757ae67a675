"""The jobs of a sweep on a cluster whose machines share the file system: what they do there, what is said here."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from prixfixe.runs.folder import RunFolder
from prixfixe.sweeps.hydra_job import job_names, job_return, run_hydra_job
from prixfixe.sweeps.live_view import LineView, watch
from prixfixe.sweeps.plan import record_end
from prixfixe.sweeps.pool import JobDiedError, JobRaisedError

Answer = tuple[str, str] | None  # a job's: None where its run is done, else the exception's class and message


@dataclass(frozen=True)
class ClusterJob:
    """One combination. Called on another machine, it runs it.

    here: the folder from which relative paths start, the same on both machines.
    """

    context: HydraContext
    task: TaskFunction
    config: DictConfig
    overrides: list[str]
    number: int
    here: str = field(default_factory=os.getcwd)

    def __call__(self) -> Answer:
        os.chdir(self.here)
        if self.here not in sys.path:
            sys.path.append(self.here)  # the user's own blocks
        try:
            run_hydra_job(self.context, self.task, self.config, self.overrides, self.number)
        except Exception as error:
            return type(error).__name__, str(error)
        return None


@dataclass(frozen=True)
class Board:
    """Notes how the jobs fare, by their places among all: in the view, and in the folders of runs that cannot."""

    folders: Sequence[RunFolder]
    view: LineView
    began: float = field(default_factory=time.time)

    def running(self, place: int) -> None:
        self.view.started(place, 1)

    def answered(self, place: int, answer: Answer) -> None:
        """A job has ended, and said how."""
        folder = self.folders[place]
        outcome = folder.metrics() if answer is None else JobRaisedError(*answer, again=False)
        self.view.ended(place, outcome, False)

    def lost(self, place: int, reason: str) -> None:
        """A job has ended without an answer. What its run itself has said last is kept beside the reason."""
        folder = self.folders[place]
        if folder.ended_since(self.began) and (own := folder.status().get("reason")):
            reason = f"{own} ({reason})"
        if not record_end(folder, reason, self.began, overrule=True):
            self.answered(place, None)  # it was done all the same
            return
        self.view.ended(place, JobDiedError(reason), False)
        self.view.say_end(place, None, reason)

    def returns(self) -> list[JobReturn]:
        """What Hydra is told in the end."""
        return [
            job_return(run.metrics() if run.state() == "done" else RuntimeError(run.status().get("reason")))
            for run in self.folders
        ]


@contextmanager
def board(jobs: Sequence[ClusterJob], at_a_time: int) -> Iterator[Board]:
    """The board of a sweep's jobs. at_a_time: as many run at once, for the time left."""
    sweep, asked, names = job_names(jobs[0].context, jobs[0].config, [job.overrides for job in jobs])
    with watch(sweep, asked, names, at_a_time) as view:
        yield Board([RunFolder(sweep / name) for name in names], view)
