"""`prixfixe evaluate`: the scores of a run, or of any table of predictions, on a test set or on a plain table."""

from __future__ import annotations

import argparse
import csv
import functools
import io
import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prixfixe.files import output_file
from prixfixe.simulated import SIMULATED

if TYPE_CHECKING:
    import numpy as np

    from prixfixe.data.testset import TestSet
    from prixfixe.evaluation import Evaluation, Score, TableEvaluation
    from prixfixe.model import Model

HELP = "score a run, a sweep, or a table of predictions, on a test set or a plain table"

DESCRIPTION = """\
Scores a run folder, or any program's table of sequence and prediction. On a plain table of sequence and expression:
Pearson r, r squared and Spearman rho over all rows, for each task of a run with several. On the folder of a test set: those
of each subset (of pairs: of the differences in expression), and the weighted Pearson and Spearman scores. Weights are
renormalised over the subsets that the test set has. A run's scores and predictions are also kept in its folder, as
evaluation.json and test.npz: `prixfixe results` shows and compares them.
"""

FORMATS = ("table", "csv", "json")
TITLES = {
    "pearson_score": "Pearson score",
    "spearman_score": "Spearman score",
    "pearson_r": "Pearson r",
    "spearman_rho": "Spearman rho",
    "mse": "MSE",
    "kl": "KL",
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.add_argument("predictions", metavar="RUN-or-PREDICTIONS", type=Path, help="run folder, sweep folder (all its runs), or a table")
    parser.add_argument("test_set", metavar="TESTSET", type=Path, help="a table (TSV, CSV, Parquet), or a test set's folder")
    parser.add_argument("--sequence", metavar="COLUMN", help="TESTSET is a table: its column of sequences")
    parser.add_argument("--expression", metavar="COLUMN", action="append", help="its column of expression; again for further tasks")
    parser.add_argument("-o", "--output", metavar="FILE", type=output_file, help="write there, not to standard output")
    parser.add_argument("--format", choices=FORMATS, help="default: by FILE's ending, or else table")
    parser.add_argument("--column", metavar="NAME", help="column of predictions, where the table has several")
    parser.add_argument("--without-leaderboard", action="store_true", help="leave out what the public leaderboard showed")
    parser.add_argument("--same-scale", action="store_true", help="predictions are in TESTSET's own units: report MSE (and KL), too")
    parser.add_argument("--bootstrap", metavar="N", type=sample_count, help="bootstrap samples (10,000; of a table 1,000); 0: none")


def run(args: argparse.Namespace) -> int:
    from prixfixe.errors import InputError
    from prixfixe.files import write_text

    path: Path = args.predictions
    if not path.exists():
        raise InputError(f"{path}: no such run folder, sweep or table of predictions")
    read = reader(args)
    suffix = args.output.suffix.removeprefix(".").lower() if args.output else ""
    form = args.format or (suffix if suffix in FORMATS else "table")
    if path.is_dir() and not (path / "config.yaml").exists():
        text = evaluate_sweep(args, read, form)
    else:
        content, evaluation = evaluate_one(args, path, read)
        if form == "json":
            text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        elif form == "csv":
            text = format_csv(evaluation)
        else:
            text = (f"{SIMULATED}\n\n" if content["simulated"] else "") + format_table(evaluation)
    if args.output:
        write_text(args.output, text)
    else:
        sys.stdout.write(text)
    return 0


Reader = Callable[[tuple[str, ...] | None], "TestSet"]


def reader(args: argparse.Namespace) -> Reader:
    """What gives the test set, each time the same: of a plain table, with the named expression columns, or None for what is found."""
    from prixfixe.data.testset import read_test_set, read_test_table
    from prixfixe.errors import InputError

    path: Path = args.test_set
    if not path.exists():
        raise InputError(f"{path}: no such test set; give a table of sequence and expression, or a test set's folder")
    if path.is_dir():
        if args.sequence or args.expression:
            raise InputError(f"--sequence and --expression choose columns of a plain table: leave them out, since {path} is a folder")
        test_set = read_test_set(path, without_leaderboard=args.without_leaderboard)
        return lambda columns: test_set
    if args.without_leaderboard:
        raise InputError(f"{path} is a plain table, which the public leaderboard has no part in: leave out --without-leaderboard")
    return functools.cache(lambda columns: read_test_table(path, sequence=args.sequence, expression=columns))


def evaluate_one(args: argparse.Namespace, path: Path, read: Reader) -> tuple[dict[str, Any], Evaluation | TableEvaluation]:
    """Scores one run or table; a run's scores and predictions are kept in its folder. Returns evaluation.json's content, too."""
    from prixfixe.errors import InputError
    from prixfixe.evaluation import BOOTSTRAP_SAMPLES, TABLE_BOOTSTRAP_SAMPLES, evaluate, evaluate_table
    from prixfixe.files import write_arrays, write_json
    from prixfixe.run_folder import RunFolder

    folder = RunFolder(path) if path.is_dir() else None
    tasks = tuple(folder.read_json(folder.targets_file).get("tasks", ())) if folder else ()
    about: dict[str, Any] = {"model": str(path), "test_set": str(args.test_set)}
    evaluation: Evaluation | TableEvaluation
    if args.test_set.is_dir():
        if len(tasks) > 1:
            raise InputError(
                f"{path}: the run predicts {len(tasks)} tasks ({', '.join(tasks)}), and the folder of a test set measures one: "
                "give a plain table with a column for each"
            )
        test_set = read(None)
        predictions, _ = _predictions(args, path, test_set, with_kl=False)
        samples = BOOTSTRAP_SAMPLES if args.bootstrap is None else args.bootstrap
        evaluation = evaluate(test_set, predictions, bootstrap=samples, same_scale=args.same_scale)
        about["without_leaderboard"] = args.without_leaderboard
        subsets = {f"subset_{name}": rows for name, rows in test_set.subsets.items()}
    else:
        test_set = read(_expression_columns(args, path, tasks))
        predictions, kl = _predictions(args, path, test_set, with_kl=args.same_scale)
        samples = TABLE_BOOTSTRAP_SAMPLES if args.bootstrap is None else args.bootstrap
        names = tasks if len(tasks) > 1 else test_set.tasks
        evaluation = evaluate_table(test_set, predictions, names=names, bootstrap=samples, same_scale=args.same_scale, kl=kl)
        subsets = {}
    content = {**about, "simulated": test_set.simulated, **evaluation.to_dict()}
    if folder:
        measured, name = test_set.expression, test_set.fingerprint()
        write_arrays(folder.test_file, measured=measured, predicted=predictions, test_set=name, **subsets)
        write_json(folder.evaluation_file, content)
    return content, evaluation


def evaluate_sweep(args: argparse.Namespace, read: Reader, form: str) -> str:
    """Scores every run of a sweep that is done, a line each on standard error; returns the table of scores, best first."""
    from prixfixe.errors import InputError
    from prixfixe.run_folder import RunFolder

    runs = [RunFolder(file.parent) for file in sorted(args.predictions.glob("*/status.json"))]
    done = [run for run in runs if run.status().get("state") == "done"]
    if not done:
        raise InputError(f"{args.predictions}: no run folder, and no sweep with a run that is done")
    contents: list[dict[str, Any]] = []
    groups: list[list[dict[str, Any]]] = []  # each run's rows, one or, of a plain table, one a task
    for number, run in enumerate(done, 1):
        content, evaluation = evaluate_one(args, run.path, read)
        contents.append({"run": run.name, **content})
        groups.append([{"run": run.name, **scores} for scores in _headline(evaluation)])
        shown = [_one_line(row, with_task=len(groups[-1]) > 1) for row in groups[-1]]
        print(f"[{number}/{len(done)}] {run.name:<52} {'; '.join(shown)}", file=sys.stderr, flush=True)
    if form == "json":
        return json.dumps(contents, indent=2, allow_nan=False) + "\n"
    first_score = next(name for name in groups[0][0] if name in TITLES)
    groups.sort(key=lambda group: -mean if (mean := sum(row[first_score] for row in group) / len(group)) == mean else math.inf)
    rows = [row for group in groups for row in group]
    if form == "csv":
        return _csv(rows, list(rows[0]))
    scores = [name for name in rows[0] if name in TITLES and any(row[name] is not None for row in rows)]
    texts = ["run", *(["task"] if max(map(len, groups)) > 1 else [])]
    lines = [[*texts, *(TITLES[name] for name in scores)]]
    lines += [[*(row[name] for name in texts), *(_number(row[name]) for name in scores)] for row in rows]
    simulated = any(content["simulated"] for content in contents)
    return (f"{SIMULATED}\n\n" if simulated else "") + "\n".join(_aligned(lines, left=len(texts))) + "\n"


def _headline(evaluation: Evaluation | TableEvaluation) -> list[dict[str, Any]]:
    """What a table of several models shows of one: the weighted scores, or a plain table's scores, task by task."""
    from prixfixe.evaluation import Evaluation

    if isinstance(evaluation, Evaluation):
        return [{"pearson_score": evaluation.pearson_score.value, "spearman_score": evaluation.spearman_score.value}]
    return [
        {"task": task.name, "pearson_r": task.pearson_r.value, "spearman_rho": task.spearman_rho.value, "mse": task.mse, "kl": task.kl}
        for task in evaluation.tasks
    ]


def _one_line(row: dict[str, Any], *, with_task: bool) -> str:
    text = "  ".join(f"{TITLES[name]} {_number(row[name])}" for name in row if name in TITLES and row[name] is not None)
    return f"{row['task']}: {text}" if with_task else text


def _expression_columns(args: argparse.Namespace, path: Path, tasks: tuple[str, ...]) -> tuple[str, ...] | None:
    """The plain table's columns that a run's tasks are compared with, in their order; None where `read_measurements` is to find one.

    They are those asked for, or else the ones that are named as the tasks are.
    """
    from prixfixe.data.tables import first_row
    from prixfixe.errors import InputError

    asked, named = tuple(args.expression or ()), ", ".join(tasks)
    if not asked:
        names, has_header = first_row(args.test_set)
        if tasks and set(tasks) <= set(names):
            return tasks
        if len(tasks) > 1:
            has = (
                f"the columns {', '.join(names)}: say which are meant, --expression COLUMN for each task"
                if has_header
                else "no header to find them by"
            )
            raise InputError(f"{path}: the run predicts {len(tasks)} tasks ({named}), and {args.test_set} has {has}")
        return None
    if len(tasks) > 1 and set(asked) == set(tasks):
        return tasks
    if len(asked) != max(1, len(tasks)):
        what = f"the run predicts {len(tasks)} task{'s' * (len(tasks) > 1)} ({named})" if tasks else "a table of predictions holds one task"
        given = f"{len(asked)} column{'s' * (len(asked) > 1)} of expression {'are' if len(asked) > 1 else 'is'} given ({', '.join(asked)})"
        raise InputError(f"{path}: {what}, and {given}: give --expression COLUMN once for each task")
    if wrong := [column for column, task in zip(asked, tasks, strict=False) if len(tasks) > 1 and column in tasks and column != task]:
        raise InputError(f"{path}: {wrong[0]} is the name of another task; give --expression in the order of the run's tasks, {named}")
    return asked


def _predictions(args: argparse.Namespace, path: Path, test_set: TestSet, *, with_kl: bool) -> tuple[np.ndarray, list[float] | None]:
    """Predictions of the shape of the measurements and, on request and of a run, the KL divergence of each task."""
    import numpy as np

    from prixfixe.errors import InputError
    from prixfixe.evaluation import read_predictions

    if not path.is_dir():
        return read_predictions(path, test_set, column=args.column), None

    import prixfixe

    model = prixfixe.load(path)
    if longer := int((test_set.sequences.lengths > model.recipe.longest).sum()):
        print(f"warning: {model.recipe.cut_off(longer, len(test_set))}", file=sys.stderr)
    predictions, kl = _with_divergences(model, path, test_set) if with_kl else (model.predict_sequences(test_set.sequences), None)
    if not np.isfinite(predictions).all():
        raise InputError(f"{path}: the run predicts values that are not finite")
    return predictions, kl


def _with_divergences(model: Model, path: Path, test_set: TestSet) -> tuple[np.ndarray, list[float]]:
    """A run's predictions and the KL divergence of each task, as training computes it."""
    import numpy as np

    from prixfixe.experiment import load_targets
    from prixfixe.run_folder import RunFolder
    from prixfixe.scoring import AT_ONCE, predict, score

    n, rows, bins = len(test_set), model.chunk_rows(), load_targets(RunFolder(path)).bins
    expressions, log_probs = [], []
    for start in range(0, n, rows):
        samples = model.recipe.load(test_set.sequences[start : start + rows], model.device)
        expression, binned = predict(model.network, model.recipe, samples, batch_size=AT_ONCE[model.device.type])
        expressions.append(expression)
        log_probs += [] if binned is None else [binned.reshape(len(binned), -1, bins.number)]
    predictions = np.concatenate(expressions)
    by_task = zip(test_set.expression.reshape(n, -1).T, predictions.reshape(n, -1).T, strict=True)
    binned_by_task = np.concatenate(log_probs) if log_probs else None  # (n, tasks, bins)
    kl = [
        score(measured, expression, None if binned_by_task is None else binned_by_task[:, task], bins)["kl"]
        for task, (measured, expression) in enumerate(by_task)
    ]
    return predictions, kl


def format_table(evaluation: Evaluation | TableEvaluation) -> str:
    """For people, aligned: the weighted scores and a line for each subset, or a line for each task of a plain table."""
    from prixfixe.evaluation import Evaluation

    return format_subsets(evaluation) if isinstance(evaluation, Evaluation) else format_tasks(evaluation)


def format_tasks(evaluation: TableEvaluation) -> str:
    n = evaluation.tasks[0].n
    errors = {"MSE": [task.mse for task in evaluation.tasks], "KL": [task.kl for task in evaluation.tasks]}
    errors = {title: values for title, values in errors.items() if None not in values}
    lines = [["task", "r", "", "r^2", "rho", *errors]]
    for index, task in enumerate(evaluation.tasks):
        name = task.name if task.name == task.column else f"{task.name} ({task.column})"
        scores = [task.r_squared, task.spearman_rho.value, *(values[index] for values in errors.values())]
        lines.append([name, _number(task.pearson_r.value), _interval(task.pearson_r), *map(_number, scores)])
    text = [f"{n:,} sequences", "", *_aligned(lines), ""]
    if any(task.name != task.column for task in evaluation.tasks):
        text.append("In parentheses: the column that the task is compared with.")
    if evaluation.bootstrap_samples:
        text.append(f"In brackets: 2.5th to 97.5th percentile over {evaluation.bootstrap_samples:,} bootstrap samples of as many.")
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
            _number(subset.pearson_r.value),
            _interval(subset.pearson_r),
            _number(subset.r_squared),
            _number(subset.spearman_rho.value),
            _interval(subset.spearman_rho),
        ]
        subsets.append([*row, _number(subset.mse)] if with_mse else row)
    weighted = [
        [name, _number(score.value), _interval(score)]
        for name, score in (("Pearson score", evaluation.pearson_score), ("Spearman score", evaluation.spearman_score))
    ]
    lines = [*_aligned(weighted), "", *_aligned(subsets), ""]
    if any(subset.pairs for subset in evaluation.subsets):
        lines.append("Pairs are scored by their differences in expression, alternative minus reference.")
    if evaluation.absent:
        absent = ", ".join(evaluation.absent)
        lines.append(f"Not in this test set: {absent}; the weights are renormalised over the others.")
    if evaluation.bootstrap_samples:
        lines.append(
            f"In brackets: 2.5th to 97.5th percentile over {evaluation.bootstrap_samples:,} bootstrap samples, each "
            "of 10 % of every subset."
        )
    return "\n".join(lines).rstrip() + "\n"


def format_csv(evaluation: Evaluation | TableEvaluation) -> str:
    """For programs, in long form: each score of each subset, then the weighted scores; of a plain table, each score of each task."""
    from prixfixe.evaluation import Evaluation, Score, SubsetScores, TaskScores

    rows: list[dict[str, Any]] = []
    of = "subset" if isinstance(evaluation, Evaluation) else "task"

    def add(name: str, score: str, value: Score | float, **rest: Any) -> None:
        number, interval = (value.value, value.interval) if isinstance(value, Score) else (value, None)
        low, high = interval or (None, None)
        rows.append({of: name, "score": score, "value": number, "low": low, "high": high, **rest})

    for one in evaluation.subsets if isinstance(evaluation, Evaluation) else evaluation.tasks:
        about = {"n": one.n, **({"pairs": one.pairs, "weight": one.weight} if isinstance(one, SubsetScores) else {"column": one.column})}
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
    return _csv(rows, [of, "score", "value", "low", "high", "n", *(["pairs", "weight"] if of == "subset" else ["column"])])


def _csv(rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _aligned(rows: Sequence[Sequence[str]], left: int = 1) -> Iterable[str]:
    """The first column, or so many, to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        cells[:left] = [cell.ljust(width) for cell, width in zip(row[:left], widths[:left], strict=True)]
        yield "  ".join(cells).rstrip()


def _number(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.4f}"


def _interval(score: Score) -> str:
    return f"[{score.interval[0]:.3f}, {score.interval[1]:.3f}]" if score.interval else ""


def sample_count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number
