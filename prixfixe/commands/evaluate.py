"""`prixfixe evaluate`: the subset scores and weighted scores of a run, or of any table of predictions."""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prixfixe.files import output_file
from prixfixe.simulated import SIMULATED

if TYPE_CHECKING:
    import numpy as np

    from prixfixe.data.testset import TestSet
    from prixfixe.evaluation import Evaluation, Score

HELP = "score a run, a sweep, or a table of predictions, in the subsets of a test set"

DESCRIPTION = """\
Scores a run folder, or any program's table of sequence and prediction, on a test set: Pearson r, r squared and Spearman
rho of each subset (of pairs: of the differences in expression), and the weighted Pearson and Spearman scores. Weights
are renormalised over the subsets that the test set has. A run's scores and predictions are also kept in its folder, as
evaluation.json and test.npz: `prixfixe results` shows and compares them.
"""

FORMATS = ("table", "csv", "json")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.add_argument("predictions", metavar="RUN-or-PREDICTIONS", type=Path, help="run folder, sweep folder (all its runs), or a table")
    parser.add_argument("test_set", metavar="TESTSET", type=Path, help="folder of a test set, in either layout")
    parser.add_argument("-o", "--output", metavar="FILE", type=output_file, help="write there, not to standard output")
    parser.add_argument("--format", choices=FORMATS, help="default: by FILE's ending, or else table")
    parser.add_argument("--column", metavar="NAME", help="column of predictions, where the table has several")
    parser.add_argument("--without-leaderboard", action="store_true", help="leave out what the public leaderboard showed")
    parser.add_argument("--same-scale", action="store_true", help="predictions are in the test set's own units: report the MSE, too")
    parser.add_argument("--bootstrap", metavar="N", type=sample_count, default=10_000, help="bootstrap samples (%(default)s); 0: none")


def run(args: argparse.Namespace) -> int:
    from prixfixe.data.testset import read_test_set
    from prixfixe.errors import InputError
    from prixfixe.files import write_text

    path: Path = args.predictions
    if not path.exists():
        raise InputError(f"{path}: no such run folder, sweep or table of predictions")
    test_set = read_test_set(args.test_set, without_leaderboard=args.without_leaderboard)
    suffix = args.output.suffix.removeprefix(".").lower() if args.output else ""
    form = args.format or (suffix if suffix in FORMATS else "table")
    if path.is_dir() and not (path / "config.yaml").exists():
        text = evaluate_sweep(args, test_set, form)
    else:
        content, evaluation = evaluate_one(args, path, test_set)
        if form == "json":
            text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        elif form == "csv":
            text = format_csv(evaluation)
        else:
            text = (f"{SIMULATED}\n\n" if test_set.simulated else "") + format_table(evaluation)
    if args.output:
        write_text(args.output, text)
    else:
        sys.stdout.write(text)
    return 0


def evaluate_one(args: argparse.Namespace, path: Path, test_set: TestSet) -> tuple[dict[str, Any], Evaluation]:
    """Scores one run or table; a run's scores and predictions are kept in its folder. Returns evaluation.json's content, too."""
    from prixfixe.evaluation import evaluate
    from prixfixe.files import write_arrays, write_json
    from prixfixe.run_folder import RunFolder

    predictions = _predictions(args, path, test_set)
    evaluation = evaluate(test_set, predictions, bootstrap=args.bootstrap, same_scale=args.same_scale)
    content = {
        "model": str(path),
        "test_set": str(args.test_set),
        "without_leaderboard": args.without_leaderboard,
        "simulated": test_set.simulated,
        **evaluation.to_dict(),
    }
    if path.is_dir():
        folder, subsets = RunFolder(path), {f"subset_{name}": rows for name, rows in test_set.subsets.items()}
        measured, name = test_set.expression, test_set.fingerprint()
        write_arrays(folder.test_file, measured=measured, predicted=predictions, test_set=name, **subsets)
        write_json(folder.evaluation_file, content)
    return content, evaluation


def evaluate_sweep(args: argparse.Namespace, test_set: TestSet, form: str) -> str:
    """Scores every run of a sweep that is done, a line each on standard error; returns the table of weighted scores, best first."""
    from prixfixe.errors import InputError
    from prixfixe.run_folder import RunFolder

    runs = [RunFolder(file.parent) for file in sorted(args.predictions.glob("*/status.json"))]
    done = [run for run in runs if run.status().get("state") == "done"]
    if not done:
        raise InputError(f"{args.predictions}: no run folder, and no sweep with a run that is done")
    contents: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for number, run in enumerate(done, 1):
        content, evaluation = evaluate_one(args, run.path, test_set)
        scores = {"pearson_score": evaluation.pearson_score.value, "spearman_score": evaluation.spearman_score.value}
        contents.append({"run": run.name, **content})
        rows.append({"run": run.name, **scores})
        line = "  ".join(f"{name.replace('_', ' ').capitalize()} {_number(value)}" for name, value in scores.items())
        print(f"[{number}/{len(done)}] {run.name:<52} {line}", file=sys.stderr, flush=True)
    if form == "json":
        return json.dumps(contents, indent=2, allow_nan=False) + "\n"
    rows.sort(key=lambda row: -row["pearson_score"] if row["pearson_score"] == row["pearson_score"] else math.inf)
    if form == "csv":
        file = io.StringIO()
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return file.getvalue()
    lines = [["run", "Pearson score", "Spearman score"], *([str(a), _number(b), _number(c)] for a, b, c in (row.values() for row in rows))]
    return (f"{SIMULATED}\n\n" if test_set.simulated else "") + "\n".join(_aligned(lines)) + "\n"


def _predictions(args: argparse.Namespace, path: Path, test_set: TestSet) -> np.ndarray:
    import numpy as np

    from prixfixe.errors import InputError
    from prixfixe.evaluation import read_predictions

    if not path.is_dir():
        return read_predictions(path, test_set, column=args.column)

    import prixfixe

    predictions = prixfixe.load(path).predict_sequences(test_set.sequences)
    if predictions.ndim != 1:
        raise InputError(f"{path}: the run predicts {predictions.shape[1]} tasks; a test set measures one")
    if not np.isfinite(predictions).all():
        raise InputError(f"{path}: the run predicts values that are not finite")
    return predictions


def format_table(evaluation: Evaluation) -> str:
    """For people: the weighted scores, then a line for each subset, aligned."""
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


def format_csv(evaluation: Evaluation) -> str:
    """For programs: one row a subset, then the weighted scores, in one table of long form."""
    rows: list[dict[str, Any]] = []

    def add(subset: str, score: str, value: float | None, interval: tuple[float, float] | None, **rest: Any) -> None:
        low, high = interval or (None, None)
        rows.append({"subset": subset, "score": score, "value": value, "low": low, "high": high, **rest})

    for subset in evaluation.subsets:
        about = {"n": subset.n, "pairs": subset.pairs, "weight": subset.weight}
        add(subset.name, "pearson_r", subset.pearson_r.value, subset.pearson_r.interval, **about)
        add(subset.name, "r_squared", subset.r_squared, None, **about)
        add(subset.name, "spearman_rho", subset.spearman_rho.value, subset.spearman_rho.interval, **about)
        if subset.mse is not None:
            add(subset.name, "mse", subset.mse, None, **about)
    for name in evaluation.absent:
        rows.append({"subset": name})
    add("weighted", "pearson_score", evaluation.pearson_score.value, evaluation.pearson_score.interval)
    add("weighted", "spearman_score", evaluation.spearman_score.value, evaluation.spearman_score.interval)

    file = io.StringIO()
    writer = csv.DictWriter(file, ["subset", "score", "value", "low", "high", "n", "pairs", "weight"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """The first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        cells[0] = row[0].ljust(widths[0])
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
