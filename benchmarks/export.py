"""Which runs of a sweep export to ONNX and torch.export, and how far the files' predictions are from the network's.

    python benchmarks/export.py runs/demo [-o benchmarks/export.json]

Each is compared on 8 random sequences of 80 nt, one and three at a time. Prints the table of docs/sharing.md: the
largest difference over the recipes and first layers, in the measurement's units.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import prixfixe
from prixfixe.common.errors import InputError
from prixfixe.common.files import write_json
from prixfixe.inference.export import FILES, export
from prixfixe.inference.load import run_folders


def measured(run: Path) -> dict[str, Any]:
    """Of each kind the largest difference and the spread of the predictions, or why there is no file."""
    letters = np.random.default_rng(0)
    strings = ["".join(letters.choice(list("ACGT"), 80)) for _ in range(8)]
    (model,) = prixfixe.load(run, device="cpu").members
    found: dict[str, Any] = {"run": run.name}
    for kind in FILES:
        with tempfile.TemporaryDirectory() as folder:
            try:
                done = export(model, model.rows_of(strings), kind, Path(folder))
                found[kind] = {"largest_difference": done.largest_difference, "spread": done.spread}
            except InputError as error:
                found[kind] = {"refused": str(error)}
    return found


def table(rows: list[dict[str, Any]]) -> str:
    heads = ("core", "final", "runs", "in ONNX", "largest difference", "in torch.export", "largest difference")
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        _, _, core, final = row["run"].split("+")[:4]
        groups.setdefault((core, final), []).append(row)
    for (core, final), some in groups.items():
        cells = [core, final, str(len(some))]
        for kind in FILES:
            differences = [row[kind]["largest_difference"] for row in some if "refused" not in row[kind]]
            cells += [str(len(differences)), f"{max(differences, default=np.nan):.2g}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    rows = []
    for run in run_folders(args.sweep):
        rows.append(measured(run))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    if args.output:
        write_json(args.output, {"torch": torch.__version__, "rows": rows})
    print(table(rows))


if __name__ == "__main__":
    main()
