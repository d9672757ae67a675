"""Which sequences of the yeast assay were measured in one cell (Penzar et al. 2023)."""

from __future__ import annotations

import numpy as np

from prixfixe.tasks.bins import spans

SORTING_BINS = (0.0, 17.0)  # of the assay's cell sorting (Rafi et al. 2024)
SINGLETONS = (0.2, 0.95)  # the share of integers, from and to which they tell singletons from the rest


def is_singleton(expression: np.ndarray) -> np.ndarray:
    """Whether a sequence was measured in one cell, which leaves an integer (Penzar et al. 2023): bool (n,).

    expression: (n,) or (n, tasks), of all that is trained on. None is, where integers do not mean that; see
    `integers_mark_singletons`. An unknown task, NaN, is no integer.
    """
    if not integers_mark_singletons(expression):
        return np.zeros(len(expression), dtype=bool)
    return np.asarray(expression).reshape(-1) == np.round(expression).reshape(-1)


def integers_mark_singletons(expression: np.ndarray) -> bool:
    """Whether the integers among the measurements, (n,) or (n, tasks), are the sequences seen in one cell.

    They are in a cell-sorting assay of one task in the yeast assay's bins, where a share of them is integers that is
    neither next to nothing nor next to all: in the random promoters of Rafi et al. 2024 58 %. Values that are rounded
    to one decimal hold 10 % by chance, means over many cells about 1 % (designed promoters, Vaishnav et al. 2022), and
    rounded to integers all. There the fact would say nothing, or be true of nearly every sequence in training and of
    none at scoring, where nobody knows it.
    """
    values = np.asarray(expression, dtype=np.float64)
    if not len(values) or values.size != len(values) or not np.isfinite(values).all():
        return False
    fewest, most = SINGLETONS
    share = float((values == np.round(values)).mean())
    return fewest <= share <= most and spans(values, SORTING_BINS)


def remark(expression: np.ndarray) -> str | None:
    """That a recipe's channel is_singleton says nothing, where integers do not mean singletons."""
    if not expression.size or integers_mark_singletons(expression):
        return None
    share = float((expression == np.round(expression)).mean())
    return (
        f"recipe.is_singleton: the channel is 0 throughout, since integers ({share:.1%} of the expression) do not tell "
        "sequences seen in one cell here; recipe.is_singleton=false leaves it out"
    )
