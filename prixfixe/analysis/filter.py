"""Which rows and columns of a comparison are shown, and in which order."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from prixfixe.analysis.results import COSTS, OF_FOLDS, SO_FAR, Results, Row, averages, is_number
from prixfixe.common.errors import InputError
from prixfixe.runs.folder import SLOTS

MORE_IS_BETTER = {"samples_per_second", "inference_per_second", "epoch", "n", "seeds", "folds"}  # beside the scores
KINDS = ("scores", "tasks", "tests", "weighted", "subsets")  # of scores, as `Results.of_kind` knows them
GROUPS = {"slots": SLOTS, "costs": COSTS}
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
        compare, every = OPERATORS[self.compare], all if self.compare == "!=" else any
        return every(compare(str(value) if isinstance(wanted, str) else value, wanted) for wanted in self.values)


def parse_condition(text: str, results: Results) -> Condition:
    """Raises InputError for what is no condition, an unknown column, or a number's column compared with a word.

    results: which columns there are.
    """
    match = re.fullmatch(r"\s*([A-Za-z_].*?)\s*(>=|<=|!=|==|>|<|=)\s*(.+?)\s*", text)
    if match is None:
        raise InputError(
            f"--where {text!r} is no condition; write one such as core=bilstm,proformer or 'pearson_r>0.5' (=, "
            "!=, >, <, >=, <=)"
        )
    column, compare, value = match.groups()
    known_column(column, "--where", results)
    values: list[Any] = (
        [part.strip() for part in value.split(",")] if "=" in compare and compare not in (">=", "<=") else [value]
    )
    if is_number(column, results.scores) or column == "seed":
        try:
            values = [word if word == "none" else float(word) for word in values]
        except ValueError:
            raise InputError(f"--where {text!r}: {column} is a number, and {value!r} is none") from None
    return Condition(column, compare, tuple(values))


def known_column(name: str, option: str, results: Results, *more: str) -> str:
    """The name, where the rows have such a column; InputError with the choices where not."""
    known = dict.fromkeys((*more, *results.columns, "seeds", "folds", *OF_FOLDS))
    if name not in known:
        evaluated = "" if results.of_kind("subsets") else " (r_ and rho_ of subsets once the runs are evaluated)"
        raise InputError(f"{option}: there is no column {name}; choose among {', '.join(known)}{evaluated}")
    return name


def keep(results: Results, conditions: Sequence[Condition]) -> Results:
    """The runs for which every condition holds. Numbers are those of a combination, averaged over its seeds and folds,
    so that none is kept for its lucky seed, or its easy folds alone. InputError where none is left."""
    if not conditions:
        return results
    of_means = [one for one in conditions if is_number(one.column, results.scores) or one.column in OF_FOLDS]
    of_runs = [condition for condition in conditions if condition not in of_means]
    kept = replace(results, rows=[row for row in results.rows if all(one.holds(row) for one in of_runs)])
    if of_means:
        good = [rows for rows, mean in averages(kept)[0] if all(one.holds(mean) for one in of_means)]
        chosen = {row["run"] for rows in good for row in rows}
        kept = replace(kept, rows=[row for row in kept.rows if row["run"] in chosen])
    if not kept.rows:
        raise InputError(f"none of {len(results.rows)} runs is left by --where")
    return kept


def sort_rows(results: Results, column: str) -> Results:
    """The best or the least first, texts by the alphabet, what has no value last; otherwise the order stays."""
    score = results.scores.get(column.removesuffix(SO_FAR))
    turned = column in MORE_IS_BETTER if score is None else score.higher_is_better

    def key(row: Row) -> tuple[Any, ...]:
        value = row.get(column)
        if value is None:
            return (True,)
        return (False, -value if turned else value)

    return replace(results, rows=sorted(results.rows, key=key))


def chosen_columns(text: str, results: Results) -> list[str]:
    """`core,pearson_r,costs` as column names; the groups are slots, costs and KINDS."""
    columns: list[str] = []
    for name in (part.strip() for part in text.split(",")):
        if name in KINDS:
            columns += results.of_kind(name)
        elif name:
            columns += GROUPS.get(name) or (known_column(name, "--columns", results, *GROUPS, *KINDS),)
    return list(dict.fromkeys(columns))
