"""The grid as a heat map, laid out as in Rafi et al. 2024, Fig. 2b."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from prixfixe.analysis.grid import SYMBOLS, Grid, lay_out
from prixfixe.analysis.results import Row
from prixfixe.figures.style import GREY, ink, mark_simulated, new_figure, styled
from prixfixe.tasks.scores import Score

NO_SCORE = "#c9c9c9"


@styled
def heat_map(rows: Sequence[Row], score: Score) -> Figure:
    """Core in major rows, recipe in major columns, first in minor rows, final in minor columns; brighter is better.

    Cells without a score are grey, with a symbol that the figure explains; combinations that no row names are left
    white.
    """
    grid = lay_out(rows, score)
    down, across = len(grid.rows), len(grid.columns)
    width, height = min(0.5 * across, 14.0), min(0.3 * down, 14.0)
    figure = new_figure(width + 3.2, height + 1.9)
    axes = figure.subplots()
    values = np.full((down, across), np.nan)
    for place, cell in grid.cells.items():
        values[place] = math.nan if cell.value is None else cell.value
    colour_map, norm = colour_scale(values[np.isfinite(values)], score)
    image = axes.imshow(np.ma.masked_invalid(values), cmap=colour_map, norm=norm, aspect="auto")
    # points: five characters fit into a cell's width
    size = min(7.0, 72 * width / across / 3.4, 72 * height / down / 1.5)
    for (i, j), cell in grid.cells.items():
        if cell.value is None:
            axes.add_patch(matplotlib.patches.Rectangle((j - 0.5, i - 0.5), 1, 1, color=NO_SCORE, lw=0))
        if size >= 3.5:
            colour = "#222222" if cell.value is None else ink(colour_map(norm(cell.value)))
            weight = "bold" if cell.value is None else None
            axes.text(j, i, cell.text, ha="center", va="center", fontsize=size, color=colour, weight=weight)
    _label(figure, axes, grid)
    mark_simulated(figure, rows)
    bar = figure.colorbar(image, ax=axes, shrink=min(1.0, 2.5 / height), aspect=16, pad=0.02)
    log = ", log scale" if isinstance(norm, LogNorm) else ""
    bar.set_label(f"{score.label} ({score.direction} is better{log})")
    bar.outline.set_visible(False)
    if isinstance(norm, LogNorm):
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
        bar.ax.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        bar.ax.yaxis.set_minor_locator(NullLocator())
    if not score.higher_is_better:
        bar.ax.invert_yaxis()  # the best is on top, in every heat map
    without = [state for state in SYMBOLS if state in grid.states]
    if without:
        figure.supxlabel("   ".join(f"{SYMBOLS[state]}  {state}" for state in without), fontsize=7, x=0.02, ha="left")
    return figure


def colour_scale(values: np.ndarray, score: Score) -> tuple[Colormap, Normalize]:
    """viridis (perceptually uniform, safe for colour-blind readers), bright where the score is good.

    Logarithmic for errors that span more than a factor of four, such as KL over different final blocks.
    """
    lower = not score.higher_is_better
    colour_map = matplotlib.colormaps["viridis_r" if lower else "viridis"].with_extremes(bad="white")
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return colour_map, LogNorm(low, high) if lower and 0 < 4 * low < high else Normalize(low, high)


def _label(figure: Figure, axes: matplotlib.axes.Axes, grid: Grid) -> None:
    down, across = len(grid.rows), len(grid.columns)
    axes.set_xticks(
        range(across), [final for _, final in grid.columns], rotation=45, ha="right", rotation_mode="anchor", fontsize=7
    )
    axes.set_yticks(range(down), [first for _, first in grid.rows], fontsize=7)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    indent = 12 + 4.3 * max(len(first) for _, first in grid.rows)  # points; 7-point letters are about 4.3 wide
    inches = figure.get_size_inches()
    axes.annotate(
        "rows: core, first\ncolumns: recipe, final", (0, 0), (-indent, -10), "axes fraction", "offset points",
        ha="left", va="top", fontsize=6, color=GREY, annotation_clip=False,
    )  # fmt: skip
    for name, start, end in grid.major_rows:
        room = 72 * (inches[1] - 1.6) * (end - start + 1) / down / (0.7 * len(name))  # points a letter
        axes.annotate(
            name, (0, (start + end) / 2), (-indent, 0), ("axes fraction", "data"), "offset points",
            rotation=90, ha="right", va="center", weight="bold", fontsize=min(8, room), annotation_clip=False,
        )  # fmt: skip
        if start:
            axes.axhline(start - 0.5, color="white", lw=3)
    for name, start, end in grid.major_columns:
        room = 72 * (inches[0] - 3.2) * (end - start + 1) / across / (0.7 * len(name))
        axes.annotate(
            name, ((start + end) / 2, 1), (0, 5), ("data", "axes fraction"), "offset points",
            ha="center", va="bottom", weight="bold", fontsize=min(8, room), annotation_clip=False,
        )  # fmt: skip
        if start:
            axes.axvline(start - 0.5, color="white", lw=3)
    for i in range(1, down):
        axes.axhline(i - 0.5, color="white", lw=0.5)
    for j in range(1, across):
        axes.axvline(j - 0.5, color="white", lw=0.5)
