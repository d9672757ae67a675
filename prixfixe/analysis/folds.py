"""Cross-validation with a test fold beside a validation fold: the predictions of a test fold's models are averaged and
scored, and a model has the mean over its test folds (Rafi et al. 2024; Agarwal et al. 2023)."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prixfixe.analysis.ranks import CORRELATIONS, Predictions, read_predictions
from prixfixe.analysis.results import (
    AGREEMENT,
    Row,
    by_seeds,
    is_cross_validated,
    labels,
    mean_row,
    model_name,
    test_column,
)
from prixfixe.common.errors import InputError
from prixfixe.common.files import json_values
from prixfixe.common.text import counted, printable
from prixfixe.runs.bounded import damaged
from prixfixe.runs.folder import RunFolder, fold_name
from prixfixe.runs.reader import read_test_part, read_training_sample
from prixfixe.tasks.scores import Score

if TYPE_CHECKING:
    from prixfixe.data.measurements import Measurements
    from prixfixe.tasks.task import Task


@dataclass(frozen=True)
class Averaged:
    """What some runs predict of the same rows, averaged as their task does.

    scores: of all tasks as '', and of each of several. agreement: the mean Pearson r of two runs, over tasks; None of a
    single one. said: what one has to know of it.
    """

    rows: Measurements
    hashes: np.ndarray
    predicted: np.ndarray
    scores: Mapping[str, Mapping[str, Any]]
    members: int
    agreement: float | None
    said: tuple[str, ...] = ()


def parts_of(row: Row) -> list[str]:
    """The test parts of which a run keeps predictions."""
    files = sorted(Path(row["run"]).glob("predictions_*.npz"))
    return [file.stem.removeprefix("predictions_") for file in files]


def average(rows: Sequence[Row], part: str) -> Averaged:
    """The runs' averaged predictions of a test part. Those of other rows than most of the runs have are left out, and
    said; InputError where no run has any that can be read."""
    groups: dict[bytes, list[tuple[RunFolder, dict[str, Any]]]] = defaultdict(list)
    said: list[str] = []
    for folder in (RunFolder(Path(row["run"])) for row in rows):
        try:
            arrays = read_test_part(folder.test_part_file(part))
        except InputError as error:
            said.append(f"left out of the averages: {printable(error)}")
            continue
        groups[arrays["rows"].tobytes() + arrays["measured"].tobytes()].append((folder, arrays))
    if not groups:
        raise InputError(said[0])
    kept = max(groups.values(), key=len)
    for others in groups.values():
        named = [folder.name for folder, _ in others] if others is not kept else []
        said += [f"left out of the averages: {printable(name)} is tested on other rows than most" for name in named]
    try:
        return averaged_of(kept, said)
    except (ValueError, KeyError, TypeError, IndexError) as error:  # arrays that are not as their task has them
        raise damaged(kept[0][0].test_part_file(part), error) from error


def averaged_of(kept: Sequence[tuple[RunFolder, Mapping[str, Any]]], said: Sequence[str]) -> Averaged:
    """The average of runs, each with what it keeps of the same rows."""
    from prixfixe.inference.ensemble import Agreement
    from prixfixe.training.kept import kept_rows

    task, why = task_of(kept[0][0]), list[str]()
    each = [kept_rows(arrays, task) for _, arrays in kept]
    rows, outputs = each[0][0], [own for _, own in each]
    combined, agreement = outputs[0], None
    if len(kept) > 1:
        combined, agree = task.ensemble(outputs), Agreement()
        agree.add(np.stack([own[str(task.predicts)] for own in outputs]))
        agreement = json_values(float(agree.pearson_r().mean()))
        task, combined, why = of_mean(task, combined, [folder for folder, _ in kept])
    scores = {"": task.score_kept(rows, combined)}
    scores |= task.score_each(rows, combined) if len(task.spec.tasks) > 1 else {}
    predicted, hashes = combined[str(task.predicts)], kept[0][1]["rows"]
    said = (*said, *(f"no KL of averaged predictions: {reason}" for reason in why))
    return Averaged(rows, hashes, predicted, json_values(scores), len(kept), agreement, said)


def of_mean(
    task: Task, outputs: dict[str, np.ndarray], runs: Sequence[RunFolder]
) -> tuple[Task, dict[str, np.ndarray], list[str]]:
    """The task with what training rows say of how far the runs' averaged predictions are off, where their scores need
    it; the averages, without those over bins where the runs' bins differ; and why these have no KL."""
    from prixfixe.runs.targets import load_targets
    from prixfixe.training.kept import residual_sd_of_mean

    if "log_probs" in outputs and any(load_targets(run).bins != task.spec.bins for run in runs):
        others = {name: output for name, output in outputs.items() if name != "log_probs"}
        why = "bins differ, as each run's are those of its training rows (bins.range=[LOW,HIGH] makes them the same)"
        return task.with_spec(replace(task.spec, residual_sd=None)), others, [why]
    if not task.asks_for_training_rows(outputs):
        return task, outputs, []
    sds = residual_sd_of_mean([read_training_sample(run.training_sample_file) for run in runs])
    why = "not every run keeps predictions of training rows, which say how far averages are off"
    return task.with_spec(replace(task.spec, residual_sd=sds)), outputs, [] if sds else [why]


def task_of(folder: RunFolder) -> Task:
    """A run's fitted task; InputError where the run names a class of a package that runs may not name."""
    from prixfixe.networks.parts import Origin, judge_all
    from prixfixe.runs.targets import load_targets
    from prixfixe.training.build import build_task

    config, origin = folder.config(), Origin(run=folder.path)
    judge_all(config, origin)
    return build_task(config, origin).with_spec(load_targets(folder))


def tested_row(rows: Sequence[Row], scores: Mapping[str, Score], own: Mapping[str, Score]) -> tuple[Row, list[str]]:
    """One row for the runs of a test fold, as `mean_row`, with the scores of their averaged predictions, `models`, how
    many these are, and AGREEMENT, where they keep predictions; and what is to be said of it. own: the scores of their
    task, by name."""
    row, said = mean_row(rows, scores), list[str]()
    done = [run for run in rows if run["state"] == "done"]
    keeping = [run for run in done if parts_of(run)]
    if not keeping:
        return row, said
    if without := len(done) - len(keeping):
        said.append(
            f"left out of the averages: {counted(without, 'run')} of {model_name(row)} "
            f"{fold_name(row.get('test_fold'), None)}, which keep{'s' * (without == 1)} no test predictions"
        )
    for part in dict.fromkeys(part for run in keeping for part in parts_of(run)):
        try:
            found = average(keeping, part)
        except InputError as error:
            said.append(printable(error))
            continue
        said += found.said
        for task, values in found.scores.items():
            for name in own:
                column = test_column(part, name, task)
                row[column] = values.get(name)
                row.pop(f"{column}_sd", None)
        row |= {f"{part}_n": found.scores[""].get("n"), "models": found.members, AGREEMENT: found.agreement}
    return row, said


def over_test_folds(
    rows: Sequence[Row], folds: Sequence[Row], scores: Mapping[str, Score], tests: Sequence[str]
) -> Row:
    """One row for all runs of a model: test scores, those of the columns `tests`, are means over its test folds, None
    where one of these has none, their `_sd` the standard deviation over them; all else is as in `mean_row`.

    folds: the rows of its test folds; `test_folds` and `models` of the row say in words how many it rests on.
    """
    row, tested = mean_row(rows, scores), [fold for fold in folds if fold.get("models")]
    for column in (*tests, AGREEMENT):
        values = [fold[column] for fold in tested if fold.get(column) is not None]
        values = values if column == AGREEMENT or len(values) == len(tested) else []
        row[column] = statistics.fmean(values) if values else None
        row[f"{column}_sd"] = statistics.stdev(values) if len(values) > 1 and column in tests else None
    for column in [column for column in row if column.endswith("_n")]:
        row[column] = sum(fold[column] for fold in tested if fold.get(column) is not None)
    if folds[0].get("test_fold") is not None:
        row["test_fold"] = folds[0]["test_fold"] if len(folds) == 1 else None
        row["test_folds"] = str(len(folds)) if len(tested) == len(folds) else f"{len(tested)} of {len(folds)}"
        row["tested_on"] = sorted(str(fold["test_fold"]) for fold in tested)
    models = [fold["models"] for fold in tested]
    row["models"] = str(models[0]) if len(set(models)) == 1 else f"{min(models)} to {max(models)}"
    return row


def ranked_predictions(done: Sequence[Row], scores: tuple[str, ...]) -> Predictions:
    """The predictions by which models are ranked: of cross-validated ones the averages on all test folds that they
    share, one after the other; else as `prixfixe.analysis.ranks.read_predictions`. InputError as there.

    done: runs that are done; scores: of `RANKED`.
    """
    models: dict[str, list[Row]] = defaultdict(list)
    for name, row in zip(labels(done, model_name), done, strict=True):
        models[name].append(row)
    keeping = {
        name: [row for row in rows if parts_of(row)] for name, rows in models.items() if is_cross_validated(rows)
    }
    keeping = {name: rows for name, rows in keeping.items() if rows}
    if len(keeping) < 2:
        return read_predictions([RunFolder(Path(row["run"])) for row in done], labels(done), scores)
    found: dict[str, dict[Any, Averaged]] = {}
    for name, rows in keeping.items():
        found[name] = {group[0].get("test_fold"): average(group, parts_of(group[0])[0]) for group in by_seeds(rows)}
    first, *others = found.values()
    shared = [fold for fold, own in first.items() if all(_same_rows(own, other.get(fold)) for other in others)]
    if not shared:
        raise InputError("these models share no test fold, on whose predictions they could be ranked")
    left_out = [f"{printable(name)}: keeps no test predictions" for name in models if name not in found]
    unshared = {str(fold) for own in found.values() for fold in own} - set(map(str, shared))
    left_out += [f"test fold {', '.join(sorted(unshared))}: not of all models"] if unshared else []
    measured = np.concatenate([first[fold].rows.expression for fold in shared])
    predicted = [np.concatenate([own[fold].predicted for fold in shared]) for own in found.values()]
    if scores == CORRELATIONS:
        whole = ~np.isnan(measured).reshape(len(measured), -1).any(axis=1)
        measured, predicted = measured[whole], [each[whole] for each in predicted]
    source = "test rows" if shared == [None] else counted(len(shared), "test fold")
    return Predictions(
        [*found], measured, predicted, {"all": np.arange(len(measured))}, source, left_out, scores=scores
    )


def _same_rows(one: Averaged, other: Averaged | None) -> bool:
    return other is not None and all(
        np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        for a, b in ((one.hashes, other.hashes), (one.rows.expression, other.rows.expression))
    )
