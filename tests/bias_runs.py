"""Small tables of counts along windows, in which cuts lie where an enzyme likes the sequence and peaks have more, and
the configurations of networks for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from conftest import compose, table_dataset

LENGTH, POSITIONS, MARGIN = 80, 40, 4
ROWS = 160  # half of them peaks
MOTIF = "TGACTCA"


def simulated_windows(seed: int = 0, rows: int = ROWS) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Sequences, which are peaks, and counts (rows, POSITIONS + 2 * MARGIN). The enzyme cuts before GC seven times as
    often as elsewhere; a motif in the middle of a peak makes four times as many cuts, its own positions fewer."""
    random = np.random.default_rng(seed)
    is_peak = np.arange(rows) % 2 == 0
    width = POSITIONS + 2 * MARGIN
    first = (LENGTH - width) // 2
    sequences, counts = [], np.zeros((rows, width), dtype=np.int32)
    for row in range(rows):
        letters = random.choice(list("ACGT"), LENGTH)
        middle = LENGTH // 2 - 3
        if is_peak[row]:
            letters[middle : middle + len(MOTIF)] = list(MOTIF)
        text = "".join(letters)
        rate = np.array([7.0 if text[at : at + 2] == "GC" else 1.0 for at in range(first, first + width)])
        if is_peak[row]:
            rate *= 4
            rate[middle - first : middle - first + len(MOTIF)] /= 8
        counts[row] = random.poisson(rate * random.uniform(0.5, 1.5))
        sequences.append(text)
    return sequences, is_peak, counts


def write_tables(folder: Path, seed: int = 0, rows: int = ROWS) -> None:
    """all.tsv, and non_peaks.tsv with what of these is no peak; the counts beside them."""
    sequences, is_peak, counts = simulated_windows(seed, rows)
    for name, chosen in (("all", np.full(rows, True)), ("non_peaks", ~is_peak)):
        kept = np.flatnonzero(chosen)
        table = {"sequence": [sequences[row] for row in kept], "is_peak": is_peak[kept].astype(int)}
        table["fold"] = np.arange(rows)[kept] // 2 % 5
        pd.DataFrame(table).to_csv(folder / f"{name}.tsv", sep="\t", index=False)
        np.save(folder / f"{name}.npy", counts[kept])


def config(table: Path, *overrides: str, **training: Any) -> dict[str, Any]:
    """A small BPNet with the heads, on a table that `write_tables` wrote; fold 0 is validated on."""
    parts = ("recipe=plain", f"recipe.length={LENGTH}", "first=identity", "core=bpnet", "final=profile_counts")
    small = ("core.channels=8", "core.layers=2", "core.first_kernel_size=7", "final.kernel_size=5")
    task = ("task=profile", f"task.positions={POSITIONS}", "optim=constant", "optim.optimizer.lr=0.01")
    composed = compose(*parts, *small, *task, *overrides)
    composed["training"] |= {"device": "cpu", "epochs": 2, "batch_size": 32, **training}
    columns = {"profile": str(table.with_suffix(".npy")), "is_peak": "number"}
    settings = {"expression": [], "columns": columns, "fold": 0}
    return {**composed, "dataset": table_dataset(table, **settings)}


def bias_config(folder: Path, **training: Any) -> dict[str, Any]:
    """Of a bias model, on the rows that are no peaks."""
    return config(folder / "non_peaks.tsv", "core.layers=1", "core.channels=4", **{"epochs": 12, **training})


def main_config(folder: Path, bias: Path | str | None, *overrides: str, **training: Any) -> dict[str, Any]:
    composed = config(folder / "all.tsv", *overrides, **training)
    composed["final"]["bias"]["train"]["weights"] = None if bias is None else str(bias)
    return composed
