"""lentiMPRA (Agarwal et al. 2025): inserts of 200 nt between two adapters, most of them in both orientations, measured
in human cells; its tables in the three forms in which they are public."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from prixfixe.common.errors import InputError
from prixfixe.common.text import counted, printable
from prixfixe.data.datasets import Table
from prixfixe.data.flanks import ends_with, starts_with
from prixfixe.data.measurements import Measurements

ADAPTERS = ("AGGACCGGATCAACT", "CATTGCGTGAACCGA")  # left and right of every insert, whatever its orientation
IDS, REPEATED = "seq_id", "rev"  # columns, by their names in the forms that have names
ORDER = "LegNet's columns are ids, sequences, measurements, fold and rev, in this order"
TORN = 1  # counts up when what is counted as torn changes


class Lentimpra(Table):
    """A table of lentiMPRA: `seq_id seq mean_value fold` (Rafi et al. 2024), `seq_id chromosome start end strand seq
    expression averaged_expression fold` without adapters (MPRA-MNIST), or five columns in the order of ids, sequences,
    measurements, folds and `rev` under any names (LegNet).

    A reversed insert stands as its reverse complement between the same adapters. Of LegNet's form, rows whose `rev` is
    not 0 are left out, as its loader does. How many rows lack the adapters, and how many are in another fold than their
    insert's other orientation, is said; adapters that would be there twice are refused.
    """

    def _read(
        self, path: str, fold: str | bool | None = None, columns: Mapping[str, Any] | None = None
    ) -> tuple[Measurements, str]:
        """The table's rows, whatever its form; what is wrong with its construct and its folds is in the remarks."""
        columns, by_position = _columns(path, columns or self.columns)
        measurements, content = super()._read(path, by_position if fold is True and by_position else fold, columns)
        said, left_out = [*measurements.remarks], 0
        repeated = measurements.columns.get(REPEATED)
        if repeated is not None:
            own = np.flatnonzero(np.asarray(repeated) == 0)
            if not len(own):
                raise InputError(
                    f"{printable(path)}: no row is left: rev is 0 in none of {counted(len(measurements), 'row')}; "
                    f"{ORDER}: are columns 4 and 5 swapped?"
                )
            if left_out := len(measurements) - len(own):
                said.append(
                    f"{left_out:,} of {counted(len(measurements), 'row')} of {printable(path)} left out, as LegNet's "
                    "own loader does: their rev is not 0"
                )
                measurements = measurements[own]
            others = {name: column for name, column in measurements.columns.items() if name != REPEATED}
            measurements = replace(measurements, columns=others)
        reverse = measurements.columns.get("is_reverse")
        if reverse is not None and not left_out and not np.asarray(reverse).any():
            said.append(f"no row of {printable(path)} is a reversed insert by its id (..._R, ..._Reversed:)")
        said += self._adapters_said(measurements, path)
        said += self._torn_said(measurements, content, path)
        return replace(measurements, remarks=tuple(said)), content

    def _adapters_said(self, measurements: Measurements, path: str) -> list[str]:
        left, right = ADAPTERS
        there = starts_with(measurements.sequences, left) & ends_with(measurements.sequences, right)
        lacking = len(there) - int(there.sum())
        rows = counted(len(there), "row")
        if any(self.flanks):
            if lacking < len(there):
                raise InputError(
                    f"{len(there) - lacking:,} of {rows} of {printable(path)} carry the adapters {left} and {right} "
                    "already: leave out dataset.flanks, which would put them there twice"
                )
            return []
        if not lacking:
            return []
        advice = f"; 'dataset.flanks=[{left},{right}]' puts them around inserts" if lacking == len(there) else ""
        return [f"{lacking:,} of {rows} of {printable(path)} lack the adapters {left} and {right}{advice}"]

    def _torn_said(self, measurements: Measurements, content: str, path: str) -> list[str]:
        """How many rows the table's own folds part from their insert's other orientation."""
        from prixfixe.data.prepared import remembered
        from prixfixe.data.splits import torn_rows

        if measurements.fold is None:
            return []
        key = {"torn": TORN, "content": content, "columns": self.columns, "fold": self.fold_column}
        torn = remembered(key, lambda: {"rows": int(torn_rows(measurements).sum())})["rows"]
        if not torn:
            return []
        return [
            f"{torn:,} of {counted(len(measurements), 'row')} of {printable(path)} are in another fold than their "
            "insert's other orientation, or a window that overlaps; dataset.folds=10 makes folds that part none"
        ]


def _columns(path: str, asked: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """The columns of a table, as `prepare` takes them, and that of its folds where it is known by its position alone.

    Where no column is named seq or sequence, nor asked for by its name, four or five are taken in LegNet's order.
    """
    from prixfixe.data.tables import SEQUENCE_NAMES, first_row

    names, has_header = first_row(path)
    if not has_header:
        raise InputError(
            f"{printable(path)} has no header: lentiMPRA tables begin with the names of their columns, such as {IDS}, "
            "seq, mean_value, fold"
        )
    columns, sources = dict(asked), dict(asked.get("columns") or {})
    fold, ids, repeated = None, IDS, REPEATED if REPEATED in names else None
    named = asked["sequence"] is not None or any(name.lower() in SEQUENCE_NAMES for name in names)
    if not named and len(names) in (4, 5):
        ids, columns["sequence"], value, fold, *rest = names
        if fold.lower() == REPEATED:
            raise InputError(f"{printable(path)}: column 4 is named {fold}, and {ORDER}: put the folds there")
        columns["expression"] = asked["expression"] or value
        repeated = rest[0] if rest else None
    if repeated is not None:
        sources[REPEATED] = {"column": repeated, "kind": "number"}
    for name, source in sources.items():
        if isinstance(source, Mapping) and source.get("column") == IDS:
            sources[name] = {**source, "column": ids}
    return {**columns, "columns": sources}, fold
