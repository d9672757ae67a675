"""The runs of one or several sweeps as rows, from their folders alone; torch is not needed."""

from __future__ import annotations

import csv
import io
import json
import math
import shlex
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from prixfixe.errors import InputError
from prixfixe.evaluation import WEIGHTS
from prixfixe.run_folder import SLOTS, RunFolder, SafeLoader
from prixfixe.simulated import is_simulated
from prixfixe.sweeps.plan import Plan, quoted

SCORES = {
    "pearson_r": "Pearson r",
    "spearman_rho": "Spearman rho",
    "kl": "KL",
    "mse": "MSE",
    "pearson_score": "Pearson score",
    "spearman_score": "Spearman score",
}
LOWER_IS_BETTER = {"kl", "mse"}

COLUMNS = (
    *SLOTS,
    "seed",
    "state",
    "kl",
    "pearson_r",
    "spearman_rho",
    "mse",
    "n",
    "parameters",
    "samples_per_second",
    "training_seconds",
    "best_epoch",
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
# there only where an evaluation was made
EVALUATION_COLUMNS = (
    "pearson_score",
    "spearman_score",
    *(f"{score}_{subset}" for score in ("r", "rho") for subset in WEIGHTS),
)
# there only where a test set was held out, which chose nothing
TEST_COLUMNS = tuple(f"test_{score}" for score in ("kl", "pearson_r", "spearman_rho", "mse", "n"))
# there only where a run has counted them: the share of validation sequences that share a stretch with a training one
LEAK_COLUMN = "validation_near_duplicates"
# there only where a run is not done and has epochs behind it: its last epoch's scores, which are not final
SO_FAR_COLUMNS = ("epoch", *(f"{score}_so_far" for score in ("kl", "pearson_r", "spearman_rho", "mse")))

# what is averaged over seeds
NUMBERS = frozenset(
    (
        *(
            "kl",
            "pearson_r",
            "spearman_rho",
            "mse",
            "n",
            "parameters",
            "samples_per_second",
            "training_seconds",
            "best_epoch",
        ),
        *("gpu_memory_bytes", "inference_per_second"),
        *EVALUATION_COLUMNS,
        *TEST_COLUMNS,
        LEAK_COLUMN,
        *SO_FAR_COLUMNS,
    )
)
COMBINATION = (*SLOTS, "variant")

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
    LEAK_COLUMN and SO_FAR_COLUMNS are in all rows where one row has them.
    """
    rows: dict[Path, Row] = {}
    damaged: list[str] = []
    plans: dict[Path, Plan] = {}
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder; give a sweep such as runs/demo, or runs in it")
        is_run = (folder / "status.json").exists() or (folder / "config.yaml").exists()
        found = {folder} if is_run else {path.parent for path in folder.glob("*/status.json")}
        home = folder.parent if is_run else folder
        if home not in plans:
            plans[home] = read_plan(home, damaged)
        plan = plans[home]
        if not is_run:
            found |= {folder / name for name in plan.jobs}
        if not found and not damaged:
            raise InputError(f"{folder} holds no runs; give a sweep such as runs/demo, or runs in it")
        for path in sorted(found):
            try:
                rows[path.resolve()] = read_row(RunFolder(path), plan, damaged)
            except (InputError, OSError) as error:
                damaged.append(str(error))
    return Results(sorted(_same_keys(rows.values()), key=_order), damaged)


def read_row(folder: RunFolder, plan: Plan, damaged: list[str]) -> Row:
    """A run's row. InputError where its status, configuration or metrics cannot be read; damage beside them is added to
    `damaged`."""
    status = folder.status()
    state = folder.state() if status.get("state") == "running" else str(status.get("state", "missing"))
    choices = _configuration(folder) if folder.path.is_dir() else _from_name(folder.name)
    row: Row = dict.fromkeys(COLUMNS) | choices
    row |= {
        "state": state,
        "reason": status.get("reason"),
        "run": str(folder.path),
        "sweep": folder.path.absolute().parent.name,
    }
    row["command"] = command(folder, plan)
    if state == "done":
        row |= _checked(folder.read_json(folder.metrics_file), folder.metrics_file)
        try:
            row |= _evaluation(folder)
        except InputError as error:
            damaged.append(str(error))
    elif state != "missing":
        try:
            row |= _so_far(folder)
        except InputError as error:
            damaged.append(str(error))
    return row


def command(folder: RunFolder, plan: Plan) -> str:
    """What runs just this combination, in its own folder."""
    if folder.name in plan.jobs:
        return plan.command(folder.name)
    own = [f"hydra.run.dir={quoted(str(folder.path))}", "hydra.output_subdir=null"]
    return f"prixfixe train {shlex.join(['--config-dir', str(folder.path), '--config-name', folder.config_file.stem, *own])}"


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
    return ["/".join(filter(None, (Path(origin).name, name))) for origin, name in _groups(rows)]


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
    for column in mean.keys() & NUMBERS:
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
        damaged.append(str(error))
        return Plan(folder, {})


def _configuration(folder: RunFolder) -> Row:
    """Choices, seed, variant, and whether it is simulated, from those lines of config.yaml alone: to read all of it
    takes most of the time."""
    try:
        text = folder.config_file.read_text(encoding="utf-8")
        content = yaml.load("\n".join(top_level(text, ("choices", "seed", "variant", "dataset"))), SafeLoader)
        if not isinstance(content, dict) or "choices" not in content:
            content = folder.config()
    except FileNotFoundError:
        return _from_name(folder.name)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{folder.config_file} is damaged: {str(error).splitlines()[0]}") from error
    choices = content.get("choices")
    if not isinstance(choices, dict) or not set(SLOTS) <= choices.keys():
        raise InputError(f"{folder.config_file} is damaged: it does not say which {', '.join(SLOTS)} were chosen")
    others = {"seed": content.get("seed", 0), "variant": content.get("variant"), "simulated": is_simulated(content)}
    return {**{slot: str(choices[slot]) for slot in SLOTS}, **others}


def top_level(text: str, keys: tuple[str, ...]) -> Iterable[str]:
    """The lines of these keys of a YAML mapping in block style, what is indented below them included."""
    wanted = False
    for line in text.splitlines():
        if line[:1] not in (" ", "-", "#", ""):
            wanted = line.partition(":")[0] in keys
        if wanted:
            yield line


def _from_name(name: str) -> Row:
    """Choices, seed and variant of a run that never began, from its folder's name."""
    parts = name.split("+")
    seed = 0
    if len(parts) > len(SLOTS) and parts[-1].startswith("seed") and parts[-1][4:].isdigit():
        seed = int(parts.pop()[4:])
    choices: Row = dict.fromkeys(SLOTS)
    return (
        choices
        | dict(zip(SLOTS, parts, strict=False))
        | {"seed": seed, "variant": "+".join(parts[len(SLOTS) :]) or None}
    )


def _checked(content: Mapping[str, Any], file: Path) -> Row:
    """What belongs into a row of a JSON file's content; InputError where it is not there or no number where one should
    be."""
    if not content:
        raise InputError(f"{file.parent} is damaged: its status says done, and it has no {file.name}")
    row = {}
    if isinstance(tested := content.get("test"), Mapping):
        content = {**content, **{f"test_{score}": value for score, value in tested.items()}}
    for column in content.keys() & {*COLUMNS, *EVALUATION_COLUMNS, *TEST_COLUMNS, LEAK_COLUMN}:
        value = content[column]
        if column in NUMBERS and (isinstance(value, bool) or not isinstance(value, int | float | None)):
            raise InputError(f"{file} is damaged: {column} is {value!r}, no number")
        row[column] = None if isinstance(value, float) and not math.isfinite(value) else value
    return row


def _evaluation(folder: RunFolder) -> Row:
    """The weighted scores and the subset scores of evaluation.json, and that they are simulated, where they are; {}
    where there is none.

    Of an evaluation on a plain table, which has neither: the scores of `all`, where it has one task.
    """
    file = folder.evaluation_file
    content = folder.read_json(file)
    if not content:
        return {}
    try:
        values: Row = {"simulated": True} if content.get("simulated") else {}
        tasks = content.get("tasks")
        if tasks is None:
            values |= {f"{score}_score": content[f"{score}_score"]["value"] for score in ("pearson", "spearman")}
        for subset in (
            content["subsets"] if tasks is None else [{**task, "name": "all"} for task in tasks if len(tasks) == 1]
        ):
            values |= {
                f"r_{subset['name']}": subset["pearson_r"]["value"],
                f"rho_{subset['name']}": subset["spearman_rho"]["value"],
            }
    except (KeyError, TypeError) as error:
        raise InputError(f"{file} is damaged: {json.dumps(str(error))} is missing or of the wrong type") from error
    return _checked(values, file) if values else {}


def _so_far(folder: RunFolder) -> Row:
    """The last epoch's scores of a run that is not done."""
    try:
        lines = folder.history_file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise InputError(f"{folder.history_file} is damaged: {error}") from error
    if len(lines) < 2:
        return {}
    last = next(csv.DictReader(io.StringIO(f"{lines[0]}\n{lines[-1]}")))
    try:
        row: Row = {"epoch": int(last["epoch"])}
        for score in ("kl", "pearson_r", "spearman_rho", "mse"):
            value = float(last[score])
            row[f"{score}_so_far"] = value if math.isfinite(value) else None
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder.history_file} is damaged: its last line is no epoch's scores") from error
    return row


def _same_keys(rows: Iterable[Row]) -> list[Row]:
    rows = list(rows)
    known = set().union(*rows)
    optional = (*EVALUATION_COLUMNS, *TEST_COLUMNS, LEAK_COLUMN, *SO_FAR_COLUMNS)
    columns = [*COLUMNS, *(column for column in optional if column in known)]
    return [{column: row.get(column) for column in columns} for row in rows]


def _order(row: Row) -> tuple[Any, ...]:
    score = row["pearson_r"] if row["state"] == "done" else row.get("pearson_r_so_far")
    return (row["state"] != "done", score is None, -(score or 0.0), row["run"])
