"""The Pareto front, against the definition tried out on every pair."""

import numpy as np
import pytest

from prixfixe.analysis.costs import COSTS, MORE_IS_CHEAPER, pareto_front
from prixfixe.analysis.results import Row
from prixfixe.common.errors import InputError
from prixfixe.tasks.scores import KL, PEARSON, Score


def random_rows(seed: int) -> list[Row]:
    generator = np.random.default_rng(seed)
    columns = ("pearson_r", "kl", *COSTS)
    # few values, so that there are ties
    return [{"state": "done", "run": str(i)} | {c: float(generator.integers(0, 6)) for c in columns} for i in range(40)]


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("score", [PEARSON, KL])
@pytest.mark.parametrize("seed", range(5))
def test_nothing_on_the_front_is_beaten_and_all_else_is(seed: int, score: Score, cost: str) -> None:
    rows = random_rows(seed)

    def losses(row: Row) -> tuple[float, float]:
        return (
            score.loss(row[score.name]),
            -row[cost] if cost in MORE_IS_CHEAPER else row[cost],
        )

    def beats(a: Row, b: Row) -> bool:
        return all(x <= y for x, y in zip(losses(a), losses(b), strict=True)) and losses(a) != losses(b)

    front = pareto_front(rows, score, cost)
    assert {row["run"] for row in front} == {row["run"] for row in rows if not any(beats(other, row) for other in rows)}
    assert [losses(row)[1] for row in front] == sorted(losses(row)[1] for row in front)


def test_what_is_not_finished_or_not_measured_is_passed_over() -> None:
    done: Row = {"state": "done", "pearson_r": 0.5, "parameters": 100}
    rows = [
        done,
        {**done, "state": "failed", "pearson_r": 0.9},
        {**done, "parameters": None},
        {**done, "pearson_r": None},
    ]
    assert pareto_front(rows, PEARSON, "parameters") == [done]
    assert pareto_front([], PEARSON, "parameters") == []


def test_an_unknown_cost_is_refused_with_the_choices() -> None:
    with pytest.raises(InputError, match="choose parameters, training_seconds"):
        pareto_front([], PEARSON, "price")
