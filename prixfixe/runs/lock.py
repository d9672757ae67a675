"""Who trains in a run folder: one process at a time, which shows that it lives.

Lock files are numbered, and whoever has created the highest number has the folder. The first number is the time, so
that none comes twice and no process ever removes a lock that it has not judged. A dead owner's lock is taken over by
creating the next number, which only one process can do; so no two ever hold it, whatever the moment and the file
system. The packages for locks (filelock and others) either ask the kernel, which does not hear of other hosts, or know
no dead owners.

A lock is written to a temporary file first and then linked into its place, so that there is none without its owner's
name, even where the disk is full. File systems without hard links get it written in place.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import re
import secrets
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from prixfixe.common.errors import BusyError, InputError
from prixfixe.common.files import writable
from prixfixe.common.inputs import read_bytes
from prixfixe.common.text import printable
from prixfixe.runs.reader import read_owner

BEAT = 10.0  # seconds between two signs of life
DEAD_AFTER = 60.0  # seconds without one, after which a process on another host counts as dead
EMPTY_DEAD_AFTER = 5.0  # the same of a lock without a word in it: its disk was full, and its owner never began
SECOND_LOOK = 0.3  # seconds after which a lock that has come in between is gone again
NAME = re.compile(r"lock\.[1-9][0-9]{0,17}")
LAST = 10**18 - 1
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL, errno.EACCES)

_held: dict[Path, RunLock] = {}  # this process's own, by folder


class RunLock:
    """Holds a folder for this process: `with RunLock(folder):`. BusyError, with the owner's name, where another process
    has it.

    lost: called, from another thread, if the lock is taken over while it is held, because this process was stopped for
    so long that it counted as dead. `check_held` then refuses what this process would write.
    """

    def __init__(self, folder: Path, lost: Callable[[], None] = lambda: None) -> None:
        self.folder, self.lost = folder, lost
        self.released = threading.Event()
        self.is_lost = False

    def __enter__(self) -> RunLock:
        with writable(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        while True:
            held = {lock: _content(lock) for lock in _locks(self.folder)}
            newest = max(held, key=_number, default=None)
            if newest and not _is_dead(newest):
                raise BusyError(f"{printable(self.folder)} is being trained by {owner_in_words(newest)}")
            number = _number(newest) + 1 if newest else time.time_ns() // 1000
            if number > LAST:
                raise InputError(f"{printable(newest)} is no lock of a run: remove it")
            self.file = self.folder / f"lock.{number}"
            try:
                _create(self.file, json.dumps({**_this_process(), "token": secrets.token_hex(8)}).encode())
            except FileExistsError:
                continue  # another process was faster
            if all(lock == self.file or held.get(lock) == _content(lock) for lock in _locks(self.folder)):
                break
            self.file.unlink(missing_ok=True)  # a lock that was not judged has come in between
            time.sleep(random.uniform(0, 0.1))
        for old in held:
            with contextlib.suppress(OSError):  # gone already; or a folder of that name, which nobody minds
                old.unlink()
        _held[self.folder.absolute()] = self
        self.beat = threading.Thread(target=self._show_life, daemon=True)
        self.beat.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.released.set()
        self.beat.join()
        _held.pop(self.folder.absolute(), None)
        self.file.unlink(missing_ok=True)

    def check(self) -> None:
        """BusyError where another process has the folder by now."""
        self.is_lost = self.is_lost or self._taken_over()
        if self.is_lost:
            now = _locks(self.folder)[-1:]
            by_whom = f"by {owner_in_words(now[0])}" if now else "from this process"
            raise BusyError(
                f"{printable(self.folder)} was taken over {by_whom}, "
                "which was stopped for so long that it counted as dead: it writes nothing more there"
            )

    def _taken_over(self) -> bool:
        """Whether the highest lock is another's, and stays: one that finds ours takes its own away at once."""
        if _locks(self.folder)[-1:] == [self.file]:
            return False
        time.sleep(SECOND_LOOK)
        return _locks(self.folder)[-1:] != [self.file]

    def _show_life(self) -> None:
        while not self.released.wait(BEAT):
            try:
                os.utime(self.file)
                self.is_lost = self._taken_over()
            except FileNotFoundError:
                self.is_lost = True
            except OSError:
                continue  # a file server that does not answer for a moment
            if self.is_lost:
                self.lost()
                return


def check_held(folder: Path) -> None:
    """BusyError where this process had the folder's lock, and another process has taken it over: nothing more is to be
    written there. A folder that this process has never locked is none of its business."""
    if lock := _held.get(folder.absolute()):
        lock.check()


def holder(folder: Path) -> str | None:
    """Who has the folder now, in words, or None; without waiting and without writing."""
    held = _locks(folder)
    if not held:
        return None
    alive = _alive_here(held[-1])
    if alive is None:  # another host: judged by the age of its last sign of life
        alive = abs(_age(held[-1], time.time())) < (2 * DEAD_AFTER if _content(held[-1]) else EMPTY_DEAD_AFTER)
    return owner_in_words(held[-1]) if alive else None


def owner_in_words(lock: Path) -> str:
    """process 4711 on node7 since 2026-11-21 12:30 UTC (last sign of life 4 s ago)."""
    owner = read_owner(lock)
    return (
        f"process {owner.get('pid', '?')} on {owner.get('host', 'an unknown host')} since {owner.get('since', '?')} "
        f"(last sign of life {max(0, round(_age(lock, time.time())))} s ago)"
    )


def _create(file: Path, content: bytes) -> None:
    """Makes a file that is there whole, with this content, or not at all; FileExistsError where there is one."""
    with writable(file):
        handle, temporary = tempfile.mkstemp(prefix=".lock.", dir=file.parent)
        try:
            with os.fdopen(handle, "wb") as written:
                written.write(content)
            os.chmod(temporary, 0o644)
            if not _linked(temporary, file):
                _write_in_place(file, content)
        except FileExistsError as error:
            exists = error
        else:
            return
        finally:
            os.unlink(temporary)
    raise exists


def _linked(temporary: str, file: Path) -> bool:
    """Whether the file is a link to the temporary one now; False where the file system has none. FileExistsError where
    another has that name."""
    try:
        os.link(temporary, file)
    except OSError as error:
        if os.stat(temporary).st_nlink == 2:  # it was made, though a file server's answer was lost
            return True
        if error.errno in NO_LINKS:
            return False
        raise
    return True


def _write_in_place(file: Path, content: bytes) -> None:
    handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    try:
        os.write(handle, content)
    except OSError:
        os.unlink(file)
        raise
    finally:
        os.close(handle)


def _is_dead(lock: Path) -> bool:
    """Whether a lock's owner is gone. Of an owner on another host a sign of life is waited for, up to DEAD_AFTER
    seconds, which is said on standard error; of one who has left no word, not so long."""
    alive = _alive_here(lock)
    if alive is not None:
        return not alive
    if not os.path.lexists(lock):
        return True
    patience = DEAD_AFTER if _content(lock) else min(EMPTY_DEAD_AFTER, DEAD_AFTER)
    seen, deadline, said = _modified(lock), time.monotonic() + patience, False
    while time.monotonic() < deadline:
        with tempfile.TemporaryFile(dir=lock.parent) as probe:  # the file server's own clock
            if _age(lock, os.fstat(probe.fileno()).st_mtime) > patience:
                return True
        if not said:
            who = f"{printable(lock.parent)} is held by {owner_in_words(lock)}"
            print(f"{who}: waiting up to {patience:.0f} s for another sign", file=sys.stderr, flush=True)
            said = True
        time.sleep(BEAT / 10)
        if _modified(lock) != seen:
            return not lock.exists()
    return True


def _alive_here(lock: Path) -> bool | None:
    """Whether the owner runs, where it is a process of this host; None where that cannot be seen from here."""
    owner, here = read_owner(lock), _this_process()
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


def _content(lock: Path) -> bytes:
    """What is written in a lock; nothing for one that is gone, or that is no file."""
    try:
        return read_bytes(lock, limit=2**16)
    except InputError:
        return b""


def _locks(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("lock.*") if NAME.fullmatch(path.name)), key=_number)


def _number(lock: Path) -> int:
    return int(lock.suffix[1:])


def _modified(lock: Path) -> float:
    try:
        return lock.lstat().st_mtime
    except OSError:
        return 0.0


def _age(lock: Path, now: float) -> float:
    return now - _modified(lock)
