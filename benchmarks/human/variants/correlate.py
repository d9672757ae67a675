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


Found = dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]  # element -> predictor -> scores (2,), samples (SAMPLES, 2)


def correlated(table: pd.DataFrame) -> Found:
    """Both correlations of every element and predictor, and those of its bootstrap samples."""
    found: Found = {}
    for element, some in table.groupby("Element"):
        found[str(element)] = {}
        for name in PREDICTORS:
            scores = np.array(both(some[name].to_numpy(), some.Value.to_numpy()))
            found[str(element)][name] = scores, bootstrapped(some, name, np.random.default_rng(SEED))
    return found


def mean_cells(found: Found, score: int) -> str:
    """The mean over elements of each predictor, those aside in which it is constant."""
    cells = []
    for name in PREDICTORS:
        known = [one[name] for one in found.values() if not np.isnan(one[name][0][score])]
        values, samples = (np.nanmean([one[part][..., score] for one in known], axis=0) for part in (0, 1))
        cells.append(cell(float(values), samples))
    return " | ".join(cells)


def head(*columns: str) -> list[str]:
    names = [*columns, *PREDICTORS.values()]
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]


def lines(table: pd.DataFrame, found: Found, score: int) -> Iterator[str]:
    """A row an element, and the mean over elements. score: 0 is Pearson r, 1 Spearman rho."""
    yield from head("element", "n", "positions")
    for element, some in table.groupby("Element"):
        cells = [cell(scores[score], samples[:, score]) for scores, samples in found[str(element)].values()]
        yield f"| {element} | {len(some):,} | {some.pos.nunique():,} | {' | '.join(cells)} |"
    yield f"| **mean** | {len(table):,} | | {mean_cells(found, score)} |"


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
    kinds = {"SNVs": table[~deletion & (table.ref.str.len() == 1)], "Deletions": table[deletion]}
    found = {kind: correlated(some) for kind, some in kinds.items()}
    scores = list(enumerate(("Pearson r", "Spearman rho")))
    said += ["", "## Means over elements, intervals by positions", "", *head("")]
    said += [f"| {kind}, {called} | {mean_cells(found[kind], score)} |" for kind in kinds for score, called in scores]
    for kind, some in kinds.items():
        for score, called in scores:
            said += ["", f"## {kind}, {called}", "", *lines(some, found[kind], score)]
    text = "\n".join(said) + "\n"
    if args.output is None:
        print(text, end="")
    else:
        write_text(args.output, text)


if __name__ == "__main__":
    main()
