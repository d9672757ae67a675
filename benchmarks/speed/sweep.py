"""What a sweep costs beside training: commands, its start, each job's own time, and what sharing a GPU gains."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from figures import Figure, Options, in_turns
from hydra import version
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

import prixfixe.sweeps.app  # noqa: F401  # the resolver of run names
from prixfixe.common.paths import conf_folder
from prixfixe.runs.folder import SLOTS, RunFolder
from prixfixe.simulation import simulate
from prixfixe.sweeps.hydra_internals import ConfigRepository, Hydra, create_config_search_path
from prixfixe.sweeps.hydra_job import RememberedFiles
from prixfixe.sweeps.pool import gpu_names

DEMO = 6500  # sequences, as conf/sizes/demo/dataset/simulated.yaml has them


def measure(options: Options) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        os.environ["PRIXFIXE_CACHE"] = str(here / "cache")
        try:
            table = write_table(here / "promoters.tsv", 300 if options.quick else DEMO)
            figures = [*commands(options), composing(options), start(table), *overhead(table, options)]
            return [*figures, *shared_gpu(here, options)]
        finally:
            del os.environ["PRIXFIXE_CACHE"]


def write_table(path: Path, size: int) -> Path:
    measurements = simulate(size, seed=1).measurements
    rows = zip(measurements.sequences.to_strings(), measurements.expression, strict=True)
    path.write_text("sequence\texpression\n" + "".join(f"{sequence}\t{value}\n" for sequence, value in rows))
    return path


def prixfixe_train(*words: str) -> list[str]:
    return [sys.executable, "-m", "prixfixe", "train", "-m", *words]


# -- commands ---------------------------------------------------------------


def commands(options: Options) -> list[Figure]:
    """Processes from nothing, and what Python itself takes to start."""
    works = {
        "python": ["-c", "pass"],
        "import prixfixe": ["-c", "import prixfixe"],
        "prixfixe --help": ["-m", "prixfixe", "--help"],
        "prixfixe train --help": ["-m", "prixfixe", "train", "--help"],
        "import torch": ["-c", "import torch"],
        "import prixfixe.inference.model": ["-c", "import prixfixe.inference.model"],
    }
    took = in_turns({name: run(words) for name, words in works.items()}, options.repeats)
    goals = {"import prixfixe": 2.0, "prixfixe --help": 0.5, "prixfixe train --help": 0.5}
    figures = [
        Figure(
            name,
            took[name],
            "s",
            limited_by="Python's own start",
            limit=took["python"],
            repeats=options.repeats,
            note=f"goal {goal} s",
        )
        for name, goal in goals.items()
    ]
    network = "import prixfixe.inference.model"
    return [
        *figures,
        Figure(
            network, took[network], "s", limited_by="import torch", limit=took["import torch"], repeats=options.repeats
        ),
    ]


def run(words: Sequence[str]) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, *words], check=True, capture_output=True)


# -- the sweep ---------------------------------------------------------------


def composing(options: Options) -> Figure:
    """The configurations of all 81 combinations, with and without the memory of files that were read."""
    choices = {slot: sorted(file.stem for file in (conf_folder() / slot).glob("*.yaml")) for slot in SLOTS}
    combinations = [
        ["experiment=demo", f"recipe={recipe}", f"first={first}", f"core={core}", f"final={final}"]
        for recipe in choices["recipe"]
        for first in choices["first"]
        for core in choices["core"]
        for final in choices["final"]
    ][:: 20 if options.quick else 1]
    version.setbase("1.3")
    hydra = Hydra.create_main_hydra2("benchmark", create_config_search_path(str(conf_folder())))
    try:
        master = hydra.compose_config("train", [], run_mode=RunMode.MULTIRUN)
        loader = hydra.config_loader

        def compose_with(repository: type[ConfigRepository]) -> None:
            loader.repository = repository(loader.get_search_path())
            for combination in combinations:
                loader.load_sweep_config(master, combination)

        took = in_turns(
            {"ours": lambda: compose_with(RememberedFiles), "Hydra's": lambda: compose_with(ConfigRepository)}, 1
        )
    finally:
        GlobalHydra.instance().clear()
    ours, plain = took["ours"], took["Hydra's"]
    return Figure(
        f"{len(combinations)} configurations composed", ours, "s", "every file read anew", plain, plain / ours
    )


def start(table: Path) -> Figure:
    """From the command to the plan of 81 combinations, after which the first jobs begin."""
    words = ("experiment=demo", "dataset=table", f"dataset.path={table}", f"hydra.sweep.dir={table.parent / 'start'}")
    began = time.perf_counter()
    with subprocess.Popen(prixfixe_train(*words), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = next((line for line in process.stderr if "combinations in" in line), "")
        took = time.perf_counter() - began
        process.send_signal(signal.SIGTERM)
        process.communicate()
    return Figure(
        "start of a sweep", took, "s", note=f"to the line: {line.partition(' in ')[0]}; imports of torch included"
    )


def overhead(table: Path, options: Options) -> list[Figure]:
    """All of a demo job's time that is neither steps nor scoring: its process, configuration, data, network, and what
    it writes.

    One job at a time, so that the time from one job's last line to the next one's is a job's. The first is left out: it
    waits for the pool's server.
    """
    sweep = table.parent / "overhead"
    choices = ("recipe=autosome,bhi", "first=conv", "core=efficientnet,bilstm,proformer", "final=soft_bins")
    settings = ("dataset=table", f"dataset.path={table}", f"hydra.sweep.dir={sweep}", "hydra.launcher.jobs=1")
    ends: list[tuple[str, float]] = []
    with subprocess.Popen(
        prixfixe_train("experiment=demo", *choices, *settings), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if match := re.match(r"\[ *\d+/\d+\] (\S+)", line):
                ends.append((match[1], time.perf_counter()))
    seconds, shares = {}, {}
    for (_, before), (name, end) in itertools.pairwise(ends):
        seconds[name] = end - before - training_and_scoring(RunFolder(sweep / name))
        shares[name] = seconds[name] / (end - before)
    most = max(seconds, key=lambda name: seconds[name])
    note = f"the most: {seconds[most]:.2f} s, {most}; goal 5 s"
    return [
        Figure(
            "a demo job beside steps and scoring",
            statistics.median(seconds.values()),
            "s",
            repeats=len(seconds),
            note=note,
        ),
        Figure(
            "its share of the job",
            100 * statistics.median(shares.values()),
            "%",
            repeats=len(shares),
            note=f"the most: {100 * max(shares.values()):.1f} %; goal 10 %",
        ),
    ]


def training_and_scoring(run: RunFolder) -> float:
    metrics = run.read_json(run.metrics_file)
    return float(metrics["training_seconds"]) + metrics["epochs"] * metrics["n"] / metrics["inference_per_second"]


# -- one GPU ---------------------------------------------------------------

MODELS = {
    "demo-size efficientnet": (
        "experiment=demo",
        "recipe=autosome",
        "first=conv",
        "core=efficientnet",
        "final=soft_bins",
    ),
    "DREAM-RNN": ("experiment=grid81", "recipe=autosome", "first=parallel_conv", "core=bilstm", "final=soft_bins"),
    "DREAM-CNN": (
        "experiment=grid81",
        "recipe=autosome",
        "first=parallel_conv",
        "core=efficientnet",
        "final=soft_bins",
    ),
}


def shared_gpu(here: Path, options: Options) -> list[Figure]:
    """Samples a second of all jobs together, with 1, 2, 4 and 8 of them on one GPU at a time."""
    if options.device.type != "cuda":
        return [
            Figure(
                "jobs that share a GPU",
                None,
                "samples/s",
                note="not measured: this machine has no GPU that torch can use",
            )
        ]
    table = write_table(here / "shared.tsv", 2000 if options.quick else 50_000)
    figures = []
    for model, choices in MODELS.items():
        alone = None
        for jobs in (1, 2) if options.quick else (1, 2, 4, 8):
            rate = samples_per_second(
                here / f"{model.replace(' ', '_')}_{jobs}", table, choices, jobs, at_once=2 if options.quick else 8
            )
            alone = alone or rate
            compared = ("one job at a time", alone, rate / alone) if jobs > 1 else ()
            figures.append(Figure(f"{model}, {jobs} jobs on one GPU", rate, "samples/s", *compared))
    return figures


def samples_per_second(sweep: Path, table: Path, choices: Sequence[str], jobs: int, at_once: int) -> float:
    """Of a sweep over `at_once` seeds, from the first job's first step to the last job's end: what a job needs to start
    counts as well."""
    settings = (
        "training.epochs=5",
        "training.batch_size=1024",
        "dataset=table",
        f"dataset.path={table}",
        f"hydra.sweep.dir={sweep}",
    )
    seeds = "seed=" + ",".join(map(str, range(at_once)))
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": gpu_names()[0]}
    words = prixfixe_train(*choices, *settings, seeds, f"hydra.launcher.jobs_per_gpu={jobs}")
    subprocess.run(words, check=True, capture_output=True, env=environment)
    began, ended, samples = [], [], 0.0
    for folder in map(RunFolder, sweep.glob("*+*")):
        events = [json.loads(line) for line in folder.log_file.read_text().splitlines()]
        began.append(min(datetime.fromisoformat(event["time"]) for event in events))
        ended.append(max(datetime.fromisoformat(event["time"]) for event in events))
        metrics = folder.read_json(folder.metrics_file)
        samples += metrics["samples_per_second"] * metrics["training_seconds"]
    return samples / (max(ended) - min(began)).total_seconds()
