"""Motif logos: what stands under the seqlets beside the known motif; and what motifs do where they are implanted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prixfixe.common.extras import extra_module
from prixfixe.common.text import printable
from prixfixe.data.sequences import NUCLEOTIDES
from prixfixe.figures.mutagenesis import BASE_COLOURS
from prixfixe.figures.style import GREY, OKABE_ITO, mark_simulated, new_figure, styled

INCHES_A_BASE, LOGO_HEIGHT = 0.17, 0.75
PSEUDOCOUNT = 0.5  # a base, of the letters under few seqlets


def bits(counts: np.ndarray, pseudocount: float = 0.0) -> np.ndarray:
    """Letters (4, width), counts or probabilities, as heights in bits: each base's share of a position's information,
    against 1/4 of each base."""
    shares = (counts + pseudocount) / (counts + pseudocount).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        information = 2 + np.nansum(shares * np.log2(shares), axis=0)
    return np.asarray(shares * information)


def draw_bits(axes: Axes, heights: np.ndarray) -> None:
    """heights: (4, width)."""
    logomaker = extra_module("logomaker", "logos", "a logo")
    frame = pd.DataFrame(heights.T, columns=list(NUCLEOTIDES[:4]))
    logomaker.Logo(frame, ax=axes, color_scheme=BASE_COLOURS, baseline_width=0.4, font_name="DejaVu Sans")
    axes.set_ylim(0, 2)
    axes.set_yticks([0, 2])
    axes.tick_params(labelbottom=False, bottom=False)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


@styled
def draw_pair(seen: np.ndarray, known: np.ndarray) -> Figure:
    """The letters under seqlets, counts (4, width), and the known motif, probabilities, side by side."""
    width = max(1.2, INCHES_A_BASE * known.shape[1])
    figure = new_figure(2 * width + 0.8, LOGO_HEIGHT)
    left, right = figure.subplots(1, 2)
    draw_bits(left, bits(seen, PSEUDOCOUNT))
    draw_bits(right, bits(known))
    left.set_ylabel("bits")
    return figure


@styled
def draw_effects(table: pd.DataFrame, *, unit: str, simulated: bool = False) -> Figure:
    """The marginal effect of each implanted motif with its 95 % interval, and that of each strand."""
    rows = table.dropna(subset=["effect"]).drop_duplicates("motif").sort_values("effect")
    figure = new_figure(5.5, 0.7 + 0.2 * max(len(rows), 1))
    axes = figure.subplots()
    place = np.arange(len(rows))
    axes.axvline(0, color=GREY, linewidth=0.7)
    axes.hlines(place, rows["effect_low"], rows["effect_high"], color=OKABE_ITO[0], linewidth=2)
    axes.plot(rows["effect"], place, "o", color=OKABE_ITO[0], markersize=4, label="mean, 95 % interval")
    axes.plot(rows["effect_plus"], place, ">", color=OKABE_ITO[1], markersize=3.5, label="plus strand")
    axes.plot(rows["effect_minus"], place, "<", color=OKABE_ITO[2], markersize=3.5, label="minus strand")
    axes.set_yticks(place, [printable(name, 60) for name in rows["motif"]])
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.set_xlabel(f"effect in random sequences, {unit}")
    if len(rows):
        axes.legend(fontsize=7, loc="lower right")
    mark_simulated(figure, [{"simulated": simulated}])
    return figure


@styled
def draw_motifs(
    table: pd.DataFrame, seen: Mapping[str, np.ndarray], known: Mapping[str, np.ndarray], *, simulated: bool = False
) -> Figure:
    """One row a motif of a table: the letters under its seqlets, the known motif, and counts in words."""
    figure = new_figure(7.0, 0.5 + 0.62 * len(table))
    axes = figure.subplots(len(table), 3, squeeze=False, width_ratios=[1, 1, 1.1])
    for row, (place, one) in zip(axes, table.iterrows(), strict=True):
        draw_bits(row[0], bits(seen[str(place)], PSEUDOCOUNT))
        draw_bits(row[1], bits(known[one["motif"]]))
        row[0].set_ylabel(printable(one["motif"].split()[-1], 20), rotation=0, ha="right", va="center")
        text = f"{one['direction']}, {one['seqlets']} seqlets (decoy {one['decoy']})"
        effect = "" if np.isnan(one["effect"]) else f"\nimplanted {one['effect']:+.2f}"
        row[2].text(0, 0.5, text + effect, va="center", fontsize=7)
        row[2].axis("off")
    axes[0, 0].set_title("under seqlets")
    axes[0, 1].set_title("known motif")
    mark_simulated(figure, [{"simulated": simulated}])
    return figure
