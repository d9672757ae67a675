"""`hydra/launcher=slurm` against a real Slurm of one node: jobs that fail, are cancelled, preempted or timed out, and a
killed parent."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import slurm

import prixfixe.sweeps.slurm
from prixfixe.common.errors import InputError
from prixfixe.runs.folder import RunFolder
from prixfixe.sweeps.slurm import queue_line

pytestmark = pytest.mark.xdist_group("slurm")

PATIENCE = 300  # seconds until a loaded machine must have got so far

# A step of training takes half a second while there is a file `slow`; the last of six jobs fails.
EVENTFUL = """
import os
import time
from pathlib import Path

from torch import nn

from prixfixe.contract import Block


class Eventful(Block):
    def __init__(self, inputs):
        super().__init__()
        self.out_channels = inputs.channels
        self.scale = nn.Conv1d(inputs.channels, inputs.channels, 1)

    def forward(self, x):
        if self.training:
            Path(f"gpu-{os.environ['SLURM_JOB_ID']}").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
            if os.environ["SLURM_ARRAY_TASK_ID"] == "5":
                raise ArithmeticError("it broke")
            if Path("slow").exists():
                time.sleep(0.5)
        return self.scale(x)
"""


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    if reason := slurm.missing():
        pytest.skip(f"no Slurm here: {reason}")
    with slurm.one_node() as environment:
        yield {**environment, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a sweep of six with a block that is slow or fails when told to."""
    (tmp_path / "conf" / "core").mkdir(parents=True)
    (tmp_path / "blocks" / "core").mkdir(parents=True)
    (tmp_path / "conf" / "core" / "eventful.yaml").write_text("_target_: blocks.core.eventful.Eventful\n")
    (tmp_path / "blocks" / "core" / "eventful.py").write_text(EVENTFUL)
    sweep = "train -m experiment=demo sweep=cluster recipe=bhi,autosome first=conv core=eventful"
    small = "dataset.size=300 training.epochs=20 training.device=cpu"
    resources = (
        "partition=gpu",
        "gpus_per_node=1",
        "cpus_per_task=1",
        "mem_gb=2",
        "timeout_min=30",
        "array_parallelism=2",
    )
    arguments = [
        *sweep.split(),
        *small.split(),
        "hydra/launcher=slurm",
        *(f"hydra.launcher.{resource}" for resource in resources),
    ]
    parents = []

    def start() -> subprocess.Popen[str]:
        with (tmp_path / f"parent{len(parents)}.log").open("w") as log:
            parents.append(
                subprocess.Popen(
                    [sys.executable, "-m", "prixfixe", *arguments], cwd=tmp_path, env=environment, stderr=log
                )
            )
        return parents[-1]

    yield start
    for parent in parents:
        parent.kill()
        parent.wait()


def test_a_sweep_through_slurm(
    start: Callable[[], subprocess.Popen[str]], environment: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / "cluster"
    names = [
        f"{recipe}+conv+eventful+{final}"
        for recipe in ("bhi", "autosome")
        for final in ("soft_bins", "mlp", "expression_heads")
    ]
    preempted, timed_out, cancelled, *_, broken = names

    def state(name: str) -> str:
        return str(RunFolder(folder / name).status().get("state"))

    def job(name: str) -> str:
        overrides = json.loads((folder / "sweep.json").read_text())["jobs"][name]
        return str(json.loads((folder / ".slurm" / "jobs.json").read_text())[" ".join(overrides)])

    def command(*words: str) -> str:
        return subprocess.run(
            words, env=environment, check=True, capture_output=True, text=True, timeout=PATIENCE
        ).stdout

    slow = tmp_path / "slow"
    slow.touch()
    parent = start()
    until(
        lambda: {path.read_text() for path in tmp_path.glob("gpu-*")} == {"0", "1"}, parent
    )  # two at a time, each with its own GPU
    command("scontrol", "requeue", job(preempted))
    # what Slurm sends ahead of the time limit; scancel itself tries again for minutes, as the job does not stay where
    # it is
    signalling = subprocess.Popen(
        ["scancel", "--signal=USR2", job(timed_out)], env=environment, stderr=subprocess.DEVNULL
    )
    until(lambda: trains(folder / cancelled), parent)
    signalling.kill()
    signalling.wait()
    command("scancel", job(cancelled))
    slow.unlink()
    assert parent.wait(PATIENCE) == 1
    said = (tmp_path / "parent0.log").read_text()
    assert "2 of 6 combinations are not done" in said
    assert f"{broken}: ArithmeticError: it broke" in said
    assert f"{cancelled}: " in said
    assert "CANCELLED" in said.partition("2 of 6 combinations are not done")[2]
    assert "Traceback" not in said
    assert [state(name) for name in names] == ["failed" if name in (cancelled, broken) else "done" for name in names]
    for name in (preempted, timed_out):
        assert '"resume"' in (folder / name / "log.jsonl").read_text()

    slow.touch()
    parent = start()
    until(lambda: trains(folder / broken), parent)
    parent.kill()  # its jobs go on
    again = start()
    until(lambda: "2 jobs of an earlier start are queued or running" in (tmp_path / "parent2.log").read_text(), again)
    slow.unlink()
    assert again.wait(PATIENCE) == 0, (tmp_path / "parent2.log").read_text()
    assert "4 done already, 2 to run" in (tmp_path / "parent1.log").read_text()
    assert [state(name) for name in names] == ["done"] * 6
    shown = subprocess.run(
        [sys.executable, "-m", "prixfixe", "results", "runs/cluster"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "6 of 6 combinations done" in shown.stdout


def trains(run: Path) -> bool:
    """Whether a run's process trains."""
    return RunFolder(run).state() == "running"


def until(true: Callable[[], object], parent: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert parent.poll() is None, "the sweep has ended already"
        assert time.monotonic() < deadline, "waited for too long"
        time.sleep(0.2)


def test_a_refusal_is_one_message(environment: dict[str, str], tmp_path: Path) -> None:
    sweep = "train -m experiment=demo recipe=bhi first=conv core=bilstm dataset.size=100"
    sweep += " hydra/launcher=slurm hydra.launcher.partition=nowhere"
    words = [sys.executable, "-m", "prixfixe", *sweep.split()]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(
        "prixfixe: Slurm refuses the jobs: invalid partition specified: nowhere"
    )


def squeue(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A program that stands where squeue does."""
    program = folder / "squeue"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


class Notes:
    """A board that notes what it is told. at_tick: called with the number of each look at the jobs."""

    def __init__(self, at_tick: Callable[[int], object] = lambda number: None) -> None:
        self.view, self.at_tick, self.ticks = self, at_tick, 0
        self.told_running: list[int] = []
        self.told_lost: dict[int, str] = {}

    def running(self, place: int) -> None:
        self.told_running.append(place)

    def lost(self, place: int, reason: str) -> None:
        self.told_lost[place] = reason.partition(";")[0]

    def tick(self) -> None:
        self.ticks += 1
        self.at_tick(self.ticks)


def test_jobs_that_end_without_an_answer_are_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prixfixe.sweeps.slurm, "ANSWER_WITHIN", 0.0)
    squeue(
        tmp_path,
        monkeypatch,
        "echo '7_0|OUT_OF_MEMORY|OutOfMemory'; echo '7_1|TIMEOUT|TimeLimit'; echo '9|RUNNING|None'",
    )
    notes: Any = Notes()
    prixfixe.sweeps.slurm.follow(tmp_path, ["7_0", "7_1", "7_2"], notes)
    assert notes.told_running == []
    assert notes.told_lost == {
        0: "Slurm job 7_0: OUT_OF_MEMORY",
        1: "Slurm job 7_1: TIMEOUT",
        2: "Slurm job 7_2: forgotten by Slurm",
    }


def test_a_controller_that_is_away_for_a_while_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prixfixe.sweeps.slurm, "ANSWER_WITHIN", 0.0)
    squeue(tmp_path, monkeypatch, "exit 1")

    def at_tick(number: int) -> None:
        if number < 3:
            assert (notes.told_running, notes.told_lost) == ([], {})
        elif number == 3:
            squeue(tmp_path, monkeypatch, "echo '7_0|RUNNING|None'")
        elif notes.told_running:
            squeue(tmp_path, monkeypatch, "echo '7_0|CANCELLED|None'")

    notes: Any = Notes(at_tick)
    prixfixe.sweeps.slurm.follow(tmp_path, ["7_0"], notes)
    assert notes.told_running == [0]
    assert notes.told_lost == {0: "Slurm job 7_0: CANCELLED"}


def test_without_slurm_there_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="squeue gives no answer"):
        prixfixe.sweeps.slurm.submit(tmp_path, {}, 0, {})


@pytest.mark.parametrize("answer, waits", [(None, False), (("InterruptedRunError", "interrupted"), True)])
def test_a_job_that_slurm_stops_gives_no_bad_answer(
    answer: object, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> object:
        signal.raise_signal(signal.SIGTERM)
        return answer

    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert prixfixe.sweeps.slurm.StoppableCall(work)() == answer
    finally:
        signal.signal(signal.SIGTERM, before)
    assert bool(slept) is waits


def test_the_queue_in_one_line() -> None:
    states = [("RUNNING", "None"), ("PENDING", "Priority"), ("RUNNING", "None"), ("PENDING", "Resources")]
    assert queue_line(states) == "Slurm: 2 running, 1 pending (Resources), 1 pending (Priority)"
    assert queue_line([]) == "Slurm: no job left"
