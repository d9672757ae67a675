"""The runs of one or several sweeps as rows, from their folders alone; torch is not needed."""

from __future__ import annotations

import math
import re
import shlex
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prixfixe.analysis.same_data import (
    SPLIT,
    Settings,
    data_numbers,
    dataset_settings,
    held_out,
    some_of,
    text_of,
    varying,
)
from prixfixe.common.errors import InputError
from prixfixe.common.inputs import is_missing
from prixfixe.common.text import printable
from prixfixe.runs.bounded import damaged as damage
from prixfixe.runs.folder import SLOTS, RunFolder, fold_name
from prixfixe.runs.reader import Metrics, read_evaluation, read_head, read_history, read_part, read_targets
from prixfixe.sweeps.plan import Plan
from prixfixe.tasks.scores import EXPRESSION, TASKS, WEIGHTED, Score, by_name, declared

COSTS = ("parameters", "samples_per_second", "training_seconds", "inference_per_second", "gpu_memory_bytes")
BEFORE_SCORES = (*SLOTS, "seed", "state")
AFTER_SCORES = (
    *("n", "parameters", "samples_per_second", "training_seconds", "best_epoch", "simulated", "reason", "run"),
    *("variant", "gpu_memory_bytes", "inference_per_second", "device", "sweep", "command", "task", "dataset", "select"),
)
COLUMNS = (*BEFORE_SCORES, *AFTER_SCORES)  # of every row, with the scores of its task between the two
# there only where a run has counted them: the share of validation sequences that share a stretch with a training one
LEAK_COLUMN = "validation_near_duplicates"
# there only where a row has them; data: what sets apart the data of one dataset; epoch: the last of a run that is not
# done, whose scores are not final (`<score>_so_far`)
OPTIONAL = ("data", "fold", "test_fold", "epoch", LEAK_COLUMN)
SO_FAR = "_so_far"
AGREEMENT, CEILING = (
    "agreement",
    "noise_ceiling",
)  # columns: r of two models, on average; and the highest r there can be
OF_FOLDS = ("test_folds", "models", AGREEMENT)  # columns of rows that are averaged over folds alone
COUNTS = ("n", "parameters", "gpu_memory_bytes", "epoch")
NUMBERS = {*COSTS, *COUNTS, "best_epoch", "seeds", "folds", LEAK_COLUMN, AGREEMENT}  # beside the scores
COMBINATION = (*SLOTS, "variant")
OF_METRICS = tuple(column for column in AFTER_SCORES if column in Metrics.model_fields and column != "task")

Row = dict[str, Any]
# a kind (scores: of the validation rows; tasks: each of several tasks'; tests: of test parts; weighted and subsets: of
# an evaluation) -> column -> the score that stands there
ScoreColumns = dict[str, dict[str, Score]]


@dataclass(frozen=True)
class Results:
    """Rows, one task and data after the other, best first in each: the done ones by the score that chose their epochs,
    then the others by how far they are and by name.

    damaged: a message for each folder or file that could not be read. declared: by task, the scores that its runs
    declare. said: what one has to know of rows that are averages.
    """

    rows: list[Row]
    damaged: list[str]
    declared: Mapping[str, ScoreColumns] = field(
        default_factory=lambda: {"expression": {"scores": by_name(EXPRESSION)}}
    )
    said: tuple[str, ...] = ()

    @property
    def done(self) -> list[Row]:
        return [row for row in self.rows if row["state"] == "done"]

    @property
    def others(self) -> list[Row]:
        return [row for row in self.rows if row["state"] != "done"]

    def of_kind(self, kind: str) -> dict[str, Score]:
        """The scores of one kind that these rows' tasks have, by column."""
        tasks = dict.fromkeys(row.get("task", "expression") for row in self.rows)
        found: dict[str, Score] = {}
        for task in tasks:
            found |= {**self.declared.get(task, {}).get(kind, {}), **found}
        return found

    @property
    def scores(self) -> dict[str, Score]:
        """All scores by column."""
        kinds = dict.fromkeys(kind for kinds in self.declared.values() for kind in kinds)
        return {column: score for kind in kinds for column, score in self.of_kind(kind).items()}

    @property
    def present_scores(self) -> list[Score]:
        """The scores that figures show: that which rows are ordered by, that which chose the epochs, the others of the
        validation rows, and weighted ones; of them what a row has."""
        shown = by_name((self.best_by, self.select)) | self.of_kind("scores") | self.of_kind("weighted")
        return [score for column, score in shown.items() if any(row.get(column) is not None for row in self.rows)]

    @property
    def select(self) -> Score:
        """The score that chose most of these runs' epochs."""
        own = self.of_kind("scores") or by_name(EXPRESSION)
        chosen = Counter(row["select"] for row in self.rows if row.get("select") in own)
        return own[chosen.most_common(1)[0][0]] if chosen else next(iter(own.values()))

    @property
    def best_by(self) -> Score:
        """The score by which rows are ordered: that which chose the epochs, of the test folds where all that are done
        are averaged over these."""
        tested = self.of_kind("tests").get(test_column("test", self.select.name))
        return tested if tested and self.done and all(row.get("models") for row in self.done) else self.select

    @property
    def columns(self) -> list[str]:
        """Every column that the rows have, scores beside one another."""
        own, present = self.of_kind("scores"), dict.fromkeys(column for row in self.rows for column in row)
        columns = dict.fromkeys((*BEFORE_SCORES, *own, *AFTER_SCORES, *self.scores))
        return [*columns, *(column for column in present if column not in columns and column != "data_number")]

    def score(self, name: str | None) -> Score:
        """The score of a column, `select` for None; InputError where the runs have none of that name."""
        if name is None:
            return self.select
        known = {**self.scores, **by_name(WEIGHTED)} if EXPRESSION[0].name in self.scores else self.scores
        if name not in known:
            raise InputError(f"--score {printable(name, 100)} is none of {', '.join(known)}")
        return known[name]

    def groups(self) -> list[Results]:
        """The rows of each task and data, which alone are compared with one another."""
        groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
        for row in self.rows:
            groups[row["task"], row.get("data_number")].append(row)
        if len(groups) < 2:
            return [self]
        of_groups = [Results(rows, [], self.declared) for rows in groups.values()]
        return [replace(of_groups[0], damaged=self.damaged), *of_groups[1:]]

    def of_folders(self, folders: Iterable[Path]) -> Results:
        """The runs that are, or lie in, some folders."""
        places = {folder.resolve() for folder in folders}
        rows = [row for row in self.rows if not places.isdisjoint((path := Path(row["run"]).resolve(), path.parent))]
        return replace(self, rows=rows)


def collect(folders: Sequence[Path]) -> Results:
    """The runs in some sweep folders or run folders, those that a sweep's plan names and that are not there included.

    A damaged folder is named and passed over. Raises InputError where a folder is not there or holds no runs at all.
    Every row has every key of COLUMNS and every score, None where it is not known; those of OPTIONAL are in all rows
    where one row has them.
    """
    rows: dict[Path, Row] = {}
    damaged: list[str] = []
    plans: dict[Path, Plan] = {}
    found_scores: list[tuple[Row, ScoreColumns]] = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{printable(folder)} is no folder; give a sweep such as runs/demo, or runs in it")
        is_run = not is_missing(folder / "status.json") or not is_missing(folder / "config.yaml")
        found = {folder} if is_run else {path for path in folder.iterdir() if not is_missing(path / "status.json")}
        home = folder.parent if is_run else folder
        if home not in plans:
            plans[home] = read_plan(home, damaged)
        plan = plans[home]
        if not is_run:
            found |= {folder / name for name in plan.jobs}
        if not found and not damaged:
            raise InputError(f"{printable(folder)} holds no runs; give a sweep such as runs/demo, or runs in it")
        for path in sorted(found):
            try:
                row, columns = read_row(RunFolder(path), plan, damaged)
            except (InputError, OSError) as error:
                damaged.append(printable(error))
                continue
            found_scores.append((row, columns))
            rows[path.resolve()] = row
    told = tell_data_apart([*rows.values()])
    known: dict[str, ScoreColumns] = {}
    for row, columns in sorted(found_scores, key=lambda pair: pair[0]["state"] != "done"):
        columns["scores"] = columns["scores"] or by_name(TASKS.get(row["task"], ()))
        for kind, scores in columns.items():
            of_task = known.setdefault(row["task"], {}).setdefault(kind, {})
            of_task.update({column: score for column, score in scores.items() if column not in of_task})
    return in_order(Results(_same_keys(told, known), damaged, known))


def in_order(results: Results) -> Results:
    """The rows of one task and data after the other, best first."""
    groups = results.groups()
    if len(groups) > 1:
        groups.sort(key=lambda group: [str(group.rows[0].get(key) or "") for key in ("task", "dataset", "data")])
    rows = [row for group in groups for row in sorted(group.rows, key=lambda row: _order(row, group.best_by))]
    return replace(results, rows=rows)


def read_row(folder: RunFolder, plan: Plan, damaged: list[str]) -> tuple[Row, ScoreColumns]:
    """A run's row, and the scores that the run declares. InputError where its status, configuration or metrics cannot
    be read; damage beside them is added to `damaged`."""
    status = folder.status()
    state = folder.state() if status.get("state") == "running" else str(status.get("state", "missing"))
    unread = is_missing(folder.config_file)
    head = _from_plan(folder.name, plan) if unread else read_head(folder.config_file)
    settings = head.pop("settings", None)
    folds = {key: (settings or {}).get(key) for key in ("fold", "test_fold")}
    folds = {key: ",".join(map(str, fold)) if isinstance(fold, list) else fold for key, fold in folds.items()}
    row: Row = dict.fromkeys(COLUMNS) | {key: value for key, value in folds.items() if value is not None} | head
    row |= {"state": state, "reason": status.get("reason"), "run": str(folder.path)}
    row["sweep"] = folder.path.absolute().parent.name
    row["settings"] = None if settings is None else dataset_settings(settings)
    row["command"] = command(folder, plan)
    columns: ScoreColumns = {"scores": by_name(TASKS.get(str(row["task"]), ()))}
    if state == "done":
        metrics = folder.metrics()
        if not metrics:
            raise damage(folder.path, "its status says done, and it has no metrics.json")
        row |= {column: metrics[column] for column in (*OF_METRICS, LEAK_COLUMN) if column in metrics}
        row["select"] = metrics.get("select", "pearson_r")
        columns = _scores(row, metrics)
    try:
        if state == "done":
            _evaluation(row, columns, folder)
        elif state != "missing":
            columns["scores"] = _so_far(row, folder)
    except InputError as error:
        damaged.append(printable(error))
    if state != "missing" and has_kl_of_version_0_1(folder):
        row |= dict.fromkeys(row.keys() & {"kl", f"kl{SO_FAR}"})
    return row, columns


def _scores(row: Row, metrics: Mapping[str, Any]) -> ScoreColumns:
    """The scores of a run that is done, which are put into its row: its own, those of each of several tasks as
    `<score>_<task>`, and those of test parts as `test_<score>`, or `<part>_<score>`."""
    own = declared(metrics)
    columns: ScoreColumns = {"scores": by_name(own), "tasks": {}, "tests": {}}
    row |= {score.name: metrics.get(score.name) for score in own}

    def put(kind: str, scores: Mapping[str, Any], part: str = "", task: str = "") -> None:
        for score in own:
            if score.name in scores:
                column = test_column(part, score.name, task)
                label = score.label + (f" of {task}" if task else "") + (f" ({part})" if part else "")
                columns[kind][column] = replace(score, name=column, label=label)
                row[column] = scores[score.name]

    for name, scores in (metrics.get("tasks") or {}).items():
        put("tasks", scores, task=str(name))
    tests = {"test": metrics["test"]} if metrics.get("test") else {}
    for part, scores in {**tests, **(metrics.get("tests") or {})}.items():
        put("tests", scores, part)
        row[f"{part}_n"] = scores.get("n")
        for name, of_task in (metrics.get(f"{part}_tasks") or {}).items():
            put("tests", of_task, part, str(name))
    tasks = len(metrics.get("tasks") or [1])
    for part, by_task in (metrics.get(CEILING) or {}).items():
        _ceilings(row, "" if part == "validation" else part, by_task, whole=len(by_task) == tasks)
    return columns


def _ceilings(row: Row, part: str, by_task: Mapping[str, Mapping[str, Any]], *, whole: bool) -> None:
    """Adds the noise ceilings of the validation rows, or of a test part, each task's and their mean (`noise_ceiling`,
    with the limits of its interval and how many repeated rows it rests on), where it is `whole`: has all tasks."""
    if whole:
        for key, column in (("value", CEILING), *((end, f"{CEILING}_{end}") for end in ("low", "high", "rows"))):
            row[test_column(part, column)] = statistics.fmean(found[key] for found in by_task.values())
    for task, found in by_task.items() if len(by_task) > 1 or not whole else ():
        row[test_column(part, CEILING, task)] = found["value"]


def test_column(part: str, score: str, task: str = "") -> str:
    """The column of a test part's score, of one of several tasks; without a part, of the validation rows'."""
    return "_".join(filter(None, (part, score, printable(task, 100))))


def has_kl_of_version_0_1(folder: RunFolder) -> bool:
    """Whether a run's KL is that which version 0.1 gave to a scalar prediction: with half a bin for its deviation,
    whatever its errors were, so that it compares with no other.

    Later runs have `residual_sd` in targets.json. Of the earlier ones only soft bins trained as such have a KL.
    """
    targets = folder.read_json(folder.targets_file)
    if not targets or "residual_sd" in targets:
        return False
    final = read_part(folder.config_file, "final").get("final")
    final = final if isinstance(final, dict) else {}
    return not str(final.get("_target_")).endswith(".SoftBins") or final.get("loss", "kl") != "kl"


def command(folder: RunFolder, plan: Plan) -> str:
    """What runs just this combination, in its own folder."""
    if folder.name in plan.jobs:
        return plan.command(folder.name)
    return f"prixfixe train --resume {shlex.quote(str(folder.path))}"


def tell_data_apart(rows: list[Row]) -> list[Row]:
    """The rows with `data_number`, the same for the same data; and where runs of one dataset have several, with `data`,
    the settings that tell them apart. A run that never began has those of its sweep."""
    begun = [row for row in rows if row["settings"] is not None]
    runs = [(row["settings"], held_out(row["run"]) if row["state"] == "done" else None) for row in begun]
    examples: dict[int, tuple[Row, Settings]] = {}
    for row, number in zip(begun, data_numbers(runs), strict=True):
        row["data_number"] = number
        examples.setdefault(number, (row, row["settings"]))
    for row in rows:
        if row["settings"] is None:
            alike = [one for one in begun if one["sweep"] == row["sweep"] and row["task"] in (None, one["task"])]
            row["task"] = row["task"] or (alike[0]["task"] if alike else "expression")
            row["dataset"] = row["dataset"] or (alike[0]["dataset"] if alike else None)
            row["data_number"] = alike[0]["data_number"] if alike else None
    for dataset in {row["dataset"] for row in rows}:
        of_dataset = {number: settings for number, (row, settings) in examples.items() if row["dataset"] == dataset}
        keys = [*varying([*of_dataset.values()], SPLIT)] if len(of_dataset) > 1 else []
        for row in rows:
            if row["dataset"] == dataset and keys and row["data_number"] is not None:
                settings = of_dataset.get(row["data_number"], {})
                row["data"] = ", ".join(printable(f"{key}={text_of(settings.get(key))}", 100) for key in keys)
    return rows


def model_name(row: Mapping[str, Any]) -> str:
    """autosome+conv+bilstm+mlp, with its variant where it has one: the run's name without its folds and seed."""
    return "+".join(str(row[column]) for column in COMBINATION if row[column] is not None)


def combination(row: Mapping[str, Any]) -> str:
    """The same with the fold that it is tested on, where it has one."""
    return "+".join(filter(None, (model_name(row), fold_name(row.get("test_fold"), None))))


def origins(rows: Sequence[Row]) -> list[str]:
    """What sets each row apart from the same combination, fold and seed in another sweep: the sweep's folder, and ''
    where none repeats.

    Sweeps that complete each other are thus one grid, and sweeps of the same combinations are never mixed.
    """
    same = Counter((*_compared(row), combination(row), row.get("fold"), row["seed"]) for row in rows)
    repeated = max(same.values(), default=0) > 1
    return [str(Path(row["run"]).parent) if repeated else "" for row in rows]


def labels(rows: Sequence[Row], name: Callable[[Row], str] | None = None) -> list[str]:
    """What each row's model is called beside the others: its combination, or its `model_name`, with the sweep before it
    where that sets it apart."""
    names = zip(origins(rows), map(name or combination, rows), strict=True)
    return ["/".join(filter(None, (printable(Path(origin).name), name))) for origin, name in names]


def by_seeds(rows: Sequence[Row], name: Callable[[Row], str] = combination) -> list[list[Row]]:
    """The rows in groups that differ by their seed, or by the fold that they are validated on, alone; with `model_name`
    for their name, by the fold that they are tested on as well."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row, origin in zip(rows, origins(rows), strict=True):
        groups[(origin, *_compared(row), name(row))].append(row)
    return [*groups.values()]


def _compared(row: Row) -> tuple[Any, Any]:
    """What rows have in common that may be compared: task and data."""
    return row.get("task"), row.get("data_number")


def is_cross_validated(rows: Sequence[Row]) -> bool:
    """Whether runs of one combination differ in the fold that they are tested or validated on."""
    return len({(row.get("test_fold"), row.get("fold")) for row in rows}) > 1


def averaged(results: Results, *, by_test_fold: bool = False) -> Results:
    """Seeds and folds averaged: one row a combination and variant, over its runs that are done, or over all where none
    is; see `mean_row`.

    Where its runs differ in their folds and keep the predictions of their test parts, these are averaged and scored:
    see `prixfixe.analysis.folds`. by_test_fold: a row for each of its test folds.
    """
    found, said = averages(results, by_test_fold=by_test_fold)
    return in_order(replace(results, rows=[row for _, row in found], said=tuple(dict.fromkeys(said))))


def averages(results: Results, *, by_test_fold: bool = False) -> tuple[list[tuple[list[Row], Row]], list[str]]:
    """The rows of `averaged`, each behind the runs that it is of, in the order of these; and what is to be said."""
    scores, tests = results.scores, [*results.of_kind("tests")]
    found: list[tuple[list[Row], Row]] = []
    said, apart = list[str](), list[str]()
    for model in by_seeds(results.rows, model_name):
        groups = by_seeds(model)
        if not is_cross_validated(model):
            found += [(group, mean_row(group, scores)) for group in groups]
            continue
        from prixfixe.analysis.folds import over_test_folds, tested_row

        tested = [tested_row(group, scores, results.of_kind("scores")) for group in groups]
        folds = [row for row, _ in tested]
        said += [line for _, lines in tested for line in lines]
        averaged_over = any(row.get("models") for row in folds)
        if averaged_over and not by_test_fold:
            found.append((model, over_test_folds(model, folds, scores, tests)))
            continue
        found += zip(groups, folds, strict=True)
        if not averaged_over and any(row.get(column) is not None for row in folds for column in tests):
            apart.append(model_name(model[0]))
    if apart:
        said.append(
            f"A row a test fold, test scores being means over single runs: {some_of(apart, ' and ')} keep no "
            "predictions of test rows, as runs did before these were averaged."
        )
    return found, said


def mean_row(rows: Sequence[Row], scores: Collection[str] = ()) -> Row:
    """One row for runs that differ by their seed, or by the fold that they are validated on, alone.

    `seeds`, `folds`: how many; `<score>_sd`: the sample standard deviation over the runs, None with fewer than two.
    `seed`, `run` and `command` are those of the first run.
    """
    done = [row for row in rows if row["state"] == "done"]
    rows = sorted(done or rows, key=lambda row: int(row["seed"] or 0))
    folds = {row.get("fold") for row in rows}
    of_folds = Counter((row.get("test_fold"), row.get("fold")) for row in rows)
    mean: Row = dict(rows[0]) | {"seeds": max(of_folds.values())}
    if folds != {None}:
        mean |= {"folds": len(folds)} | ({"fold": None} if len(folds) > 1 else {})
    numbers = [column for column in mean if is_number(column, scores) and column not in ("seeds", "folds")]
    for column in numbers:
        values = [row[column] for row in rows if row[column] is not None]
        if len(rows) > 1:
            mean[column] = statistics.fmean(values) if values else None
        if column in scores:
            mean[f"{column}_sd"] = statistics.stdev(values) if len(values) > 1 else None
        if (column in COUNTS or column.endswith("_n")) and mean[column] is not None:
            mean[column] = round(mean[column])
    return mean


@dataclass(frozen=True)
class Curve:
    """One run's history: its row, and the values of each column of history.csv, one an epoch, NaN where there is
    none."""

    row: Mapping[str, Any]
    history: Mapping[str, Sequence[float]]


def read_plan(folder: Path, damaged: list[str]) -> Plan:
    """The plan in a sweep's folder; an empty one where it is damaged, which is added to `damaged`."""
    try:
        return Plan.read(folder)
    except InputError as error:
        damaged.append(printable(error))
        return Plan(folder, {})


def _from_plan(name: str, plan: Plan) -> Row:
    """Choices, folds, seed and variant of a run that never began, from its folder's name and its overrides."""
    given = dict(word.partition("=")[::2] for word in (*plan.launched_with, *plan.jobs.get(name, ())))
    folds = {key: given.get(f"dataset.{key}") for key in ("test_fold", "fold")}
    parts = name.split("+")
    seed = 0
    if len(parts) > len(SLOTS) and (number := re.fullmatch(r"seed([0-9]{1,19})", parts[-1])):
        seed = int(number[1])
        parts.pop()
    if len(parts) > len(SLOTS) and (number := re.fullmatch(r"(?:t(\d{1,9}))?(?:f(\d{1,9}))?", parts[-1])):
        folds = dict(zip(folds, number.groups(), strict=True))
    if len(parts) > len(SLOTS) and parts[-1] == fold_name(*folds.values()):
        parts.pop()
    shown = [printable(part, 200) or None for part in parts]
    choices: Row = dict.fromkeys(SLOTS)
    variant = printable("+".join(parts[len(SLOTS) :]), 200) or None
    found = {key: int(value) if value.isdecimal() else value for key, value in folds.items() if value}
    chosen = {key: printable(given[key], 200) if key in given else None for key in ("task", "dataset")}
    return choices | dict(zip(SLOTS, shown, strict=False)) | {"seed": seed, "variant": variant} | chosen | found


def _evaluation(row: Row, columns: ScoreColumns, folder: RunFolder) -> None:
    """Adds the scores of evaluation.json where there is one, and that they are simulated, where they are.

    Of a test set with subsets: the weighted scores, and r_<subset> and rho_<subset>. Of a plain table: each task's own
    scores, evaluation_<score>_<task>, those of a single one without its name; of expression r_<task> and rho_<task>,
    which are `all` of a single one.
    """
    content = read_evaluation(folder.evaluation_file)
    if not content:
        return
    row |= {"simulated": True} if content.get("simulated") else {}
    tasks = content.get("tasks")
    if tasks is None:
        columns["weighted"] = by_name(WEIGHTED)
        row |= {score.name: content[score.name]["value"] for score in WEIGHTED}
    subsets = columns.setdefault("subsets", {})
    own, single = declared(content), tasks is not None and len(tasks) == 1
    for part in content["subsets"] if tasks is None else tasks:
        for score in own:
            name = part["name"]
            if own == EXPRESSION:
                column = f"{score.short}_{'all' if single else name}" if score.short else ""
                label = column.replace("_", " ")
            else:
                column = f"evaluation_{score.name}" + ("" if single else f"_{name}")
                label = score.label + ("" if single else f" of {name}") + " (evaluation)"
            if column and score.name in part:
                subsets[column] = replace(score, name=column, label=label)
                row[column] = part[score.name]["value"] if tasks is None else part[score.name]


def is_of_evaluation(column: str) -> bool:
    """Whether a column holds a score of an evaluation, which does not depend on what a run has held out."""
    return column in by_name(WEIGHTED) or column.startswith(("r_", "rho_", "evaluation_"))


def is_number(column: str, scores: Collection[str]) -> bool:
    """Whether a column holds numbers that can be averaged. scores: the columns that are scores."""
    return column.removesuffix(SO_FAR) in scores or column in NUMBERS or column.endswith("_n") or CEILING in column


def _so_far(row: Row, folder: RunFolder) -> dict[str, Score]:
    """Adds the last epoch's scores of a run that is not done; returns the scores that it declares."""
    targets = {"task": row["task"]} if is_missing(folder.targets_file) else read_targets(folder.targets_file)
    row["select"] = targets.get("select", "pearson_r")
    own = declared(targets)
    last = read_history(folder.history_file, last=True)
    if last:
        try:
            row["epoch"] = int(last["epoch"][0])
            for score in own:
                value = last[score.name][0]
                row[f"{score.name}{SO_FAR}"] = value if math.isfinite(value) else None
        except (KeyError, ValueError) as error:
            raise damage(folder.history_file, "its last line is no epoch's scores") from error
    return by_name(own)


def _same_keys(rows: Sequence[Row], known: Mapping[str, ScoreColumns]) -> list[Row]:
    """The rows with the same columns; of OPTIONAL, those that a row has."""
    scores = [column for kinds in known.values() for columns in kinds.values() for column in columns]
    others = {column for row in rows for column in row} - {"settings"}
    first = (*COLUMNS, *scores, *(column for column in OPTIONAL if column in others))
    columns = dict.fromkeys((*first, *sorted(others)))
    return [{column: row.get(column) for column in columns} for row in rows]


def _order(row: Row, select: Score) -> tuple[Any, ...]:
    """select: the score of a column."""
    score = row.get(select.name) if row["state"] == "done" else row.get(f"{select.name}{SO_FAR}")
    return (row["state"] != "done", score is None, 0.0 if score is None else select.loss(score), row["run"])
