"""What a part is worth, and how the score's variance is shared out."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from prixfixe.analysis.effects import OTHERS, SIGNIFICANT, InteractionCell, PartEffect, VarianceShare
from prixfixe.figures.style import GREY, OKABE_ITO, ink, new_figure, signed, styled
from prixfixe.runs.folder import SLOTS
from prixfixe.tasks.scores import Score

COLUMNS = (0.13, 0.58, 0.83, 1.0)  # right edges of the numbers beside a forest plot
SLOT_COLOURS = dict(zip(SLOTS, OKABE_ITO, strict=False))


@styled
def effect_forest(effects: Sequence[PartEffect], score: Score) -> Figure:
    """A forest plot: each part against the mean of the others in its slot, with its 95 % interval; filled where p <
    0.05 after correction.

    In a slot of two parts, the one against the other.
    """
    with_others = {effect.slot for effect in effects if effect.other == OTHERS}
    shown = [effect for effect in effects if effect.other == OTHERS or effect.slot not in with_others]
    lines: list[PartEffect | str] = []
    for slot in SLOTS:
        of_slot = sorted((e for e in shown if e.slot == slot), key=lambda e: e.mean, reverse=score.higher_is_better)
        lines += [slot, *of_slot] if of_slot else []
    figure = new_figure(7.6, 0.8 + 0.21 * max(len(lines), 2))
    axes, numbers = figure.subplots(1, 2, width_ratios=(5, 3.6), sharey=True)
    numbers.axis("off")
    axes.axvline(0, color="#555555", lw=0.8)
    beside = axes.get_yaxis_transform()
    for y, line in enumerate(lines):
        if isinstance(line, str):
            colour = SLOT_COLOURS[line]
            axes.text(-0.01, y, line, transform=beside, ha="right", va="center", weight="bold", color=colour)
            continue
        sure = line.p_adjusted is not None and line.p_adjusted < SIGNIFICANT
        colour = SLOT_COLOURS[line.slot]
        if line.low is not None and line.high is not None:
            axes.plot([line.low, line.high], [y, y], color=colour, lw=1.6, solid_capstyle="butt")
        axes.plot(line.mean, y, "o", color=colour, mfc=colour if sure else "white", ms=5.5)
        name = line.part if line.other == OTHERS else f"{line.part} against {line.other}"
        axes.text(-0.01, y, name, transform=beside, ha="right", va="center")
        for x, text in zip(COLUMNS, _numbers(line), strict=True):
            numbers.text(x, y, text, ha="right", va="center", fontsize=7)
    for x, text in zip(COLUMNS, ("mean", "95 % interval", "p (Holm)", "pairs"), strict=True):
        numbers.text(x, -1, text, ha="right", va="center", fontsize=7, color=GREY)
    axes.set_ylim(len(lines) - 0.5, -1.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    better = "right" if score.higher_is_better else "left"
    axes.set_xlabel(f"difference in {score.label} from the others of the slot, all else equal (better to the {better})")
    return figure


@styled
def variance_bars(shares: Sequence[VarianceShare], score: Score) -> Figure:
    """Shares of the score's variance: parts, pairs of parts that depend on each other, and the rest."""
    ordered = sorted(shares, key=lambda share: (share.term == "residual", -share.share))
    figure = new_figure(6.0, 0.8 + 0.21 * max(len(ordered), 2))
    axes = figure.subplots()
    kinds = {"part": OKABE_ITO[0], "interaction of two slots": OKABE_ITO[4], "not explained by these": GREY}
    part, interaction, rest = kinds
    seen = set()
    for y, share in enumerate(ordered):
        kind = rest if share.term == "residual" else interaction if " x " in share.term else part
        axes.barh(y, 100 * share.share, color=kinds[kind], height=0.72, label=kind if kind not in seen else None)
        seen.add(kind)
        stars = "*" * sum(share.p is not None and share.p < level for level in (0.05, 0.001, 0.0001))
        text = f"{100 * share.share:.1f} % {stars}".strip()
        axes.annotate(text, (100 * share.share, y), (3, 0), textcoords="offset points", va="center", fontsize=7)
    axes.set_yticks(range(len(ordered)), [s.term.replace(" x ", " × ") for s in ordered])  # noqa: RUF001
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"share of the variance of {score.label} (%);  * p < 0.05, ** p < 0.001, *** p < 0.0001")
    axes.legend(loc="lower right", fontsize=7)
    return figure


@styled
def interaction_matrix(cells: Sequence[InteractionCell], score: Score) -> Figure:
    """Which parts need each other: how far each pair scores from what the two add up to; violet is better than that,
    orange worse."""
    places = {(slot, part) for cell in cells for slot, part in zip(cell.slots, cell.parts, strict=True)}
    parts = sorted(places, key=lambda place: (SLOTS.index(place[0]), place[1]))
    slots = list(dict.fromkeys(slot for slot, _ in parts))
    across = [place for place in parts if place[0] != slots[-1]]
    down = [place for place in parts if place[0] != slots[0]]
    figure = new_figure(0.5 * len(across) + 2.4, 0.27 * len(down) + 1.6)
    axes = figure.subplots()
    values = np.full((len(down), len(across)), np.nan)
    for cell in cells:
        first, second = zip(cell.slots, cell.parts, strict=True)
        values[down.index(second), across.index(first)] = cell.excess
    limit = max((abs(cell.excess) for cell in cells), default=0.0) or 1.0
    colour_map = matplotlib.colormaps["PuOr" if score.higher_is_better else "PuOr_r"].with_extremes(bad="white")
    image = axes.imshow(np.ma.masked_invalid(values), cmap=colour_map, vmin=-limit, vmax=limit, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = ink(colour_map((value + limit) / (2 * limit)))
            axes.text(j, i, signed(value), ha="center", va="center", fontsize=6.5, color=colour)
    axes.set_xticks(range(len(across)), [part for _, part in across], rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(down)), [part for _, part in down])
    for labels, named, line in (
        (axes.get_xticklabels(), across, axes.axvline),
        (axes.get_yticklabels(), down, axes.axhline),
    ):
        for number, (label, (slot, _)) in enumerate(zip(labels, named, strict=True)):
            label.set_color(SLOT_COLOURS[slot])
            if number:
                line(number - 0.5, color="white", lw=3 if named[number - 1][0] != slot else 0.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, aspect=16, pad=0.02)
    bar.outline.set_visible(False)
    bar.set_label(f"{score.label} beyond the sum")
    handles = [axes.plot([], [], "s", color=SLOT_COLOURS[slot], ls="", label=slot)[0] for slot in slots]
    axes.legend(handles=handles, loc="upper right", fontsize=7)
    return figure


def _numbers(effect: PartEffect) -> tuple[str, str, str, str]:
    interval = "-" if effect.low is None or effect.high is None else f"{signed(effect.low)} to {signed(effect.high)}"
    p = "-" if effect.p_adjusted is None else "< 0.0001" if effect.p_adjusted < 0.0001 else f"{effect.p_adjusted:.4f}"
    return signed(effect.mean), interval, p, str(effect.pairs)
