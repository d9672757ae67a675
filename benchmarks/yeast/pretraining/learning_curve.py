"""What pretraining on the yeast genome is worth on random promoters: Pearson r against training rows, 3 seeds.

    python benchmarks/yeast/pretraining/learning_curve.py DATA [--runs runs] [--rows 500 1500 5000] [--arms scratch]

DATA: a folder with genomes/sacCer_R64.fa.gz, yeast/random_promoters.txt and yeast/leaderboard/test_sequences.tsv.
1. `prixfixe train experiment=yeast_pretrain` trains the masked language model.
2. `prixfixe train -m experiment=yeast_finetune` trains on so many promoters, from its weights and from scratch.
3. results.csv, results.md and learning_curve.png are written beside this file from the runs that are done.
Runs that are done are not run again, others go on where they were: the same command again. One core.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from references import REFERENCES, cross_entropy
from scipy.stats import t

import prixfixe
from prixfixe.data.datasets import Table
from prixfixe.data.genome import Genome
from prixfixe.figures.style import OKABE_ITO, new_figure, styled
from prixfixe.tasks.metrics import pearson_r

HERE = Path(__file__).parent
EPOCHS = {500: 20, 1500: 8, 5000: 4}  # fewer rows, more passes
SEEDS = (0, 1, 2)
ARMS = ("scratch", "pretrained")
SCORES = {"pearson_r": "10 % of the promoters", "leaderboard_pearson_r": "leaderboard"}
PRETRAINED = "yeast_pretrain/masked"
PARTS = "plain+conv+bilstm+soft_bins"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--rows", type=int, nargs="+", default=list(EPOCHS), choices=list(EPOCHS))
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=ARMS, help="none: only the tables are written")
    args = parser.parse_args()
    promoters = args.data / "yeast" / "random_promoters.txt"
    pretrained = args.runs / PRETRAINED
    if "pretrained" in args.arms:
        genome = args.data / "genomes" / "sacCer_R64.fa.gz"
        train("experiment=yeast_pretrain", f"dataset.path={genome}", f"hydra.run.dir={pretrained}")
    available = len(table(promoters).read().train)
    for rows in args.rows:
        for arm in args.arms:
            weights = [f"{part}.train.weights={pretrained}" for part in ("first", "core")]
            train(
                *("-m", "experiment=yeast_finetune", f"dataset.path={promoters}"),
                f"dataset.training_fraction={rows / available}",
                *(f"training.epochs={EPOCHS[rows]}", f"seed={','.join(map(str, SEEDS))}", f"variant={arm}{rows}"),
                *(f"hydra.sweep.dir={args.runs / 'yeast_finetune'}", "hydra.launcher.jobs=1"),
                *(weights if arm == "pretrained" else []),
            )
    found = list(results(args.runs, args.data))
    with (HERE / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
    (HERE / "results.md").write_text(as_markdown(found, args.runs, args.data))
    learning_curve(found).savefig(HERE / "learning_curve.png", dpi=150)


def train(*settings: str) -> None:
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    command = [sys.executable, "-m", "prixfixe", "train", *settings, "training.device=cpu"]
    subprocess.run(command, check=True, env=environment)


def table(path: Path) -> Table:
    """As experiment=yeast_finetune reads it."""
    columns = dict.fromkeys(("validation", "sequence", "expression", "fold", "folds"))
    return Table(path=str(path), validation_fraction=0.1, split_seed=0, **columns)


def results(runs: Path, data: Path) -> Iterator[dict[str, Any]]:
    """One row a run that is done."""
    with (data / "yeast" / "leaderboard" / "test_sequences.tsv").open() as file:
        leaderboard = list(csv.DictReader(file, delimiter="\t"))
    sequences = [row["sequence"] for row in leaderboard]
    measured = np.array([float(row["expression"]) for row in leaderboard])
    for rows, epochs in EPOCHS.items():
        for arm in ARMS:
            for seed in SEEDS:
                run = runs / "yeast_finetune" / (f"{PARTS}+{arm}{rows}" + (f"+seed{seed}" if seed else ""))
                if not (run / "metrics.json").exists():
                    continue
                metrics = json.loads((run / "metrics.json").read_text())
                versions = json.loads((run / "status.json").read_text())["versions"]
                predicted = prixfixe.load(run).predict(sequences)
                yield {
                    "arm": arm,
                    "rows": rows,
                    "seed": seed,
                    "epochs": epochs,
                    "pearson_r": round(metrics["pearson_r"], 4),
                    "kl": round(metrics["kl"], 4),
                    "leaderboard_pearson_r": round(pearson_r(predicted, measured), 4),
                    "best_epoch": metrics["best_epoch"],
                    "parameters": metrics["parameters"],
                    "training_seconds": metrics["training_seconds"],
                    **{f"{name}_version": versions[name] for name in ("prixfixe", "torch", "python")},
                }


def interval(values: list[float]) -> tuple[float, float]:
    """The mean, and half the width of its 95 % interval by Student's t."""
    half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
    return float(np.mean(values)), float(half)


def of_arm(found: list[dict[str, Any]], arm: str, rows: int, score: str) -> dict[int, float]:
    """The score of each seed that is done."""
    return {row["seed"]: row[score] for row in found if row["arm"] == arm and row["rows"] == rows}


def as_markdown(found: list[dict[str, Any]], runs: Path, data: Path) -> str:
    """The tables of results.md."""
    wanted = len(EPOCHS) * len(ARMS) * len(SEEDS)
    lines = [f"Written by learning_curve.py from {len(found)} of {wanted} runs."]
    lines += ["Means over seeds with 95 % intervals by Student's t; in brackets how many seeds are done.", ""]
    for score, name in SCORES.items():
        lines += [f"Pearson r, {name}", "", "| training rows | from scratch | pretrained | difference, seed by seed |"]
        lines += ["|---|---|---|---|"]
        for rows in EPOCHS:
            scratch, pretrained = (of_arm(found, arm, rows, score) for arm in ARMS)
            paired = [pretrained[seed] - scratch[seed] for seed in SEEDS if seed in scratch and seed in pretrained]
            cells = [in_words([*scratch.values()]), in_words([*pretrained.values()]), in_words(paired, sign="+")]
            lines.append(f"| {rows:,} | {' | '.join(cells)} |")
        lines.append("")
    metrics_file = runs / PRETRAINED / "metrics.json"
    if metrics_file.exists():
        lines += language_models(json.loads(metrics_file.read_text()), data)
    return "\n".join(lines)


def language_models(metrics: dict[str, Any], data: Path) -> list[str]:
    """The pretrained model beside simple ones, as lines of a table."""
    lines = ["Held-out chromosome 16, nats a nucleotide", "", "| model | cross-entropy | accuracy |", "|---|---|---|"]
    split = Genome(
        path=str(data / "genomes" / "sacCer_R64.fa.gz"),
        window=110,
        stride=110,
        most_unknown=0.1,
        validation=None,
        validation_fraction=0.1,
    ).read()
    for reference, (before, after) in REFERENCES.items():
        value = cross_entropy(split.train.sequences, split.validation.sequences, before, after)
        lines.append(f"| {reference} | {value:.4f} | |")
    masked = f"{metrics['cross_entropy']:.4f} | {metrics['accuracy']:.3f}"
    return [*lines, f"| masked language model, {metrics['parameters']:,} parameters | {masked} |", ""]


def in_words(values: list[float], sign: str = "") -> str:
    if not values:
        return "not run"
    mean, half = interval(values)
    spread = f" ± {half:.3f}" if len(values) > 1 else ""
    return f"{mean:{sign}.3f}{spread} ({len(values)})"


@styled
def learning_curve(found: list[dict[str, Any]]) -> Any:
    """One panel a score: the runs as points, the means as lines."""
    figure = new_figure(6.6, 2.9)
    for axes, (score, name) in zip(figure.subplots(1, len(SCORES)), SCORES.items(), strict=True):
        for colour, arm, shift in ((OKABE_ITO[0], "scratch", 0.98), (OKABE_ITO[1], "pretrained", 1.02)):
            sizes = [rows for rows in EPOCHS if of_arm(found, arm, rows, score)]
            means = [np.mean([*of_arm(found, arm, rows, score).values()]) for rows in sizes]
            axes.plot(sizes, means, color=colour, lw=1.2, label="from scratch" if arm == "scratch" else arm)
            for rows in sizes:
                values = [*of_arm(found, arm, rows, score).values()]
                axes.plot([rows * shift] * len(values), values, "o", color=colour, ms=3.5, mec="white", mew=0.4)
        axes.set_xscale("log")
        axes.set_xticks(list(EPOCHS), [f"{rows:,}" for rows in EPOCHS])
        axes.minorticks_off()
        axes.set_xlim(min(EPOCHS) / 1.3, max(EPOCHS) * 1.3)
        axes.set_xlabel("training rows")
        axes.set_ylabel("Pearson r")
        axes.set_title(name)
        axes.grid()
    axes.legend(loc="lower right")
    return figure


if __name__ == "__main__":
    main()
