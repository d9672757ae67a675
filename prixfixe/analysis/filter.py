"""Which rows and columns of a comparison are shown, and in which order."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from prixfixe.analysis.results import (
    COLUMNS,
    EVALUATION_COLUMNS,
    SCORES,
    SO_FAR_COLUMNS,
    Results,
    Row,
    by_seeds,
    is_number,
    is_of_a_part,
    mean_row,
)
from prixfixe.common.errors import InputError
from prixfixe.runs.folder import SLOTS

HIGHER_FIRST = {score for score in SCORES if score not in ("kl", "mse")} | {
    *("samples_per_second", "inference_per_second", "epoch", "n", "seeds", "pearson_r_so_far", "spearman_rho_so_far"),
}
GROUPS = {
    "slots": SLOTS,
    "scores": ("kl", "pearson_r", "spearman_rho", "mse"),
    "weighted": ("pearson_score", "spearman_score"),
    "costs": ("parameters", "samples_per_second", "training_seconds", "inference_per_second", "gpu_memory_bytes"),
}
SUBSETS = "subsets"  # the group of the columns that only evaluated runs have
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}


@dataclass(frozen=True)
class Condition:
    """`column` compared with one of `values`: core=bilstm,proformer or pearson_r>0.5."""

    column: str
    compare: str
    values: tuple[Any, ...]

    def holds(self, row: Row) -> bool:
        value = row.get(self.column)
        if isinstance(value, bool):
            value = str(value).lower()
        if value is None:
            return self.compare == "!=" or (self.compare in ("=", "==") and "none" in self.values)
        compare = OPERATORS[self.compare]
        if self.compare == "!=":
            return all(compare(value, wanted) for wanted in self.values)
        return any(compare(value, wanted) for wanted in self.values)


def parse_condition(text: str, present: Collection[str] = ()) -> Condition:
    """Raises InputError for what is no condition, an unknown column, or a number's column compared with a word.

    present: further columns that the rows have, such as those of tasks.
    """
    match = re.fullmatch(r"\s*([A-Za-z_]\w*|(?:r|rho)_.+?)\s*(>=|<=|!=|==|>|<|=)\s*(.+?)\s*", text)
    if match is None:
        raise InputError(
            f"--where {text!r} is no condition; write one such as core=bilstm,proformer or 'pearson_r>0.5' (=, "
            "!=, >, <, >=, <=)"
        )
    column, compare, value = match.groups()
    known_column(column, "--where", present=present)
    values: list[Any] = (
        [part.strip() for part in value.split(",")] if "=" in compare and compare not in (">=", "<=") else [value]
    )
    if is_number(column) or column in ("seed", "seeds"):
        try:
            values = [word if word == "none" else float(word) for word in values]
        except ValueError:
            raise InputError(f"--where {text!r}: {column} is a number, and {value!r} is none") from None
    return Condition(column, compare, tuple(values))


def known_column(name: str, option: str, *more: str, present: Collection[str] = ()) -> str:
    """The name, where a row has such a column; InputError with the choices where not."""
    known = [*COLUMNS, "seeds", *EVALUATION_COLUMNS, *SO_FAR_COLUMNS, *present]
    if name not in (*known, *more):
        choices = ", ".join([*more, *COLUMNS, "seeds", *SO_FAR_COLUMNS, *EVALUATION_COLUMNS])
        parts = list(dict.fromkeys(part.partition("_")[2] for part in present if is_of_a_part(part)))
        evaluated = f"r_ and rho_ of {', '.join(parts)}" if parts else "r_ and rho_ once the runs are evaluated"
        raise InputError(f"{option}: there is no column {name}; choose among {choices} ({evaluated})")
    return name


def keep(results: Results, conditions: Sequence[Condition]) -> Results:
    """The runs for which every condition holds. Numbers are those of a combination, averaged over its seeds, so that
    no combination is kept for its lucky seed. InputError where none is left."""
    if not conditions:
        return results
    of_runs = [condition for condition in conditions if not is_number(condition.column) and condition.column != "seeds"]
    of_means = [condition for condition in conditions if condition not in of_runs]
    kept = Results([row for row in results.rows if all(condition.holds(row) for condition in of_runs)], results.damaged)
    if of_means:
        good = [rows for rows in by_seeds(kept.rows) if all(condition.holds(mean_row(rows)) for condition in of_means)]
        chosen = {row["run"] for rows in good for row in rows}
        kept = Results([row for row in kept.rows if row["run"] in chosen], results.damaged)
    if not kept.rows:
        raise InputError(f"none of {len(results.rows)} runs is left by --where")
    return kept


def sort_rows(rows: Sequence[Row], column: str) -> list[Row]:
    """The best or the least first, texts by the alphabet, what has no value last; otherwise the order stays."""

    def key(row: Row) -> tuple[Any, ...]:
        value = row.get(column)
        if value is None:
            return (True,)
        return (False, -value if column in HIGHER_FIRST or is_of_a_part(column) else value)

    return sorted(rows, key=key)


def chosen_columns(text: str, present: Collection[str] = ()) -> list[str]:
    """`core,pearson_r,costs` as column names; the groups are slots, scores, weighted, subsets (the r and rho of
    each), costs.

    present: further columns that the rows have, such as those of tasks.
    """
    columns: list[str] = []
    for name in (part.strip() for part in text.split(",")):
        if name:
            if name == SUBSETS:
                columns += filter(is_of_a_part, present)
            else:
                columns += GROUPS.get(name) or (known_column(name, "--columns", *GROUPS, SUBSETS, present=present),)
    return list(dict.fromkeys(columns))
