"""A pool of processes for jobs that may die: a function a process, several at a time."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

# what every job needs and is slow to import; torch._dynamo is what torch itself imports at the first use of a meta tensor
PRELOADED = ["prixfixe.app", "prixfixe.simulation", "prixfixe.splits", "prixfixe.prepared", "torch._dynamo"]


class JobDiedError(Exception):
    """A process ended without an answer: it was killed, or it exited."""


def run_in_pool(
    job: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], jobs: int | None, died: Callable[[int, str], None]
) -> list[Any]:
    """Calls `job` with each of the arguments; returns what each returned, or the exception that it raised.

    Processes are forked from a server process that has the heavy modules imported but holds no threads and no GPU, so that
    a job starts in a fraction of a second and shares nothing with the others. jobs: at a time, one a GPU or CPU core by default.
    died: called with a job's index and the reason where its process ended without an answer.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    gpus = gpu_count()
    at_a_time = jobs or gpus or cpu_count()
    threads = max(1, cpu_count() // at_a_time)
    outcomes: list[Any] = [None] * len(arguments)
    waiting = list(enumerate(arguments))[::-1]
    running: dict[Connection, tuple[int, BaseProcess, int]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_a_time:
                index, job_arguments = waiting.pop()
                slot = min(set(range(at_a_time)) - {used for _, _, used in running.values()})
                ours, theirs = context.Pipe(duplex=False)
                process: BaseProcess = context.Process(
                    target=_call, args=(theirs, job, job_arguments, slot % gpus if gpus else None, threads)
                )
                process.start()
                theirs.close()
                running[ours] = (index, process, slot)
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                index, process, _ = running.pop(connection)
                try:
                    outcomes[index] = connection.recv()
                    process.join()
                except EOFError:
                    process.join()
                    outcomes[index] = JobDiedError(how_it_ended(process.exitcode))
                    died(index, str(outcomes[index]))
    finally:
        for _, process, _ in running.values():
            process.terminate()
        for _, process, _ in running.values():
            process.join()
    return outcomes


def _call(answer: Connection, job: Callable[..., Any], arguments: tuple[Any, ...], gpu: int | None, threads: int) -> None:
    if gpu is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[gpu] if visible[0] else str(gpu)
    import torch

    torch.set_num_threads(threads)
    try:
        outcome = job(*arguments)
    except (Exception, KeyboardInterrupt) as error:
        outcome = error
    try:
        answer.send(outcome)
    except Exception:  # an exception that cannot be sent is sent as its text
        answer.send(RuntimeError(f"{type(outcome).__name__}: {outcome}"))


def how_it_ended(exit_code: int | None) -> str:
    """-9 -> 'its process was killed by signal 9'."""
    if exit_code is not None and exit_code < 0:
        return f"its process was killed by signal {-exit_code}" + (" (out of memory?)" if exit_code == -9 else "")
    return f"its process ended with exit code {exit_code} and without an answer"


def cpu_count() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu_count() -> int:
    """The GPUs that torch can use, found without waking them in this process."""
    import torch

    return torch.cuda.device_count()
