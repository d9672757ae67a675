"""Learning curves of any runs, together."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prixfixe.analysis.history import Curve
from prixfixe.analysis.results import LOWER_IS_BETTER, SCORES
from prixfixe.figures.style import colours, log_ticks, mark_simulated, new_figure, styled


@styled
def learning_curves(curves: Sequence[Curve], score: str) -> Figure:
    """The validation score, the validation KL, and the training loss over the epochs; colour says the core, the best
    run is bold.

    The training losses of different final blocks are on scales of their own (KL, Huber, squared error): compare within
    a final block.
    """
    palette = colours(str(curve.row["core"]) for curve in curves)
    if not any(score in curve.history for curve in curves):
        score = "pearson_r"  # the scores of a test set have no history
    panels = [name for name in dict.fromkeys((score, "kl", "loss")) if any(name in curve.history for curve in curves)]
    figure = new_figure(3.4 * max(len(panels), 1), 3.2)
    best = _best(curves, score)
    for axes, name in zip(figure.subplots(1, max(len(panels), 1), squeeze=False)[0], panels, strict=False):
        for curve in sorted(curves, key=lambda curve: curve is best):
            _draw(axes, curve, name, palette[str(curve.row["core"])], bold=curve is best)
        axes.set_xlabel("epoch")
        axes.grid()
        axes.set_title("training loss" if name == "loss" else f"validation {SCORES.get(name, name)}")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if all(len(curve.history.get(name, ())) <= 1 for curve in curves):
            axes.set_xlim(0, 2)  # one epoch is a point, and needs no scale of hundredths
        values = [v for curve in curves for v in curve.history.get(name, ()) if math.isfinite(v)]
        if name in ("kl", "loss", "mse") and values and 0 < 10 * min(values) < max(values):
            axes.set_yscale("log")
            log_ticks(axes.yaxis)
    mark_simulated(figure, [curve.row for curve in curves])
    handles = [figure.axes[0].plot([], [], color=colour, label=core)[0] for core, colour in palette.items()]
    if best is not None:
        name = " + ".join(str(best.row[slot]) for slot in ("recipe", "first", "core", "final"))
        handles += figure.axes[0].plot([], [], color=palette[str(best.row["core"])], lw=2.5, label=f"best: {name}")
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), fontsize=7, alignment="left")
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


def _best(curves: Sequence[Curve], score: str) -> Curve | None:
    scored = [
        curve for curve in curves if isinstance(curve.row.get(score), int | float) and math.isfinite(curve.row[score])
    ]
    return (min if score in LOWER_IS_BETTER else max)(scored, key=lambda curve: curve.row[score], default=None)
