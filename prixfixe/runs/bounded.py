"""JSON, YAML and npz files that anybody may have written: nothing in them is executed, and size, nesting and numbers
are bounded. What breaks a bound is damage: an InputError that names the file."""

from __future__ import annotations

import ast
import json
import math
import struct
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from prixfixe.common.errors import InputError
from prixfixe.common.inputs import open_input, read_bytes, readable
from prixfixe.common.text import printable

SafeLoader = getattr(
    yaml, "CSafeLoader", yaml.SafeLoader
)  # the same in C, ten times as fast, where PyYAML was built with it
MOST_NESTED = 32  # dictionaries and lists in each other
LARGEST_INTEGER = 2**64
MOST_VALUES = 2**21  # of a JSON file, counted by its commas and brackets, text's own included
LONGEST_NUMBER = 400  # letters of it in YAML: those of more take long to read
LARGEST_ARRAYS = 2**32 - 1  # bytes of an npz file: beyond it, the directory at its end has another form
LARGEST_DIRECTORY = 2**16  # bytes of that directory; a member takes about 60
LONGEST_HEADER = 10_000  # bytes of an array's header, as numpy has it


def damaged(file: Path, reason: object) -> InputError:
    """The error for a file whose content is not what it should be."""
    return InputError(f"{printable(file)} is damaged: {printable(reason, 300)}")


def load_json(file: Path, limit: int) -> Any:
    """The content of a JSON file of at most `limit` bytes; a key that comes twice is damage."""
    content = read_bytes(file, limit=limit)
    if sum(map(content.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise damaged(file, f"it holds more than {MOST_VALUES:,} values")
    try:
        return checked(json.loads(content, object_pairs_hook=_unique, parse_int=_integer))
    except RecursionError:
        raise damaged(file, "it is nested too deeply") from None
    except ValueError as error:
        raise damaged(file, error) from error


def load_yaml(file: Path, limit: int, part: Callable[[str], str] = lambda text: text) -> Any:
    """The content of a YAML file of at most `limit` bytes, as plain values. part: what of its text is parsed."""
    content = read_bytes(file, limit=limit)
    try:
        return parse_yaml(part(content.decode()))
    except ValueError as error:
        raise damaged(file, error) from error


def parse_yaml(text: str) -> Any:
    """YAML as plain values; ValueError for anchors, aliases, tags, keys that come twice, and what is no YAML."""
    try:
        _check_events(text)
        return checked(yaml.load(text, SafeLoader))
    except yaml.MarkedYAMLError as error:
        where = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{error.problem or error.context}{where}") from error
    except (yaml.YAMLError, OverflowError, RecursionError) as error:
        raise ValueError(str(error).partition("\n")[0]) from error


def checked(value: Any) -> Any:
    """The value itself; ValueError where it is nested too deeply, or holds anything but text, numbers and None."""
    level = [value]
    for _ in range(MOST_NESTED):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += [*item.keys(), *item.values()]
            elif isinstance(item, list):
                below += item
            elif isinstance(item, int) and abs(item) > LARGEST_INTEGER:
                raise ValueError("it holds a whole number beyond 64 bits")
            elif not isinstance(item, str | int | float | None):
                raise ValueError(f"it holds a {type(item).__name__}, which no such file does")
        if not below:
            return value
        level = below
    raise ValueError("it is nested too deeply")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key comes twice")
    return content


def _integer(text: str) -> int:
    if len(text) > 21:
        raise ValueError("it holds a whole number beyond 64 bits")
    return int(text)


def _check_events(text: str) -> None:
    """ValueError for what a file that was dumped from plain values does not have, before anything is built of it."""
    keys: list[set[str] | None] = []  # of each open mapping those so far, None for a sequence
    at_key: list[bool] = []
    events: Any = yaml.parse(text, Loader=SafeLoader)
    for event in events:
        if isinstance(event, yaml.CollectionEndEvent):
            keys.pop()
            at_key.pop()
        elif isinstance(event, yaml.NodeEvent):
            _check_node(event, keys, at_key)


def _check_node(event: Any, keys: list[set[str] | None], at_key: list[bool]) -> None:
    where = f"in line {event.start_mark.line + 1}"
    if event.anchor is not None:
        raise ValueError(f"it has anchors or aliases, {where}")
    if event.tag is not None:
        raise ValueError(f"it has a tag ({event.tag}), {where}")
    if keys and (known := keys[-1]) is not None:
        if at_key[-1]:
            if not isinstance(event, yaml.ScalarEvent) or event.value in known:
                raise ValueError(f"a key comes twice, or is none, {where}")
            known.add(event.value)
        at_key[-1] = not at_key[-1]
    if isinstance(event, yaml.CollectionStartEvent):
        keys.append(set() if isinstance(event, yaml.MappingStartEvent) else None)
        at_key.append(True)
        if len(keys) > MOST_NESTED:
            raise ValueError("it is nested too deeply")
    elif event.implicit[0] and len(event.value) > LONGEST_NUMBER and event.value[0] in "+-.0123456789":
        raise ValueError(f"a number of {len(event.value)} letters, {where}")


def load_arrays(file: Path) -> dict[str, Any]:
    """The numpy arrays of an uncompressed npz file, by name: of numbers or text, none larger than the file itself."""
    with open_input(file) as stream:
        try:
            members = _members(stream)
            with readable(file):
                return {name: _array(stream, member) for name, member in members.items()}
        except (ValueError, EOFError, KeyError, NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
            raise damaged(file, error) from error
        except (struct.error, TypeError, SyntaxError, OverflowError, MemoryError, RecursionError) as error:
            raise damaged(file, "it is no npz file") from error


def array_checksums(file: Path) -> dict[str, tuple[int, int]]:
    """Size and checksum of each array of an npz file, as its directory has them: nothing else is read."""
    with open_input(file) as stream:
        try:
            return {name: (member.file_size, member.CRC) for name, member in _members(stream).items()}
        except (ValueError, NotImplementedError, zipfile.BadZipFile, struct.error, OverflowError) as error:
            raise damaged(file, error) from error


def _members(stream: BinaryIO) -> dict[str, zipfile.ZipInfo]:
    """The members of an archive, whose directory is looked at first: one of millions of entries takes long to read."""
    size = stream.seek(0, 2)
    if size > LARGEST_ARRAYS:
        raise ValueError(f"it is larger than {LARGEST_ARRAYS:,} bytes")
    stream.seek(max(0, size - 42))
    *before, end = stream.read().rpartition(b"PK\5\6")
    if len(end) != 18 or b"PK\6\7" in before[0]:  # no comment, and no directory of another form
        raise ValueError("it is cut off, or no npz file")
    length = struct.unpack("<8xII2x", end)[0]
    if length > LARGEST_DIRECTORY:
        raise ValueError("it holds more arrays than such a file has")
    with zipfile.ZipFile(stream) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
    if any(
        member.compress_type != zipfile.ZIP_STORED
        or member.file_size != member.compress_size
        or member.file_size > size
        or member.flag_bits & 1
        for member in members.values()
    ):
        raise ValueError("an array in it is compressed, which those of a run are not")
    return members


def _array(stream: BinaryIO, member: zipfile.ZipInfo) -> Any:
    """One array. Its header is compared with the bytes that there are before memory is asked for."""
    import numpy as np

    with zipfile.ZipFile(stream) as archive:
        content = archive.read(member)  # checks the sum, too
    header = BytesIO(content)
    major = np.lib.format.read_magic(header)[0]
    length = int.from_bytes(header.read(2 if major == 1 else 4), "little")
    if major > 3 or length > LONGEST_HEADER:
        raise ValueError(f"the header of {printable(member.filename, 40)} is none")
    facts = ast.literal_eval(header.read(length).decode("latin1" if major < 3 else "utf-8"))
    if not isinstance(facts, dict) or not facts.keys() >= {"shape", "descr", "fortran_order"}:
        raise ValueError(f"the header of {printable(member.filename, 40)} is none")
    shape, kind, in_columns = facts["shape"], facts["descr"], facts["fortran_order"]
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape) or not isinstance(kind, str):
        raise ValueError(f"the header of {printable(member.filename, 40)} is none")
    dtype = np.dtype(kind) if kind[1:2] in ("f", "i", "u", "U", "b") and len(kind) < 9 else None
    count = math.prod(shape)
    if dtype is None or not dtype.itemsize or count * dtype.itemsize != len(content) - header.tell():
        raise ValueError(f"{printable(member.filename, 40)} holds no array of numbers, or not all of it")
    array = np.frombuffer(content, dtype, count, header.tell())
    return array.reshape(shape, order="F" if in_columns else "C")
