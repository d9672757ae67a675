"""The report as one HTML page that needs nothing else: no network, no library, no second file."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.colors import LogNorm, to_hex

from prixfixe.analysis.costs import pareto_front
from prixfixe.analysis.effects import holm, p_text
from prixfixe.analysis.filter import MORE_IS_BETTER
from prixfixe.analysis.grid import SYMBOLS, lay_out
from prixfixe.analysis.results import COSTS, Results, Row, combination
from prixfixe.analysis.same_data import some_of
from prixfixe.analysis.tables import Table
from prixfixe.analysis.views import chosen_by, effect_table
from prixfixe.common.text import counted
from prixfixe.common.version import version_of
from prixfixe.figures.costs import AXES
from prixfixe.figures.heat_map import NO_SCORE, colour_scale
from prixfixe.figures.ranks import sampled
from prixfixe.figures.style import as_svg, ink
from prixfixe.report.content import FACTS, Content
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
MOST_PAIRS = 12  # pairs of models named in a sentence


def page(contents: Sequence[Content], drawings: Sequence[Sequence[Drawing]], title: str, own_command: str) -> str:
    """The whole page, one task and data after the other. Everything that comes from a run folder is escaped."""
    folder = files("prixfixe.report")
    script = (folder / "report.js").read_text(encoding="utf-8")
    details: list[list[tuple[str, str]]] = []
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals["zip"] = zip
    of_group = environment.from_string((folder / "group.html").read_text(encoding="utf-8"))
    groups, sections = [], []
    for number, (content, drawn) in enumerate(zip(contents, drawings, strict=True), 1):
        values = _group(content, drawn, details, suffix(number))
        own = _sections(values)
        groups.append(Markup(of_group.render(values, sections=own)))
        sections += [(f"part{suffix(number)}", content.name)] if content.name else [*own.items()]
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
        details=details,
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


def _group(
    content: Content, drawings: Sequence[Drawing], details: list[list[tuple[str, str]]], ending: str
) -> dict[str, Any]:
    """What the page says of one task and data, by the names that the template knows. details: of the rows, to which
    those of this group are added."""
    rows, score = content.combinations.rows, content.score
    table = _runs_table(content)
    number = {id(row): len(details) + place for place, row in enumerate(rows)}
    details += _details(table, rows)
    heat_maps = [_heat_map(content.combinations, one, number) for one in content.combinations.present_scores]
    states = {state for heat_map in heat_maps for state in heat_map["grid"].states}
    fronts = [_front(rows, score, cost, name) for cost, name in AXES.items()]
    note = "± is the standard deviation over seeds." if any(row["seeds"] > 1 for row in rows) else ""
    so_far = any(row.get("epoch") is not None for row in rows)
    return {
        "name": content.name,
        "suffix": ending,
        "simulated": _simulated([content]),
        "summary": _summary(content),
        "findings": content.analysis.findings,
        "problems": _problems(content),
        "heat_maps": heat_maps,
        "symbols": ", ".join(f"{SYMBOLS[state]} {state}" for state in SYMBOLS if state in states),
        "runs": table,
        "columns": [
            *zip(
                table.columns,
                table.header(),
                table.left(),
                [_first(column, table.scores) for column in table.columns],
                strict=True,
            )
        ],
        "menus": _menus(rows, table.columns),
        "table_note": note + " ~ is that of the last epoch so far." * so_far,
        "figures": {drawing.name: _shown(drawing, ending) for drawing in drawings},
        "pairs_of_parts": effect_table(content.analysis.effects, score) if content.analysis.effects else None,
        "rank_sentences": _rank_sentences(content),
        "fronts": [front for front in fronts if front.rows],
    }


def _sections(values: Mapping[str, Any]) -> dict[str, str]:
    """The sections that a group has, by their places: their titles."""
    figures = values["figures"].keys()
    shown = {
        "findings": ("Findings", True),
        "grid": ("The grid", values["heat_maps"]),
        "table": ("Table", True),
        "effects": ("What a part is worth", figures & {"effects", "variance", "interactions"}),
        "ranks": ("Who is really better", figures & {"ranks", "critical_difference"} or values["rank_sentences"]),
        "costs": ("What it costs", "costs" in figures),
        "curves": ("Learning curves", "learning_curves" in figures),
    }
    return {id: name for id, (name, there) in shown.items() if there}


def _runs_table(content: Content) -> Table:
    """One row a combination, with what tells some of them apart, and what at least one of them has."""
    rows = [{"rank": rank, **row} for rank, row in enumerate(content.combinations.rows, 1)]
    scores = by_name(content.combinations.present_scores)
    usual = {"variant": None, "sweep": rows[0]["sweep"], "seeds": 1, "state": "done"} if rows else {}
    apart = [column for column, value in usual.items() if any(row[column] != value for row in rows)]
    rest = [column for column in (*COSTS, "reason") if any(row.get(column) is not None for row in rows)]
    return Table("", ["rank", *SLOTS, *apart, *scores, *rest], rows, labels={"rank": "#"}, scores=scores)


def _first(column: str, scores: Mapping[str, Score]) -> str:
    """Which way a column is sorted first: the best on top."""
    more = scores[column].higher_is_better if column in scores else column in MORE_IS_BETTER
    return "descending" if more else "ascending"


def _details(table: Table, rows: Sequence[Row]) -> list[list[tuple[str, str]]]:
    """What is shown when one points at a cell, of each row."""
    columns = dict.fromkeys((*SLOTS, "variant", "state", "epoch", *table.columns[1:]))
    every = replace(table, columns=[*columns], rows=rows)
    on_a_cell = Counter(tuple(row[slot] for slot in SLOTS) for row in rows)
    found = []
    for row, texts in zip(rows, every.body(), strict=True):
        lines = [line for line in zip(every.header(), texts, strict=True) if line[1] not in ("-", "None")]
        count = on_a_cell[tuple(row[slot] for slot in SLOTS)]
        lines += [("the best of", f"{count} that fall on this cell (variants, or sweeps)")] if count > 1 else []
        found.append(lines)
    return found


def _heat_map(combinations: Results, score: Score, number: Mapping[int, int]) -> dict[str, Any]:
    """number: of a row's details, by the row's identity."""
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
        "details": {place: number[id(cell.row)] for place, cell in grid.cells.items()},
        "row_starts": {start: (name, end - start + 1) for name, start, end in grid.major_rows},
        "column_starts": {start for _, start, _ in grid.major_columns},
    }


def _shown(drawing: Drawing, ending: str) -> dict[str, Any]:
    svg = Markup(as_svg(drawing.figure, f"{drawing.name}{ending}", drawing.alt))
    return {"name": drawing.name, "title": drawing.title, "caption": drawing.caption, "svg": svg}


def _menus(rows: Sequence[Row], columns: Sequence[str]) -> dict[str, list[str]]:
    wanted = [column for column in columns if column in {*SLOTS, "variant", "sweep", "state"}]
    return {name: sorted({str(row[name]) for row in rows if row[name] is not None}) for name in wanted}


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
        _beside(beside_first, len(names)),
        f"{len(pairs):,} of {total:,} pairs cannot be told apart: neither is ahead in 97.5 % of the samples.",
    ]
    if len(pairs) <= MOST_PAIRS and len(pairs) > len(beside_first):
        sentences.append("These are " + "; ".join(f"{names[i]} and {names[j]}" for i, j in pairs) + ".")
    sentences += [f"Not ranked: {some_of(ranks.left_out, ' and ', MOST_PAIRS)}."] if ranks.left_out else []
    slots = {slot: one for slot, one in content.differences.items() if not slot.startswith("combinations")}
    for (slot, one), p in zip(slots.items(), holm([one.p for one in slots.values()]), strict=True):
        if p is not None and p < 0.05:
            sentences.append(
                f"The {slot.partition(':')[0]} choices differ in average rank over {one.blocks} {one.over} "
                f"({p_text(p)} after correction, Friedman)."
            )
    return sentences


def _beside(names: Sequence[str], total: int) -> str:
    """Who cannot be told apart from the first of so many."""
    if not names:
        return "It is ahead of every other one in more than 97.5 % of the samples."
    several = f"{len(names)} of the other {total - 1}"
    return (
        f"{several if len(names) > MOST_PAIRS else some_of(names, ' and ', MOST_PAIRS)} cannot be told apart from it."
    )


def _front(rows: Sequence[Row], score: Score, cost: str, name: str) -> Table:
    front = [{"combination": _name(row), **row} for row in pareto_front(rows, score, cost)]
    title = f"Pareto front: {score.label} against {name}"
    columns = ("combination", cost, score.name)
    return Table(title, columns, front, labels={cost: name}, scores={score.name: score})


def _simulated(contents: Sequence[Content]) -> str:
    begun = [row for content in contents for row in content.results.rows if row["state"] != "missing"]
    count = sum(bool(row["simulated"]) for row in begun)
    return "" if not count else "all runs" if count == len(begun) else f"{count} of {len(begun)} runs"


def _facts(content: Content) -> dict[str, str]:
    """What the runs' metrics say, in words: one value, "a or b", or "first to last"."""
    known = dict.fromkeys(FACTS, "")
    for name in FACTS:
        if texts := [f"{value:,}" if isinstance(value, int) else str(value) for value in content.facts.get(name, ())]:
            known[name] = " or ".join(texts) if len(texts) < 3 else f"{texts[0]} to {texts[-1]}"
    if known["epochs"]:
        known["epochs"] += " epoch" if known["epochs"] == "1" else " epochs"
    return known


def _summary(content: Content) -> str:
    rows = content.combinations.rows
    counts = {words: sum(row["state"] == state for row in rows) for state, words in STATES.items()}
    parts = [f"{counts.pop('done')} of {counted(len(rows), 'combination')} done"]
    parts += [f"{count} {words}" for words, count in counts.items() if count]
    runs, last = content.results.rows, content.facts.get("ended", [])
    averaged = f" ({counted(len(runs), 'run')}, seeds averaged)" if len(runs) > len(rows) else ""
    ended = f" The last run ended {last[-1][:16].replace('T', ' ')} UTC." if last else ""
    return f"{', '.join(parts)}{averaged}.{ended}"


def _problems(content: Content) -> list[str]:
    lines = []
    for row in content.results.others:
        if row["state"] != "missing":
            epoch = f" (epoch {row['epoch']} so far)" if row.get("epoch") is not None else ""
            reason = f": {row['reason']}" if row["reason"] else ""
            lines.append(f"{_name(row)}: {STATES.get(row['state'], row['state'])}{epoch}{reason}")
    missing = [_name(row) for row in content.results.others if row["state"] == "missing"]
    lines += [f"never started: {some_of(missing, ' and ', MOST_PAIRS)}"] if missing else []
    return [*lines, *(f"damaged: {problem}" for problem in content.problems)]


def _name(row: Row) -> str:
    name = combination(row)
    name += f"+f{row['fold']}" if row.get("fold") is not None else ""
    return name + (f"+seed{row['seed']}" if row["seed"] and row.get("seeds", 1) == 1 else "")
