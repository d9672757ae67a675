"""The histories of runs, one row an epoch, as learning curves."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prixfixe.errors import InputError


@dataclass(frozen=True)
class Curve:
    """One run's history: its row, and the values of each column of history.csv, one an epoch, NaN where there is
    none."""

    row: Mapping[str, Any]
    history: Mapping[str, Sequence[float]]


def read_history(file: Path) -> dict[str, list[float]]:
    """The columns of a history.csv; {} where there is none yet. InputError where it is no table of numbers."""
    try:
        with open(file, encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        return {name: [float(row[name] or math.nan) for row in rows] for name in (rows[0] if rows else [])}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        raise InputError(f"{file} is damaged: {error}") from error
