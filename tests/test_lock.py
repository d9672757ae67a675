"""Locks of run folders: one owner, named; a dead one's lock is taken over, a living one's never."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from prixfixe.common.errors import BusyError, OutputError
from prixfixe.runs import lock
from prixfixe.runs.lock import RunLock, holder

HOLD = """
import sys, time
from pathlib import Path
from prixfixe.runs.lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def owner(folder: Path) -> subprocess.Popen[bytes]:
    """Another process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.1)
    monkeypatch.setattr(lock, "DEAD_AFTER", 1.0)


def foreign(folder: Path, number: int = 1) -> Path:
    """A lock that a process on another host has."""
    folder.mkdir(exist_ok=True)
    path = folder / f"lock.{number}"
    path.write_text(
        json.dumps({"host": "node7", "processes": "", "pid": 1, "born": "1", "since": "2026-01-02 03:04 UTC"})
    )
    return path


def test_the_second_is_told_who_has_it(tmp_path: Path) -> None:
    process = owner(tmp_path)
    try:
        with (
            pytest.raises(
                BusyError, match=rf"{tmp_path} is being trained by process {process.pid} on .* since 20\d\d-"
            ),
            RunLock(tmp_path),
        ):
            pass
        assert f"process {process.pid} " in str(holder(tmp_path))
    finally:
        process.kill()
        process.wait()


def test_a_killed_owner_of_this_host_is_followed_at_once(tmp_path: Path) -> None:
    process = owner(tmp_path)
    process.send_signal(signal.SIGKILL)
    time.sleep(0.2)  # dead, and not waited for: a zombie has the folder no longer
    assert holder(tmp_path) is None
    with RunLock(tmp_path):
        assert f"process {os.getpid()} " in str(holder(tmp_path))
    process.wait()
    assert not list(tmp_path.glob("lock*"))


def test_a_process_number_used_again_is_no_owner(tmp_path: Path) -> None:
    facts = lock._this_process() | {"born": "12345"}
    (tmp_path / "lock.3").write_text(json.dumps(facts))
    with RunLock(tmp_path):
        assert [path.name for path in tmp_path.glob("lock.*")] == ["lock.4"]


@pytest.mark.usefixtures("quick")
def test_an_owner_on_another_host_is_followed_when_its_heart_stops(tmp_path: Path) -> None:
    path = foreign(tmp_path)
    with RunLock(tmp_path):  # no sign of life for DEAD_AFTER
        assert not path.exists()
    os.utime(foreign(tmp_path), (0, 0))
    began = time.monotonic()
    with RunLock(tmp_path):
        assert time.monotonic() - began < 0.9, "long dead: not waited for"


@pytest.mark.usefixtures("quick")
def test_a_living_owner_on_another_host_is_left_alone(tmp_path: Path) -> None:
    path, done = foreign(tmp_path), threading.Event()

    def beat() -> None:
        while not done.wait(0.05):
            os.utime(path)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(BusyError, match="process 1 on node7 since 2026-01-02 03:04 UTC"), RunLock(tmp_path):
            pass
        assert path.exists()
    finally:
        done.set()
        thread.join()


@pytest.mark.usefixtures("quick")
def test_an_owner_that_was_taken_for_dead_learns_it(tmp_path: Path) -> None:
    lost = threading.Event()
    with RunLock(tmp_path, lost=lost.set):
        foreign(tmp_path, number=10**17)
        assert lost.wait(10)


def test_a_lock_that_is_half_written_belongs_to_somebody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.1)
    monkeypatch.setattr(lock, "DEAD_AFTER", 0.5)
    (tmp_path / "lock.1").write_text("")
    began = time.monotonic()
    with RunLock(tmp_path):
        assert time.monotonic() - began >= 0.4


RACE = """
import sys, time
from pathlib import Path
from prixfixe.common.errors import BusyError
from prixfixe.runs.lock import RunLock
folder, end, held = Path(sys.argv[1]), time.time() + float(sys.argv[2]), 0
while time.time() < end:
    try:
        with RunLock(folder):
            inside = folder / "inside"
            inside.touch(exist_ok=False)  # FileExistsError if two are here at once
            inside.unlink()
            held += 1
    except BusyError:
        pass
print(held)
"""


def test_many_processes_are_never_inside_together(tmp_path: Path) -> None:
    os.utime(foreign(tmp_path), (0, 0))
    racers = [
        subprocess.Popen([sys.executable, "-c", RACE, str(tmp_path), "3"], stdout=subprocess.PIPE) for _ in range(4)
    ]
    outputs = [racer.communicate()[0] for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 4
    assert sum(map(int, outputs)) > 10


def test_a_lock_is_there_with_its_owner_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    with monkeypatch.context() as patch:
        patch.setattr("os.link", full)
        with pytest.raises(OutputError, match=rf"{tmp_path}/lock\.\d+ cannot be written: .*the disk is full"):
            RunLock(tmp_path).__enter__()
    assert not list(tmp_path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr("os.link", no_links)
        with RunLock(tmp_path):
            assert f"process {os.getpid()} " in str(holder(tmp_path))
        patch.setattr("os.write", full)
        with pytest.raises(OutputError, match="the disk is full"):
            RunLock(tmp_path).__enter__()
    assert not list(tmp_path.iterdir())


def test_an_empty_lock_is_not_waited_for_long_and_not_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.1)
    monkeypatch.setattr(lock, "EMPTY_DEAD_AFTER", 0.3)
    (tmp_path / "lock.1").write_text("")
    began = time.monotonic()
    with RunLock(tmp_path):
        assert time.monotonic() - began < 5
    assert "waiting up to 0 s for another sign" in capsys.readouterr().err


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["pipe", "folder", "loop"])
def test_what_is_no_file_keeps_nobody_out(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "lock.5"
    {"pipe": lambda: os.mkfifo(path), "folder": path.mkdir, "loop": lambda: path.symlink_to(path)}[kind]()
    with RunLock(tmp_path):
        assert f"process {os.getpid()} " in str(holder(tmp_path))
