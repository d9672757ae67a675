"""The comparison of combinations, from run folders alone; torch is not needed."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prixfixe.errors import InputError
from prixfixe.run_folder import SLOTS, RunFolder
from prixfixe.sweep import Plan

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
)
SHOWN = {  # what the terminal and Markdown tables show, and how
    "recipe": "recipe",
    "first": "first",
    "core": "core",
    "final": "final",
    "seed": "seed",
    "kl": "KL",
    "pearson_r": "Pearson r",
    "spearman_rho": "Spearman rho",
    "mse": "MSE",
    "parameters": "parameters",
    "samples_per_second": "samples/s",
}
DECIMALS = {"kl": 3, "pearson_r": 3, "spearman_rho": 3, "mse": 3, "samples_per_second": 0}


@dataclass(frozen=True)
class Results:
    """One row a combination, best first: the done ones by Pearson r, then the others by name."""

    rows: list[dict[str, Any]]
    damaged: list[str]

    @property
    def done(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["state"] == "done"]

    @property
    def others(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["state"] != "done"]


def collect(folders: Sequence[Path]) -> Results:
    """The runs in some sweep folders or run folders, those that the sweep's plan names and that are not there included.

    A damaged folder is named and passed over. Raises InputError where a folder is not there or holds no runs at all.
    """
    rows: dict[Path, dict[str, Any]] = {}
    damaged = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder; give a sweep such as runs/demo, or runs in it")
        found = {path.parent for path in folder.glob("*/status.json")} | ({folder} if (folder / "status.json").exists() else set())
        found |= {folder / name for name in Plan.read(folder).jobs}
        if not found:
            raise InputError(f"{folder} holds no runs; give a sweep such as runs/demo, or runs in it")
        for path in sorted(found):
            try:
                rows[path.resolve()] = row(RunFolder(path))
            except InputError as error:
                damaged.append(str(error))
    return Results(sorted(rows.values(), key=_order), damaged)


def row(folder: RunFolder) -> dict[str, Any]:
    """A run's row, with every column of COLUMNS; what it has not got is None. A folder that is not there is `missing`."""
    status = folder.status()
    names, _, seed = folder.name.partition("+seed")
    choices: dict[str, Any] = dict(zip(SLOTS, names.split("+"), strict=False))
    seed_number: Any = int(seed) if seed.isdigit() else 0
    if folder.config_file.exists():
        config = folder.config()
        choices, seed_number = config.get("choices", choices), config.get("seed", seed_number)
    metrics = folder.read_json(folder.metrics_file)
    known = {
        **metrics,
        **choices,
        "seed": seed_number,
        "state": status.get("state", "missing"),
        "reason": status.get("reason"),
        "run": str(folder.path),
    }
    return {column: known.get(column) for column in COLUMNS}


def as_csv(results: Results) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(results.rows)
    return text.getvalue()


def as_markdown(results: Results) -> str:
    header = [
        title(results),
        "",
        "| | " + " | ".join(SHOWN.values()) + " |",
        "|---:|" + "".join("---|" if k in SLOTS else "---:|" for k in SHOWN),
    ]
    body = ["| " + " | ".join([str(rank), *cells(row)]) + " |" for rank, row in enumerate(results.done, 1)]
    return "\n".join([*header, *body, *([""] if notes(results) else []), *(f"- {note}" for note in notes(results))]) + "\n"


def title(results: Results) -> str:
    simulated = any(row["simulated"] for row in results.done)
    count = f"{len(results.done)} of {len(results.rows)} combinations done"
    return f"{count}. SIMULATED assay: these numbers are no real measurements." if simulated else f"{count}."


def cells(row: dict[str, Any]) -> list[str]:
    """A row as the terminal and Markdown tables show it."""
    texts = []
    for column in SHOWN:
        value = row[column]
        if value is None:
            texts.append("-")
        elif column in DECIMALS:
            texts.append(f"{value:,.{DECIMALS[column]}f}")
        else:
            texts.append(f"{value:,}" if isinstance(value, int) else str(value))
    return texts


def notes(results: Results) -> list[str]:
    """The combinations that are not done, by name, and the folders that could not be read."""
    lines = [f"{row['state']}: {Path(row['run']).name}" + (f": {row['reason']}" if row["reason"] else "") for row in results.others]
    return lines + [f"damaged: {message}" for message in results.damaged]


def _order(row: dict[str, Any]) -> tuple[Any, ...]:
    score = row["pearson_r"]
    return (row["state"] != "done", -score if isinstance(score, float) else 2.0, row["run"])
