"""Combinations laid out as a grid of two slots down and two across, as in Rafi et al. 2024, Fig. 2b."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from prixfixe.analysis.results import Row
from prixfixe.runs.folder import SLOTS
from prixfixe.tasks.scores import Score

SYMBOLS = {"failed": "×", "missing": "–", "running": "…", "stopped": "‖", "no score": "?"}  # noqa: RUF001


@dataclass(frozen=True)
class Cell:
    """One combination. `row` is the one shown: the best of those given where several (variants, sweeps) fall on it."""

    row: Row
    value: float | None
    state: str
    digits: int = 3

    @property
    def text(self) -> str:
        if self.value is None:
            return SYMBOLS[self.state]
        return f"{self.value:.{self.digits}f}" if abs(self.value) < 10 else f"{self.value:.3g}"


@dataclass(frozen=True)
class Grid:
    """rows: (core, first), columns: (recipe, final); cells by (row number, column number), none for what no row
    names."""

    rows: list[tuple[str, str]]
    columns: list[tuple[str, str]]
    cells: dict[tuple[int, int], Cell]

    @property
    def major_rows(self) -> list[tuple[str, int, int]]:
        return _major(self.rows)

    @property
    def major_columns(self) -> list[tuple[str, int, int]]:
        return _major(self.columns)

    @property
    def states(self) -> set[str]:
        return {cell.state for cell in self.cells.values() if cell.value is None}


def lay_out(rows: Sequence[Row], score: Score) -> Grid:
    """The grid of all cores, firsts, recipes and finals that occur, each in alphabetical order, with one score.

    Rows whose choices are not known (a damaged folder's) have no place in it.
    """
    rows = [row for row in rows if all(row[slot] is not None for slot in SLOTS)]
    downs = [(core, first) for core in _choices(rows, "core") for first in _choices(rows, "first")]
    acrosses = [(recipe, final) for recipe in _choices(rows, "recipe") for final in _choices(rows, "final")]
    groups: dict[tuple[int, int], list[Row]] = {}
    for row in rows:
        place = (
            downs.index((str(row["core"]), str(row["first"]))),
            acrosses.index((str(row["recipe"]), str(row["final"]))),
        )
        groups.setdefault(place, []).append(row)
    return Grid(downs, acrosses, {place: _cell(group, score) for place, group in groups.items()})


def _cell(group: Sequence[Row], score: Score) -> Cell:
    scored = [row for row in group if row["state"] == "done" and _finite(row.get(score.name))]
    if scored:
        best = min(scored, key=lambda row: score.loss(row[score.name]))
        return Cell(best, float(best[score.name]), "done", score.digits)
    row = group[0]
    state = row["state"] if row["state"] in SYMBOLS else "no score"
    return Cell(row, None, state, score.digits)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _choices(rows: Sequence[Row], slot: str) -> list[str]:
    return sorted({str(row[slot]) for row in rows})


def _major(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, int, int]]:
    """(name, first number, last number) of each run of equal majors."""
    spans = []
    for name, group in groupby(enumerate(pairs), key=lambda item: item[1][0]):
        numbers = [number for number, _ in group]
        spans.append((name, numbers[0], numbers[-1]))
    return spans
