"""Who trains in a run folder: one process at a time, which shows that it lives.

Lock files are numbered, and whoever has created the highest number has the folder. A dead owner's lock is taken over by
creating the next number, which only one process can do; so no two ever hold it, whatever the moment and the file
system.
"""

from __future__ import annotations

import json
import os
import random
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from prixfixe.errors import BusyError

BEAT = 10.0  # seconds between two signs of life
DEAD_AFTER = 60.0  # seconds without one, after which a process on another host counts as dead


class RunLock:
    """Holds a folder for this process: `with RunLock(folder):`. BusyError, with the owner's name, where another process
    has it.

    lost: called, from another thread, if the lock is taken over while it is held, because this process was stopped for
    so long that it counted as dead.
    """

    def __init__(self, folder: Path, lost: Callable[[], None] = lambda: None) -> None:
        self.folder, self.lost = folder, lost
        self.released = threading.Event()

    def __enter__(self) -> RunLock:
        self.folder.mkdir(parents=True, exist_ok=True)
        while True:
            held = {lock: _content(lock) for lock in _locks(self.folder)}
            newest = max(held, key=_number, default=None)
            if newest and not _is_dead(newest):
                raise BusyError(f"{self.folder} is being trained by {describe(newest)}")
            self.file = self.folder / f"lock.{_number(newest) + 1 if newest else 1}"
            try:
                handle = os.open(self.file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                continue  # another process was faster
            os.write(handle, json.dumps(_this_process()).encode())
            os.close(handle)
            if all(lock == self.file or held.get(lock) == _content(lock) for lock in _locks(self.folder)):
                break
            self.file.unlink()  # a lock that was not judged has come in between
            time.sleep(random.uniform(0, 0.1))
        for old in held:
            old.unlink(missing_ok=True)
        self.beat = threading.Thread(target=self._show_life, daemon=True)
        self.beat.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.released.set()
        self.beat.join()
        self.file.unlink(missing_ok=True)

    def _show_life(self) -> None:
        while not self.released.wait(BEAT):
            try:
                os.utime(self.file)
            except FileNotFoundError:
                self.lost()
                return
            except OSError:
                pass  # a file server that does not answer for a moment
            if _locks(self.folder)[-1:] != [self.file]:
                self.lost()
                return


def holder(folder: Path) -> str | None:
    """Who has the folder now, in words, or None; without waiting and without writing."""
    held = _locks(folder)
    if not held:
        return None
    alive = _alive_here(held[-1])
    if alive is None:  # another host: judged by the age of its last sign of life
        alive = _age(held[-1], time.time()) < 2 * DEAD_AFTER
    return describe(held[-1]) if alive else None


def describe(lock: Path) -> str:
    """process 4711 on node7 since 2026-11-21 12:30 UTC (last sign of life 4 s ago)."""
    owner = _owner(lock)
    return (
        f"process {owner.get('pid', '?')} on {owner.get('host', 'an unknown host')} since {owner.get('since', '?')} "
        f"(last sign of life {max(0, round(_age(lock, time.time())))} s ago)"
    )


def _is_dead(lock: Path) -> bool:
    """Whether a lock's owner is gone. Of an owner on another host a sign of life is waited for, up to DEAD_AFTER
    seconds."""
    alive = _alive_here(lock)
    if alive is not None:
        return not alive
    seen, deadline = _modified(lock), time.monotonic() + DEAD_AFTER
    while time.monotonic() < deadline:
        with tempfile.TemporaryFile(dir=lock.parent) as probe:  # the file server's own clock
            if _age(lock, os.fstat(probe.fileno()).st_mtime) > DEAD_AFTER:
                return True
        time.sleep(BEAT / 10)
        if _modified(lock) != seen:
            return not lock.exists()
    return True


def _alive_here(lock: Path) -> bool | None:
    """Whether the owner runs, where it is a process of this host; None where that cannot be seen from here."""
    owner, here = _owner(lock), _this_process()
    if (owner.get("host"), owner.get("processes")) != (here["host"], here["processes"]):
        return None
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _born(owner["pid"]) == owner.get("born")


def _this_process() -> dict[str, Any]:
    try:
        processes = os.readlink("/proc/self/ns/pid")  # containers of one host do not see each other's processes
    except OSError:
        processes = ""
    pid = os.getpid()
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {"host": socket.gethostname(), "processes": processes, "pid": pid, "born": _born(pid), "since": since}


def _born(pid: int) -> str | None:
    """When a process was started, in the kernel's own count, so that a number used again is no sign of life; None for a
    zombie."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "" if not Path("/proc/self").exists() else None
    return None if facts[0] in "ZX" else facts[19]


def _owner(lock: Path) -> dict[str, Any]:
    try:
        content = json.loads(_content(lock))
    except ValueError:
        return {}  # gone, or its owner has not written it yet
    return content if isinstance(content, dict) else {}


def _content(lock: Path) -> bytes:
    try:
        return lock.read_bytes()
    except FileNotFoundError:
        return b""


def _locks(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("lock.*") if path.suffix[1:].isdigit()), key=_number)


def _number(lock: Path) -> int:
    return int(lock.suffix[1:])


def _modified(lock: Path) -> float:
    try:
        return lock.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _age(lock: Path, now: float) -> float:
    return now - _modified(lock)
