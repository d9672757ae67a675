"""What all figures share: colours, markers, type, and how a figure becomes a file."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from prixfixe.common.files import atomic_path

# Eight colours that colour-blind readers tell apart (Okabe & Ito 2008, Color Universal Design); the palest last.
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GREY = "#8a8a8a"
ALARM = "#b3261e"
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica", "sans-serif"],
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": False,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.title_fontsize": 8,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "svg.fonttype": "none",  # text stays text: it can be searched, read out, and edited
    "pdf.fonttype": 42,
    "figure.dpi": 100,
    "text.parse_math": False,  # names come from folders: $ is a letter
}

P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draws in the style above, without changing matplotlib's settings for anyone else."""

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with in_style():
            return draw(*args, **kwargs)

    return inside


@contextmanager
def in_style(salt: str | None = None) -> Iterator[None]:
    """salt: of the ids in an SVG, so that the same figure gives the same file."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": salt}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph|constrained_layout")  # of names in strange letters, or very long
        yield


def new_figure(width: float, height: float) -> Figure:
    """A figure of its own, in inches; no pyplot, no state."""
    return Figure(figsize=(width, height), layout="constrained")


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour a name, the same for the same names; past eight they repeat."""
    return {name: OKABE_ITO[i % len(OKABE_ITO)] for i, name in enumerate(sorted(set(names)))}


def markers(names: Iterable[str]) -> dict[str, str]:
    return {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(sorted(set(names)))}


def legend(
    figure: Figure,
    colour_of: Mapping[str, str],
    further: Iterable[Artist] = (),
    title: str | None = None,
    **settings: Any,
) -> None:
    """What the colours mean, above the figure, and further handles beside them."""
    handles: list[Artist] = [Line2D([], [], color=colour, label=name, **settings) for name, colour in colour_of.items()]
    handles += further
    figure.legend(
        handles=handles, loc="outside upper left", ncols=len(handles), fontsize=7, title=title, alignment="left"
    )


def ink(background: tuple[float, float, float, float]) -> str:
    """Black or white, whichever is easier to read there (relative luminance of WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in background[:3]]
    return "black" if float(np.dot([0.2126, 0.7152, 0.0722], linear)) > 0.18 else "white"


def log_ticks(axis: Axis) -> None:
    """Ticks of a logarithmic axis, once all is drawn, that are read at a glance: 500, 2k, 10k, 3M."""
    low, high = sorted(axis.get_view_interval())
    decades = np.log10(high / low)
    subs: Sequence[float]
    if decades < 1.3:
        subs = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0) if decades < 0.7 else (1.0, 2.0, 3.0, 5.0)
    else:
        subs = (1.0, 2.0, 5.0) if decades < 2.5 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.set_minor_formatter(NullFormatter())


def short(value: float) -> str:
    """1,500 as 1.5k, 2,000,000 as 2M."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{letter}"
    return f"{value:.3g}"


def signed(value: float) -> str:
    """+0.012, −0.012, and 0.000 without a sign."""
    text = f"{value:+.3f}"
    return "0.000" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def mark_simulated(figure: Figure, rows: Iterable[Mapping[str, Any]]) -> None:
    """Says so at the figure's upper right where any of its rows is simulated."""
    if any(row.get("simulated") for row in rows):
        figure.suptitle("SIMULATED assay", x=0.995, ha="right", color=ALARM, fontsize=7, weight="bold")


def save(figure: Figure, path: Path) -> None:
    """Writes the figure atomically, in the format that the name's ending says; the same figure gives the same bytes."""
    kind = path.suffix.removeprefix(".")
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    with in_style(path.stem), atomic_path(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=200, metadata=metadata)
    figure.set_layout_engine("none")  # the places of all things are found once: the next format costs half


def as_svg(figure: Figure, name: str, alt: str) -> str:
    """The figure as an <svg> element to stand inside a page: ids that begin with `name`, and `alt` for those who cannot
    see it."""
    from html import escape

    text = io.StringIO()
    with in_style(name):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\g<1>#{name}-", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    width = 1.4 * 96 * figure.get_size_inches()[0]  # larger than on paper, and never wider than the page
    svg = re.sub(
        r'width="[\d.]+pt" height="[\d.]+pt"',
        f'style="width:min(100%,{width:.0f}px);min-width:min(36rem,{width:.0f}px)"',
        svg,
        count=1,
    )
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(alt, quote=True)}" ', 1)
