"""From ten thousand to 6.7 million sequences: training time a sample, memory, and reading the results of many runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figures import Figure, Options, in_turns, peak_memory
from prepare import write_table

from prixfixe.runs.checkpoint import checkpoints, load_checkpoint
from prixfixe.runs.folder import RunFolder

SIZES = (10_000, 100_000, 1_000_000, 6_700_000)
NETWORK = ("recipe=autosome", "first=conv", "core=efficientnet", "final=soft_bins")
GOAL_GIGABYTES = 4.0


def measure(options: Options) -> list[Figure]:
    """A real `prixfixe train` with a small network, so that the share of the data counts; stopped after a while, on a
    prepared table."""
    seconds = 5 if options.quick else 40
    figures: list[Figure] = []
    for size in (1_000, 2_000) if options.quick else SIZES:
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder, "table.tsv")
            write_table(table, size)
            train(table, Path(folder, "first"), options, seconds=1)  # prepares the table
            rate, gigabytes = train(table, Path(folder, "run"), options, seconds)
        begin = figures[0].value if figures else rate
        figures += [
            Figure(
                f"training, {size:,} sequences",
                rate,
                "samples/s",
                compared_with="the smallest table",
                compared=begin,
                gain=rate / begin,
                note=f"demo sizes, batches of 1,024, for {seconds} s of training",
            ),
            Figure(
                f"memory of the host, {size:,} sequences",
                gigabytes,
                "GB",
                limited_by="4 GB, as was set",
                limit=GOAL_GIGABYTES,
            ),
        ]
    return figures + reading(options)


def train(table: Path, run: Path, options: Options, seconds: float) -> tuple[float, float]:
    """Samples a second and peak memory in GB of a run that is told to stop after so many seconds of training."""
    overrides = [
        "experiment=demo",
        "hydra.mode=RUN",
        *NETWORK,
        "dataset=table",
        f"dataset.path={table}",
        "training.epochs=10000",
    ]
    overrides += [
        "training.batch_size=1024",
        "training.compile=false",
        f"training.device={options.device}",
        f"hydra.run.dir={run}",
    ]
    environment = {**os.environ, "PRIXFIXE_CACHE": str(table.parent / "cache")}
    process = subprocess.Popen(
        [sys.executable, "-m", "prixfixe", "train", *overrides], env=environment, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and RunFolder(run).status().get("state") != "running":
        time.sleep(0.1)
    time.sleep(seconds)
    memory = peak_memory(process.pid)
    process.send_signal(signal.SIGTERM)  # the run saves itself
    process.wait()
    saved = load_checkpoint(run) if checkpoints(run) else None
    if saved is None:
        raise SystemExit(
            f"the run on {table.name} ended without a checkpoint; run it by hand: prixfixe train {' '.join(overrides)}"
        )
    account = saved[1]["account"]
    return account["inputs"] / account["training_seconds"], memory / 1e9


def reading(options: Options) -> list[Figure]:
    """The results of 81, 810 and 8,100 made-up runs."""
    sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
    from fabricated_runs import make_grid

    from prixfixe.analysis.results import collect

    figures: list[Figure] = []
    for seeds in (1, 2) if options.quick else (1, 10, 100):
        with tempfile.TemporaryDirectory() as folder:
            grid = make_grid(Path(folder), seeds=range(seeds), n=20, predictions=False)
            taken = in_turns({"read": lambda grid=grid: collect([grid])}, 1 if options.quick else 3)["read"]
        rate = 81 * seeds / taken
        begin = figures[0].value if figures else rate
        figures.append(
            Figure(
                f"results, {81 * seeds:,} runs read in {taken:.2g} s",
                rate,
                "runs/s",
                compared_with="81 runs",
                compared=begin,
                gain=rate / begin,
                repeats=3,
            )
        )
    return figures
