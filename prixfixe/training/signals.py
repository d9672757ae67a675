"""Signals that ask a run to stop: noted when they come, answered by the training loop between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# SIGTERM: a scheduler or the pool; SIGINT: Ctrl-C; SIGHUP: the terminal or the connection to it is gone (under nohup it
# is ignored); SIGUSR1 and SIGUSR2: schedulers, ahead of the end of a time limit
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class StopRequest:
    """signal: the one that asked, or None."""

    signal: signal.Signals | None = None


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """While inside, stopping signals are noted in the yielded request; a second Ctrl-C acts as it would have outside.

    Signals that are ignored stay ignored. Handlers are those of before on leaving, so that the signal can be raised
    again.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request  # only the main thread may install handlers
        return

    def note(number: int, frame: FrameType | None) -> None:
        request.signal = signal.Signals(number)
        # a scheduler may send its own to every process and to the whole group, but who presses Ctrl-C twice means it
        if number == signal.SIGINT:
            signal.signal(number, before[signal.SIGINT])

    before = {number: signal.getsignal(number) for number in STOPPING}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    try:
        for number in before:
            signal.signal(number, note)
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
