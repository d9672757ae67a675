"""Atomic writing: a file is there whole, or it is not there."""

import errno
import json
import math
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prixfixe.common.errors import InputError, OutputError
from prixfixe.common.text import printable

FULL = {  # what says, wherever it comes from while a file is written, that there is no room for it
    errno.ENOSPC: "the disk is full; make room and start again",
    errno.EDQUOT: "your quota of the disk is used up; make room and start again",
    errno.EFBIG: "it grows larger than the system allows",
}

# The files of a run, of a sweep and of a test set that commands read.
RUN_AND_TEST_SET_FILES = re.compile(
    r"(config\.yaml|(status|metrics|targets|evaluation|about|logger)\.json|history\.csv"
    r"|(validation|test|training_sample|predictions_.*)\.npz"
    r"|log\.jsonl|events\.out.*|.*\.safetensors|checkpoint.*|test_sequences\.tsv|filtered_test_data.*\.txt"
    r"|(high|low|native|random|challenging|SNVs|motif_perturbation|motif_tiling)\.csv|.*_seqs\.csv|.*_indices\.json)"
)


@contextmanager
def atomic_path(path: str | os.PathLike[str], *, follow: bool = True) -> Iterator[Path]:
    """Yields a temporary path in the target's own folder; on success it replaces `path`, on failure it is removed.

    A link stays, and the file that it names is replaced. What is there and no file, as /dev/stdout or a pipe, is
    written into as it is: `path` itself is yielded. Without `follow` whatever has the name is replaced, a link, too:
    for the files of a run folder, which may have come from elsewhere.
    Raises OutputError, which names `path`, where it cannot be written, or the disk is full.
    """
    path = Path(path)
    standard = path.parent in (
        Path("/dev"),
        Path("/dev/fd"),
    )  # a file where the shell has redirected it; others write there too
    if follow and path.exists() and (standard or not path.is_file()):
        with full_disk_named(path):
            yield path
        return
    target = Path(os.path.realpath(path)) if follow else path
    with writable(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:200]}.", dir=target.parent)
        os.close(handle)
    temporary = Path(name)
    try:
        with full_disk_named(path):
            yield temporary
        with writable(path):
            with open(temporary, "rb+") as written:
                os.fsync(written.fileno())
            temporary.chmod(0o666 & ~_umask())
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writable(path: str | os.PathLike[str]) -> Iterator[None]:
    """Inside, an OSError becomes an OutputError that names `path`."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        reason = FULL.get(error.errno or 0)
        words = f"{error.strerror}: {reason}" if reason else error.strerror or printable(error)
        raise OutputError(error.errno or 0, f"{printable(path)} cannot be written: {words}") from error


@contextmanager
def full_disk_named(path: str | os.PathLike[str]) -> Iterator[None]:
    """The same for those errors alone that say that there is no room."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL or isinstance(error, OutputError):
            raise
        with writable(path):
            raise


def output_file(name: str) -> Path | None:
    """The path that a command is to write to, None where - means standard output; InputError, before any work is done,
    for a folder."""
    if name == "-":
        return None
    path = Path(name)
    if path.is_dir():
        raise InputError(
            f"-o {printable(path)} is a folder; give a file in it, such as {printable(path / 'output.txt')}"
        )
    return path


def keep_inputs(output: Path | None, *inputs: str | os.PathLike[str]) -> None:
    """Raises InputError where a command's output would replace one of its inputs, by whatever name, link or hard link.

    Of a folder among the inputs, the files of a run or of a test set are inputs; others in it may be written.
    """
    if output is None or not output.is_file():
        return
    real = Path(os.path.realpath(output))
    for given in map(Path, inputs):
        inside = (
            given.is_dir()
            and Path(os.path.realpath(given)) in real.parents
            and RUN_AND_TEST_SET_FILES.fullmatch(real.name)
        )
        try:
            same = os.path.samefile(given, output)
        except OSError:
            same = False
        if same or inside:
            raise InputError(
                f"-o {printable(output)} is an input, too, and would be replaced: give another file for the output"
            )


def format_by_ending(output: Path | None, formats: Mapping[str, str], default: str) -> str:
    """The format that a file's ending asks for, among endings such as `.csv`; `default` for what is no file, as
    /dev/stdout. Raises InputError, which names the endings, for another."""
    if output is None or (output.exists() and not output.is_file()):
        return default
    name = output.name.lower()
    ending = max((ending for ending in formats if name.endswith(ending)), key=len, default=None)
    if ending is None:
        raise InputError(f"-o {printable(output)}: its ending says no format; end it with one of {', '.join(formats)}")
    return formats[ending]


def write_text(path: str | os.PathLike[str], text: str, *, follow: bool = True) -> None:
    """Writes `text` to `path` atomically, as UTF-8; see `atomic_path`."""
    with atomic_path(path, follow=follow) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], content: Any, *, follow: bool = True) -> None:
    """Writes `content` to `path` atomically as indented JSON; a number that is not finite is refused."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n", follow=follow)


def json_values(value: Any) -> Any:
    """A value as JSON has it: numpy's and torch's numbers as Python's, those that are not finite as None, anything
    strange as text."""
    if isinstance(value, Mapping):
        return {str(key): json_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_values(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return json_values(value.tolist()) if hasattr(value, "tolist") else str(value)


def write_arrays(path: str | os.PathLike[str], /, *, follow: bool = True, **arrays: Any) -> None:
    """Writes numpy arrays to an uncompressed .npz file atomically; `numpy.load(path)[name]` reads one."""
    import numpy as np

    with atomic_path(path, follow=follow) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
