"""How many of what, in words."""

from __future__ import annotations


def counted(number: int, noun: str, ending: str = "s") -> str:
    """1 row, 2,000 rows. ending: of the plural."""
    return f"{number:,} {noun}{'' if number == 1 else ending}"
