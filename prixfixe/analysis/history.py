"""The histories of runs, one row an epoch, as learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Curve:
    """One run's history: its row, and the values of each column of history.csv, one an epoch, NaN where there is
    none."""

    row: Mapping[str, Any]
    history: Mapping[str, Sequence[float]]
