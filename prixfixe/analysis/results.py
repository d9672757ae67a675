"""The runs of one or several sweeps as rows, from their folders alone; torch is not needed."""

from __future__ import annotations

import math
import re
import shlex
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prixfixe.analysis.scores import LOWER_IS_BETTER, SCORES
from prixfixe.common.errors import InputError
from prixfixe.common.inputs import is_missing
from prixfixe.common.text import printable
from prixfixe.runs.bounded import damaged as damage
from prixfixe.runs.folder import SLOTS, RunFolder
from prixfixe.runs.reader import Metrics, read_evaluation, read_head, read_history, read_part
from prixfixe.sweeps.plan import Plan

__all__ = ["LOWER_IS_BETTER", "SCORES"]

MEASURED = (
    *("kl", "pearson_r", "spearman_rho", "mse", "n"),
    *("parameters", "samples_per_second", "training_seconds", "best_epoch"),
)
COLUMNS = (
    *SLOTS,
    "seed",
    "state",
    *MEASURED,
    "simulated",
    "reason",
    "run",
    "variant",
    "gpu_memory_bytes",
    "inference_per_second",
    "device",
    "sweep",
    "command",
)
# there only where an evaluation was made, beside the r and rho of each of its subsets or tasks
EVALUATION_COLUMNS = ("pearson_score", "spearman_score")
# there only where a test set was held out, which chose nothing
TEST_COLUMNS = tuple(f"test_{score}" for score in ("kl", "pearson_r", "spearman_rho", "mse", "n"))
# there only where a run has counted them: the share of validation sequences that share a stretch with a training one
LEAK_COLUMN = "validation_near_duplicates"
# there only where a run is not done and has epochs behind it: its last epoch's scores, which are not final
SO_FAR_COLUMNS = ("epoch", *(f"{score}_so_far" for score in ("kl", "pearson_r", "spearman_rho", "mse")))

# what is averaged over seeds
NUMBERS = frozenset(
    (
        *MEASURED,
        *("gpu_memory_bytes", "inference_per_second"),
        *EVALUATION_COLUMNS,
        *TEST_COLUMNS,
        LEAK_COLUMN,
        *SO_FAR_COLUMNS,
    )
)
COMBINATION = (*SLOTS, "variant")
OF_METRICS = tuple(column for column in COLUMNS if column in Metrics.model_fields)

Row = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """Rows, best first: the done ones by Pearson r, then the others by how far they are and by name.

    damaged: a message for each folder or file that could not be read.
    """

    rows: list[Row]
    damaged: list[str]

    @property
    def done(self) -> list[Row]:
        return [row for row in self.rows if row["state"] == "done"]

    @property
    def others(self) -> list[Row]:
        return [row for row in self.rows if row["state"] != "done"]


def collect(folders: Sequence[Path]) -> Results:
    """The runs in some sweep folders or run folders, those that a sweep's plan names and that are not there included.

    A damaged folder is named and passed over. Raises InputError where a folder is not there or holds no runs at all.
    Every row has every key of COLUMNS, None where it is not known; those of EVALUATION_COLUMNS, TEST_COLUMNS,
    LEAK_COLUMN and SO_FAR_COLUMNS, and r_ and rho_ of tasks, are in all rows where one row has them.
    """
    rows: dict[Path, Row] = {}
    damaged: list[str] = []
    plans: dict[Path, Plan] = {}
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
                rows[path.resolve()] = read_row(RunFolder(path), plan, damaged)
            except (InputError, OSError) as error:
                damaged.append(printable(error))
    return Results(sorted(_same_keys(rows.values()), key=_order), damaged)


def read_row(folder: RunFolder, plan: Plan, damaged: list[str]) -> Row:
    """A run's row. InputError where its status, configuration or metrics cannot be read; damage beside them is added to
    `damaged`."""
    status = folder.status()
    state = folder.state() if status.get("state") == "running" else str(status.get("state", "missing"))
    choices = _from_name(folder.name) if is_missing(folder.config_file) else read_head(folder.config_file)
    row: Row = dict.fromkeys(COLUMNS) | choices
    row |= {
        "state": state,
        "reason": status.get("reason"),
        "run": str(folder.path),
        "sweep": folder.path.absolute().parent.name,
    }
    row["command"] = command(folder, plan)
    if state == "done":
        metrics = folder.metrics()
        if not metrics:
            raise damage(folder.path, "its status says done, and it has no metrics.json")
        row |= {column: metrics[column] for column in (*OF_METRICS, LEAK_COLUMN) if column in metrics}
        row |= {f"test_{score}": value for score, value in (metrics.get("test") or {}).items()}
        try:
            row |= _evaluation(folder)
        except InputError as error:
            damaged.append(printable(error))
    elif state != "missing":
        try:
            row |= _so_far(folder)
        except InputError as error:
            damaged.append(printable(error))
    if state != "missing" and has_kl_of_version_0_1(folder):
        row |= dict.fromkeys(row.keys() & {"kl", "kl_so_far"})
    return row


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


def combination(row: Mapping[str, Any]) -> str:
    """autosome+conv+bilstm+mlp, with its variant where it has one: the run's name without its seed."""
    return "+".join(str(row[column]) for column in COMBINATION if row[column] is not None)


def origins(rows: Sequence[Row]) -> list[str]:
    """What sets each row apart from the same combination and seed in another sweep: the sweep's folder, and '' where
    none repeats.

    Sweeps that complete each other are thus one grid, and sweeps of the same combinations are never mixed.
    """
    repeated = max(Counter((combination(row), row["seed"]) for row in rows).values(), default=0) > 1
    return [str(Path(row["run"]).parent) if repeated else "" for row in rows]


def labels(rows: Sequence[Row]) -> list[str]:
    """What each row's model is called beside the others: its combination, with the sweep before it where that sets it
    apart."""
    return ["/".join(filter(None, (printable(Path(origin).name), name))) for origin, name in _groups(rows)]


def by_seeds(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows in groups that differ by their seed alone."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row, group in zip(rows, _groups(rows), strict=True):
        groups[group].append(row)
    return [*groups.values()]


def averaged(results: Results) -> Results:
    """Seeds averaged: one row a combination and variant, over its runs that are done, or over all where none is; see
    `mean_row`."""
    return Results(sorted(map(mean_row, by_seeds(results.rows)), key=_order), results.damaged)


def mean_row(rows: Sequence[Row]) -> Row:
    """One row for runs that differ by their seed alone.

    `seeds`: how many runs; `<score>_sd`: the sample standard deviation over them, None with fewer than two.
    `seed`, `run` and `command` are those of the first run.
    """
    done = [row for row in rows if row["state"] == "done"]
    rows = sorted(done or rows, key=lambda row: int(row["seed"] or 0))
    mean: Row = dict(rows[0]) | {"seeds": len(rows)}
    for column in filter(is_number, list(mean)):
        values = [row[column] for row in rows if row[column] is not None]
        if len(rows) > 1:
            mean[column] = statistics.fmean(values) if values else None
        if column in SCORES:
            mean[f"{column}_sd"] = statistics.stdev(values) if len(values) > 1 else None
    for column in ("parameters", "n", "gpu_memory_bytes", "epoch", "test_n"):
        if mean.get(column) is not None:
            mean[column] = round(mean[column])
    return mean


def _groups(rows: Sequence[Row]) -> list[tuple[str, str]]:
    return list(zip(origins(rows), map(combination, rows), strict=True))


def scores_of(rows: Iterable[Row]) -> list[str]:
    """The scores of SCORES that at least one row has."""
    rows = list(rows)
    return [score for score in SCORES if any(row.get(score) is not None for row in rows)]


def read_plan(folder: Path, damaged: list[str]) -> Plan:
    """The plan in a sweep's folder; an empty one where it is damaged, which is added to `damaged`."""
    try:
        return Plan.read(folder)
    except InputError as error:
        damaged.append(printable(error))
        return Plan(folder, {})


def _from_name(name: str) -> Row:
    """Choices, seed and variant of a run that never began, from its folder's name."""
    parts = name.split("+")
    seed = 0
    if len(parts) > len(SLOTS) and (number := re.fullmatch(r"seed([0-9]{1,19})", parts[-1])):
        seed = int(number[1])
        parts.pop()
    shown = [printable(part, 200) or None for part in parts]
    choices: Row = dict.fromkeys(SLOTS)
    variant = printable("+".join(parts[len(SLOTS) :]), 200) or None
    return choices | dict(zip(SLOTS, shown, strict=False)) | {"seed": seed, "variant": variant}


def _evaluation(folder: RunFolder) -> Row:
    """The weighted scores and the subset scores of evaluation.json, and that they are simulated, where they are; {}
    where there is none.

    Of an evaluation on a plain table, which has neither: each task's own scores, r_<task> and rho_<task>; those of a
    single one are of `all`.
    """
    content = read_evaluation(folder.evaluation_file)
    if not content:
        return {}
    values: Row = {"simulated": True} if content.get("simulated") else {}
    tasks = content.get("tasks")
    if tasks is None:
        values |= {f"{score}_score": content[f"{score}_score"]["value"] for score in ("pearson", "spearman")}
    for part in content["subsets"] if tasks is None else tasks:
        name = "all" if tasks is not None and len(tasks) == 1 else part["name"]
        values |= {f"r_{name}": part["pearson_r"]["value"], f"rho_{name}": part["spearman_rho"]["value"]}
    return values


def is_of_a_part(column: str) -> bool:
    """Whether a column holds the r or rho of a subset or of a task."""
    return column.startswith(("r_", "rho_"))


def is_number(column: str) -> bool:
    """Whether a column holds numbers, which are averaged over seeds."""
    return column in NUMBERS or is_of_a_part(column)


def of_evaluations(rows: Iterable[Row]) -> list[str]:
    """The columns of evaluations that some row has: EVALUATION_COLUMNS in their order, then those of tasks."""
    known = dict.fromkeys(column for row in rows for column in row)
    listed = [column for column in EVALUATION_COLUMNS if column in known]
    return [*listed, *(column for column in known if is_of_a_part(column) and column not in EVALUATION_COLUMNS)]


def _so_far(folder: RunFolder) -> Row:
    """The last epoch's scores of a run that is not done."""
    last = read_history(folder.history_file, last=True)
    if not last:
        return {}
    try:
        row: Row = {"epoch": int(last["epoch"][0])}
        for score in ("kl", "pearson_r", "spearman_rho", "mse"):
            value = last[score][0]
            row[f"{score}_so_far"] = value if math.isfinite(value) else None
    except (KeyError, ValueError) as error:
        raise damage(folder.history_file, "its last line is no epoch's scores") from error
    return row


def _same_keys(rows: Iterable[Row]) -> list[Row]:
    rows = list(rows)
    known = set().union(*rows)
    optional = (*of_evaluations(rows), *TEST_COLUMNS, LEAK_COLUMN, *SO_FAR_COLUMNS)
    columns = [*COLUMNS, *(column for column in optional if column in known)]
    return [{column: row.get(column) for column in columns} for row in rows]


def _order(row: Row) -> tuple[Any, ...]:
    score = row["pearson_r"] if row["state"] == "done" else row.get("pearson_r_so_far")
    return (row["state"] != "done", score is None, -(score or 0.0), row["run"])
