"""Sequences of which two models say different things: a Pareto front over how far they differ and how many letters have
changed.

Predictions of each model are standardised by their mean and deviation over random letters at the free positions;
disagreement is the absolute difference of the two. A population from
each start evolves as in method genetic; who lives on is decided by the front that a sequence is on and by how alone it
stands there (NSGA-II, Deb et al. 2002, IEEE Transactions on Evolutionary Computation 6:182).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prixfixe.common.errors import InputError
from prixfixe.inference.constraints import Constraints
from prixfixe.inference.design import Search, Settings, Starts, evolve, final_table, predicted, task_of
from prixfixe.inference.predictor import Predictor

if TYPE_CHECKING:
    import pandas as pd

REFERENCE = 500  # random sequences that predictions are standardised by


def disagreeing(
    model: Predictor, judge: Predictor | None, starts: Starts, limits: Constraints, settings: Settings
) -> pd.DataFrame:
    """The last population of every start: sequence, start, changes, prediction, judge, disagreement, and front, 1 for
    the sequences of which no other differs more with fewer changes. InputError without a judge."""
    if judge is None:
        raise InputError("goal disagreement is between two models: give the second one, --judge RUN")
    if starts.names is None:  # changes are then counted from random sequences
        starts = Starts(starts.rows, [f"random_{row}" for row in range(len(starts.rows))], starts.letters)
    tasks = [
        (model, settings.task),
        (judge, task_of(judge, model.tasks[settings.task] if len(judge.tasks) > 1 else None)),
    ]
    reference = random_rows(starts, limits, settings.rng)
    means, deviations = [], []
    for one, task in tasks:
        values = predicted(one, starts.of(*reference), task, settings.batch_size)[0]
        means.append(values.mean())
        deviations.append(values.std() or 1.0)

    def score(codes: np.ndarray, owner: np.ndarray) -> np.ndarray:
        rows, z = starts.of(codes, owner), []
        for (one, task), mean, deviation in zip(tasks, means, deviations, strict=True):
            z.append((predicted(one, rows, task, settings.batch_size)[0] - mean) / deviation)
        return np.asarray(abs(z[0] - z[1]))

    search = Search(score, starts, limits, settings)
    codes, _ = evolve(search, lambda codes, scores, start: _fitness(scores, (codes != start).sum(axis=1)))
    n, size, length = codes.shape
    owner = np.arange(n).repeat(size)
    table = final_table(search, codes.reshape(-1, length), owner, model, judge, settings.task, settings.batch_size)
    z = [(table[name] - means[i]) / deviations[i] for i, name in enumerate(("prediction", "judge"))]
    table["disagreement"] = (z[0] - z[1]).abs()
    table["front"] = 0
    for row in range(n):
        own = owner == row
        objectives = np.stack([-table["disagreement"][own], table["changes"][own]], axis=1)
        table.loc[own, "front"] = fronts(objectives)
    table["owner"] = owner
    table = table.sort_values(["owner", "front", "changes", "disagreement"]).drop(columns="owner")
    return table.drop_duplicates(["start", "sequence"])


def random_rows(starts: Starts, limits: Constraints, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random letters at the free positions of the starts: uint8 (REFERENCE, L), and int64, whose start each is."""
    owner = np.arange(REFERENCE) % len(starts.rows)
    codes = starts.codes[owner]
    codes[:, limits.free] = rng.choice(len(starts.letters), (REFERENCE, int(limits.free.sum())), p=starts.letters)
    return codes, owner


def fronts(objectives: np.ndarray) -> np.ndarray:
    """The number of each point's front, from 1, of objectives that are to be small: int64 (n,). objectives: (n, m).

    A point is on the first front where no other is at least as good in all objectives and better in one; on the second
    one where that holds without the first front; and so on.
    """
    no_worse = (objectives[:, None] <= objectives[None]).all(axis=2)
    dominates = np.asarray(no_worse & (objectives[:, None] < objectives[None]).any(axis=2))
    front, number = np.zeros(len(objectives), dtype=np.int64), 0
    while len(left := np.flatnonzero(front == 0)):
        number += 1
        front[left[~dominates[np.ix_(left, left)].any(axis=0)]] = number
    return front


def crowding(objectives: np.ndarray) -> np.ndarray:
    """How far the neighbours of each point of a front are apart, over all objectives, each in units of its range: (n,),
    infinite at the ends."""
    distance = np.zeros(len(objectives))
    for values in objectives.T:
        order = np.argsort(values, kind="stable")
        gap = np.full(len(values), np.inf)
        gap[1:-1] = (values[order[2:]] - values[order[:-2]]) / (np.ptp(values) or 1.0)
        distance[order] += gap
    return distance


def _fitness(disagreement: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """Who rather lives on: a lower front first, and within it who stands more alone."""
    objectives = np.stack([-disagreement, changes.astype(float)], axis=1)
    finite = np.isfinite(disagreement)
    fitness = np.full(len(changes), -np.inf)
    front = fronts(objectives[finite])
    own = -front.astype(float)
    for number in np.unique(front):
        rows = front == number
        alone = crowding(objectives[finite][rows])
        own[rows] += np.where(np.isinf(alone), 0.99, alone / (1 + np.where(np.isinf(alone), 0, alone)) * 0.98)
    fitness[finite] = own
    return fitness
