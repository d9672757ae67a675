"""The report as one HTML page that needs nothing else: no network, no library, no second file."""

from __future__ import annotations

import base64
import hashlib
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
from prixfixe.analysis.results import SO_FAR, Results, Row, combination
from prixfixe.analysis.tables import signed
from prixfixe.analysis.views import chosen_by
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
from prixfixe.tasks.scores import EXPRESSION, Score, by_name

STATES = {
    "done": "done",
    "failed": "failed",
    "running": "still running",
    "stopped": "stopped",
    "missing": "never started",
}
FACTS = ("n", "epochs", "device")
MOST_PAIRS = 12  # pairs of models named in a sentence


def page(contents: Sequence[Content], drawings: Sequence[Sequence[Drawing]], title: str, own_command: str) -> str:
    """The whole page, one task and data after the other. Everything that comes from a run folder is escaped."""
    folder = files("prixfixe.report")
    script = (folder / "report.js").read_text(encoding="utf-8")
    details = _Details()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals["zip"] = zip
    of_group = environment.from_string((folder / "group.html").read_text(encoding="utf-8"))
    groups, sections = [], []
    for number, (content, drawn) in enumerate(zip(contents, drawings, strict=True), 1):
        values = _group(content, drawn, details, suffix(number))
        groups.append(Markup(of_group.render(values)))
        sections += [(f"part{suffix(number)}", content.name)] if content.name else [*_sections(values).items()]
    versions: dict[str, list[str]] = {}
    for content in contents:
        for name, found in content.versions.items():
            versions[name] = sorted({*versions.get(name, ()), *found})
    ranked = [content for content in contents if content.ranks is not None]
    return environment.from_string((folder / "page.html").read_text(encoding="utf-8")).render(
        title=title,
        simulated=_simulated(contents),
        summary=_summary(contents[0]) if len(contents) == 1 else f"{len(contents)} tasks or data, each by itself.",
        sections=[*sections, ("methods", "Methods"), ("commands", "Commands")],
        groups=groups,
        facts=_facts(contents[0]) if len(contents) == 1 else dict.fromkeys(FACTS, ""),
        selected=_alternatives([content.results.select.label for content in contents]),
        chosen=list(dict.fromkeys(chosen_by(one.results) for one in contents if one.results.of_kind("scores"))),
        of_expression=any(set(by_name(EXPRESSION)) <= content.results.scores.keys() for content in contents),
        score_labels=_alternatives([content.score.label for content in contents]),
        ranked=[(content.ranks, sampled(content.ranks), _ranked_by(content)) for content in ranked if content.ranks],
        with_differences=any(content.differences for content in contents),
        versions=[(name, ", ".join(values)) for name, values in versions.items()]
        + [("this report", f"prixfixe {version_of('prixfixe')}")],
        own_command=own_command,
        commands=[(_name(row), row["command"]) for content in contents for row in content.results.rows],
        details=details.lists,
        style=Markup((folder / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
    )


def suffix(number: int) -> str:
    """What stands behind the names of a group's figures and places: nothing behind the first's."""
    return f"-{number}" if number > 1 else ""


def _alternatives(names: Sequence[str]) -> str:
    return " or ".join(dict.fromkeys(names))


def _ranked_by(content: Content) -> str:
    own = content.results.of_kind("scores")
    return " and ".join(own[name].label for name in content.ranks.by_score) if content.ranks else ""


def _group(content: Content, drawings: Sequence[Drawing], details: _Details, ending: str) -> dict[str, Any]:
    """What the page says of one task and data, by the names that the template knows."""
    rows, score = content.combinations.rows, content.score
    heat_maps = [_heat_map(content.combinations, one, details) for one in content.combinations.present_scores]
    states = {state for heat_map in heat_maps for state in heat_map["grid"].states}
    columns = _columns(content)
    fronts = [(name, _front(rows, score, cost)) for cost, name in AXES.items()]
    return {
        "name": content.name,
        "suffix": ending,
        "simulated": _simulated([content]),
        "summary": _summary(content),
        "findings": content.findings,
        "problems": _problems(content),
        "heat_maps": heat_maps,
        "symbols": ", ".join(f"{SYMBOLS[state]} {state}" for state in SYMBOLS if state in states),
        "columns": columns,
        "table": [[_cell(row, column, rank) for column in columns] for rank, row in enumerate(rows, 1)],
        "menus": _menus(rows, columns),
        "table_note": "± is the standard deviation over seeds." if any(row["seeds"] > 1 for row in rows) else "",
        "figures": {drawing.name: _shown(drawing, ending) for drawing in drawings},
        "score_label": score.label,
        "pairs_of_parts": [_pair(effect) for effect in content.effects],
        "rank_sentences": _rank_sentences(content),
        "fronts": [(name, lines) for name, lines in fronts if lines],
    }


def _sections(values: Mapping[str, Any]) -> dict[str, str]:
    """The sections that a group has, by their places: their titles."""
    figures = values["figures"].keys()
    there = {
        "findings": ("Findings", True),
        "grid": ("The grid", bool(values["heat_maps"])),
        "table": ("Table", True),
        "effects": ("What a part is worth", bool(figures & {"effects", "variance", "interactions"})),
        "ranks": (
            "Who is really better",
            bool(figures & {"ranks", "critical_difference"}) or bool(values["rank_sentences"]),
        ),
        "costs": ("What it costs", "costs" in figures),
        "curves": ("Learning curves", "learning_curves" in figures),
    }
    return {id: name for id, (name, shown) in there.items() if shown}


class _Details:
    """What is shown when one points at a cell: each row's once, however many heat maps show it."""

    def __init__(self) -> None:
        self.lists: list[list[tuple[str, str]]] = []
        self._numbers: dict[tuple[int, int], int] = {}

    def row_number(self, row: Row, count: int, scores: Sequence[Score], select: Score) -> int:
        key = id(row), count
        if key not in self._numbers:
            self._numbers[key] = len(self.lists)
            self.lists.append(_details(row, count, scores, select))
        return self._numbers[key]


def _details(row: Row, count: int, scores: Sequence[Score], select: Score) -> list[tuple[str, str]]:
    lines = [(slot, str(row[slot])) for slot in SLOTS]
    lines += [("variant", str(row["variant"]))] if row["variant"] is not None else []
    lines += [("state", STATES.get(row["state"], str(row["state"])))]
    lines += [("reason", str(row["reason"]))] if row["reason"] else []
    lines += [(score.label, _score(row, score)) for score in scores if row.get(score.name) is not None]
    if row.get("epoch") is not None:
        lines += [
            (
                "so far",
                f"{counted(row['epoch'], 'epoch')}, {select.label} "
                f"{select.text(row.get(select.name + SO_FAR))} (not final)",
            )
        ]
    lines += [("parameters", f"{row['parameters']:,}")] if row["parameters"] is not None else []
    lines += [("trained in", duration(row["training_seconds"]))] if row["training_seconds"] is not None else []
    lines += [("seeds", str(row["seeds"]))] if row["seeds"] > 1 else []
    lines += [("the best of", f"{count} that fall on this cell (variants, or sweeps)")] if count > 1 else []
    return lines


def _heat_map(combinations: Results, score: Score, details: _Details) -> dict[str, Any]:
    grid = lay_out(combinations.rows, score)
    values = np.array([cell.value for cell in grid.cells.values() if cell.value is not None])
    colours, norm = colour_scale(values, score)
    styles = {}
    for place, cell in grid.cells.items():
        background = NO_SCORE if cell.value is None else to_hex(colours(norm(cell.value)))
        foreground = "#222222" if cell.value is None else ink(colours(norm(cell.value)))
        styles[place] = f"background:{background};color:{foreground}"
    lower = not score.higher_is_better
    worst, best = (norm.vmax, norm.vmin) if lower else (norm.vmin, norm.vmax)
    stops = [to_hex(colours(x)) for x in np.linspace(*((1, 0) if lower else (0, 1)), 9)]
    return {
        "score": score.name,
        "label": score.label,
        "better": score.direction,
        "log": isinstance(norm, LogNorm),
        "varies": bool(values.size) and float(values.min()) < float(values.max()),
        "worst": score.text(worst),
        "best": score.text(best),
        "stops": ", ".join(stops),
        "grid": grid,
        "styles": styles,
        "details": {
            place: details.row_number(cell.row, cell.count, combinations.present_scores, combinations.select)
            for place, cell in grid.cells.items()
        },
        "row_starts": {start: (name, end - start + 1) for name, start, end in grid.major_rows},
        "column_starts": {start for _, start, _ in grid.major_columns},
    }


def _shown(drawing: Drawing, ending: str) -> dict[str, Any]:
    svg = Markup(as_svg(drawing.figure, f"{drawing.name}{ending}", drawing.alt))
    return {"name": drawing.name, "title": drawing.title, "caption": drawing.caption, "svg": svg}


def _columns(content: Content) -> list[dict[str, Any]]:
    """name, label, whether it is a number, and which way it is sorted first: the best on top."""
    rows = content.combinations.rows
    names = {"rank": "#"} | {slot: slot for slot in SLOTS}
    names |= {"variant": "variant"} if any(row["variant"] is not None for row in rows) else {}
    names |= {"sweep": "sweep"} if len({row["sweep"] for row in rows}) > 1 else {}
    names |= {"seeds": "seeds"} if any(row["seeds"] > 1 for row in rows) else {}
    names |= {"state": "state"} if any(row["state"] != "done" for row in rows) else {}
    scores = {score.name: score for score in content.combinations.present_scores}
    names |= {name: score.label for name, score in scores.items()}
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
    ascending = text | {"rank", "parameters", "training_seconds", "gpu_memory_bytes"}
    ascending |= {name for name, score in scores.items() if not score.higher_is_better}
    return [
        {
            "name": name,
            "score": scores.get(name),
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
    if column["score"]:
        return _score(row, column["score"]), repr(value)
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


def _front(rows: Sequence[Row], score: Score, cost: str) -> list[tuple[str, str, str]]:
    return [(_name(row), f"{row[cost]:,.0f}", _score(row, score)) for row in pareto_front(rows, score, cost)]


def _simulated(contents: Sequence[Content]) -> str:
    begun = [row for content in contents for row in content.results.rows if row["state"] != "missing"]
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
    return {name: known.get(name, "") for name in FACTS}


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
    name += f"+f{row['fold']}" if row.get("fold") is not None else ""
    return name + (f"+seed{row['seed']}" if row["seed"] and row.get("seeds", 1) == 1 else "")


def _score(row: Row, score: Score) -> str:
    spread = row.get(f"{score.name}_sd")
    return score.text(row.get(score.name)) + (f" ± {score.text(spread)}" if spread is not None else "")
