"""Reading what a user or a stranger has given: the one way to open an input file."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from prixfixe.common.errors import InputError
from prixfixe.common.text import printable

ADVICE = {
    errno.ENOENT: "there is no such file",
    errno.ENOTDIR: "a part of its path is a file, not a folder",
    errno.EISDIR: "it is a folder; give a file",
    errno.EACCES: "you may not read it; ask for its read permission",
    errno.EPERM: "you may not read it; ask for its read permission",
    errno.ELOOP: "it is a link that leads back to itself; give the file itself",
    errno.ENAMETOOLONG: "its name is longer than the file system takes",
    errno.EIO: "the disk or file server failed to read it; copy it again",
    errno.ESTALE: "the file server has lost it; give its path again",
}


@contextmanager
def open_input(path: str | os.PathLike[str], *, pipes: bool = False) -> Iterator[BinaryIO]:
    """Yields a regular file, opened for reading bytes; with `pipes` also a pipe or the terminal (`-` is /dev/stdin's
    business).

    Raises InputError, which names the path and says what to do, for all else: folders, devices, sockets, pipes, links
    to themselves, what is not there. Nothing is ever waited for: a pipe that nobody writes to does not hang.
    """
    with readable(path):
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | (0 if pipes else os.O_NONBLOCK))
        try:
            kind = os.fstat(handle).st_mode
            if stat.S_ISDIR(kind):
                raise IsADirectoryError(errno.EISDIR, "", str(path))
            stream = stat.S_ISFIFO(kind) or (stat.S_ISCHR(kind) and os.isatty(handle))
            if not (stat.S_ISREG(kind) or (pipes and stream)):
                raise InputError(f"{printable(path)} is no regular file but {_kind(kind)}; give a file")
            file = os.fdopen(handle, "rb")
        except BaseException:
            os.close(handle)
            raise
    with file:
        yield file


def read_bytes(path: str | os.PathLike[str], *, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes; InputError as `open_input`, and where there is more."""
    with open_input(path) as file, readable(path):
        content = file.read(limit + 1)
    if len(content) > limit:
        raise InputError(
            f"{printable(path)} is larger than {limit:,} bytes, which no such file is: it is damaged or not what "
            "it is named"
        )
    return content


@contextmanager
def readable(path: str | os.PathLike[str]) -> Iterator[None]:
    """Inside, an OSError of reading `path` becomes an InputError that names it and says what to do."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{printable(path)} cannot be read: {why(error)}") from error


def why(error: OSError) -> str:
    """What an OSError means for who gave the path."""
    return ADVICE.get(error.errno or 0, error.strerror or printable(error))


def is_missing(path: str | os.PathLike[str]) -> bool:
    """Whether nothing at all has this name, not even a link that leads nowhere."""
    return not Path(path).is_symlink() and not os.path.lexists(path)


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a device" if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else "a socket or the like"
