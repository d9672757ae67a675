"""A user's file as a stream of text: unpacked and recoded where the standard library can, else named for what it is."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from prixfixe.common.errors import InputError
from prixfixe.common.inputs import open_input
from prixfixe.common.text import printable

BLOCK_BYTES = 2 << 20  # text read at a time
LONGEST_LINE = 1 << 29  # bytes, also of a quoted cell with line breaks: longer than any chromosome
LINE_END = re.compile(rb"\r\n|\n|\r")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
PARQUET = b"PAR1"

# What a file begins with -> what it is, and what to do.
FOREIGN = (
    (
        b"PK\x03\x04",
        "a zip archive, as Excel's .xlsx and other workbooks are: save the sheet as CSV, or unzip it first",
    ),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook (.xls): save the sheet as CSV"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it first, with zstd -d"),
    (b"\x1f\x9d", "compressed by compress: unpack it first, with uncompress"),
    (b"\x89HDF", "an HDF5 file: write its table as CSV or Parquet"),
    (b"ARROW1", "an Arrow (Feather) file: write its table as Parquet"),
    (b"ORC", "an ORC file: write its table as Parquet"),
    (b"%PDF", "a PDF: give the table itself"),
    (b"\x93NUMPY", "a NumPy array: write a table of sequence and expression as CSV"),
    (b"<!DOCTYPE", "a web page, not the file that it links to: download that"),
    (b"<html", "a web page, not the file that it links to: download that"),
    (b"\xff\xfe\0\0", "text in UTF-32: save it as UTF-8"),
    (b"\0\0\xfe\xff", "text in UTF-32: save it as UTF-8"),
)


class Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


@contextmanager
def open_text(path: str | Path) -> Iterator[Stream]:
    """Yields the text of a regular file as bytes in UTF-8, without a byte order mark.

    gzip, bzip2 and xz are unpacked, UTF-16 with its byte order mark is recoded. Raises InputError that names the file
    and what to do for anything else that is known not to be text, and for damage found while it is read.
    """
    with open_input(path) as file, explained(path):
        stream: io.BufferedReader | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile = file  # type: ignore[assignment]
        head = _peek(stream)
        if head.startswith(b"\x1f\x8b"):
            stream = gzip.GzipFile(fileobj=file)
        elif head.startswith(b"BZh"):
            stream = bz2.BZ2File(file)
        elif head.startswith(b"\xfd7zXZ\0"):
            stream = lzma.LZMAFile(file)  # noqa: SIM115  # the file itself is closed
        if stream is not file:
            head = _peek(stream)
            if head.startswith(PARQUET):
                raise InputError(f"{printable(path)} is Parquet inside another compression: unpack it first")
            if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")):
                raise InputError(f"{printable(path)} is compressed twice: unpack it first")
        for magic, what in FOREIGN:
            if head.startswith(magic):
                raise InputError(f"{printable(path)} is {what}.")
        if head[257:262] == b"ustar":
            raise InputError(f"{printable(path)} is a tar archive: unpack it first, and give the file in it.")
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            yield _Recoded(stream, "utf-16")
            return
        if head.startswith(BYTE_ORDER_MARK):
            stream.read(len(BYTE_ORDER_MARK))
        yield stream


@contextmanager
def explained(path: str | Path) -> Iterator[None]:
    """What the libraries say of a file that they cannot read becomes an InputError that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, zlib.error, lzma.LZMAError, UnicodeError) as error:
        said = printable(str(error).strip() or type(error).__name__, 300)
        raise InputError(f"{printable(path)} cannot be read: {said}.") from error


def line_blocks(path: str | Path, *, size: int | None = None, blank: bytes = b" \t\r\n") -> Iterator[tuple[bytes, int]]:
    """The text in blocks of whole lines, about `size` bytes each, with the number of each block's first line.

    Lines end with LF, CR LF or CR. Lines of `blank` characters at the end of the text are left out. Raises InputError,
    which names the line, for what is no text in UTF-8, and as `open_text`.
    """
    size = size or BLOCK_BYTES
    held, line, more = b"", 1, True
    with open_text(path) as stream:
        while more:
            # a long line is read in steps that double, so that no byte is copied often
            chunk = stream.read(max(size, len(held)))
            more = bool(chunk)
            text = held + chunk
            content = len(text.rstrip(blank))
            if more:
                end = max(text.rfind(b"\n", 0, content), text.rfind(b"\r", 0, content)) + 1
            else:
                ends = LINE_END.search(text, content)
                end = ends.start() if ends and content else content and len(text)
            if end:
                block = text[:end]
                _expect_text(path, block, line)
                yield block, line
                line += count_lines(block)
            held = text[end:]
            if len(held) > LONGEST_LINE:
                raise InputError(f"{printable(path)}:{line}: a line of more than {LONGEST_LINE:,} bytes; is it text?")


def count_lines(block: bytes) -> int:
    """How many line ends there are."""
    returns = block.count(b"\r")
    return block.count(b"\n") + (returns - block.count(b"\r\n") if returns else 0)


def _expect_text(path: str | Path, block: bytes, line: int) -> None:
    at = block.find(b"\0")
    if at >= 0:
        raise InputError(
            f"{printable(path)}:{line + count_lines(block[:at])}: zero bytes, so it is no text in UTF-8: "
            "save it as UTF-8, or as Parquet."
        )
    if block.isascii():
        return
    try:
        block.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{printable(path)}:{line + count_lines(block[: error.start])}: byte 0x{block[error.start]:02X} is no "
            "UTF-8 text: save the file as UTF-8 (from Latin-1, type: iconv -f latin1 -t utf-8 FILE > NEW)."
        ) from None


def _peek(stream: io.BufferedReader | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile) -> bytes:
    return stream.peek(512)[:512]


class _Recoded:
    """Text of another encoding, read as UTF-8."""

    def __init__(self, stream: Stream, encoding: str) -> None:
        self.stream, self.decoder = stream, codecs.getincrementaldecoder(encoding)()

    def read(self, size: int, /) -> bytes:
        while True:
            raw = self.stream.read(size)
            text = self.decoder.decode(raw, final=not raw)
            if text or not raw:
                return text.removeprefix("\ufeff").encode()
