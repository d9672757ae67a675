"""What was measured, as the tables of docs/statistics.md."""

from __future__ import annotations

from typing import Any


def as_markdown(section: dict[str, Any]) -> str:
    """A table of a section of statistics.json: a line a case, shares in per cent."""
    found = section["found"]
    columns = list(dict.fromkeys(name for numbers in found.values() for name in numbers))
    lines = [f"| | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    for case, numbers in found.items():
        lines.append(f"| {case} | {' | '.join(_text(numbers.get(name), name) for name in columns)} |")
    return "\n".join(lines)


def _text(value: float | None, name: str) -> str:
    if value is None:
        return "0 %"  # a word that no change was given
    if name == "width":
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else f"{100 * value:.1f} %"
