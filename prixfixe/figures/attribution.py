"""Attributions as logos: letters as high as what they add, below zero what they take away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from prixfixe.common.text import printable
from prixfixe.figures.mutagenesis import INCHES_A_BASE, NARROWEST, WIDEST, draw_logo
from prixfixe.figures.style import mark_simulated, new_figure, styled

if TYPE_CHECKING:
    from prixfixe.inference.attribution import Attribution

ROW_HEIGHT = 1.2


@styled
def draw_attributions(
    results: Sequence[tuple[str, Attribution]], tasks: Sequence[str], *, simulated: bool = False
) -> Figure:
    """One row a sequence and task."""
    rows = [(name, one, task) for name, one in results for task in range(len(tasks))]
    longest = max(len(one.letters) for _, one, _ in rows)
    figure = new_figure(min(max(NARROWEST, 1.2 + INCHES_A_BASE * longest), WIDEST), ROW_HEIGHT * len(rows) + 0.4)
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for logo, (name, one, task) in zip(axes, rows, strict=True):
        draw_logo(logo, one.letters, one.attribution()[:, task])
        label = f"{printable(name, 60)}  {printable(tasks[task], 60)}" if len(tasks) > 1 else printable(name, 80)
        logo.set_title(f"{label}: predicted {one.prediction[task]:.3g}")
        logo.set_ylabel("adds")
        logo.set_xlim(-0.5, longest - 0.5)
    axes[-1].tick_params(labelbottom=True)
    axes[-1].set_xlabel("position, from 0")
    mark_simulated(figure, [{"simulated": simulated}])
    return figure
