"""The report as one HTML page that needs nothing else: no network, no library, no second file."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.colors import LogNorm, to_hex

from prixfixe.analysis.costs import pareto_front
from prixfixe.analysis.effects import holm, p_text
from prixfixe.analysis.grid import SYMBOLS, lay_out
from prixfixe.analysis.results import LOWER_IS_BETTER, SCORES, Row, combination, scores_of
from prixfixe.analysis.tables import signed
from prixfixe.analysis.views import CHOSEN
from prixfixe.common.progress import duration
from prixfixe.common.text import counted
from prixfixe.common.version import version_of
from prixfixe.figures.costs import AXES
from prixfixe.figures.heat_map import NO_SCORE, colour_scale
from prixfixe.figures.ranks import sampled
from prixfixe.figures.style import as_svg, ink
from prixfixe.report.content import Content
from prixfixe.report.drawings import Drawing
from prixfixe.runs.folder import SLOTS

STATES = {
    "done": "done",
    "failed": "failed",
    "running": "still running",
    "stopped": "stopped",
    "missing": "never started",
}
MOST_PAIRS = 12  # pairs of models named in a sentence


def page(content: Content, drawings: Sequence[Drawing], title: str, own_command: str) -> str:
    """The whole page. Everything that comes from a run folder is escaped."""
    folder = files("prixfixe.report")
    script = (folder / "report.js").read_text(encoding="utf-8")
    rows = content.combinations.rows
    label = SCORES[content.score]
    details = _Details()
    heat_maps = [_heat_map(rows, score, details) for score in scores_of(rows)]
    shown = {drawing.name: _shown(drawing) for drawing in drawings}
    states = {state for heat_map in heat_maps for state in heat_map["grid"].states}
    columns = _columns(content)
    sections = {
        "findings": True,
        "grid": bool(heat_maps),
        "table": True,
        "effects": bool(shown.keys() & {"effects", "variance", "interactions"}),
        "ranks": bool(shown.keys() & {"ranks", "critical_difference"}) or bool(content.no_ranks),
        "costs": "costs" in shown,
        "curves": "learning_curves" in shown,
        "methods": True,
        "commands": True,
    }
    names = (
        "Findings",
        "The grid",
        "Table",
        "What a part is worth",
        "Who is really better",
        "What it costs",
        "Learning curves",
    )
    titles = dict(zip(sections, (*names, "Methods", "Commands"), strict=True))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals["zip"] = zip
    return environment.from_string((folder / "page.html").read_text(encoding="utf-8")).render(
        title=title,
        simulated=_simulated(content),
        summary=_summary(content),
        sections=[(id, titles[id]) for id, there in sections.items() if there],
        findings=content.findings,
        problems=_problems(content),
        heat_maps=heat_maps,
        symbols=", ".join(f"{SYMBOLS[state]} {state}" for state in SYMBOLS if state in states),
        columns=columns,
        table=[[_cell(row, column, rank) for column in columns] for rank, row in enumerate(rows, 1)],
        menus=_menus(rows, columns),
        table_note="± is the standard deviation over seeds." if any(row["seeds"] > 1 for row in rows) else "",
        figures=shown,
        score_label=label,
        pairs_of_parts=[_pair(effect) for effect in content.effects],
        rank_sentences=_rank_sentences(content),
        fronts=[
            (name, _front(rows, content.score, cost))
            for cost, name in AXES.items()
            if _front(rows, content.score, cost)
        ],
        facts=_facts(content),
        chosen=CHOSEN,
        ranks=content.ranks,
        sampled=sampled(content.ranks) if content.ranks else "",
        versions=[(name, ", ".join(values)) for name, values in content.versions.items()]
        + [("this report", f"prixfixe {version_of('prixfixe')}")],
        own_command=own_command,
        commands=[(_name(row), row["command"]) for row in content.results.rows],
        details=details.lists,
        style=Markup((folder / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
    )


class _Details:
    """What is shown when one points at a cell: each row's once, however many heat maps show it."""

    def __init__(self) -> None:
        self.lists: list[list[tuple[str, str]]] = []
        self._numbers: dict[tuple[int, int], int] = {}

    def row_number(self, row: Row, count: int) -> int:
        key = id(row), count
        if key not in self._numbers:
            self._numbers[key] = len(self.lists)
            self.lists.append(_details(row, count))
        return self._numbers[key]


def _details(row: Row, count: int) -> list[tuple[str, str]]:
    lines = [(slot, str(row[slot])) for slot in SLOTS]
    lines += [("variant", str(row["variant"]))] if row["variant"] is not None else []
    lines += [("state", STATES.get(row["state"], str(row["state"])))]
    lines += [("reason", str(row["reason"]))] if row["reason"] else []
    lines += [(SCORES[score], _score(row, score)) for score in SCORES if row.get(score) is not None]
    if row.get("epoch") is not None:
        lines += [
            (
                "so far",
                f"{counted(row['epoch'], 'epoch')}, Pearson r {_number(row.get('pearson_r_so_far'))} (not final)",
            )
        ]
    lines += [("parameters", f"{row['parameters']:,}")] if row["parameters"] is not None else []
    lines += [("trained in", duration(row["training_seconds"]))] if row["training_seconds"] is not None else []
    lines += [("seeds", str(row["seeds"]))] if row["seeds"] > 1 else []
    lines += [("the best of", f"{count} that fall on this cell (variants, or sweeps)")] if count > 1 else []
    return lines


def _heat_map(rows: Sequence[Row], score: str, details: _Details) -> dict[str, Any]:
    grid = lay_out(rows, score)
    values = np.array([cell.value for cell in grid.cells.values() if cell.value is not None])
    colours, norm = colour_scale(values, score)
    styles = {}
    for place, cell in grid.cells.items():
        background = NO_SCORE if cell.value is None else to_hex(colours(norm(cell.value)))
        foreground = "#222222" if cell.value is None else ink(colours(norm(cell.value)))
        styles[place] = f"background:{background};color:{foreground}"
    lower = score in LOWER_IS_BETTER
    worst, best = (norm.vmax, norm.vmin) if lower else (norm.vmin, norm.vmax)
    stops = [to_hex(colours(x)) for x in np.linspace(*((1, 0) if lower else (0, 1)), 9)]
    return {
        "score": score,
        "label": SCORES[score],
        "better": "lower" if lower else "higher",
        "log": isinstance(norm, LogNorm),
        "varies": bool(values.size) and float(values.min()) < float(values.max()),
        "worst": _number(worst),
        "best": _number(best),
        "stops": ", ".join(stops),
        "grid": grid,
        "styles": styles,
        "details": {place: details.row_number(cell.row, cell.count) for place, cell in grid.cells.items()},
        "row_starts": {start: (name, end - start + 1) for name, start, end in grid.major_rows},
        "column_starts": {start for _, start, _ in grid.major_columns},
    }


def _shown(drawing: Drawing) -> dict[str, Any]:
    svg = Markup(as_svg(drawing.figure, drawing.name, drawing.alt))
    return {"name": drawing.name, "title": drawing.title, "caption": drawing.caption, "svg": svg}


def _columns(content: Content) -> list[dict[str, Any]]:
    """name, label, whether it is a number, and which way it is sorted first: the best on top."""
    rows = content.combinations.rows
    names = {"rank": "#"} | {slot: slot for slot in SLOTS}
    names |= {"variant": "variant"} if any(row["variant"] is not None for row in rows) else {}
    names |= {"sweep": "sweep"} if len({row["sweep"] for row in rows}) > 1 else {}
    names |= {"seeds": "seeds"} if any(row["seeds"] > 1 for row in rows) else {}
    names |= {"state": "state"} if any(row["state"] != "done" for row in rows) else {}
    names |= {score: SCORES[score] for score in scores_of(rows)}
    rest = {
        "parameters": "parameters",
        "samples_per_second": "training, samples/s",
        "training_seconds": "trained, s",
        "gpu_memory_bytes": "GPU memory, GB",
        "inference_per_second": "prediction, sequences/s",
        "reason": "reason",
    }
    names |= {column: label for column, label in rest.items() if any(row.get(column) is not None for row in rows)}
    text = {*SLOTS, "variant", "sweep", "state", "reason"}
    ascending = text | {"rank", *LOWER_IS_BETTER, "parameters", "training_seconds", "gpu_memory_bytes"}
    return [
        {
            "name": name,
            "label": label,
            "number": name not in text,
            "first": "ascending" if name in ascending else "descending",
        }
        for name, label in names.items()
    ]


def _cell(row: Row, column: Mapping[str, Any], rank: int) -> tuple[str, str]:
    """The text of a table's cell, and the value that it is sorted by."""
    name = column["name"]
    value = rank if name == "rank" else row.get(name)
    if value is None:
        return "", ""
    if name in SCORES:
        return _score(row, name), repr(value)
    if name == "gpu_memory_bytes":
        return f"{value / 1e9:.1f}", str(value)
    if name == "training_seconds":
        return f"{value:,.1f}" if value < 100 else f"{value:,.0f}", str(value)
    return (f"{value:,.0f}", str(value)) if column["number"] else (str(value), str(value))


def _menus(rows: Sequence[Row], columns: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    wanted = [column["name"] for column in columns if column["name"] in {*SLOTS, "variant", "sweep", "state"}]
    return {name: sorted({str(row[name]) for row in rows if row[name] is not None}) for name in wanted}


def _pair(effect: Any) -> list[str]:
    interval = "" if effect.low is None else f"{signed(effect.low)} to {signed(effect.high)}"
    ps = ["" if p is None else f"{p:.2g}" for p in (effect.p, effect.p_adjusted)]
    return [effect.slot, effect.part, effect.other, signed(effect.mean), interval, str(effect.pairs), *ps]


def _rank_sentences(content: Content) -> list[str]:
    ranks = content.ranks
    if ranks is None:
        return [f"No bootstrap ranks: {content.no_ranks}."] if content.no_ranks else []
    names, pairs = ranks.names, ranks.indistinguishable
    beside_first = [names[j] for i, j in pairs if i == 0]
    total = len(names) * (len(names) - 1) // 2
    sentences = [
        f"{names[0]} has the best average rank, {ranks.average_rank[0]:.2f} of {len(names)} "
        f"(in 95 % of the samples {ranks.low[0]:g} to {ranks.high[0]:g}).",
        _beside(beside_first, len(names))
        if beside_first
        else "It is ahead of every other one in more than 97.5 % of the samples.",
        f"{len(pairs):,} of {total:,} pairs cannot be told apart: neither is ahead in 97.5 % of the samples.",
    ]
    if len(pairs) <= MOST_PAIRS and len(pairs) > len(beside_first):
        sentences.append("These are " + "; ".join(f"{names[i]} and {names[j]}" for i, j in pairs) + ".")
    sentences += [f"Not ranked: {_listed(ranks.left_out)}."] if ranks.left_out else []
    slots = {slot: one for slot, one in content.differences.items() if not slot.startswith("combinations")}
    for (slot, one), p in zip(slots.items(), holm([one.p for one in slots.values()]), strict=True):
        if p is not None and p < 0.05:
            sentences.append(
                f"The {slot.partition(':')[0]} choices differ in average rank over {one.blocks} {one.over} "
                f"({p_text(p)} after correction, Friedman)."
            )
    return sentences


def _beside(names: Sequence[str], total: int) -> str:
    if len(names) > MOST_PAIRS:
        return f"{len(names)} of the other {total - 1} cannot be told apart from it."
    return f"{_listed(names)} cannot be told apart from it."


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:MOST_PAIRS])
    rest = [f"{len(names) - len(shown)} more"] if len(names) > len(shown) else []
    *head, last = [*shown, *rest]
    return f"{', '.join(head)} and {last}" if head else last


def _front(rows: Sequence[Row], score: str, cost: str) -> list[tuple[str, str, str]]:
    return [(_name(row), f"{row[cost]:,.0f}", _score(row, score)) for row in pareto_front(rows, score, cost)]


def _simulated(content: Content) -> str:
    begun = [row for row in content.results.rows if row["state"] != "missing"]
    count = sum(bool(row["simulated"]) for row in begun)
    return "" if not count else "all runs" if count == len(begun) else f"{count} of {len(begun)} runs"


def _facts(content: Content) -> dict[str, str]:
    """What the runs' metrics say, in words: one value, "a or b", or "first to last"."""
    texts = {
        name: [f"{value:,}" if isinstance(value, int) else str(value) for value in values]
        for name, values in content.facts.items()
    }
    known = {
        name: " or ".join(values) if len(values) < 3 else f"{values[0]} to {values[-1]}"
        for name, values in texts.items()
    }
    known |= (
        {"epochs": f"{known['epochs']} epoch{'' if texts['epochs'] == ['1'] else 's'}"} if "epochs" in known else {}
    )
    return {name: known.get(name, "") for name in ("n", "epochs", "device")}


def _summary(content: Content) -> str:
    rows = content.combinations.rows
    counts = {words: sum(row["state"] == state for row in rows) for state, words in STATES.items()}
    done = counts.pop("done")
    parts = [
        f"{done} of {counted(len(rows), 'combination')} done",
        *(f"{count} {words}" for words, count in counts.items() if count),
    ]
    runs = (
        f" ({counted(len(content.results.rows), 'run')}, seeds averaged)"
        if len(content.results.rows) > len(rows)
        else ""
    )
    last = content.facts.get("ended", [])
    return (
        ", ".join(parts) + runs + "." + (f" The last run ended {last[-1][:16].replace('T', ' ')} UTC." if last else "")
    )


def _problems(content: Content) -> list[str]:
    lines = []
    for row in content.results.others:
        if row["state"] != "missing":
            state = STATES.get(row["state"], str(row["state"])) + (
                f" (epoch {row['epoch']} so far)" if row.get("epoch") is not None else ""
            )
            lines.append(f"{_name(row)}: {state}" + (f": {row['reason']}" if row["reason"] else ""))
    missing = [_name(row) for row in content.results.others if row["state"] == "missing"]
    lines += [f"never started: {_listed(missing)}"] if missing else []
    return [*lines, *(f"damaged: {problem}" for problem in content.problems)]


def _name(row: Row) -> str:
    name = combination(row)
    return name + (f"+seed{row['seed']}" if row["seed"] and row.get("seeds", 1) == 1 else "")


def _score(row: Row, score: str) -> str:
    spread = row.get(f"{score}_sd")
    return _number(row.get(score)) + (f" ± {spread:.3f}" if spread is not None else "")


def _number(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.3f}"
