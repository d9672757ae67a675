"""What a score costs: parameters, training time, inference rate, with the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from prixfixe.analysis.costs import pareto_front
from prixfixe.analysis.results import Row
from prixfixe.figures.style import colours, legend, log_ticks, mark_simulated, markers, new_figure, styled
from prixfixe.runs.folder import SLOTS
from prixfixe.tasks.scores import Score

AXES = {
    "parameters": "trainable parameters",
    "training_seconds": "training time (s)",
    "inference_per_second": "inference rate (sequences/s)",
}
DIRECTIONS = ((-0.7, 0.7), (0, 1), (-1, 0), (0.7, 0.7), (1, 0), (0, -1), (0.7, -0.7), (-0.7, -0.7))
OFFSETS = [(distance * x, distance * y) for distance in (9, 14, 20, 27) for x, y in DIRECTIONS]  # points


@styled
def cost_scatter(rows: Sequence[Row], score: Score) -> Figure:
    """One panel a cost: colour says the core, marker the recipe; the Pareto front is drawn, numbered, and named
    below."""
    costs = {cost: [row for row in rows if row["state"] == "done" and _given(row, score.name, cost)] for cost in AXES}
    costs = {cost: drawn for cost, drawn in costs.items() if drawn}
    fronts = {cost: list(pareto_front(drawn, score, cost)) for cost, drawn in costs.items()}
    cores, recipes = colours(row["core"] for row in rows), markers(row["recipe"] for row in rows)
    longest = max((len(front) for front in fronts.values()), default=0)
    figure = new_figure(3.6 * max(len(costs), 1), 3.4 + 0.15 * longest)
    panels = figure.subplots(1, max(len(costs), 1), squeeze=False, sharey=True)[0]
    for axes, (cost, drawn) in zip(panels, costs.items(), strict=False):
        front = sorted(fronts[cost], key=lambda row: row[cost])
        for row in drawn:
            axes.plot(
                row[cost], row[score.name], recipes[row["recipe"]],
                color=cores[row["core"]], ms=4.5, mec="white", mew=0.4, alpha=0.9, zorder=3,
            )  # fmt: skip
        axes.plot(
            [row[cost] for row in front], [row[score.name] for row in front], color="#333333", lw=1, ls="--", zorder=2
        )
        axes.set_xscale("log")
        axes.set_xlabel(AXES[cost])
        axes.grid()
        axes.margins(0.08)
        log_ticks(axes.xaxis)
        lines = [f"{i}  {' + '.join(str(row[slot]) for slot in SLOTS)}" for i, row in enumerate(front, 1)]
        below = {"transform": axes.transAxes, "va": "top", "fontsize": 6, "linespacing": 1.35}
        axes.text(0, -0.2, "\n".join(["Pareto front", *lines]), **below)
    panels[0].set_ylabel(score.label + ("" if score.higher_is_better else " (lower is better)"))
    if not score.higher_is_better:
        panels[0].invert_yaxis()
    mark_simulated(figure, rows)
    shapes = [Line2D([], [], marker=one, color="#555555", ls="", label=name) for name, one in recipes.items()]
    legend(figure, cores, shapes, title="colour: core, marker: recipe", marker="o", ls="")
    figure.draw_without_rendering()
    for axes, (cost, drawn) in zip(panels, costs.items(), strict=False):
        _number_points(axes, sorted(fronts[cost], key=lambda row: row[cost]), drawn, cost, score)
    return figure


def _given(row: Row, *columns: str) -> bool:
    values = [row.get(column) for column in columns]
    numbers = [value for value in values if isinstance(value, int | float) and math.isfinite(value)]
    return len(numbers) == len(columns) and numbers[-1] > 0


def _number_points(axes: Axes, front: Sequence[Row], drawn: Sequence[Row], cost: str, score: Score) -> None:
    """Numbers each point of the front at the first place near it that is free of points and of other numbers."""
    points = [axes.transData.transform((row[cost], row[score.name])) for row in drawn]
    ends = [axes.transData.transform((row[cost], row[score.name])) for row in front]
    points += [start + share * (end - start) for start, end in pairwise(ends) for share in np.linspace(0, 1, 20)]
    taken: list[Bbox] = []
    for number, row in enumerate(front, 1):
        x, y = axes.transData.transform((row[cost], row[score.name]))
        scale = axes.figure.dpi / 72
        boxes = [(offset, _box(x + offset[0] * scale, y + offset[1] * scale, 5 * scale)) for offset in OFFSETS]
        free = [(offset, box) for offset, box in boxes if not any(box.overlaps(other) for other in taken)]
        offset, box = min(
            free or boxes, key=lambda item: (sum(item[1].contains(*point) for point in points), boxes.index(item))
        )
        taken.append(box)
        far = offset not in OFFSETS[: len(DIRECTIONS)]
        axes.annotate(
            str(number), (row[cost], row[score.name]), offset,
                textcoords="offset points", ha="center", va="center", fontsize=7, weight="bold",
            zorder=5, arrowprops={"arrowstyle": "-", "lw": 0.5, "shrinkA": 3, "shrinkB": 2} if far else None,
        )  # fmt: skip


def _box(x: float, y: float, half: float) -> Bbox:
    return Bbox([[x - half, y - half], [x + half, y + half]])
