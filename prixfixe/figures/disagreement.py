"""How far two models differ for how many changes (Pareto fronts), and how far the mutagenesis maps of runs agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from prixfixe.common.text import printable
from prixfixe.figures.style import GREY, OKABE_ITO, mark_simulated, new_figure, styled

if TYPE_CHECKING:
    import pandas as pd

MOST_NAMED = 8  # starts with a colour of their own


@styled
def draw_front(table: pd.DataFrame, *, simulated: bool = False) -> Figure:
    """Disagreement over changes, of the table of `prixfixe design --goal disagreement`: every start's front as a line,
    later fronts in grey."""
    figure = new_figure(4.6, 3.2)
    axes = figure.subplots()
    later = table[table["front"] > 1]
    axes.plot(later["changes"], later["disagreement"], ".", color=GREY, ms=3, alpha=0.5, label="later fronts")
    starts = list(dict.fromkeys(table["start"]))
    for number, start in enumerate(starts):
        front = table[(table["start"] == start) & (table["front"] == 1)].sort_values("changes")
        label = printable(start, 24) if number < MOST_NAMED else None
        colour = OKABE_ITO[number % len(OKABE_ITO)]
        (line,) = axes.plot(front["changes"], front["disagreement"], "o-", color=colour, ms=3, lw=1, label=label)
        line.set_drawstyle("steps-post")
    axes.set_xlabel("letters changed from the start")
    axes.set_ylabel("difference of the two models (s.d.)")
    axes.grid()
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), title="Pareto front of")
    mark_simulated(figure, [{"simulated": simulated}])
    return figure


@styled
def draw_agreement(
    names: Sequence[str], each: Sequence[tuple[str, str, np.ndarray]], *, simulated: bool = False
) -> Figure:
    """How far the mutagenesis maps of runs agree: a histogram of Pearson r over sequences for each pair of runs, as a
    triangle. names: of the runs. each: of every pair, the two names and r, (n,), NaN where a map is constant."""
    size = len(names) - 1
    figure = new_figure(2.1 * size + 0.6, 1.7 * size + 0.6)
    panels = figure.subplots(size, size, squeeze=False, sharex=True, sharey=True)
    found = {(a, b): r[np.isfinite(r)] for a, b, r in each}
    low = min((float(r.min()) for r in found.values() if len(r)), default=0.0)
    bins = np.linspace(min(np.floor(low * 10) / 10, 0.0), 1, 25)
    for row in range(size):
        for column in range(size):
            axes = panels[row, column]
            if column > row:
                axes.set_axis_off()
                continue
            first, second = names[column], names[row + 1]
            r = found[first, second]
            axes.hist(r, bins=bins, color=OKABE_ITO[0])
            if len(r):
                axes.axvline(r.mean(), color=OKABE_ITO[1], lw=1.2)
                axes.set_title(f"mean {r.mean():.2f}", fontsize=8)
            if column == 0:
                axes.set_ylabel(f"{printable(second, 24)}\nsequences")
            if row == size - 1:
                axes.set_xlabel(f"Pearson r with\n{printable(first, 24)}")
    mark_simulated(figure, [{"simulated": simulated}])
    return figure
