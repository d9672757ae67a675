"""Download of a public record from Zenodo: its file list, its files verified by checksum, its archives unpacked.

Everything can be repeated: what is there and verified is not fetched again, what was cut goes on where it ended. The
record's list of files (sizes and checksums) is kept in the folder as `zenodo_record.json`, exactly as Zenodo's API
gives it: a published record never changes. So a machine without a network can be served by hand, list included.
"""

from __future__ import annotations

import email.utils
import fnmatch
import gzip
import hashlib
import http.client
import json
import lzma
import os
import re
import shutil
import stat
import string
import struct
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from prixfixe.common.errors import InputError
from prixfixe.common.files import atomic_path
from prixfixe.common.inputs import read_bytes
from prixfixe.common.text import printable

# a record's number, and what is needed of it, as names or patterns
RECORDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "dream2022": ("10633252", ("*",)),  # Rafi et al. 2024, Data availability
    "starrseq": ("5502060", ("Sequences_*",)),  # de Almeida et al. 2022: three splits, FASTA and activity
    "lentimpra": ("10633252", ("human_mpra_data.tar.gz",)),  # Agarwal et al. 2025, as Rafi et al. split it: three lines
    "atac": ("7443683", ("folds.zip", "bias_models.zip")),  # Pampari et al.: chromosomes of five folds, bias models
}
ZENODO = "https://zenodo.org"
RECORD_FILE = "zenodo_record.json"
PART = ".part"  # ending of a file that is not complete yet

TIMEOUT_SECONDS = 60
ATTEMPTS = 5  # in a row without any progress
LONGEST_WAIT_SECONDS = 120.0
CHUNK_BYTES = 1 << 20
LARGEST_RECORD, LONGEST_RECORD_SECONDS = 16 << 20, 300.0  # bytes and time that the list of files may take
LONGEST_NAME = 200  # bytes of a file's name, so that it can be completed with endings of our own
LARGEST_HEADER = 16 << 20  # bytes that one read of an archive's own facts may ask for
MOST_MEMBERS = 1_000_000  # of an archive
SPARE_BYTES = 1 << 28  # of the disk that unpacking leaves free
ARCHIVE_ENDINGS = (".tar.gz", ".tgz", ".zip")


class Reporter(Protocol):
    """Who is told how it goes."""

    def say(self, text: str) -> None: ...

    def transfer(self, name: str, size: int, done: int) -> AbstractContextManager[Callable[[int], None]]:
        """A transfer of `size` bytes, `done` of them there already; gives a function to call with the bytes done."""
        ...


@dataclass(frozen=True)
class RecordFile:
    """A file as the record lists it: name, size in bytes, MD5 as hexadecimal digits, address."""

    name: str
    size: int
    md5: str
    url: str


class UnreachableError(Exception):
    """The network or the server failed, also after several attempts."""


def download(
    record: str,
    folder: Path,
    reporter: Reporter,
    *,
    names: tuple[str, ...] = ("*",),
    base: str = ZENODO,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Path]:
    """Brings files of a Zenodo record into `folder`, verified, and unpacks its archives; returns their paths.

    record: its number. names: of the files, or patterns of names. base: address of the server. An archive NAME.tar.gz, NAME.tgz or NAME.zip is unpacked into the
    folder NAME, without a folder that wraps the whole content; links and paths that lead elsewhere are refused.
    Raises InputError where something cannot be had, with what to fetch by hand and where to put it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    client = _Client(reporter, sleep)
    files = _wanted(_record_files(client, record, folder, names, base), names, record)
    missing = [file for file in files if not _verified(folder / file.name, file, reporter)]
    needed = sum(file.size for file in missing)
    if needed > (free := shutil.disk_usage(folder).free):
        raise InputError(f"{folder}: {_bytes(needed)} are still to be downloaded, and only {_bytes(free)} are free")
    for number, file in enumerate(missing):
        try:
            client.fetch(file, folder / file.name)
        except UnreachableError as error:
            raise InputError(_by_hand_files(error, missing[number:], folder)) from None
    return [*(folder / file.name for file in files), *_unpack_all(files, folder, reporter)]


# The record


def _wanted(files: list[RecordFile], names: tuple[str, ...], record: str) -> list[RecordFile]:
    """Those of these names; InputError where one of them is not there."""
    for name in names:
        if not fnmatch.filter([file.name for file in files], name):
            offered = ", ".join(file.name for file in files)
            raise InputError(f"record {record} has no file {name}; it offers {printable(offered, 1000)}")
    return [file for file in files if any(fnmatch.fnmatchcase(file.name, name) for name in names)]


def _record_files(
    client: _Client, record: str, folder: Path, names: tuple[str, ...], base: str
) -> list[RecordFile]:
    kept = folder / RECORD_FILE
    address = f"{base.rstrip('/')}/api/records/{record}"
    if kept.exists():
        files, number = _parse_record(read_bytes(kept, limit=LARGEST_RECORD), str(kept))
        if number != record:
            raise InputError(f"{kept}: belongs to record {number}, not {record}; use another folder")
        return files
    try:
        content = client.read(address)
    except UnreachableError as error:
        files_text = "every file" if names == ("*",) else " and ".join(names)
        raise InputError(
            f"{error}.\nWithout a network, fetch by hand:\n"
            f"  {address}\n    and save it as {kept}\n"
            f"  {files_text} that {base.rstrip('/')}/records/{record} offers\n    and put it into {folder}\n"
            "Then give the same command again: it verifies and unpacks what it finds there."
        ) from None
    files, number = _parse_record(content, address)
    if number != record:
        raise InputError(f"{address}: asked for record {record}, got record {number}")
    with atomic_path(kept) as temporary:
        temporary.write_bytes(content)
    return files


def _parse_record(content: bytes, source: str) -> tuple[list[RecordFile], str]:
    """The files and the number of a record, from what the API answers: {"id", "files": [{"key", "size", ...}]}."""
    try:
        record = json.loads(content)
        files = [_parse_file(entry, source) for entry in record["files"]]
        number = str(record["id"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        said = printable(repr(error), 300)
        raise InputError(f"{source}: not a Zenodo record as its API gives it ({said})") from None
    if not files or len({file.name for file in files}) < len(files):
        raise InputError(f"{source}: the record lists no files, or one twice")
    taken = {file.name: file.name for file in files}
    for name in list(taken):
        folder = _unpacked_name(name)
        if folder is not None and (other := taken.setdefault(folder, name)) != name:
            raise InputError(f"{source}: refused {name}: it would be unpacked into {folder}, where {other} belongs")
    return files, number


def _unpacked_name(name: str) -> str | None:
    """The folder that an archive is unpacked into; None for other files."""
    ending = next((ending for ending in ARCHIVE_ENDINGS if name.endswith(ending)), name)
    return name.removesuffix(ending) or None


def _parse_file(entry: dict[str, Any], source: str) -> RecordFile:
    name, url, checksum = str(entry["key"]), str(entry["links"]["self"]), str(entry["checksum"])
    # a plain name, and none of our own
    size = entry["size"]
    if type(size) is not int or not 0 <= size < 1 << 60:
        raise InputError(f"{source}: {printable(name, 300)} has the size {printable(size, 100)}, no number of bytes")
    taken = (
        name in ("", ".", "..", RECORD_FILE) or name.endswith(PART) or _unpacked_name(name) in (".", "..", RECORD_FILE)
    )
    if taken or any(mark in name for mark in "/\\:") or printable(name) != name or len(name.encode()) > LONGEST_NAME:
        raise InputError(
            f"{source}: refused a file named {printable(name, 300)!r}: it would not lie in the folder under its own "
            "name"
        )
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"{source}: refused the address {printable(url, 300)!r} of {name}: not http or https")
    if not (match := re.fullmatch(r"md5:([0-9a-f]{32})", checksum)):
        raise InputError(f"{source}: {name} has the checksum {printable(checksum, 100)!r}, which is no MD5")
    return RecordFile(name, size, match[1], url)


def _verified(path: Path, file: RecordFile, reporter: Reporter) -> bool:
    if not path.exists():
        return False
    if path.stat().st_size == file.size and _md5(path) == file.md5:
        reporter.say(f"{file.name}: here and verified")
        return True
    reporter.say(f"{file.name}: here, but its size or checksum is wrong; it will be replaced")
    return False


def _md5(path: Path) -> str:
    with open(path, "rb") as content:
        # against damage, not against attackers: MD5 is what Zenodo publishes
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _by_hand_files(error: UnreachableError, files: list[RecordFile], folder: Path) -> str:
    lines = [f"  {file.url}\n    ({_bytes(file.size)}) and save it as {folder / file.name}" for file in files]
    return (
        f"{error}.\nTo go on where this ended, give the same command again. Without a network, fetch by hand:\n"
        + "\n".join(lines)
        + "\nThen give the same command again: it verifies and unpacks what it finds there."
    )


# The network


class _Client:
    """HTTP with retries: cut connections, 429 and 5xx are tried again, after waits that double or that it asks for."""

    def __init__(self, reporter: Reporter, sleep: Callable[[float], None]) -> None:
        self.reporter = reporter
        self.sleep = sleep

    def read(self, url: str) -> bytes:
        """The whole answer, of `LARGEST_RECORD` bytes and `LONGEST_RECORD_SECONDS` at most."""
        failures = 0
        while True:
            try:
                content, started = bytearray(), time.monotonic()
                with _get(url) as response, _network_errors():
                    while chunk := response.read1(CHUNK_BYTES):
                        content += chunk
                        if len(content) > LARGEST_RECORD or time.monotonic() - started > LONGEST_RECORD_SECONDS:
                            raise InputError(
                                f"{url}: the answer does not end after {_bytes(len(content))}, which no list of files "
                                "has"
                            )
                    if response.length:
                        raise _RetryError(f"the connection ended {response.length} bytes early")
                return bytes(content)
            except _RetryError as problem:
                failures += 1
                self._wait(url, problem, failures)

    def fetch(self, file: RecordFile, target: Path) -> None:
        """Downloads to `target`, there whole and verified or not at all; a later call goes on with its .part."""
        part = target.with_name(target.name + PART)
        furthest = part.stat().st_size if part.exists() else 0
        failures = 0
        while True:
            try:
                self._transfer(file, part)
                break
            except _RetryError as problem:
                reached = part.stat().st_size if part.exists() else 0
                failures = 1 if reached > furthest else failures + 1
                furthest = max(furthest, reached)
                self._wait(file.name, problem, failures)
        os.replace(part, target)

    def _transfer(self, file: RecordFile, part: Path) -> None:
        """One attempt: what is missing of `part`, then size and checksum; what cannot be gone on with is removed."""
        start = part.stat().st_size if part.exists() else 0
        if start > file.size:
            part.unlink()
            start = 0
        if start < file.size:
            with _get(file.url, start) as response:
                if response.status == 200:  # the server begins anew, whatever was asked for
                    start = 0
                announced = response.headers.get("Content-Length")
                if announced is not None and announced.isdigit() and start + int(announced) != file.size:
                    raise _RetryError(f"the server announces {start + int(announced)} bytes, the record {file.size}")
                transfer = self.reporter.transfer(file.name, file.size, start)
                with open(part, "r+b" if start else "wb") as output, transfer as show:
                    done = start
                    output.seek(start)
                    while True:
                        with _network_errors():
                            chunk = response.read1(CHUNK_BYTES)
                        if not chunk:
                            break
                        output.write(chunk)
                        done += len(chunk)
                        show(done)
                        if done > file.size:
                            break
                    output.truncate()
        size = part.stat().st_size if part.exists() else 0
        if size < file.size:
            raise _RetryError(f"the connection ended after {size} of {file.size} bytes")
        if size > file.size:
            part.unlink()
            raise _RetryError(f"the server sent more than the {file.size} bytes of the record")
        if not part.exists():
            part.touch()  # an empty file
        if (md5 := _md5(part)) != file.md5:
            part.unlink()
            raise _RetryError(f"the checksum is {md5}, not {file.md5}")

    def _wait(self, what: str, problem: _RetryError, failures: int) -> None:
        if failures >= ATTEMPTS:
            raise UnreachableError(f"{what}: {problem}; gave up after {failures} attempts") from None
        seconds = problem.after if problem.after is not None else 2.0 ** (failures - 1)
        seconds = min(max(seconds, 0.0), LONGEST_WAIT_SECONDS)
        self.reporter.say(f"{what}: {problem}; trying again in {seconds:.0f} s")
        self.sleep(seconds)


class _RetryError(Exception):
    """An attempt failed that may succeed later; `after` is how many seconds the server asks to wait."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


def _get(url: str, start: int = 0) -> http.client.HTTPResponse:
    """The answer to a GET, from byte `start` on where the server can."""
    headers = {"User-Agent": "prixfixe", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(urllib.parse.quote(url, safe=string.punctuation), headers=headers)
    with _network_errors():
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    return response


@contextmanager
def _network_errors() -> Iterator[None]:
    """A network's failures become `_RetryError`; answers that no waiting will change become `UnreachableError`."""
    try:
        yield
    except urllib.error.HTTPError as error:
        if error.code == 429 or error.code >= 500:
            raise _RetryError(
                f"the server answers {error.code} {printable(error.reason, 200)}", _retry_after(error)
            ) from None
        raise UnreachableError(f"{error.url}: the server answers {error.code} {printable(error.reason, 200)}") from None
    except ValueError as error:  # an address that is none
        raise UnreachableError(f"the address cannot be used ({printable(error, 200)})") from None
    except (OSError, http.client.HTTPException) as error:
        reason = printable(getattr(error, "reason", error) or type(error).__name__, 200)
        raise _RetryError(f"no connection ({reason})") from None


def _retry_after(error: urllib.error.HTTPError) -> float | None:
    """Seconds that the server asks to wait, given as a number or as a date."""
    value = error.headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    try:
        return (email.utils.parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return None


# Archives


def _unpack_all(files: list[RecordFile], folder: Path, reporter: Reporter) -> list[Path]:
    unpacked = []
    for file in files:
        name = _unpacked_name(file.name)
        if name is None:
            continue
        target = folder / name
        if not target.is_dir():
            reporter.say(f"{file.name}: unpacking")
            unpack(folder / file.name, target)
        unpacked.append(target)
    return unpacked


def unpack(archive: Path, target: Path) -> None:
    """Unpacks a tar.gz or zip archive into the new folder `target`, whole or not at all.

    Only files and folders that lie inside: an absolute path, a path with .., a link or a device raises InputError, and
    so does content that would not leave `SPARE_BYTES` of the disk free. A folder that wraps the whole content is
    dropped, and so are the companion files of macOS (._NAME, __MACOSX).
    """
    with tempfile.TemporaryDirectory(prefix=".unpacking.", dir=target.parent) as temporary:
        content = Path(temporary) / "content"
        content.mkdir()
        room = shutil.disk_usage(target.parent).free - SPARE_BYTES
        for name, source in _archive_files(archive, room):
            path = PurePosixPath(name)
            strange = path.is_absolute() or ".." in path.parts or any(mark in name for mark in "\\:\0")
            if strange or not path.parts:
                raise InputError(f"{archive}: refused to unpack {_quoted(name)}: it would not stay inside {target}")
            if path.name.startswith("._") or "__MACOSX" in path.parts:
                continue
            output = content / path
            try:
                output.parent.mkdir(parents=True, exist_ok=True)
                with open(output, "xb") as written:
                    room = _copy(archive, source, written, room)
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                raise InputError(f"{archive}: holds {_quoted(name)} twice") from None
            except UnicodeEncodeError:
                raise InputError(f"{archive}: refused to unpack {_quoted(name)}: no file can have this name") from None
            except OSError as error:
                raise InputError(f"{archive}: {_quoted(name)} cannot be written ({error.strerror})") from error
        while len(inside := list(content.iterdir())) == 1 and inside[0].is_dir():
            content = inside[0]
        os.replace(content, target)


def _copy(archive: Path, source: IO[bytes], written: IO[bytes], room: int) -> int:
    """Copies as much as there is room for, in bytes; returns what is left of it."""
    while True:
        with _damage(archive):
            chunk = source.read(CHUNK_BYTES)
        if not chunk:
            return room
        if (room := room - len(chunk)) < 0:
            raise InputError(f"{archive}: its content does not fit on the disk: make room, or use another folder")
        written.write(chunk)


def _archive_files(archive: Path, room: int) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of every file in an archive, in order. A member that is neither file nor folder is refused."""
    # the content is copied by us, not by tarfile's own extraction, whose safe filter early 3.11 releases lack
    if archive.name.endswith(".zip"):
        with _damage(archive):
            zipped = zipfile.ZipFile(archive)
        with zipped:
            members = zipped.infolist()
            if len(members) > MOST_MEMBERS or sum(info.file_size for info in members) > room:
                raise InputError(f"{archive}: its content does not fit on the disk: make room, or use another folder")
            for info in members:
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise InputError(f"{archive}: refused to unpack {_quoted(info.filename)}: a link")
                if not info.is_dir():
                    with _damage(archive):
                        source = zipped.open(info)
                    with source:
                        yield info.filename, source
    else:
        with _Gzip(archive) as unzipped:
            with _damage(archive):
                tar = tarfile.TarFile(fileobj=unzipped)
            for number in range(MOST_MEMBERS + 1):
                with _damage(archive):
                    member = tar.next()
                tar.members = []  # type: ignore[attr-defined]  # which tarfile would keep for ever
                if member is None:
                    return
                if not (member.isfile() or member.isdir()):
                    raise InputError(f"{archive}: refused to unpack {_quoted(member.name)}: a link or a device")
                if number == MOST_MEMBERS:
                    raise InputError(f"{archive}: holds more than {MOST_MEMBERS:,} files")
                with _damage(archive):
                    content = tar.extractfile(member) if member.isfile() else None
                if content is not None:
                    with content:
                        yield member.name, content


class _Gzip(gzip.GzipFile):
    """Gzip whose reader may not ask for any number of bytes at once, as a header of a tar archive can make it do."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= LARGEST_HEADER:
            raise tarfile.ReadError("a header of unreasonable size")
        return super().read(size)


@contextmanager
def _damage(archive: Path) -> Iterator[None]:
    """What the libraries raise for a damaged archive becomes an InputError."""
    try:
        yield
    except (
        *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, struct.error),
        *(OSError, RuntimeError, ValueError, KeyError, IndexError, OverflowError, MemoryError),
    ) as error:
        said = printable(error, 300) or type(error).__name__
        raise InputError(f"{archive}: cannot be unpacked: {said}; remove it, and give the same command again") from None


def _quoted(name: str) -> str:
    return repr(printable(name, 300))


def _bytes(size: int) -> str:
    """1.2 GB, 350 MB, 12 kB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"
