"""Predicted against measured effects of variants, element by element.

    prixfixe variants RUN... mpra_variants.tsv.gz --genome mpra_elements.fa --baseline -o effects.tsv
    python benchmarks/human/variants/correlate.py effects.tsv -o benchmarks/human/variants/results.md

Of the table that `prixfixe variants` writes of saturation mutagenesis (Kircher et al. 2019), which keeps its columns
Value (the measured log2 effect), Tags and Element. SNVs and deletions of one base are looked at separately; variants of
fewer than --tags barcodes are left out. An interval is percentiles 2.5 and 97.5 of 2,000 bootstrap samples of an
element's positions, each with all of its variants.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from prixfixe.common.files import write_text

PREDICTORS = {
    "effect": "network",
    "ridge_effect": "k-mer ridge",
    "gc_change": "change in GC",
    "distance": "distance to the middle",
}
SAMPLES, SEED = 2000, 0


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson r; NaN where one of the two is constant."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.corrcoef(first, second)[0, 1])


def both(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Pearson r and Spearman rho."""
    return correlation(first, second), correlation(rankdata(first), rankdata(second))


def bootstrapped(table: pd.DataFrame, predictor: str, rng: np.random.Generator) -> np.ndarray:
    """Both correlations of every bootstrap sample of positions: (SAMPLES, 2)."""
    predicted, measured = table[predictor].to_numpy(), table.Value.to_numpy()
    rows_of = list(table.groupby("pos").indices.values())
    found = []
    for _ in range(SAMPLES):
        rows = np.concatenate([rows_of[drawn] for drawn in rng.integers(len(rows_of), size=len(rows_of))])
        found.append(both(predicted[rows], measured[rows]))
    return np.array(found)


def cell(value: float, samples: np.ndarray) -> str:
    if np.isnan(value):
        return "-"
    low, high = np.nanpercentile(samples, [2.5, 97.5])
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def lines(table: pd.DataFrame, score: int) -> Iterator[str]:
    """A row an element and the mean over elements. score: 0 is Pearson r, 1 Spearman rho."""
    present = [name for name in PREDICTORS if name in table.columns]
    yield f"| element | n | positions | {' | '.join(PREDICTORS[name] for name in present)} |"
    yield "|---|---|---|" + "---|" * len(present)
    values: dict[str, list[float]] = {name: [] for name in present}
    samples: dict[str, list[np.ndarray]] = {name: [] for name in present}
    for element, some in table.groupby("Element"):
        cells = []
        for name in present:
            value = both(some[name].to_numpy(), some.Value.to_numpy())[score]
            drawn = bootstrapped(some, name, np.random.default_rng(SEED))[:, score]
            cells.append(cell(value, drawn))
            values[name].append(value)
            samples[name].append(drawn)
        yield f"| {element} | {len(some):,} | {some.pos.nunique():,} | {' | '.join(cells)} |"
    means = []
    for name in present:
        known = [place for place, value in enumerate(values[name]) if not np.isnan(value)]
        if not known:
            means.append("-")
            continue
        drawn = np.nanmean([samples[name][place] for place in known], axis=0)
        means.append(cell(float(np.mean([values[name][place] for place in known])), drawn))
    yield f"| **mean** | {len(table):,} | | {' | '.join(means)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("effects", type=Path, help="the table of prixfixe variants --baseline")
    parser.add_argument("--tags", type=int, default=10, help="barcodes a variant needs; default: %(default)s")
    parser.add_argument("-o", "--output", type=Path, help="a Markdown file; default: standard output")
    args = parser.parse_args()
    everything = pd.read_csv(args.effects, sep="\t", dtype={"chrom": str})
    table = everything[everything.effect.notna() & (everything.Tags >= args.tags)]
    said = [
        f"{len(everything):,} variants, {int(everything.effect.notna().sum()):,} with an effect; {len(table):,} of "
        f"them with {args.tags} barcodes or more.",
    ]
    deletion = table.alt == "-"
    for kind, some in (("SNVs", table[~deletion & (table.ref.str.len() == 1)]), ("Deletions", table[deletion])):
        for score, called in enumerate(("Pearson r", "Spearman rho")):
            said += ["", f"## {kind}, {called}", "", *lines(some, score)]
    text = "\n".join(said) + "\n"
    if args.output is None:
        print(text, end="")
    else:
        write_text(args.output, text)


if __name__ == "__main__":
    main()
