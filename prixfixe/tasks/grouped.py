"""Expression scored within groups, such as the people in whom a gene was measured, and then averaged (Drusinsky et al.
2026)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from prixfixe.common.errors import InputError
from prixfixe.tasks.expression import Expression
from prixfixe.tasks.metrics import pearson_r
from prixfixe.tasks.scores import GROUPED, Score
from prixfixe.tasks.task import Scores

if TYPE_CHECKING:
    from prixfixe.contract import TargetSpec
    from prixfixe.data.measurements import Measurements

FEWEST = 3  # rows of a group: of two a correlation is 1 or -1


class GroupedExpression(Expression):
    """Regression of one measurement, scored within each group of rows.

    group: the column of groups. A group of fewer than 3 rows, or in which all were measured alike, has no score; a
    prediction that is constant within a group has no correlation there, and counts as 0.
    """

    name = "grouped_expression"
    scores: ClassVar[tuple[Score, ...]] = GROUPED
    correlated = None  # within groups

    def __init__(self, *, select: str, group: str, bins: dict[str, Any], sorted_into: list[float] | None) -> None:
        super().__init__(select=select, bins=bins, sorted_into=sorted_into)
        self.group = group

    @property
    def columns(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.group,)

    def find(self, train: Measurements, rows: np.ndarray | None) -> TargetSpec:
        if len(train.tasks) > 1:
            raise InputError(f"task grouped_expression takes one measurement, not {', '.join(train.tasks)}")
        if self.group not in train.columns:
            have = ", ".join(train.columns) or "none"
            raise InputError(
                f"task grouped_expression needs the column {self.group} of groups (task.group); the data have {have}, "
                "and dataset.columns names further columns of a table"
            )
        return super().find(train, rows)

    def asks_for_training_rows(self, outputs: Mapping[str, np.ndarray]) -> bool:
        return False

    def score(self, held_out: Measurements, outputs: Mapping[str, np.ndarray]) -> Scores:
        """The means over groups of R2 (scikit-learn's) and Pearson r; `n`: rows, `groups`: how many were scored."""
        each = self.score_each(held_out, outputs)
        means = {}
        for score in self.scores:
            means[score.name] = float(np.mean([own[score.name] for own in each.values()])) if each else np.nan
        return {**means, "n": sum(own["n"] for own in each.values()), "groups": len(each)}

    def score_each(self, held_out: Measurements, outputs: Mapping[str, np.ndarray]) -> dict[str, Scores]:
        from sklearn.metrics import r2_score

        names, group = np.unique(np.asarray(held_out.columns[self.group]), return_inverse=True)
        measured, predicted = np.asarray(held_out.expression), outputs["expression"]
        order = np.argsort(group, kind="stable")
        order = order[~np.isnan(measured[order])]
        ends = np.searchsorted(group[order], np.arange(1, len(names)))
        found = {}
        for name, rows in zip(names.tolist(), np.split(order, ends), strict=True):
            truth, guess = measured[rows], predicted[rows]
            if len(rows) < FEWEST or truth.min() == truth.max():
                continue
            finite, constant = np.isfinite(guess).all(), guess.min() == guess.max()
            found[str(name)] = {
                "r2": float(r2_score(truth, guess)) if finite else np.nan,
                "pearson_r": 0.0 if constant else pearson_r(truth, guess),
                "n": len(rows),
            }
        return found
