"""Jobs of a Slurm array: submitted through submitit, watched without Slurm's accounting, which not every site has."""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from prixfixe.common.errors import InputError
from prixfixe.common.files import write_json
from prixfixe.runs.folder import RunFolder

if TYPE_CHECKING:
    from prixfixe.sweeps.cluster_job import Board

ENDED = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
}
GONE = ("GONE", "")  # the state of a job that Slurm has forgotten, minutes after its end
ANSWER_WITHIN = 30.0  # seconds after a job's end until its answer must be seen: file servers are late
KILLED_WITHIN = 900.0  # seconds after SIGTERM until Slurm kills a job: its KillWait, or the grace time of a preemption

Work = Callable[[], Any]  # returns None where it is done, else why not


class StoppableCall:
    """What submitit runs in a job: `work`, and what becomes of it when Slurm stops the job.

    Ahead of the time limit comes SIGUSR2: the run saves itself and raises the signal again, and submitit requeues the
    job. A preempted job, and a cancelled one, gets SIGTERM and is killed some time later; only Slurm knows which of the
    two it is. So the job waits for that, and gives no answer: where it is requeued, its answer is that of the next
    time.
    """

    def __init__(self, work: Work) -> None:
        self.work = work

    def __call__(self) -> Any:
        stopped = False

        def note(number: int, frame: FrameType | None) -> None:
            nonlocal stopped
            stopped = True

        signal.signal(signal.SIGTERM, note)
        if "OMP_NUM_THREADS" not in os.environ and (cpus := os.environ.get("SLURM_CPUS_PER_TASK")):
            import torch

            torch.set_num_threads(int(cpus))
        answer = self.work()
        if answer is not None and stopped:
            print("Slurm stops this job; if it requeues it, the run goes on from here", flush=True)
            time.sleep(KILLED_WITHIN)
        return answer

    def checkpoint(self) -> Any:
        """What submitit runs when the job is started again: the same, as the run has its own checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(folder: Path, works: Mapping[str, Work], max_num_timeout: int, parameters: Mapping[str, Any]) -> list[str]:
    """Submits works as one array; returns the ids of their jobs.

    Jobs of an earlier start that are still queued or running are not submitted again. folder: for submitit's files and
    the jobs' logs. max_num_timeout: how many times a job that comes to its time limit is requeued. parameters:
    submitit's. Raises InputError where Slurm does not answer, or refuses the jobs.
    """
    if (states := job_states()) is None:
        where = "hydra/launcher=slurm is for a machine from which jobs are submitted to Slurm"
        raise InputError(f"squeue gives no answer: {where}")
    folder.mkdir(parents=True, exist_ok=True)
    earlier = RunFolder(folder).read_json(folder / "jobs.json")
    gone = {*ENDED, "COMPLETING", "GONE"}
    alive = {name: job for name, job in earlier.items() if states.get(job, GONE)[0] not in gone}
    ids = {name: alive[name] for name in works if name in alive and not answer_file(folder, alive[name]).exists()}
    if ids:
        which = f"{len(ids)} jobs of an earlier start are queued or running"
        print(f"{which}; they are not submitted again", file=sys.stderr)
    fresh = {name: StoppableCall(work) for name, work in works.items() if name not in ids}
    if fresh:
        ids |= dict(zip(fresh, _submit_array(folder, list(fresh.values()), max_num_timeout, parameters), strict=True))
    write_json(folder / "jobs.json", ids)
    return [ids[name] for name in works]


def _submit_array(
    folder: Path, calls: list[StoppableCall], max_num_timeout: int, parameters: Mapping[str, Any]
) -> list[str]:
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise InputError("hydra/launcher=slurm needs submitit: pip install 'prixfixe[slurm]'") from error
    kept = {key: value for key, value in os.environ.items() if key == "SLURM_CONF" or key.startswith("SBATCH_")}
    # a sweep that is itself a job has resources that its jobs have not; what sbatch complains of is in the error
    with submitit.helpers.clean_env(), contextlib.redirect_stderr(io.StringIO()):
        os.environ.update(kept)
        try:
            executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=max_num_timeout)
            executor.update_parameters(**parameters)
            return [job.job_id for job in executor.submit_array(calls)]
        except submitit.core.utils.FailedJobError as error:
            complaints = re.findall(r"^sbatch: error: (.*)", str(error), re.MULTILINE)
            raise InputError(f"Slurm refuses the jobs: {'; '.join(dict.fromkeys(complaints)) or error}") from error


def follow(folder: Path, jobs: Sequence[str], board: Board) -> None:
    """Tells the board what becomes of jobs, until all have ended.

    Where a job ends without an answer (cancelled, out of memory, time limit, node failure), Slurm says why.
    """
    open_jobs, running, ended, line_before = dict(enumerate(jobs)), set[int](), dict[str, float](), ""
    looked, pause = -math.inf, 2.0
    while open_jobs:
        files = {entry.name for entry in os.scandir(folder)}
        for place, job in list(open_jobs.items()):
            if answer_file(folder, job).name in files:
                del open_jobs[place]
                _tell_answer(folder, job, place, board)
        if time.monotonic() - looked > pause and (states := job_states()) is not None:
            looked, pause = time.monotonic(), min(60.0, pause * 1.1)  # often at first, later once a minute
            for place, job in list(open_jobs.items()):
                state = states.get(job, GONE)[0]
                if state == "RUNNING" and place not in running:
                    running.add(place)
                    board.running(place)
                if state not in ENDED and state != "GONE":
                    ended.pop(job, None)
                elif looked - ended.setdefault(job, looked) > ANSWER_WITHIN:
                    del open_jobs[place]
                    reason = f"Slurm job {job}: {_how_it_ended(job, states)}; its log is {log_file(folder, job)}"
                    board.lost(place, reason)
            line = queue_line([states.get(job, GONE) for job in open_jobs.values()])
            if open_jobs and line != line_before:
                print(line, file=sys.stderr, flush=True)
                line_before = line
        board.view.tick()
        time.sleep(1)


def job_states() -> dict[str, tuple[str, str]] | None:
    """State and reason of this user's jobs, those that ended some minutes ago included; None where Slurm is silent.

    {"12_3": ("PENDING", "Priority")}
    """
    command = ["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", "--format=%i|%T|%r"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    rows = [line.split("|", 2) for line in done.stdout.splitlines()]
    return {job: (state, reason) for job, state, reason in rows}


def queue_line(states: list[tuple[str, str]]) -> str:
    """`Slurm: 2 running, 3 pending (Resources)`."""
    counts = Counter(f"{state.lower()} ({reason})" if state == "PENDING" else state.lower() for state, reason in states)
    said = [f"{count} {what}" for what, count in sorted(counts.items(), reverse=True)]
    return f"Slurm: {', '.join(said) or 'no job left'}"


def cancel(jobs: Sequence[str]) -> None:
    subprocess.run(["scancel", *jobs], check=False)


def answer_file(folder: Path, job: str) -> Path:
    return folder / f"{job}_0_result.pkl"


def log_file(folder: Path, job: str) -> Path:
    return folder / f"{job}_0_log.out"


def _tell_answer(folder: Path, job: str, place: int, board: Board) -> None:
    import submitit

    try:
        answer = submitit.SlurmJob[Any](folder, job).result()
    except submitit.core.utils.FailedJobError:
        board.lost(place, f"Slurm job {job} did not get as far as to its run; its log is {log_file(folder, job)}")
    else:
        board.answered(place, answer)


def _how_it_ended(job: str, states: Mapping[str, tuple[str, str]]) -> str:
    """CANCELLED, TIMEOUT, OUT_OF_MEMORY, ...: from the accounting where Slurm itself has forgotten the job."""
    if job in states:
        return states[job][0]
    try:
        command = ["sacct", "--noheader", "--parsable2", "--allocations", "--format=State", "-j", job]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return "forgotten by Slurm"
    return done.stdout.strip() or "forgotten by Slurm"
