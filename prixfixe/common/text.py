"""Text that came from elsewhere (names, reasons, columns, files), made fit for a terminal, a line, a spreadsheet's
cell."""

from __future__ import annotations

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the beginning of a formula


def printable(value: object, limit: int = 2000) -> str:
    """A value as one line of visible characters: others stand as Python writes them, `\\x1b`, `\\n`, `\\u202e`.

    A terminal then neither obeys nor hides any of it. Text of more than `limit` characters ends with `...`.
    """
    text = str(value)
    text = text if len(text) <= limit else text[:limit] + "..."
    return text if text.isprintable() else "".join(map(_visible, text))


def printable_lines(value: object, limit: int = 1_000_000) -> str:
    """The same for text that may have several lines, which stay. Text of more than `limit` characters is cut."""
    text = str(value)
    text = text if len(text) <= limit else text[:limit] + "..."
    return "\n".join(printable(line) for line in text.split("\n"))


def csv_text(value: str) -> str:
    """A cell of text for CSV: a `'` in front where a spreadsheet would take it for a formula. Numbers are not its
    business."""
    return f"'{value}" if value.startswith(FORMULA) else value


def csv_cell(value: object) -> object:
    """Any value as a cell of CSV: text in one line of visible characters, as `csv_text`; anything else as it is."""
    return csv_text(printable(value, 100_000)) if isinstance(value, str) else value


def _visible(character: str) -> str:
    """Controls, invisible and direction marks, lone surrogates, line ends and odd spaces by their number."""
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def counted(number: int, noun: str, ending: str = "s") -> str:
    """1 row, 2,000 rows. ending: of the plural."""
    return f"{number:,} {noun}{'' if number == 1 else ending}"
