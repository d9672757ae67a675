"""`prixfixe evaluate`: the scores of a run, or of any table of predictions, on a test set or on a plain table."""

from __future__ import annotations

import argparse
import functools
import json
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prixfixe.common.errors import InputError
from prixfixe.common.files import format_by_ending, keep_inputs, output_file
from prixfixe.common.inputs import is_missing
from prixfixe.common.options import whole_number
from prixfixe.common.simulated import SIMULATED
from prixfixe.common.text import counted, printable

if TYPE_CHECKING:
    import numpy as np

    from prixfixe.analysis.evaluation import Evaluation, TableEvaluation
    from prixfixe.data.columns import ColumnSource
    from prixfixe.data.measurements import Measurements
    from prixfixe.data.sequences import Sequences
    from prixfixe.data.testset import TestSet
    from prixfixe.inference.ensemble import Agreement
    from prixfixe.inference.predictor import Predictor
    from prixfixe.tasks.scores import Score

HELP = "score a run, a sweep, or a table of predictions, on a test set or a plain table"

DESCRIPTION = """\
Scores a run folder, or any program's table of sequence and prediction. On a plain table of sequence and expression:
Pearson r, r squared and Spearman rho over all rows, for each task of a run with several; of a run of another task, that
task's own scores (of labels: AUROC and so on). On the folder of a test set:
those of each subset (of pairs: of the differences in expression), and the weighted Pearson and Spearman scores.
Weights are renormalised over the subsets that the test set has. A run's scores and predictions are also kept in its
folder, as evaluation.json and test.npz: `prixfixe results` shows and compares them.
"""

FORMATS = ("table", "csv", "json")
ENDINGS = {".txt": "table", ".csv": "csv", ".json": "json"}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    what = "run folders, a sweep's folder (all its runs), a bundle, or a table"
    parser.add_argument("predictions", metavar="RUN-or-PREDICTIONS", type=Path, nargs="+", help=what)
    what = "a table (TSV, CSV, Parquet), or a test set's folder"
    parser.add_argument("test_set", metavar="TESTSET", type=Path, help=what)
    what = (
        "score the mean of the runs, not each by itself, and say how far they agree; nothing is kept in their folders"
    )
    parser.add_argument("--ensemble", action="store_true", help=what)
    parser.add_argument("--sequence", metavar="COLUMN", help="TESTSET is a table: its column of sequences")
    parser.add_argument(
        "--expression", metavar="COLUMN", action="append", help="its column of expression; again for further tasks"
    )
    parser.add_argument("-o", "--output", metavar="FILE", type=output_file, help="write there, not to standard output")
    parser.add_argument("--format", choices=FORMATS, help="default: by FILE's ending, or else table")
    parser.add_argument("--column", metavar="NAME", help="column of predictions, where the table has several")
    task = "what they are: probabilities of the label 1 with binary (default: expression)"
    parser.add_argument("--task", choices=("expression", "binary"), help=f"of a table of predictions, {task}")
    conf = "a conf folder of your own, whose packages a run's classes may be of; default: conf/ in this folder"
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help=conf)
    leaderboard = "leave out what the public leaderboard showed"
    parser.add_argument("--without-leaderboard", action="store_true", help=leaderboard)
    units = "predictions are in TESTSET's own units: report MSE (and KL), too"
    parser.add_argument("--same-scale", action="store_true", help=units)
    samples = whole_number("--bootstrap", "0 for none, or how many samples, such as 1000")
    what = "bootstrap samples (10,000; of a table 1,000); 0: none"
    parser.add_argument("--bootstrap", metavar="N", type=samples, help=what)


def run(args: argparse.Namespace) -> int:
    from prixfixe.common.files import write_text

    paths = args.predictions = runs_named(args.predictions)
    for path in paths:
        if not path.exists():
            raise InputError(f"{printable(path)}: no such run folder, sweep or table of predictions")
    tables = [path for path in paths if not path.is_dir()]
    if tables and (len(paths) > 1 or args.ensemble):
        raise InputError(
            f"{printable(tables[0])} is a table of predictions, which is scored by itself, without --ensemble"
        )
    read = reader(args)
    keep_inputs(args.output, *paths, args.test_set)
    form = args.format or format_by_ending(args.output, ENDINGS, "table")
    code = 0
    if args.ensemble:
        import prixfixe

        ensemble = prixfixe.load(paths, config_dir=args.config_dir)
        text = _text_of_one(*evaluate_one(args, paths[0], read, ensemble), form)
    elif len(paths) > 1 or (paths[0].is_dir() and is_missing(paths[0] / "config.yaml")):
        text, failed = evaluate_several(args, read, form)
        code = 1 if failed else 0
    else:
        text = _text_of_one(*evaluate_one(args, paths[0], read), form)
    if args.output:
        write_text(args.output, text)
    else:
        sys.stdout.write(text)
    return code


def runs_named(names: list[Path]) -> list[Path]:
    """The paths themselves, but for those of bundles and on the hub: the folders of their runs, once all of their
    files are checked."""
    from prixfixe.inference.load import is_on_hub, run_folders
    from prixfixe.runs.bundle import is_bundle

    found: list[Path] = []
    for name in names:
        found += run_folders(name) if is_on_hub(name) or is_bundle(name) else [name]
    return found


def _text_of_one(content: dict[str, Any], evaluation: Evaluation | TableEvaluation, form: str) -> str:
    from prixfixe.analysis.evaluation_views import format_csv, format_table

    if form == "json":
        return json.dumps(content, indent=2, allow_nan=False) + "\n"
    if form == "csv":
        return format_csv(evaluation)
    return (f"{SIMULATED}\n\n" if content["simulated"] else "") + format_table(evaluation)


class TestSetError(InputError):
    """What is wrong with the test set, and so with no run by itself."""


Reader = Callable[["tuple[str, ...] | None", "tuple[ColumnSource, ...]"], "TestSet"]


def reader(args: argparse.Namespace) -> Reader:
    """What gives the test set, each time the same: of a plain table, with the named expression columns, or None for
    what is found, and with what else a model takes."""
    from prixfixe.data.testset import read_test_table
    from prixfixe.dream.testset import read_test_set

    path: Path = args.test_set
    if not path.exists():
        raise InputError(
            f"{printable(path)}: no such test set; give a table of sequence and expression, or a test set's folder"
        )
    if path.is_dir() and (args.sequence or args.expression):
        raise InputError(
            f"--sequence and --expression choose columns of a plain table: leave them out, since {path} is a folder"
        )
    if path.is_dir():
        test_set = read_test_set(path, without_leaderboard=args.without_leaderboard)
        return lambda columns, others: test_set
    if args.without_leaderboard:
        raise InputError(
            f"{path} is a plain table, which the public leaderboard has no part in: leave out --without-leaderboard"
        )

    @functools.cache
    def read_table(columns: tuple[str, ...] | None, others: tuple[ColumnSource, ...]) -> TestSet:
        try:
            test_set = read_test_table(path, sequence=args.sequence, expression=columns, columns=others)
        except InputError as error:  # what is wrong with further columns concerns the runs alone that take them
            raise (InputError if others else TestSetError)(str(error)) from error
        for remark in test_set.remarks:
            print(f"warning: {printable(path)}: {remark}", file=sys.stderr)
        return test_set

    return read_table


def evaluate_one(
    args: argparse.Namespace, path: Path, read: Reader, ensemble: Predictor | None = None
) -> tuple[dict[str, Any], Evaluation | TableEvaluation]:
    """Scores one run or table, or an ensemble; a run's scores and predictions are kept in its folder. Returns
    evaluation.json's content, too.

    path: of the run or table; of an ensemble the first folder that was named.
    """
    import prixfixe
    from prixfixe.analysis.evaluation import BOOTSTRAP_SAMPLES, evaluate
    from prixfixe.common.files import json_values, write_arrays, write_json
    from prixfixe.inference.ensemble import Agreement, trained_on
    from prixfixe.runs.folder import RunFolder
    from prixfixe.tasks.scores import EXPRESSION, TASKS

    if path.is_dir() and args.task:
        raise InputError(
            f"--task says what a table of predictions holds: leave it out, since {printable(path)} is a run"
        )
    run = prixfixe.load(path, config_dir=args.config_dir) if path.is_dir() and ensemble is None else None
    model = ensemble or run
    tasks = model.tasks if model else ()
    of_expression = (model.task.scores if model else TASKS[args.task or "expression"]) == EXPRESSION
    name = str(path) if ensemble is None else ensemble.name
    agreement = Agreement() if ensemble is not None and len(ensemble.members) > 1 else None
    about: dict[str, Any] = {"model": name, "test_set": str(args.test_set)}
    evaluation: Evaluation | TableEvaluation
    if args.test_set.is_dir():
        if len(tasks) > 1 or not of_expression:
            what = f"{len(tasks)} tasks ({', '.join(tasks)})" if len(tasks) > 1 else "no expression"
            raise InputError(
                f"{path}: the run predicts {what}, and the folder of a test set measures one: give a plain table with "
                "a column for each"
            )
        test_set = read(None, ())
        predictions = _predictions(args, path, model, test_set, agreement)
        samples = BOOTSTRAP_SAMPLES if args.bootstrap is None else args.bootstrap
        evaluation = evaluate(test_set, predictions, bootstrap=samples, same_scale=args.same_scale)
        about["without_leaderboard"] = args.without_leaderboard
        subsets = {f"subset_{name}": rows for name, rows in test_set.subsets.items()}
    else:
        test_set = read(_expression_columns(args, path, tasks), model.sources(model.task.columns) if model else ())
        predictions, evaluation = _score_table(
            args, path, model, test_set, of_expression=of_expression, agreement=agreement
        )
        subsets = {}
    if model and model.remark:
        print(f"{printable(path)}: scored by {model.task.predicts}, what was measured", file=sys.stderr)
    content = {**about, "simulated": test_set.simulated, **evaluation.to_dict()}
    if ensemble is not None and agreement is not None and test_set.expression.size:
        content["members"] = len(ensemble.members)
        content["agreement"] = dict(zip(ensemble.tasks, json_values(agreement.pearson_r().tolist()), strict=True))
        print(f"{len(ensemble.members)} members: {agreement.text(ensemble.tasks)}", file=sys.stderr)
    tells = run is not None and not is_missing(RunFolder(path).training_sample_file)  # of the rows it was trained on
    if model is not None and (tells or agreement is not None):
        for remark in trained_on(model, test_set.sequences, str(args.test_set)):
            print(f"warning: {printable(remark)}", file=sys.stderr)
    if run:
        folder, measured, name = RunFolder(path), test_set.expression, test_set.fingerprint()
        arrays = {"measured": measured, "predicted": predictions, "test_set": name, **subsets}
        write_arrays(folder.test_file, follow=False, **arrays)
        write_json(folder.evaluation_file, content, follow=False)
    return content, evaluation


def evaluate_several(args: argparse.Namespace, read: Reader, form: str) -> tuple[str, int]:
    """Scores every run that is named, or that is done in a sweep, a line each on standard error; returns the table of
    scores, best first, and how many runs could not be scored, each of which is named and passed over.

    Raises InputError where none could.
    """
    from prixfixe.analysis.evaluation_views import format_models, headline, one_line
    from prixfixe.analysis.tables import csv_lines
    from prixfixe.runs.folder import RunFolder

    folders: list[Path] = []
    for path in args.predictions:
        runs = [path] if not is_missing(path / "config.yaml") else sorted(path.iterdir())
        folders += [run for run in runs if not is_missing(run / "status.json")]
    failed: list[InputError] = []
    done: list[RunFolder] = []

    def passed_over(run: RunFolder, error: InputError) -> None:
        failed.append(error)
        print(printable(f"{run.name}: passed over: {error}"), file=sys.stderr, flush=True)

    for run in map(RunFolder, folders):
        try:
            done += [run] if run.status().get("state") == "done" else []
        except InputError as error:
            passed_over(run, error)
    if not done and not failed:
        raise InputError(f"{printable(args.predictions[0])}: no run folder, and no sweep with a run that is done")
    contents: list[dict[str, Any]] = []
    groups: list[list[dict[str, Any]]] = []  # each run's rows, one or, of a plain table, one a task
    titles: dict[str, Score] = {}
    for count, run in enumerate(done, 1):
        try:
            content, evaluation = evaluate_one(args, run.path, read)
        except TestSetError:
            raise
        except InputError as error:
            passed_over(run, error)
            continue
        contents.append({"run": run.name, **content})
        rows, scores = headline(evaluation)
        titles = {**titles, **scores}
        groups.append([{"run": run.name, **row} for row in rows])
        shown = [one_line(row, scores, with_task=len(rows) > 1) for row in rows]
        print(printable(f"[{count}/{len(done)}] {run.name:<52} {'; '.join(shown)}"), file=sys.stderr, flush=True)
    if not groups:
        more = f" (and {counted(len(failed) - 1, 'more run')} that cannot be scored)" if len(failed) > 1 else ""
        raise InputError(f"{failed[0]}{more}")
    if form == "json":
        return json.dumps(contents, indent=2, allow_nan=False) + "\n", len(failed)
    first = next(iter(titles.values()))

    def mean_loss(group: list[dict[str, Any]]) -> float:
        values = (row.get(first.name) for row in group)
        mean = statistics.fmean(math.nan if value is None else value for value in values)
        return math.inf if math.isnan(mean) else first.loss(mean)

    rows = [row for group in sorted(groups, key=mean_loss) for row in group]
    if form == "csv":
        return csv_lines(rows, list(dict.fromkeys(column for row in rows for column in row))), len(failed)
    simulated = any(content["simulated"] for content in contents)
    table = format_models(rows, titles, with_task=max(map(len, groups)) > 1)
    return (f"{SIMULATED}\n\n" if simulated else "") + table, len(failed)


def _expression_columns(args: argparse.Namespace, path: Path, tasks: tuple[str, ...]) -> tuple[str, ...] | None:
    """The plain table's columns that a run's tasks are compared with, in their order; None where `read_measurements` is
    to find one.

    They are those asked for, or else the ones that are named as the tasks are.
    """
    from prixfixe.data.tables import first_row

    asked, named, several = tuple(args.expression or ()), ", ".join(tasks), len(tasks) > 1
    if not asked:
        names, has_header = first_row(args.test_set)
        if tasks and set(tasks) <= set(names):
            return tasks
        if not several:
            return None
        has = f"the columns {', '.join(names)}: say which are meant, --expression COLUMN for each task"
        has = has if has_header else "no header to find them by"
        raise InputError(f"{path}: the run predicts {len(tasks)} tasks ({named}), and {args.test_set} has {has}")
    if several and set(asked) == set(tasks):
        return tasks
    if len(asked) != max(1, len(tasks)):
        what = f"the run predicts {counted(len(tasks), 'task')} ({named})"
        what = what if tasks else "a table of predictions holds one task"
        columns = "1 column of expression is" if len(asked) == 1 else f"{len(asked)} columns of expression are"
        given = f"{columns} given ({', '.join(asked)})"
        raise InputError(f"{path}: {what}, and {given}: give --expression COLUMN once for each task")
    wrong = [column for column, task in zip(asked, tasks, strict=False) if column in tasks and column != task]
    if several and wrong:
        raise InputError(
            f"{path}: {wrong[0]} is the name of another task; give --expression in the order of the run's tasks, "
            f"{named}"
        )
    return asked


def _predictions(
    args: argparse.Namespace,
    path: Path,
    model: Predictor | None,
    test_set: TestSet,
    agreement: Agreement | None,
) -> np.ndarray:
    """Predictions of the shape of the measurements: a model's, or those that a table holds. agreement: is told those of
    an ensemble's members."""
    from prixfixe.analysis.evaluation import read_predictions

    if model is None:
        return read_predictions(path, test_set, column=args.column)
    _warn_of_longer(model, test_set.sequences)
    if agreement is None:
        return model.predict_sequences(test_set.sequences, columns=test_set.columns)
    members = model.predict_member_sequences(test_set.sequences, columns=test_set.columns)
    agreement.add(members)
    return members.mean(axis=0)


def _score_table(
    args: argparse.Namespace,
    path: Path,
    model: Predictor | None,
    test_set: TestSet,
    *,
    of_expression: bool,
    agreement: Agreement | None,
) -> tuple[np.ndarray, TableEvaluation]:
    """What is predicted for a plain table, and its scores: of expression correlations, with --same-scale MSE and, of a
    run, KL as well; those of any other task as it computes them. Predictions of another program are probabilities.
    agreement: is told those of an ensemble's members."""
    from prixfixe.analysis.evaluation import TABLE_BOOTSTRAP_SAMPLES, evaluate_outputs, evaluate_table
    from prixfixe.data.measurements import Measurements
    from prixfixe.tasks.binary import Binary

    samples = TABLE_BOOTSTRAP_SAMPLES if args.bootstrap is None else args.bootstrap
    names = model.tasks if model and len(model.tasks) > 1 else test_set.tasks
    measured = Measurements(test_set.sequences, test_set.expression, tuple(names), columns=test_set.columns)
    outputs = _outputs(model, measured, agreement) if model and (args.same_scale or not of_expression) else {}
    if model and outputs:  # of `predicts`, which was measured; `predicted` may be something else
        predictions = outputs[str(model.task.predicts)]
    else:
        predictions = _predictions(args, path, model, test_set, agreement)
    if of_expression:
        kl = _divergences(path, model, measured, outputs) if model and outputs else None
        return predictions, evaluate_table(
            test_set, predictions, names=names, bootstrap=samples, same_scale=args.same_scale, kl=kl
        )
    task = model.task if model else Binary(select="auroc")
    if model is None:
        outputs = {Binary.predicts: predictions}
        if not ((predictions >= 0) & (predictions <= 1)).all():
            raise InputError(f"{printable(path)}: --task binary takes probabilities of 1, which lie from 0 to 1")
    return predictions, evaluate_outputs(task, measured, outputs, columns=test_set.tasks, bootstrap=samples)


def _divergences(path: Path, model: Predictor, measured: Measurements, outputs: dict[str, np.ndarray]) -> list[float]:
    """KL of each task, as training computes it: of an ensemble of scalar predictions by what its members keep of
    training rows. A scalar prediction of a run of version 0.1, whose residuals nobody has kept, has none: NaN."""
    from prixfixe.analysis.folds import of_mean
    from prixfixe.runs.folder import RunFolder
    from prixfixe.tasks.expression import Expression

    task, why = model.task, list[str]()
    if len(model.members) > 1:
        runs = [RunFolder(member.run) for member in model.members if member.run]
        task, outputs, why = of_mean(task, outputs, runs)
    elif task.asks_for_training_rows(outputs) and task.spec.residual_sd is None:
        why = ["it predicts expression alone, and version 0.1, by which it was trained, kept no residuals"]
    for reason in why:
        print(f"warning: {printable(path)} has no KL: {reason}", file=sys.stderr)
    assert isinstance(task, Expression)
    return [divergence for divergence, _ in task.divergences(measured.expression, outputs)]


def _warn_of_longer(model: Predictor, sequences: Sequences) -> None:
    if longer := int((sequences.lengths > model.longest).sum()):
        print(f"warning: {model.cut_off(longer, len(sequences))}", file=sys.stderr)


def _outputs(model: Predictor, measured: Measurements, agreement: Agreement | None) -> dict[str, np.ndarray]:
    """All outputs of a run for every sequence, a chunk at a time."""
    import numpy as np

    model.predicted  # noqa: B018 - InputError of a task that predicts nothing a sequence
    _warn_of_longer(model, measured.sequences)
    rows = model.chunk_rows()
    parts: dict[str, list[np.ndarray]] = {}
    chunks = (measured[start : start + rows] for start in range(0, len(measured), rows))
    for each in model.output_chunks(chunks):
        if agreement is not None:
            agreement.add(np.stack([own[member.predicted] for own, member in zip(each, model.members, strict=True)]))
        for name, output in model.combined(each).items():
            parts.setdefault(name, []).append(output)
    return {name: np.concatenate(some) for name, some in parts.items()}
