"""Average ranks with their intervals, and what cannot be told apart."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prixfixe.analysis.effects import p_text
from prixfixe.analysis.ranks import VALIDATION, CriticalDifference, Ranks
from prixfixe.figures.style import colours, legend, new_figure, styled

MOST = 100  # models that are drawn; more cannot be read


@styled
def average_ranks(ranks: Ranks, cores: Mapping[str, str]) -> Figure:
    """Each model's average rank over the bootstrap samples with its 95 % range, best first, the first 100; coloured by
    core.

    cores: a model's name -> its core.
    """
    order = np.argsort(ranks.average_rank, kind="stable")[:MOST]
    palette = colours(cores.values())
    figure = new_figure(7.2, 0.9 + 0.155 * max(len(order), 3))
    axes = figure.subplots()
    for y, model in enumerate(order):
        colour = palette.get(cores.get(ranks.names[model], ""), "black")
        axes.plot(
            [ranks.low[model], ranks.high[model]], [y, y], color=colour, lw=1.8, alpha=0.55, solid_capstyle="butt"
        )
        axes.plot(ranks.average_rank[model], y, "o", color=colour, ms=3.5)
    axes.set_yticks(range(len(order)), [ranks.names[model].replace("+", " + ") for model in order], fontsize=6.5)
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    cut = f"; the first {MOST} of {len(ranks.names)} models" if len(ranks.names) > MOST else ""
    axes.set_xlabel("average of the ranks by Pearson and by Spearman score, with 95 % range\n" + sampled(ranks) + cut)
    legend(figure, palette, marker="o", ls="", ms=4)
    return figure


def sampled(ranks: Ranks) -> str:
    """10,000 bootstrap samples of 10 % of the test set."""
    whole = "validation set" if ranks.source == VALIDATION else ranks.source
    return f"{ranks.samples:,} bootstrap samples of {100 * ranks.share:g} % of the {whole}"


@styled
def critical_difference(diagrams: Mapping[str, CriticalDifference]) -> Figure:
    """Critical-difference diagrams (Demšar 2006), one under the other: average ranks on a line, bars over what cannot
    be told apart."""
    heights = [0.75 + 0.17 * ((len(one.names) + 1) // 2) + 0.09 * len(one.groups) for one in diagrams.values()]
    figure = new_figure(6.6, max(sum(heights), 1.0))
    panels = figure.subplots(len(diagrams), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (title, one) in zip(panels, diagrams.items(), strict=True):
        _diagram(axes, title, one)
    return figure


def _diagram(axes: Axes, title: str, one: CriticalDifference) -> None:
    ranks = one.average_rank
    lowest, highest = int(np.floor(ranks.min())), int(np.ceil(ranks.max()))
    highest = max(highest, lowest + 1)
    span = highest - lowest
    half = (len(ranks) + 1) // 2
    deep = 0.55 * len(one.groups) + 0.6
    axes.axis("off")
    axes.set_title(title)
    axes.set_xlim(lowest - 0.65 * span, highest + 0.65 * span)
    axes.set_ylim(deep + half + 0.2, -1.6)
    axes.plot([lowest, highest], [0, 0], color="black", lw=1)
    for tick in range(lowest, highest + 1, max(1, span // 10)):
        axes.plot([tick, tick], [-0.25, 0], color="black", lw=1)
        axes.text(tick, -0.4, str(tick), ha="center", va="bottom", fontsize=7)
    for i, (first, last) in enumerate(one.groups, 1):
        ends = [ranks[first] - 0.01 * span, ranks[last] + 0.01 * span]
        axes.plot(ends, [0.55 * i] * 2, color="black", lw=3, solid_capstyle="butt")
    for members, edge, align in (
        (range(half), lowest - 0.06 * span, "right"),
        (range(len(ranks) - 1, half - 1, -1), highest + 0.06 * span, "left"),
    ):
        for y, member in enumerate(members):
            axes.plot([ranks[member], ranks[member], edge], [0, deep + y, deep + y], color="#555555", lw=0.8)
            text, gap = f"{one.names[member]} ({ranks[member]:.2f})", 3 if align == "left" else -3
            axes.annotate(
                text, (edge, deep + y), (gap, 0), textcoords="offset points", ha=align, va="center", fontsize=7
            )
    p = "" if one.p is None else f"Friedman {p_text(one.p)},  "
    axes.set_title(
        f"{p}critical difference {one.difference:.2f},  {one.blocks} blocks", loc="right", weight="normal", fontsize=7
    )
