"""A table parsed and checked once, then shared by every job that trains on it.

The cache holds one folder for each pair of content and options, named by their hash: codes, lengths, expression,
fold, regions and further columns as `.npy` files, and a manifest with their sizes and checksums. A folder is built
under another name and renamed into place, so that it is there whole or not at all. Jobs that start together, on one
node or on many, need no lock: each builds, the first to rename wins, and the others use what the winner left.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from prixfixe.common.errors import InputError
from prixfixe.common.files import write_json
from prixfixe.common.inputs import open_input, readable
from prixfixe.common.text import printable
from prixfixe.data.columns import ColumnSource, Mapped, column_sources, mapped
from prixfixe.data.measurements import Measurements
from prixfixe.data.sequences import Sequences
from prixfixe.data.tables import activity_file, read_measurements

FORMAT = 6  # counts up when what is kept, or what the reader makes of a file, changes
MANIFEST_KEYS = ("tasks", "remarks", "files", "columns", "rows")  # of a manifest, beside its checksum
CHUNK_BYTES = 1 << 16
SETTLED_SECONDS = 5.0  # a file changed less than this ago may change again without a new time stamp
ABANDONED_SECONDS = 24 * 3600.0  # a half-built folder of this age belongs to a job that was killed
ATTEMPTS = 10


def prepare(
    path: str | Path, options: Mapping[str, Any], cache_dir: str | Path | None = None
) -> tuple[Measurements, str]:
    """The measurements in a table, memory-mapped and read-only, from the cache, which is filled first where needed; and
    their `content_hash`, with that of each array in a file of its own.

    options: `sequence`, `expression`, `fold` and `activity`, as `read_measurements` takes them, and `columns` as a YAML
    has them; None as if left out. A FASTA's hash is followed by that of the table which measures it.
    cache_dir: the environment variable PRIXFIXE_CACHE or else ~/.cache/prixfixe, where it is None.
    Raises InputError as `read_measurements`, or where the cache cannot be written.
    """
    path, cache = Path(path), cache_folder(cache_dir)
    given = {
        name: value if isinstance(value, str | bool) else list(value)
        for name, value in sorted(options.items())
        if value is not None and name not in ("columns", "activity")
    }
    activity = activity_file(path, options.get("activity"))
    sources = column_sources(options.get("columns"))
    with _writable(cache):
        content = _content(path, activity, cache)
        key = json.dumps([FORMAT, content, given, [asdict(source) for source in sources]])
        folder = cache / hashlib.sha256(key.encode()).hexdigest()[:32]
        for _ in range(ATTEMPTS):
            if (measurements := _load(folder, path, sources)) is not None:
                hashes = [f" {s.name}={content_hash(s.file(path), cache)}" for s in sources if s.kind == "file"]
                return measurements, content + "".join(hashes)
            _build(path, given, sources, folder, content, activity)
    raise InputError(f"{folder} is replaced or damaged as fast as it is written: set PRIXFIXE_CACHE to another folder.")


def content_hash(path: str | Path, cache_dir: str | Path | None = None) -> str:
    """The SHA-256 of a file's content, in hexadecimal.

    Hashing a gigabyte takes seconds; so the cache remembers the hash for as long as the file's path, size, time stamp
    and inode stay as they are.
    """
    path, cache = Path(path), cache_folder(cache_dir)
    with open_input(path) as file, readable(path):
        before = _stamp(path)
        note = cache / "content" / hashlib.sha256(json.dumps(before).encode()).hexdigest()[:32]
        if (known := _noted(note)) is not None:
            return known
        found = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # it is a buffered file
        after = _stamp(path)
    if before != after:
        raise InputError(f"{printable(path)} changed while it was read: start again when it is complete.")
    if time.time() - path.stat().st_mtime > SETTLED_SECONDS:
        with _writable(cache):
            write_json(note, {"sha256": found, "checksum": _json_checksum(found)})
    return found


def remembered(key: Mapping[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `compute` returns, plain values for JSON: from the cache, where it is noted for as long as the key and what
    the reader makes of a file stay."""
    cache = cache_folder(None)
    name = hashlib.sha256(json.dumps([FORMAT, key], sort_keys=True).encode()).hexdigest()[:32]
    note = cache / "content" / name
    try:
        content = json.loads(note.read_bytes())
        if content["checksum"] == _json_checksum(content["value"]):
            return dict(content["value"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    value = compute()
    with _writable(cache):
        write_json(note, {"value": value, "checksum": _json_checksum(value)})
    return value


def _noted(note: Path) -> str | None:
    try:
        content = json.loads(note.read_bytes())
        return str(content["sha256"]) if content["checksum"] == _json_checksum(content["sha256"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """Where the cache is: the environment variable PRIXFIXE_CACHE or else ~/.cache/prixfixe, where it is None."""
    return Path(cache_dir or os.environ.get("PRIXFIXE_CACHE") or Path.home() / ".cache" / "prixfixe")


def _stamp(path: Path) -> list[str | int]:
    """What changes when a file is written or replaced."""
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ino]


@contextmanager
def _writable(cache: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"The cache in {cache} cannot be written ({error}): set PRIXFIXE_CACHE to a folder that can."
        ) from error


def _load(folder: Path, path: Path, sources: Sequence[ColumnSource]) -> Measurements | None:
    """What the folder holds, memory-mapped; None where it is missing, truncated or altered. path: of the table."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        if manifest["checksum"] != _json_checksum([manifest[key] for key in MANIFEST_KEYS]):
            return None
        arrays: dict[str, np.ndarray] = {}
        for name, (size, checksum) in manifest["files"].items():
            file = folder / f"{name}.npy"
            if file.stat().st_size != size or _checksum(file) != checksum:
                return None
            arrays[name] = np.load(file, mmap_mode="r", allow_pickle=False)
        columns: dict[str, Any] = {}
        for number, source in enumerate(sources):
            values = columns[source.name] = arrays[f"column_{number}"]
            if source.alphabet is not None:
                columns[source.name] = Sequences(values, arrays[f"column_{number}_lengths"], source.alphabet)
        measurements = Measurements(
            sequences=Sequences(arrays["letters"], arrays["lengths"]),
            expression=arrays["expression"],
            tasks=tuple(manifest["tasks"]),
            fold=arrays.get("fold"),
            regions=arrays.get("regions"),
            remarks=tuple(manifest["remarks"]),
            columns=columns,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # another job may be replacing it at this moment
        return None
    for source in sources:
        if source.kind == "file":
            columns[source.name] = mapped(source.file(path), columns[source.name], manifest["rows"], path)
    return measurements


def _content(path: Path, activity: Path | None, cache: Path) -> str:
    measured = "" if activity is None else f" activity={content_hash(activity, cache)}"
    return content_hash(path, cache) + measured


def _build(
    path: Path,
    options: dict[str, Any],
    sources: Sequence[ColumnSource],
    folder: Path,
    content: str,
    activity: Path | None = None,
) -> None:
    """Parses the table, whose hash is `content`, and puts the folder in place, unless another job has put a sound one
    there meanwhile."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in folder.parent.glob(f".{folder.name}.*"):
        with suppress(OSError):  # its job may be finishing now
            if time.time() - abandoned.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(abandoned)
    named = None if activity is None else str(activity)
    measurements = read_measurements(path, **options, columns=sources, activity=named)
    if _content(path, activity, folder.parent) != content:
        raise InputError(f"{printable(path)} changed while it was read: start again when it is complete.")
    temporary = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"
    damaged = temporary.with_suffix(".damaged")
    temporary.mkdir()
    try:
        _save(measurements, temporary)
        try:
            os.rename(temporary, folder)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
            if _load(folder, path, sources) is None:  # no faster job's work, but a damaged folder
                with suppress(OSError):  # which another job may be replacing too
                    os.rename(folder, damaged)
                    os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(damaged, ignore_errors=True)


def _save(measurements: Measurements, folder: Path) -> None:
    arrays = {
        "letters": measurements.sequences.letters,
        "lengths": measurements.sequences.lengths,
        "expression": measurements.expression,
    }
    for name, array in (("fold", measurements.fold), ("regions", measurements.regions)):
        if array is not None:
            arrays[name] = array
    rows = 0  # of the table, where an array in a file has as many
    for number, column in enumerate(measurements.columns.values()):
        if isinstance(column, Sequences):
            arrays[f"column_{number}"], arrays[f"column_{number}_lengths"] = column.letters, column.lengths
        elif isinstance(column, Mapped):
            rows = len(column.array)
            arrays[f"column_{number}"] = np.arange(rows) if column.rows is None else column.rows
        else:
            arrays[f"column_{number}"] = column
    files = {}
    for name, array in arrays.items():
        file = folder / f"{name}.npy"
        np.save(file, array, allow_pickle=False)
        files[name] = [file.stat().st_size, _checksum(file)]
    manifest = {
        "tasks": list(measurements.tasks),
        "remarks": list(measurements.remarks),
        "files": files,
        "columns": list(measurements.columns),
        "rows": rows,
    }
    checksum = _json_checksum([manifest[key] for key in MANIFEST_KEYS])
    write_json(folder / "manifest.json", {**manifest, "checksum": checksum})


def _checksum(path: Path) -> int:
    """CRC-32 of a file: it finds every altered byte, at more than a gigabyte a second."""
    checksum = 0
    chunk = memoryview(bytearray(CHUNK_BYTES))
    with open(path, "rb", buffering=0) as file:
        while length := file.readinto(chunk):
            checksum = zlib.crc32(chunk[:length], checksum)
    return checksum


def _json_checksum(content: object) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
