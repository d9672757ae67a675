"""Jobs that end in every way a process can end; each must cost only itself."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pool_jobs import end, gpu, hang, shout

from prixfixe.sweeps import pool
from prixfixe.sweeps.pool import (
    JobDiedError,
    JobRaisedError,
    JobTimeoutError,
    Watcher,
    gpu_names,
    of_the_machine,
    run_in_pool,
)


@pytest.fixture(autouse=True)
def nothing_preloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs here need no torch, which takes seconds to import."""
    monkeypatch.setattr(pool, "PRELOADED", [])


ENDS = {
    "return": None,
    "raise": (JobRaisedError, "ArithmeticError: it broke"),
    "unpicklable exception": (JobRaisedError, "UnpicklableError: a b"),
    "unpicklable value": (JobRaisedError, "pickle"),
    "sys.exit": (JobRaisedError, "SystemExit: 3"),
    "os._exit": (JobDiedError, "exit code 3"),
    "kill": (JobDiedError, "killed by signal 9"),
    "segfault": (JobDiedError, "killed by signal 11"),
    "KeyboardInterrupt": (JobRaisedError, "KeyboardInterrupt"),
    "child that stays": (JobDiedError, "exit code 4"),
}


def test_a_job_costs_only_itself_however_it_ends(tmp_path: Path) -> None:
    outcomes = run_in_pool(end, [(how, str(tmp_path)) for how in ENDS], at_a_time=3)
    for (how, expected), outcome in zip(ENDS.items(), outcomes, strict=True):
        if expected is None:
            assert outcome == {"answer": 42}
        else:
            assert type(outcome) is expected[0], how
            assert expected[1] in str(outcome)


class Counter(Watcher):
    def __init__(self) -> None:
        self.starts: list[tuple[int, int]] = []
        self.ends: list[tuple[int, bool]] = []

    def started(self, index: int, tries: int) -> None:
        self.starts.append((index, tries))

    def ended(self, index: int, outcome: Any, again: bool) -> None:
        self.ends.append((index, again))


def test_what_may_do_better_is_tried_again_and_nothing_else(tmp_path: Path) -> None:
    counter = Counter()
    jobs = [("die once", str(tmp_path)), ("raise", ""), ("kill", "")]
    alive, raised, killed = run_in_pool(end, jobs, at_a_time=1, retries=2, watcher=counter)
    assert alive == "alive"
    assert isinstance(raised, JobRaisedError)
    assert isinstance(killed, JobDiedError)
    assert counter.starts == [(0, 1), (1, 1), (2, 1), (0, 2), (2, 2), (2, 3)]
    assert counter.ends == [(0, True), (1, False), (2, True), (0, False), (2, True), (2, False)]


def test_errors_of_the_machine() -> None:
    import torch

    from prixfixe.common.errors import BusyError, ContractError, InputError, TrainingError

    assert of_the_machine(RuntimeError("CUDA error: device-side assert triggered"))
    assert of_the_machine(torch.OutOfMemoryError("CUDA out of memory"))
    assert of_the_machine(OSError(5, "Input/output error"))
    for error in (
        InputError("x"),
        ContractError("x"),
        TrainingError("the loss is not finite"),
        BusyError("x"),
        RuntimeError("shapes differ"),
    ):
        assert not of_the_machine(error)


def test_threads_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "cpu_count", lambda: 64)
    assert run_in_pool(end, [("threads", "")], at_a_time=64) == [1]


def test_a_job_that_takes_too_long_may_save_and_is_killed_if_it_does_not(tmp_path: Path) -> None:
    saving, deaf = tmp_path / "saving", tmp_path / "deaf"
    for folder in (saving, deaf):
        folder.mkdir()
    outcomes = run_in_pool(hang, [(str(saving), True), (str(deaf), False)], at_a_time=2, timeout=5.0, grace=1.0)
    assert [type(outcome) for outcome in outcomes] == [JobTimeoutError, JobTimeoutError]
    assert "longer than" in str(outcomes[0])
    assert (saving / "saved").exists()


def test_every_job_sees_one_gpu_and_they_are_shared_evenly(tmp_path: Path) -> None:
    names = ["GPU-1f", "MIG-2e", "5"]
    seen = run_in_pool(gpu, [(str(tmp_path), number, 6) for number in range(6)], at_a_time=6, gpus=names)
    assert sorted(seen) == sorted(2 * names)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ or os.environ["CUDA_VISIBLE_DEVICES"] not in names


VISIBLE = {  # CUDA_VISIBLE_DEVICES, what torch counts, what the jobs get
    "unset": (None, 2, ["0", "1"]),
    "numbers": ("3,1", 2, ["3", "1"]),
    "names": ("GPU-aa, GPU-bb", 2, ["GPU-aa", "GPU-bb"]),
    "MIG, of which CUDA counts one": ("MIG-aa,MIG-bb", 1, ["MIG-aa", "MIG-bb"]),
    "more than there are": ("0,1,7", 2, ["0", "1"]),
    "none": ("", 0, []),
    "no GPU": ("0", 0, []),
    "no GPU but a name": ("MIG-aa", 0, []),
}


@pytest.mark.parametrize("case", VISIBLE)
def test_gpus_are_named_as_cuda_names_them(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    visible, counted, expected = VISIBLE[case]
    monkeypatch.setattr("torch.cuda.device_count", lambda: counted)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_names() == expected


MAIN = """
import sys
from pool_jobs import stay
from prixfixe.sweeps import pool
from prixfixe.sweeps.pool import PoolStoppedError, Watcher, run_in_pool

class Ready(Watcher):
    def ended(self, index, outcome, again):
        print(index, type(outcome).__name__, outcome, again, flush=True)

if __name__ == "__main__":
    pool.PRELOADED = sys.argv[2:]
    try:
        jobs = [(sys.argv[1], number) for number in range(4)]
        run_in_pool(stay, jobs, at_a_time=2, retries=1, grace=20.0, watcher=Ready())
    except PoolStoppedError as error:
        sys.exit(128 + error.signal)
"""


def start(folder: Path, *preloaded: str) -> subprocess.Popen[str]:
    """A program with a pool of four jobs that stay, two at a time, in a process group of its own, as a shell would
    start it."""
    program = folder / "program.py"
    program.write_text(MAIN)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (folder, Path(__file__).parent, Path(pool.__file__).parents[1]))),
    }
    return subprocess.Popen(
        [sys.executable, str(program), str(folder), *preloaded],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        process_group=0,
    )


def wait_for(condition: Any, what: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def pids(folder: Path, jobs: int) -> list[int]:
    wait_for(lambda: len(list(folder.glob("pid?"))) == jobs, "the jobs begin")
    return [int(file.read_text()) for file in sorted(folder.glob("pid?"))]


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("to_all", [True, False], ids=["to the process group", "to the parent"])
def test_a_signal_lets_the_jobs_save_and_ends_everything(number: signal.Signals, to_all: bool, tmp_path: Path) -> None:
    if to_all and number == signal.SIGTERM:
        pytest.skip("jobs that are told twice may not wait")
    program = start(tmp_path)
    jobs = pids(tmp_path, 2)
    (os.killpg if to_all else os.kill)(program.pid, number)
    out, err = program.communicate(timeout=120)
    assert program.returncode == 128 + number
    assert err == ""
    assert f"0 JobStoppedError interrupted by {number.name} False" in out
    assert (tmp_path / "saved0").exists()
    assert (tmp_path / "saved1").exists()
    assert all(is_gone(pid) for pid in jobs)
    assert not (tmp_path / "pid2").exists()


def test_ctrl_c_while_the_server_still_imports(tmp_path: Path) -> None:
    code = "from pathlib import Path; import time; Path(__file__).with_name('importing').touch(); time.sleep(5)"
    (tmp_path / "slow_to_import.py").write_text(code)
    program = start(tmp_path, "slow_to_import")
    wait_for((tmp_path / "importing").exists, "the server imports")
    os.killpg(program.pid, signal.SIGINT)
    _, err = program.communicate(timeout=120)
    assert program.returncode == 130
    assert err == ""
    assert not list(tmp_path.glob("pid*"))


def test_jobs_stop_when_the_parent_is_killed(tmp_path: Path) -> None:
    program = start(tmp_path)
    jobs = pids(tmp_path, 2)
    program.kill()
    program.wait()
    wait_for(lambda: all(is_gone(pid) for pid in jobs), "the jobs end")
    assert (tmp_path / "saved0").exists()
    assert (tmp_path / "saved1").exists()
    program.communicate()


class Listener(Watcher):
    capture = True

    def __init__(self) -> None:
        self.texts: list[str] = []

    def said(self, index: int, text: str) -> None:
        self.texts.append(text)


def test_what_goes_to_a_file_stays_there_while_the_terminal_is_captured(capfd: pytest.CaptureFixture[str]) -> None:
    listener = Listener()
    assert run_in_pool(shout, [("hello",)], at_a_time=1, watcher=listener) == [None]
    assert listener.texts == []  # standard output and error are no terminal here
