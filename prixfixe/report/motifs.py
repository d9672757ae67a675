"""What was found of motifs, as one HTML page that needs nothing else."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from prixfixe.common.text import printable
from prixfixe.common.version import version_of
from prixfixe.figures.motifs import draw_effects, draw_pair
from prixfixe.figures.style import as_svg
from prixfixe.inference.motifs import ALIKE, BACKGROUNDS, PLACES, SIGNIFICANT, THRESHOLD, Motifs

MOST_LOGOS = 60
MOST_PAIRS = 40


def page(found: Motifs, title: str, command: str) -> str:
    """Everything that comes from files is escaped."""
    groups: list[dict[str, Any]] = []
    for task in dict.fromkeys(found.table["task"]):
        own = found.table[found.table["task"] == task]
        some = own[own["q"] < SIGNIFICANT]
        effects = draw_effects(some, unit=printable(task, 60), simulated=bool(found.facts["simulated"]))
        groups.append(
            {
                "task": printable(task, 100),
                "rows": [_row(found, one, number) for number, one in enumerate(own.to_dict("records"))],
                "significant": len(some),
                "effects": Markup(as_svg(effects, f"effects{len(groups)}", "Effects of implanted motifs")),
                "pairs": found.spacing[found.spacing["task"] == task].head(MOST_PAIRS).to_dict("records"),
            }
        )
    folder = files("prixfixe.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["p"] = lambda value: "" if np.isnan(value) else f"{value:.2g}"
    environment.filters["signed"] = lambda value: "" if np.isnan(value) else f"{value:+.3g}"
    return environment.from_string((folder / "motifs.html").read_text(encoding="utf-8")).render(
        title=title,
        facts=found.facts,
        groups=groups,
        command=command,
        version=version_of("prixfixe"),
        limits={
            "alike": ALIKE,
            "backgrounds": BACKGROUNDS,
            "places": PLACES,
            "significant": SIGNIFICANT,
            "threshold": THRESHOLD,
        },
        style=Markup((folder / "style.css").read_text(encoding="utf-8")),
    )


def _row(found: Motifs, one: dict[str, Any], number: int) -> dict[str, Any]:
    """A row of the table with its logos."""
    seen = found.seen.get((one["task"], one["motif"], one["direction"], one.get("strand", "")))
    logo = ""
    if seen is not None and number < MOST_LOGOS and one["q"] < SIGNIFICANT:
        alt = f"Letters under the seqlets beside {printable(one['motif'], 60)}"
        name = f"logo{list(dict.fromkeys(found.table['task'])).index(one['task'])}x{number}"
        logo = Markup(as_svg(draw_pair(seen, found.known[one["motif"]]), name, alt))
    return {"strand": "", **one, "name": printable(one["motif"], 100), "logo": logo}
