"""What happens to a run, as it happens: events as JSON lines in log.jsonl, scores also in the logger that was asked
for."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prixfixe.common.errors import BusyError, InputError, InterruptedRunError
from prixfixe.common.files import json_values
from prixfixe.common.text import printable
from prixfixe.networks.parts import LOADED, Origin
from prixfixe.runs.folder import RunFolder, flatten
from prixfixe.runs.lock import check_held
from prixfixe.runs.loggers import Logger, configured_logger

LONGEST_LINE = 2**20  # bytes of what may be cut off


class RunLog:
    """The log of one run. No failure of it ends the training: it is said once on standard error."""

    def __init__(self, file: Path, logger: Logger | None) -> None:
        self.file, self.logger = file, logger
        self.logger_works = logger is not None
        self.file_works = True

    def event(self, name: str, /, **facts: Any) -> None:
        """A line in log.jsonl: {"time": ..., "event": name, **facts}. Numbers that are not finite become null."""
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": name, **facts}
        try:
            check_held(self.file.parent)
            append_line(self.file, json.dumps(json_values(line), allow_nan=False))
            self.file_works = True
        except BusyError:  # another process writes there by now
            self.file_works = False
        except OSError as error:
            if self.file_works:
                why = printable(error)
                print(f"warning: {printable(self.file)} cannot be written ({why}); the run goes on", file=sys.stderr)
            self.file_works = False

    def scores(self, step: int, values: Mapping[str, Any]) -> None:
        """Numbers at a step of the optimiser: the event "epoch", and scalars in the logger, which gets only finite
        ones."""
        self.event("epoch", step=step, **values)
        numbers = {key: float(value) for key, value in json_values(values).items() if isinstance(value, (int, float))}
        if self.logger and self.logger_works:
            logger = self.logger
            self._try(lambda: logger.scores(step, numbers))

    def open(self, folder: RunFolder, config: Mapping[str, Any]) -> None:
        """Begins the logger's run. Raises InputError where the logger cannot work as it was asked to."""
        if self.logger:
            logger = self.logger
            parameters = flatten({key: value for key, value in config.items() if key != "logger"})
            facts = self._try(lambda: logger.open(folder, config["sweep"], parameters), opening=True)
            if self.logger_works:
                self.event("logger", logger=type(logger).__name__, **facts)

    def close(self, reason: str | None) -> None:
        """The event "end", and the end of the logger's run. reason: why the run failed, None for one that is done."""
        self.event("end", **({"state": "done"} if reason is None else {"state": "failed", "reason": reason}))
        if self.logger:
            logger = self.logger
            self._try(lambda: logger.close(failed=reason is not None))

    def _try(self, action: Callable[[], Any], *, opening: bool = False) -> Any:
        """What the logger's action returns; None after a failure, which is the last that is asked of it but to
        close."""
        try:
            return action()
        except Exception as error:  # whatever a network, a server or a stranger's logger may come up with
            if opening and isinstance(error, InputError):
                raise
            if opening and isinstance(error, ImportError):
                raise InputError(
                    f"logger: {type(self.logger).__name__} needs a package that is not installed ({error}); "
                    "those of tensorboard, wandb and mlflow are extras: pip install 'prixfixe[mlflow]'"
                ) from error
            if self.logger_works:
                reason = f"{type(error).__name__}: {error}"
                print(
                    f"warning: {type(self.logger).__name__} failed ({printable(reason)}); the run goes on without it",
                    file=sys.stderr,
                )
                self.event("logger_failed", logger=type(self.logger).__name__, reason=reason)
            self.logger_works = False
            return None


class NoLog(RunLog):
    """What all processes of a run but the first have: a log of nothing."""

    def __init__(self) -> None:
        pass

    def event(self, name: str, /, **facts: Any) -> None:
        pass

    def scores(self, step: int, values: Mapping[str, Any]) -> None:
        pass


@contextmanager
def open_log(folder: RunFolder, config: Mapping[str, Any], origin: Origin = LOADED) -> Iterator[RunLog]:
    """The log of the run in a folder; goes on in the file, and in the logger's run, of an earlier training of the same
    folder.

    config: resolved; `logger` is the node of a Logger, or None. Leaving ends the logger's run as done, or as failed
    where an exception comes through. Raises InputError where the logger lacks its package or has a wrong value.
    """
    log = RunLog(folder.log_file, configured_logger(config, origin))
    try:
        log.open(folder, config)
        yield log
    except BaseException as error:
        log.close(str(error) if isinstance(error, InterruptedRunError) else f"{type(error).__name__}: {error}")
        raise
    log.close(None)


def append_line(file: Path, line: str) -> None:
    """Appends a line. What a killed process left of a half-written one is cut off first, so that every line is whole.
    OSError for what is no regular file, a link included."""
    file.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(file, flags, 0o666), "r+b", buffering=0) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no file")
        end = stream.seek(0, 2)
        if end:
            start = stream.seek(max(0, end - LONGEST_LINE))
            tail = stream.read()
            if not tail.endswith(b"\n"):
                stream.truncate(start + tail.rfind(b"\n") + 1)
        stream.write(line.encode() + b"\n")
