"""Designs by every method at the same number of model calls: what the model that chose them predicts, what a second
model predicts, and what is true, which the simulated assay knows.

    python benchmarks/design/compare.py RUN --judge RUN [--goal lowest] -o benchmarks/design/highest.md

RUN: trained on the simulated assay. A row a method: the mean and the best of the designs of a seed, averaged over
seeds, with the 95 % interval over seeds.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

import prixfixe
from prixfixe.analysis.effects import interval
from prixfixe.common.files import write_text
from prixfixe.data.sequences import Sequences
from prixfixe.simulation.model import true_expression

METHODS = ("random", "greedy", "genetic", "gradient")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--goal", default="highest", choices=("highest", "lowest"))
    parser.add_argument("--number", type=int, default=3, help="designs a seed")
    parser.add_argument("--calls", type=int, default=1000, help="a design")
    parser.add_argument("--seeds", type=int, default=10, help="9 or more: fewer have no interval")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    model, judge = prixfixe.load(args.run, device="cpu"), prixfixe.load(args.judge, device="cpu")
    best = np.max if args.goal == "highest" else np.min
    found, seconds = [], dict.fromkeys(METHODS, 0.0)
    for seed in range(args.seeds):
        for method in METHODS:
            began = time.monotonic()
            table = model.design(
                goal=args.goal, method=method, number=args.number, calls=args.calls, judge=judge, seed=seed
            )
            seconds[method] += time.monotonic() - began
            table["true"] = true_expression(Sequences.from_strings(table["sequence"].tolist()))
            for score in ("prediction", "judge", "true"):
                values = table[score].to_numpy()
                found.append((method, f"{score}, mean", seed, values.mean()))
                # the best by prediction is what would be ordered: its truth, not the best truth
                chosen = values[np.flatnonzero(table["prediction"] == best(table["prediction"]))[0]]
                found.append((method, f"{score}, of the best predicted", seed, chosen))
    frame = pd.DataFrame(found, columns=["method", "score", "seed", "value"])
    scores = list(dict.fromkeys(frame["score"]))
    lines = [
        f"Goal {args.goal}: {args.seeds} seeds, {args.number} designs a seed, {args.calls:,} model calls a design. "
        "SIMULATED assay: these numbers are no real measurements.",
        "",
        "| method | " + " | ".join(scores) + " | s a seed |",
        "|---|" + "---|" * (len(scores) + 1),
    ]
    for method in METHODS:
        cells = []
        for score in scores:
            values = frame[(frame["method"] == method) & (frame["score"] == score)]["value"].to_numpy()
            limits = interval(values)
            said = "" if limits is None else f" [{limits[0]:.2f}, {limits[1]:.2f}]"
            cells.append(f"{values.mean():.2f}{said}")
        lines.append(f"| {method} | " + " | ".join(cells) + f" | {seconds[method] / args.seeds:.1f} |")
    write_text(args.output, "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
