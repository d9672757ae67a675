"""Learning curves of any runs, together."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from prixfixe.analysis.results import Curve
from prixfixe.figures.style import colours, legend, log_ticks, mark_simulated, new_figure, styled
from prixfixe.runs.folder import SLOTS
from prixfixe.tasks.scores import Score


@styled
def learning_curves(curves: Sequence[Curve], scores: Sequence[Score]) -> Figure:
    """The validation scores and the training loss over the epochs; colour says the core, the best run by the first
    score is bold.

    The training losses of different final blocks are on scales of their own (KL, Huber, squared error): compare within
    a final block.
    """
    palette = colours(str(curve.row["core"]) for curve in curves)
    named = {score.name: score for score in scores}
    loss = "training_loss" if any("training_loss" in curve.history for curve in curves) else "loss"
    panels = [name for name in dict.fromkeys((*named, loss)) if any(name in curve.history for curve in curves)]
    figure = new_figure(3.4 * max(len(panels), 1), 3.2)
    best = _best(curves, scores[0])
    for axes, name in zip(figure.subplots(1, max(len(panels), 1), squeeze=False)[0], panels, strict=False):
        for curve in sorted(curves, key=lambda curve: curve is best):
            _draw(axes, curve, name, palette[str(curve.row["core"])], bold=curve is best)
        score = named.get(name)
        axes.set_xlabel("epoch")
        axes.grid()
        axes.set_title("training loss" if score is None else f"validation {score.label}")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if all(len(curve.history.get(name, ())) <= 1 for curve in curves):
            axes.set_xlim(0, 2)  # one epoch is a point, and needs no scale of hundredths
        values = [v for curve in curves for v in curve.history.get(name, ()) if math.isfinite(v)]
        if (score is None or not score.higher_is_better) and values and 0 < 10 * min(values) < max(values):
            axes.set_yscale("log")
            log_ticks(axes.yaxis)
    mark_simulated(figure, [curve.row for curve in curves])
    bold = []
    if best is not None:
        name = " + ".join(str(best.row[slot]) for slot in SLOTS)
        bold.append(Line2D([], [], color=palette[str(best.row["core"])], lw=2.5, label=f"best: {name}"))
    legend(figure, palette, bold)
    return figure


def _draw(axes: Axes, curve: Curve, name: str, colour: str, bold: bool) -> None:
    if name not in curve.history:
        return
    epochs = curve.history.get("epoch") or range(1, len(curve.history[name]) + 1)
    marker = "o" if len(curve.history[name]) == 1 else ""
    axes.plot(
        epochs, curve.history[name], marker=marker, color=colour, ms=6 if bold else 3,
        lw=2.5 if bold else 0.7, alpha=1.0 if bold else 0.55, zorder=4 if bold else 3,
    )  # fmt: skip


def _best(curves: Sequence[Curve], score: Score) -> Curve | None:
    values = [(curve.row.get(score.name), curve) for curve in curves]
    scored = [(value, curve) for value, curve in values if isinstance(value, int | float) and math.isfinite(value)]
    return min(scored, key=lambda pair: score.loss(pair[0]), default=(None, None))[1]
