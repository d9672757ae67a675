"""What a score costs: the combinations that no other beats in both."""

from __future__ import annotations

import math
from collections.abc import Iterable

from prixfixe.analysis.results import Row
from prixfixe.common.errors import InputError
from prixfixe.tasks.scores import Score

COSTS = {
    "parameters": "parameters",
    "training_seconds": "time to train",
    "gpu_memory_bytes": "GPU memory",
    "inference_per_second": "sequences a second at prediction",
}
MORE_IS_CHEAPER = {"inference_per_second"}


def pareto_front(rows: Iterable[Row], score: Score, cost: str) -> list[Row]:
    """The finished rows that no other beats in both score and cost, cheapest first.

    A row is beaten where another is at least as good in both and better in one; equals stay together. Rows without
    either number are passed over. cost: one of COSTS, where a higher inference rate is cheaper. Raises InputError for
    another one.
    """
    if cost not in COSTS:
        raise InputError(f"no such cost: {cost}; choose {', '.join(COSTS)}")
    finished = [
        row for row in rows if row["state"] == "done" and row.get(score.name) is not None and row.get(cost) is not None
    ]
    points = []
    for row in finished:
        price = -row[cost] if cost in MORE_IS_CHEAPER else row[cost]
        points.append((price, score.loss(row[score.name]), row))
    front: list[Row] = []
    best, price_of_best = math.inf, math.inf
    for price, loss, row in sorted(points, key=lambda point: point[:2]):
        if loss < best or (loss, price) == (best, price_of_best):
            best, price_of_best = loss, price
            front.append(row)
    return front
