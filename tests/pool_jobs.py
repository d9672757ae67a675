"""Jobs for the tests of the pool, in a module that is quick to import."""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


class UnpicklableError(Exception):
    """Travels neither way: it is made of two arguments, and holds an open file."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path} {why}")
        self.file = open(os.devnull)  # noqa: SIM115


def end(how: str, folder: str) -> Any:
    """A job that ends in the way that is asked for."""
    if how == "return":
        return {"answer": 42}
    if how == "raise":
        raise ArithmeticError("it broke")
    if how == "unpicklable exception":
        raise UnpicklableError("a", "b")
    if how == "unpicklable value":
        return lambda: 1
    if how == "sys.exit":
        sys.exit(3)
    if how == "os._exit":
        os._exit(3)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "segfault":
        ctypes.string_at(0)
    if how == "KeyboardInterrupt":
        raise KeyboardInterrupt
    if how == "die once":
        if not (mark := Path(folder, "died")).exists():
            mark.touch()
            os._exit(1)
        return "alive"
    if how == "child that stays":  # holds the pipe of the answer open
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        os._exit(4)
    if how == "threads":
        import torch

        return torch.get_num_threads()
    raise AssertionError(how)


def hang(folder: str, saves: bool) -> None:
    """A job that never ends by itself, and that saves or ignores what it is told."""

    def save(number: int, frame: object) -> None:
        Path(folder, "saved").touch()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    signal.signal(signal.SIGTERM, save if saves else signal.SIG_IGN)
    while True:
        time.sleep(0.1)


def gpu(marks: str, number: int, others: int) -> str:
    """The GPU that a job sees; waits until all that run with it have begun."""
    Path(marks, str(number)).touch()
    while len(list(Path(marks).iterdir())) < others:
        time.sleep(0.02)
    return os.environ["CUDA_VISIBLE_DEVICES"]


def stay(folder: str, number: int) -> int:
    """Says that it has begun, and how it was told to stop."""

    def save(which: int, frame: object) -> None:
        Path(folder, f"saved{number}").touch()
        signal.signal(which, signal.SIG_DFL)
        signal.raise_signal(which)

    signal.signal(signal.SIGTERM, save)
    Path(folder, f"pid{number}.part").write_text(str(os.getpid()))
    Path(folder, f"pid{number}.part").rename(Path(folder, f"pid{number}"))
    while True:
        time.sleep(0.1)


def shout(text: str) -> None:
    print(text, flush=True)
    os.write(2, b"no end of line")
