"""A pool of processes for jobs that may die: a function a process, several at a time."""

from __future__ import annotations

import contextlib
import functools
import math
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from prixfixe.common.paths import FRAMEWORK

# what every job needs and is slow to import; torch._dynamo is what an optimiser imports when it is made
PRELOADED = [
    "prixfixe.sweeps.app",
    "prixfixe.simulation",
    "prixfixe.data.splits",
    "prixfixe.data.prepared",
    "torch._dynamo",
]
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # what ends the pool, and every job in it
GRACE = 30.0  # seconds that a job has to save where it is, once it is told to stop
TICK = 0.25  # seconds between two looks at the clock


class JobError(Exception):
    """A job that did not return. The message is the reason."""

    again = False  # whether another try may do better


class JobRaisedError(JobError):
    """A job that raised: the exception's class, its message, and whether it came from the machine, not from the job."""

    def __init__(self, kind: str, message: str, again: bool) -> None:
        super().__init__(kind, message, again)
        self.kind, self.message, self.again = kind, message, again

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}" if self.message else self.kind


class JobDiedError(JobError):
    """A process ended without an answer: it was killed, or it exited."""

    again = True


class JobTimeoutError(JobError):
    """A job that was stopped because it took too long."""

    again = True


class JobStoppedError(JobError):
    """A job that was stopped, or not even begun, because the pool was told to end."""


class PoolStoppedError(KeyboardInterrupt):
    """The pool was told to end, by Ctrl-C or another signal; every job of it has ended."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.signal = number


class Watcher:
    """What is told how the jobs fare. Its methods are called in the parent, one at a time, between other things."""

    capture = False  # whether what jobs would write to the terminal comes to `said`

    def started(self, index: int, tries: int) -> None:
        """A job begins, for the first time or again."""

    def ended(self, index: int, outcome: Any, again: bool) -> None:
        """A job has ended with what it returned, or with a JobError; again: it waits for another try."""

    def said(self, index: int, text: str) -> None:
        """A job would have written whole lines of text to the terminal."""

    def stopping(self, running: int, grace: float) -> None:
        """The pool was told to end, and so were the jobs that run."""

    def tick(self) -> None:
        """Some time has passed."""


def run_in_pool(
    job: Callable[..., Any],
    arguments: Sequence[tuple[Any, ...]],
    *,
    at_a_time: int,
    gpus: Sequence[str] = (),
    retries: int = 0,
    timeout: float | None = None,
    grace: float = GRACE,
    watcher: Watcher | None = None,
) -> list[Any]:
    """Calls `job` with each of the arguments, `at_a_time` at once; returns what each returned, or the JobError that
    says why not.

    Processes are forked from a server process that has the heavy modules imported but holds no threads and no GPU, so
    that a job starts in a fraction of a second and shares nothing with the others.

    gpus: names as CUDA_VISIBLE_DEVICES takes them; each job sees one alone, the one with the fewest jobs on it.
    retries: how often a job is tried again that died, took too long, or met an error of the machine (see
    `of_the_machine`).
    timeout, grace: seconds. A job that takes longer gets SIGTERM, so that it can save, and `grace` later SIGKILL.

    Ctrl-C, SIGTERM and SIGHUP stop all jobs in the same way (the second time at once), then raise PoolStoppedError.
    Jobs are shielded from the terminal's own signals, and stop by themselves when this process is gone.
    """
    watcher = watcher or Watcher()
    threads = max(1, cpu_count() // at_a_time)
    outcomes: list[Any] = [JobStoppedError("it was not begun")] * len(arguments)
    tries = [0] * len(arguments)
    waiting = deque(range(len(arguments)))
    running: list[_Process] = []
    told = False  # whether the jobs were told to stop

    def end(index: int, outcome: Any) -> None:
        outcomes[index] = outcome
        again = isinstance(outcome, JobError) and outcome.again and tries[index] <= retries and not received
        waiting.extend([index] * again)
        watcher.ended(index, outcome, again)

    with _stop_signals() as received:
        server = threading.Thread(target=_start_server, daemon=True)
        server.start()
        while server.is_alive() and not received:
            server.join(TICK)
            watcher.tick()
        try:
            while running or (waiting and not received):
                while waiting and not received and len(running) < at_a_time:
                    index = waiting.popleft()
                    tries[index] += 1
                    gpu = min(gpus, key=[process.gpu for process in running].count, default=None)
                    call = functools.partial(_call, job, arguments[index], gpu, threads, grace, watcher.capture)
                    try:
                        running.append(_Process(index, call, gpu, timeout, grace))
                    except (OSError, EOFError) as error:  # out of processes or memory
                        end(index, JobDiedError(f"its process could not be started: {error or type(error).__name__}"))
                    else:
                        watcher.started(index, tries[index])
                wait([handle for process in running for handle in process.handles()], TICK)
                for process in list(running):
                    for text in process.read():
                        watcher.said(process.index, text)
                    if process.process.is_alive():
                        process.keep_time()
                    else:
                        running.remove(process)
                        end(process.index, process.outcome())
                if received and running and not told:
                    for process in running:
                        process.stop(JobStoppedError(f"interrupted by {signal.Signals(received[0]).name}"))
                    watcher.stopping(len(running), grace)
                    told = True
                if len(received) > 1:
                    for process in running:
                        process.process.kill()
                watcher.tick()
        finally:
            for process in running:  # an error in here, which no job may outlive
                process.process.kill()
    if received and (waiting or any(isinstance(outcome, JobStoppedError) for outcome in outcomes)):
        raise PoolStoppedError(received[0])
    return outcomes


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collects the signals that say stop, instead of being ended by them. One that is ignored already (nohup) stays
    so."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in STOPPING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, lambda which, _: received.append(which))
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
    """The fork server inherits what is blocked where it is started, and its children do.

    So a Ctrl-C at the terminal reaches neither the server while it imports, nor a job that is not ready to be told.
    """
    resource_tracker.ensure_running()  # which would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _context() -> Any:
    """How processes are started: by a server with everything imported, or where that is not safe (macOS), each from
    nothing."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


@contextlib.contextmanager
def _safe_path() -> Iterator[None]:
    """Python started inside does not search the current folder first, where anything may lie. A checkout that is not
    installed is found only there."""
    added = not os.environ.get("PYTHONSAFEPATH") and Path.cwd() != FRAMEWORK
    if added:
        os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if added:
            del os.environ["PYTHONSAFEPATH"]


def _start_server() -> None:
    """Returns when the fork server has imported what it shall. For a thread: the first process is waited for, signals
    or not."""
    with _blocked_signals(), _safe_path(), contextlib.suppress(OSError, EOFError):  # the jobs' own starts will tell
        first = _context().Process(target=os.getpid, daemon=True)
        first.start()
        first.join()


class _Process:
    """A job that runs: its process, what comes from it, and its deadlines."""

    def __init__(
        self, index: int, call: Callable[..., None], gpu: str | None, timeout: float | None, grace: float
    ) -> None:
        self.index, self.gpu, self.timeout, self.grace = index, gpu, timeout, grace
        self.began, self.kill_at = time.monotonic(), math.inf
        self.stopped_as: JobError | None = None
        self.answer: tuple[Any] | None = None  # what the job returned, or a JobRaisedError
        self.unfinished_line = b""
        context = _context()
        self.answers, answers = context.Pipe(duplex=False)
        self.output, output = context.Pipe(duplex=False)
        with answers, output, _blocked_signals():
            self.process: BaseProcess = context.Process(target=call, args=(answers, output))
            self.process.start()

    def handles(self) -> list[Any]:
        """What can be waited for."""
        return [self.process.sentinel, *(end for end in (self.answers, self.output) if not end.closed)]

    def read(self) -> Iterator[str]:
        """Takes in what has come; yields whole lines of what the job would have written to the terminal."""
        if not self.answers.closed and self.answers.poll():
            with contextlib.suppress(Exception):  # it ended before, or amid, its answer
                self.answer = (self.answers.recv(),)
                self.kill_at = time.monotonic() + self.grace  # time to take leave
            self.answers.close()
        while not self.output.closed and self.output.poll():
            new = os.read(self.output.fileno(), 1 << 16)
            *lines, self.unfinished_line = (self.unfinished_line + new).split(b"\n")
            if not new:
                self.output.close()
                lines = [self.unfinished_line] if self.unfinished_line else []
            if lines:
                yield b"\n".join(lines).decode(errors="replace")

    def keep_time(self) -> None:
        """Stops the job that has run too long, kills the one that was told to stop and did not."""
        now = time.monotonic()
        if self.timeout and now - self.began > self.timeout:
            minutes = f"{self.timeout / 60:g} minutes (hydra.launcher.timeout_minutes)"
            self.stop(JobTimeoutError(f"interrupted: it took longer than {minutes}"))
        if now > self.kill_at:
            self.process.kill()

    def stop(self, reason: JobError) -> None:
        """Tells the job to save and stop."""
        if not self.stopped_as and not self.answer:
            self.stopped_as, self.kill_at = reason, time.monotonic() + self.grace
            self.process.terminate()

    def outcome(self) -> Any:
        """What an ended job returned, or the JobError that says why it did not."""
        for _ in self.read():  # an answer that came together with the end
            pass
        self.process.join()
        if self.process.exitcode == 255 and not self.answer and self.process.pid:
            with contextlib.suppress(ProcessLookupError):  # the server was killed, which says nothing of its child
                os.kill(self.process.pid, signal.SIGKILL)
        self.answers.close()
        self.output.close()
        if self.answer and not (self.stopped_as and isinstance(self.answer[0], JobError)):
            return self.answer[0]
        return self.stopped_as or JobDiedError(how_it_ended(self.process.exitcode))


def _call(
    job: Callable[..., Any],
    arguments: tuple[Any, ...],
    gpu: str | None,
    threads: int,
    grace: float,
    capture: bool,
    answers: Connection,
    output: Connection,
) -> None:
    """What a process of the pool does. Exceptions go to the parent as text: their classes may not be there, or not
    travel."""
    for number in (signal.SIGINT, signal.SIGHUP):  # the terminal's, for the parent alone
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(grace,), daemon=True).start()
    for descriptor in (1, 2):
        if capture and os.isatty(descriptor):
            os.dup2(output.fileno(), descriptor)
    output.close()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    if torch := sys.modules.get("torch"):  # else it reads the variable when it is imported
        torch.set_num_threads(min(threads, torch.get_num_threads()))
    try:
        answer = job(*arguments)
        pickle.dumps(answer)
    except BaseException as error:
        answer = JobRaisedError(type(error).__name__, str(error), of_the_machine(error))
    answers.send(answer)


def _end_with_parent(grace: float) -> None:
    """Ends this process, with time to save, as soon as its parent is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os.kill(os.getpid(), signal.SIGKILL)


def of_the_machine(error: BaseException) -> bool:
    """Whether an error may be the machine's, so that the same job may get through another time: memory, files, a GPU.

    Everything else comes again: jobs are deterministic.
    """
    if type(error).__name__ in ("AcceleratorError", "OutOfMemoryError", "DistBackendError"):  # not in every torch
        return True
    return isinstance(error, OSError | MemoryError) or (isinstance(error, RuntimeError) and "CUDA" in str(error))


def how_it_ended(exit_code: int | None) -> str:
    """-9 -> 'its process was killed by signal 9'."""
    if exit_code is not None and exit_code < 0:
        return f"its process was killed by signal {-exit_code}" + (" (out of memory?)" if exit_code == -9 else "")
    return f"its process ended with exit code {exit_code} and without an answer"


def cpu_count() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu_names() -> list[str]:
    """The GPUs that torch can use, each as CUDA_VISIBLE_DEVICES names it, found without waking them in this process."""
    import torch

    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    if count and named and named[0].startswith("MIG-"):  # CUDA shows a process the first of them alone
        return named
    return named[:count] or [str(gpu) for gpu in range(count)]
