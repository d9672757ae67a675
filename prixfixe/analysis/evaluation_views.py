"""What an evaluation looks like: aligned text for people, CSV for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from prixfixe.analysis import tables
from prixfixe.analysis.evaluation import LEAST_DRAWN, Evaluation, Interval, TableEvaluation, TaskScores
from prixfixe.analysis.tables import csv_lines
from prixfixe.common.text import printable
from prixfixe.tasks.scores import EXPRESSION, KL, MSE, PEARSON, SPEARMAN, WEIGHTED, by_name
from prixfixe.tasks.scores import Score as ScoreOfTask


def headline(evaluation: Evaluation | TableEvaluation) -> tuple[list[dict[str, Any]], dict[str, ScoreOfTask]]:
    """What a table of several models shows of one: the weighted scores, or a plain table's scores, task by task; and
    which scores these are, what chooses models first."""
    if isinstance(evaluation, Evaluation):
        weighted = by_name(WEIGHTED)
        return [{name: getattr(evaluation, name).value for name in weighted}], weighted
    expression = evaluation.scores == EXPRESSION
    scores = by_name((PEARSON, SPEARMAN, MSE, KL) if expression else evaluation.scores)
    return [{"task": task.name, **{name: task.value(name) for name in scores}} for task in evaluation.tasks], scores


def one_line(row: Mapping[str, Any], scores: Mapping[str, ScoreOfTask], *, with_task: bool) -> str:
    shown = {name: score for name, score in scores.items() if row[name] is not None}
    text = "  ".join(f"{score.label} {four_decimals(row[name])}" for name, score in shown.items())
    return f"{row['task']}: {text}" if with_task else text


def format_table(evaluation: Evaluation | TableEvaluation) -> str:
    """For people, aligned: the weighted scores and a line for each subset, or a line for each task of a plain table."""
    return format_subsets(evaluation) if isinstance(evaluation, Evaluation) else format_tasks(evaluation)


def format_tasks(evaluation: TableEvaluation) -> str:
    """A line for each task; of other scores than expression's, a line for each score of each task."""
    tasks = evaluation.tasks
    names = [task.name if task.name == task.column else f"{task.name} ({task.column})" for task in tasks]
    expression, errors = evaluation.scores == EXPRESSION, []
    ceilings = [task.ceiling for task in tasks if task.ceiling]
    lines: list[list[str]] = []
    if expression:
        errors = [score for score in (MSE, KL) if all(task.value(score.name) is not None for task in tasks)]
        of_ceiling = ["ceiling of r", ""] if ceilings else []
        lines.append(["task", "r", "", *of_ceiling, "r^2", "rho", *(score.label for score in errors)])
        for name, task in zip(names, tasks, strict=True):
            numbers = map(task.value, ("r_squared", SPEARMAN.name, *(score.name for score in errors)))
            r = [four_decimals(task.value(PEARSON.name)), _interval(task.interval(PEARSON.name))]
            if ceilings and (known := task.ceiling):
                r += [four_decimals(known.value), _interval((known.low, known.high))]
            lines.append([name, *r, *[""] * (2 * bool(ceilings) + 2 - len(r)), *map(four_decimals, numbers)])
    else:
        for name, task in zip(names, tasks, strict=True):
            lines += [[*([name] * (len(tasks) > 1)), *cells] for cells in _score_lines(task, evaluation.scores)]
    text = [f"{tasks[0].n:,} sequences", "", *aligned(lines, left=1 if expression or len(tasks) < 2 else 2), ""]
    if any(task.name != task.column for task in tasks):
        text.append("In parentheses: the column that the task is compared with.")
    if evaluation.bootstrap_samples:
        text.append(
            f"In brackets: 95 % interval by {evaluation.bootstrap_samples:,} bootstrap samples of as many (expanded "
            f"percentiles); none of fewer than {LEAST_DRAWN} rows."
        )
    if ceilings:
        rows = " and ".join(dict.fromkeys(f"{known.rows:,}" for known in ceilings))
        text.append(f"Ceiling of r: what a perfect prediction would reach, by {rows} rows that repeat a sequence.")
    if expression and not errors:
        text.append("Correlations only; --same-scale adds the errors, where units are the same.")
    return "\n".join(text).rstrip() + "\n"


def _score_lines(task: TaskScores, scores: Sequence[ScoreOfTask]) -> list[list[str]]:
    return [[one.label, four_decimals(task.value(one.name)), _interval(task.interval(one.name))] for one in scores]


def format_subsets(evaluation: Evaluation) -> str:
    with_mse = any(subset.mse is not None for subset in evaluation.subsets)
    subsets = [["subset", "n", "weight", "r", "", "r^2", "rho", "", *(["MSE"] if with_mse else [])]]
    for subset in evaluation.subsets:
        row = [subset.name, f"{subset.n:,} {'pairs' if subset.pairs else 'sequences'}", f"{subset.weight:g}"]
        row += [four_decimals(subset.pearson_r.value), _interval(subset.pearson_r.interval)]
        row += [four_decimals(subset.r_squared)]
        row += [four_decimals(subset.spearman_rho.value), _interval(subset.spearman_rho.interval)]
        subsets.append([*row, four_decimals(subset.mse)] if with_mse else row)
    scores = [(score.label, getattr(evaluation, score.name)) for score in WEIGHTED]
    weighted = [[label, four_decimals(score.value), _interval(score.interval)] for label, score in scores]
    lines = [*aligned(weighted), "", *aligned(subsets), ""]
    if any(subset.pairs for subset in evaluation.subsets):
        lines.append("Pairs are scored by their differences in expression, alternative minus reference.")
    if evaluation.absent:
        absent = ", ".join(evaluation.absent)
        lines.append(f"Not in this test set: {absent}; the weights are renormalised over the others.")
    if evaluation.bootstrap_samples:
        lines.append(
            f"In brackets: 2.5th to 97.5th percentile over {evaluation.bootstrap_samples:,} bootstrap samples of "
            f"10 %, rows of a pair together; none where a sample has fewer than {LEAST_DRAWN} of a subset."
        )
    return "\n".join(lines).rstrip() + "\n"


def format_models(rows: Sequence[Mapping[str, Any]], titles: Mapping[str, ScoreOfTask], *, with_task: bool) -> str:
    """A table of several models, from their rows of `headline` with the run's name; scores that none has are left
    out."""
    scores = [name for name in titles if any(row.get(name) is not None for row in rows)]
    texts = ["run", *(["task"] if with_task else [])]
    lines = [[*texts, *(titles[name].label for name in scores)]]
    lines += [[*(row[name] for name in texts), *(four_decimals(row.get(name)) for name in scores)] for row in rows]
    return "\n".join(aligned(lines, left=len(texts))) + "\n"


def format_csv(evaluation: Evaluation | TableEvaluation) -> str:
    """For programs, in long form: each score of each subset, then the weighted scores; of a plain table, each score of
    each task."""
    of_subsets = isinstance(evaluation, Evaluation)
    of, about = ("subset", ("n", "pairs", "weight")) if of_subsets else ("task", ("n", "column"))
    if isinstance(evaluation, Evaluation):
        parts = [asdict(subset) for subset in evaluation.subsets] + [{"name": name} for name in evaluation.absent]
        parts.append({"name": "weighted"} | {one.name: asdict(getattr(evaluation, one.name)) for one in WEIGHTED})
    else:
        parts = [task.to_dict() for task in evaluation.tasks]
    rows: list[dict[str, Any]] = []
    for part in parts:
        known = {of: part.pop("name")} | {name: part.pop(name) for name in about if name in part}
        rows += [] if part else [known]
        for score, value in part.items():
            number, interval = (value["value"], value["interval"]) if isinstance(value, dict) else (value, None)
            low, high = interval or (None, None)
            if value is not None:
                rows.append({**known, "score": score, "value": number, "low": low, "high": high})
    return csv_lines(rows, [of, "score", "value", "low", "high", *about])


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> Iterable[str]:
    """The first column, or so many, to the left, the others to the right."""
    printed = [[printable(cell) for cell in row] for row in rows]
    return tables.aligned(printed, [column < left for column in range(len(rows[0]))])


def four_decimals(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.4f}"


def _interval(interval: Interval | None) -> str:
    return f"[{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
