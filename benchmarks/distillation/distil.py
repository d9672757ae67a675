"""An ensemble, one network distilled from it, and how well their intervals hold what was measured.

python benchmarks/distillation/distil.py FOLDER [TABLE]

TABLE is a table of promoters and expression, with or without a header; without it promoters are simulated, whose true
expression is known. FOLDER keeps the runs: what is done is not done again. Writes simulated.md or real.md beside this
file.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

import prixfixe
from prixfixe.data.sequences import Sequences
from prixfixe.data.tables import read_measurements
from prixfixe.simulation import simulate
from prixfixe.simulation.model import true_expression
from prixfixe.tasks.coverage import LEVELS, added_deviation, coverage
from prixfixe.tasks.metrics import pearson_r

HERE = Path(__file__).resolve().parent
MEMBERS, SEEDS = 5, 3  # of one ensemble; distilled networks of it
ROWS = {"train": 3000, "calibration": 500, "test": 1500}
UNMEASURED = 6000  # random promoters that only the ensemble has an opinion on
NETWORK = [
    *("recipe=bhi", "first=conv", "first.channels=64", "core=efficientnet", "core.widths=[32,32]", "core.expansion=2"),
    *("training.batch_size=64", "training.device=cpu"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("table", type=Path, nargs="?")
    options = parser.parse_args()
    parts, truth = tables(options.folder, options.table)
    name = "simulated" if options.table is None else "real"
    ensemble_runs = [options.folder / "runs" / "members" / f"seed{seed}" for seed in range(MEMBERS)]
    for seed, run in enumerate(ensemble_runs):
        train(run, "final=soft_bins", "training.epochs=6", "dataset=table", f"dataset.path={parts['train']}", seed=seed)
    labelled = options.folder / "labelled.tsv"
    if not labelled.exists():
        command("predict", *map(str, ensemble_runs), str(parts["unmeasured"]), "-o", str(labelled))
    distilled_runs = [options.folder / "runs" / "distilled" / f"seed{seed}" for seed in range(SEEDS)]
    for seed, run in enumerate(distilled_runs):
        train(run, "experiment=distilled", "training.epochs=6", f"dataset.path={labelled}", seed=seed)
    report(name, parts, truth, ensemble_runs, distilled_runs)


def tables(folder: Path, table: Path | None) -> tuple[dict[str, Path], np.ndarray | None]:
    """The files of the parts, and the true expression of the test rows where it is known."""
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(ROWS.values())
    rows = simulate(total, seed=11).measurements if table is None else read_measurements(table)
    order = np.random.default_rng(0).permutation(len(rows))[:total]
    start, parts = 0, {}
    for part, count in ROWS.items():
        chosen = rows[order[start : start + count]]
        start += count
        frame = pd.DataFrame({"sequence": chosen.sequences.to_strings(), "expression": chosen.expression})
        parts[part] = folder / f"{part}.tsv"
        frame.to_csv(parts[part], sep="\t", index=False)
        if part == "train":
            construct_of = chosen.sequences
    random = simulate(UNMEASURED, seed=12).measurements.sequences.to_strings()
    parts["unmeasured"] = folder / "unmeasured.txt"
    parts["unmeasured"].write_text("\n".join([*construct_of.to_strings(), *random]) + "\n")
    test = pd.read_csv(parts["test"], sep="\t")
    truth = true_expression(Sequences.from_strings(test.sequence.tolist())) if table is None else None
    return parts, truth


def train(run: Path, *overrides: str, seed: int) -> None:
    first = [override for override in overrides if override.startswith("experiment=")]
    rest = [override for override in overrides if not override.startswith("experiment=")]
    command("train", *first, *NETWORK, *rest, f"seed={seed}", f"hydra.run.dir={run}")


def command(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "prixfixe", *arguments], check=True)


def report(
    name: str, parts: dict[str, Path], truth: np.ndarray | None, members: list[Path], distilled: list[Path]
) -> None:
    test, calibration = (pd.read_csv(parts[part], sep="\t") for part in ("test", "calibration"))
    models = {"ensemble": prixfixe.load(members, device="cpu")}
    models |= {f"distilled, seed {seed}": prixfixe.load(run, device="cpu") for seed, run in enumerate(distilled)}
    single = prixfixe.load(members[0], device="cpu")
    measured = test.expression.to_numpy()
    titles = ["", "r, measured", *(["r, truth"] if truth is not None else [])]
    titles += ["r, ensemble's mean", "r, its spread", "mean spread", "noise"]
    titles += [f"{level:.0%} holds" for level in LEVELS]
    titles += ["90% of spread alone holds the truth"] if truth is not None else []
    lines = [f"| {' | '.join(titles)} |"]
    lines.append("|---" * (lines[0].count("|") - 1) + "|")
    reference: dict[str, np.ndarray] = {}

    def numbers(model: prixfixe.inference.predictor.Predictor, sequences: list[str]) -> tuple[np.ndarray, np.ndarray]:
        if len(model.members) > 1:
            each = model.predict_members(sequences)
            return each.mean(axis=0), each.std(axis=0, ddof=1)
        found = model.predict(sequences)
        return (found[:, 0], found[:, 1].clip(min=0)) if found.ndim == 2 else (found, np.zeros(len(found)))

    for label, model in {"one member": single, **models}.items():
        mean, spread = numbers(model, test.sequence.tolist())
        noise = added_deviation(calibration.expression.to_numpy(), *numbers(model, calibration.sequence.tolist()))
        if label == "ensemble":
            reference = {"mean": mean, "spread": spread}
        whole = np.sqrt(spread**2 + noise**2)
        shares = coverage(measured, mean, whole)
        cells = [label, f"{pearson_r(measured, mean):.3f}"]
        cells += [f"{pearson_r(truth, mean):.3f}"] if truth is not None else []
        same = label.startswith("distilled")
        cells += [
            f"{pearson_r(reference['mean'], mean):.3f}" if same else "",
            f"{pearson_r(reference['spread'], spread):.3f}" if same else "",
        ]
        cells += [f"{spread.mean():.3f}", f"{noise:.3f}", *(f"{share:.1%}" for share in shares)]
        if truth is not None:
            cells.append(f"{coverage(truth, mean, spread, [0.9])[0]:.1%}" if spread.any() else "")
        lines.append("| " + " | ".join(cells) + " |")
    (HERE / f"{name}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
