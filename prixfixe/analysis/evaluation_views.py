"""What an evaluation looks like: aligned text for people, CSV for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prixfixe.analysis.evaluation import LEAST_DRAWN, Evaluation, Score, SubsetScores, TableEvaluation, TaskScores
from prixfixe.common.text import csv_cell, printable

TITLES = {
    "pearson_score": "Pearson score",
    "spearman_score": "Spearman score",
    "pearson_r": "Pearson r",
    "spearman_rho": "Spearman rho",
    "mse": "MSE",
    "kl": "KL",
}


def headline(evaluation: Evaluation | TableEvaluation) -> list[dict[str, Any]]:
    """What a table of several models shows of one: the weighted scores, or a plain table's scores, task by task."""
    if isinstance(evaluation, Evaluation):
        return [{"pearson_score": evaluation.pearson_score.value, "spearman_score": evaluation.spearman_score.value}]
    return [
        {
            "task": task.name,
            "pearson_r": task.pearson_r.value,
            "spearman_rho": task.spearman_rho.value,
            "mse": task.mse,
            "kl": task.kl,
        }
        for task in evaluation.tasks
    ]


def one_line(row: dict[str, Any], *, with_task: bool) -> str:
    text = "  ".join(
        f"{TITLES[name]} {four_decimals(row[name])}" for name in row if name in TITLES and row[name] is not None
    )
    return f"{row['task']}: {text}" if with_task else text


def format_table(evaluation: Evaluation | TableEvaluation) -> str:
    """For people, aligned: the weighted scores and a line for each subset, or a line for each task of a plain table."""
    return format_subsets(evaluation) if isinstance(evaluation, Evaluation) else format_tasks(evaluation)


def format_tasks(evaluation: TableEvaluation) -> str:
    n = evaluation.tasks[0].n
    errors = {"MSE": [task.mse for task in evaluation.tasks], "KL": [task.kl for task in evaluation.tasks]}
    errors = {title: values for title, values in errors.items() if None not in values}
    lines = [["task", "r", "", "r^2", "rho", *errors]]
    for index, task in enumerate(evaluation.tasks):
        name = task.name if task.name == task.column else f"{task.name} ({task.column})"
        scores = [task.r_squared, task.spearman_rho.value, *(values[index] for values in errors.values())]
        lines.append(
            [name, four_decimals(task.pearson_r.value), _interval(task.pearson_r), *map(four_decimals, scores)]
        )
    text = [f"{n:,} sequences", "", *aligned(lines), ""]
    if any(task.name != task.column for task in evaluation.tasks):
        text.append("In parentheses: the column that the task is compared with.")
    if evaluation.bootstrap_samples:
        text.append(
            f"In brackets: 95 % interval by {evaluation.bootstrap_samples:,} bootstrap samples of as many (expanded "
            f"percentiles); none of fewer than {LEAST_DRAWN} rows."
        )
    if not errors:
        text.append("Correlations only; --same-scale adds the errors, where units are the same.")
    return "\n".join(text).rstrip() + "\n"


def format_subsets(evaluation: Evaluation) -> str:
    with_mse = any(subset.mse is not None for subset in evaluation.subsets)
    subsets = [["subset", "n", "weight", "r", "", "r^2", "rho", "", *(["MSE"] if with_mse else [])]]
    for subset in evaluation.subsets:
        row = [
            subset.name,
            f"{subset.n:,} {'pairs' if subset.pairs else 'sequences'}",
            f"{subset.weight:g}",
            four_decimals(subset.pearson_r.value),
            _interval(subset.pearson_r),
            four_decimals(subset.r_squared),
            four_decimals(subset.spearman_rho.value),
            _interval(subset.spearman_rho),
        ]
        subsets.append([*row, four_decimals(subset.mse)] if with_mse else row)
    weighted = [
        [name, four_decimals(score.value), _interval(score)]
        for name, score in (("Pearson score", evaluation.pearson_score), ("Spearman score", evaluation.spearman_score))
    ]
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


def format_models(rows: Sequence[Mapping[str, Any]], *, with_task: bool) -> str:
    """A table of several models, from their rows of `headline` with the run's name; scores that none has are left
    out."""
    scores = [name for name in rows[0] if name in TITLES and any(row[name] is not None for row in rows)]
    texts = ["run", *(["task"] if with_task else [])]
    lines = [[*texts, *(TITLES[name] for name in scores)]]
    lines += [[*(row[name] for name in texts), *(four_decimals(row[name]) for name in scores)] for row in rows]
    return "\n".join(aligned(lines, left=len(texts))) + "\n"


def format_csv(evaluation: Evaluation | TableEvaluation) -> str:
    """For programs, in long form: each score of each subset, then the weighted scores; of a plain table, each score of
    each task."""
    rows: list[dict[str, Any]] = []
    of = "subset" if isinstance(evaluation, Evaluation) else "task"

    def add(name: str, score: str, value: Score | float, **rest: Any) -> None:
        number, interval = (value.value, value.interval) if isinstance(value, Score) else (value, None)
        low, high = interval or (None, None)
        rows.append({of: name, "score": score, "value": number, "low": low, "high": high, **rest})

    for one in evaluation.subsets if isinstance(evaluation, Evaluation) else evaluation.tasks:
        about = {
            "n": one.n,
            **({"pairs": one.pairs, "weight": one.weight} if isinstance(one, SubsetScores) else {"column": one.column}),
        }
        add(one.name, "pearson_r", one.pearson_r, **about)
        add(one.name, "r_squared", one.r_squared, **about)
        add(one.name, "spearman_rho", one.spearman_rho, **about)
        if one.mse is not None:
            add(one.name, "mse", one.mse, **about)
        if isinstance(one, TaskScores) and one.kl is not None:
            add(one.name, "kl", one.kl, **about)
    if isinstance(evaluation, Evaluation):
        rows += [{"subset": name} for name in evaluation.absent]
        add("weighted", "pearson_score", evaluation.pearson_score)
        add("weighted", "spearman_score", evaluation.spearman_score)
    return csv_text(
        rows, [of, "score", "value", "low", "high", "n", *(["pairs", "weight"] if of == "subset" else ["column"])]
    )


def csv_text(rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([csv_cell(row.get(column)) for column in columns] for row in rows)
    return file.getvalue()


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> Iterable[str]:
    """The first column, or so many, to the left, the others to the right."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        cells[:left] = [cell.ljust(width) for cell, width in zip(row[:left], widths[:left], strict=True)]
        yield "  ".join(cells).rstrip()


def four_decimals(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.4f}"


def _interval(score: Score) -> str:
    return f"[{score.interval[0]:.3f}, {score.interval[1]:.3f}]" if score.interval else ""
