"""Mutagenesis maps: a logo of what stands in a sequence, and the effect of every substitution below it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from prixfixe.common.extras import extra_module
from prixfixe.common.text import printable
from prixfixe.data.sequences import NUCLEOTIDES, N
from prixfixe.figures.style import GREY, mark_simulated, new_figure, styled

if TYPE_CHECKING:
    from prixfixe.inference.mutagenesis import Mutagenesis

BASE_COLOURS = {"A": "#009E73", "C": "#0072B2", "G": "#E69F00", "T": "#D55E00"}  # Okabe & Ito
INCHES_A_BASE, NARROWEST, WIDEST = 0.11, 5.0, 60.0
ROW_HEIGHT = 1.9


@styled
def draw_mutagenesis(
    results: Sequence[tuple[str, Mutagenesis]], tasks: Sequence[str], *, simulated: bool = False
) -> Figure:
    """One row a sequence and task: the letters that stand there, as high as they add to the prediction (less the mean
    of all four bases), and a heat map of the effect of each base, `.` where it stands already."""
    rows = []
    for name, one in results:
        for task, label in enumerate(tasks):
            rows.append(
                (f"{printable(name, 60)}  {printable(label, 60)}" if len(tasks) > 1 else printable(name, 80), one, task)
            )
    longest = max(len(one.letters) for _, one, _ in rows)
    figure = new_figure(min(max(NARROWEST, 1.6 + INCHES_A_BASE * longest), WIDEST), ROW_HEIGHT * len(rows) + 0.3)
    axes = figure.subplots(2 * len(rows), 1, squeeze=False, height_ratios=[1.2, 0.8] * len(rows))[:, 0]
    for number, (title, one, task) in enumerate(rows):
        logo, heat = axes[2 * number], axes[2 * number + 1]
        draw_logo(logo, one.letters, one.attribution()[:, task])
        logo.set_title(f"{title}: predicted {one.reference[task]:.3g}")
        logo.set_ylabel("adds")
        _draw_heat_map(figure, heat, one.letters, one.effects[:, :, task])
        for drawn in (logo, heat):
            drawn.set_xlim(-0.5, longest - 0.5)
    axes[-1].set_xlabel("position, from 0")
    mark_simulated(figure, [{"simulated": simulated}])
    return figure


def draw_logo(axes: Axes, letters: np.ndarray, heights: np.ndarray) -> None:
    """The letters of a sequence, uint8 (L,), as high as `heights`, (L,), says; nothing where N stands."""
    import pandas as pd

    matrix = np.zeros((len(letters), 4))
    known = np.flatnonzero(letters < N)
    matrix[known, letters[known]] = heights[known]
    frame = pd.DataFrame(matrix, columns=list(NUCLEOTIDES[:4]))
    logomaker = extra_module("logomaker", "logos", "a logo")
    logomaker.Logo(frame, ax=axes, color_scheme=BASE_COLOURS, baseline_width=0.4, font_name="DejaVu Sans")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelbottom=False)


def _draw_heat_map(figure: Figure, axes: Axes, letters: np.ndarray, effects: np.ndarray) -> None:
    """effects: (L, 4)."""
    bound = float(np.nanmax(np.abs(effects), initial=0.0)) or 1.0
    scale = TwoSlopeNorm(0.0, -bound, bound)
    image = axes.imshow(
        effects.T, aspect="auto", cmap=matplotlib.colormaps["RdBu_r"], norm=scale, interpolation="nearest"
    )
    known = np.flatnonzero(letters < N)
    axes.plot(known, letters[known], ".", color=GREY, markersize=1.5)
    axes.set_yticks(range(4), NUCLEOTIDES[:4])
    axes.tick_params(axis="y", length=0)
    bar = figure.colorbar(image, ax=axes, pad=0.01, fraction=0.03, aspect=8)
    bar.set_label("effect")
