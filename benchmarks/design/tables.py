"""What tables of `prixfixe design` say, in a few lines of Markdown.

python benchmarks/design/tables.py front front.tsv        # who is right where two models disagree (simulated assay)
python benchmarks/design/tables.py tile tiles.tsv         # the mean effect of every motif
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd

from prixfixe.analysis.effects import interval
from prixfixe.data.sequences import Sequences
from prixfixe.simulation.model import true_expression

FAR = 2.0  # standard deviations from which on two models disagree


def front(table: pd.DataFrame) -> list[str]:
    some = table[(table["front"] == 1) & (table["disagreement"] > FAR)]
    truth = true_expression(Sequences.from_strings(some["sequence"].tolist()))
    errors = [np.abs(some[name].to_numpy() - truth) for name in ("prediction", "judge")]
    nearer = 100 * float((errors[0] < errors[1]).mean())
    return [
        f"{len(some)} sequences on first fronts, disagreement above {FAR:g}: mean absolute error of the model "
        f"{errors[0].mean():.2f}, of the judge {errors[1].mean():.2f}; the model is nearer to the truth in "
        f"{nearer:.0f} %"
    ]


def tile(table: pd.DataFrame) -> list[str]:
    """The mean over positions of a background, then over backgrounds, with the 95 % interval over these."""
    lines = ["| motif | strand | mean effect | largest mean of a position |", "|---|---|---|---|"]
    made = table[table["alt_pos"] != table["ref_pos"]]
    for (motif, strand), own in made.groupby(["motif", "strand"], sort=False):
        means = own.groupby("ref_pos")["effect"].mean().to_numpy()
        limits = interval(means)
        said = "" if limits is None else f" [{limits[0]:+.2f}, {limits[1]:+.2f}]"
        places = own.groupby("position")["effect"].mean()
        place = places.abs().idxmax()
        lines.append(f"| {motif} | {strand} | {means.mean():+.2f}{said} | {places[place]:+.2f} at {int(place)} |")
    return lines


if __name__ == "__main__":
    what, file = sys.argv[1:]
    print("\n".join({"front": front, "tile": tile}[what](pd.read_csv(file, sep="\t"))))
