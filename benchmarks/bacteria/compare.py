"""The best network of a sweep against logistic regression, once, on clusters that neither has seen.

    python benchmarks/bacteria/compare.py runs/promoters_small [-o benchmarks/bacteria/promoters.md]

1. Of all pairs of first and core block the one with the highest mean AUROC over the validation folds is chosen. No
   score of the test fold is looked at.
2. The network of each validation fold predicts the test fold, and the mean of their probabilities is scored; likewise
   the logistic regressions of the same folds, on positional one-hot. Both sides have seen the same rows. What each has
   by itself stands beside it, since a mean helps networks more.
3. The difference of both AUROCs gets an interval by 10,000 bootstrap samples of the test fold's clusters of similar
   sequences, each with all of its rows (percentiles 2.5 and 97.5; a sample of one label alone is drawn anew).
logistic_regression.py is run first. What comes out is written down, whichever side it favours.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from logistic_regression import FINAL, fit

import prixfixe
from prixfixe.common.errors import InputError
from prixfixe.common.files import write_text
from prixfixe.common.simulated import SIMULATED
from prixfixe.data.datasets import Split
from prixfixe.data.measurements import Measurements
from prixfixe.data.near_duplicates import STRETCH, near_duplicates
from prixfixe.data.sequences import Sequences
from prixfixe.data.splits import clusters
from prixfixe.runs.folder import RunFolder
from prixfixe.tasks.binary import Binary, binary_scores
from prixfixe.training.build import build_dataset

sys.path.append(str(Path(__file__).resolve().parent.parent))

from machine import machine

SAMPLES = 10_000
BASELINE = ("positional_one_hot", "none")
LEVEL = (2.5, 97.5)
Pair = tuple[str, str]  # first and core
Runs = dict[Pair, dict[Any, RunFolder]]  # of each the validation folds


def runs_by_pair(sweep: Path) -> tuple[Runs, Runs]:
    """The runs that are done, networks and regressions. InputError where a pair lacks a fold that another one has."""
    networks: Runs = defaultdict(dict)
    regressions: Runs = defaultdict(dict)
    for path in sorted(sweep.glob("*/status.json")):
        folder = RunFolder(path.parent)
        if folder.status().get("state") != "done":
            raise InputError(f"{folder.path} is not done: finish the sweep first")
        config = folder.config()
        choices = config["choices"]
        runs = regressions if choices["final"] == FINAL else networks
        runs[choices["first"], choices["core"]][config["dataset"]["fold"]] = folder
    everything = {**networks, **regressions}
    folds = set().union(*everything.values()) if everything else set()
    for pair, of_folds in everything.items():
        if lacking := folds - of_folds.keys():
            raise InputError(f"{'+'.join(pair)} has no run of the validation folds {sorted(lacking)}")
    if not networks or BASELINE not in regressions:
        raise InputError(f"{sweep} needs networks and regressions: run logistic_regression.py {sweep} first")
    return dict(networks), dict(regressions)


def validation_aurocs(runs: dict[Any, RunFolder]) -> list[float]:
    return [float(runs[fold].metrics()["auroc"]) for fold in sorted(runs)]


def bootstrap(labels: np.ndarray, ours: np.ndarray, theirs: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """The difference of both AUROCs in SAMPLES bootstrap samples of whole clusters: float64 (SAMPLES,)."""
    rng = np.random.default_rng(0)
    number = np.unique(cluster, return_inverse=True)[1]
    count = int(number.max()) + 1
    sides = [Ranked(labels, side) for side in (ours, theirs)]
    found = np.empty(SAMPLES)
    for sample in range(SAMPLES):
        weight = np.zeros(len(labels))
        while not (weight[labels == 1].any() and weight[labels == 0].any()):
            weight = np.bincount(rng.integers(0, count, count), minlength=count)[number].astype(np.float64)
        found[sample] = sides[0].auroc(weight) - sides[1].auroc(weight)
    return found


class Ranked:
    """Probabilities sorted once, whose AUROC is then taken for any weights of the rows."""

    def __init__(self, labels: np.ndarray, probabilities: np.ndarray) -> None:
        self.values, self.place = np.unique(probabilities, return_inverse=True)
        self.labels = labels

    def auroc(self, weight: np.ndarray) -> float:
        """The weighted share of pairs of a 1 and a 0 that stand in order, equal ones counting half."""
        ones, zeros = (
            np.bincount(self.place, weights=weight * (self.labels == label), minlength=len(self.values))
            for label in (1, 0)
        )
        below = np.cumsum(zeros) - zeros
        return float((ones * (below + zeros / 2)).sum() / (ones.sum() * zeros.sum()))


def compared(sweep: Path) -> str:
    """All of it, as Markdown."""
    networks, regressions = runs_by_pair(sweep)
    chosen = max(networks, key=lambda pair: fmean(validation_aurocs(networks[pair])))
    folds = sorted(networks[chosen])
    splits: dict[Any, Split] = {fold: build_dataset(networks[chosen][fold].config()).read() for fold in folds}
    test = splits[folds[0]].test
    if test is None:
        raise InputError(f"{sweep} has no test fold: dataset.test_fold=N")
    models = [prixfixe.load(networks[chosen][fold].path, device="cpu") for fold in folds]
    network = np.stack([model.predict_sequences(test.sequences) for model in models])
    regression = np.stack([fit(splits[fold], BASELINE[0]).predict(test.sequences) for fold in folds])
    return as_markdown(sweep, networks, regressions, chosen, test, network, regression, splits[folds[0]])


def as_markdown(
    sweep: Path,
    networks: Runs,
    regressions: Runs,
    chosen: Pair,
    test: Measurements,
    network: np.ndarray,
    regression: np.ndarray,
    split: Split,
) -> str:
    """network, regression: the probabilities of each fold's model, (folds, n)."""
    folds = sorted(networks[chosen])
    labels = np.asarray(test.expression).astype(int)
    cluster = clusters(test.sequences)
    of_network, of_regression = network.mean(axis=0), regression.mean(axis=0)
    sides = {"+".join(chosen): binary_scores(labels, of_network)}
    sides["logistic regression"] = binary_scores(labels, of_regression)
    difference = sides["+".join(chosen)]["auroc"] - sides["logistic regression"]["auroc"]
    low, high = np.percentile(bootstrap(labels, of_network, of_regression, cluster), LEVEL)
    seen = Sequences.concatenate([split.train.sequences, split.validation.sequences])
    near = near_duplicates(test.sequences, seen)
    config = networks[chosen][folds[0]].config()
    settings, training = config["dataset"], config["training"]
    trained = " / ".join(f"{len(build_dataset(networks[chosen][fold].config()).read().train):,}" for fold in folds)
    about = machine("torch", "scikit-learn", "numpy")
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    seconds = sum(float(run.metrics()["training_seconds"]) for runs in networks.values() for run in runs.values())

    lines = [f"# {settings_title(config)}", ""]
    lines += [f"**{SIMULATED}**", ""] if split.simulated else []
    lines += [
        verdict("+".join(chosen), difference, float(low), float(high)),
        "",
        f"Made by `python benchmarks/bacteria/compare.py {sweep}`. {settings['folds']} folds of similar sequences; "
        f"validation folds {', '.join(map(str, folds))}, test fold {settings['test_fold']}; {trained} training rows. "
        f"At most {training['epochs']} passes over them, batch {training['batch_size']}, seed {config['seed']}.",
        "",
        f"{about['machine']['processor']}, {about['machine']['cores']} cores; {versions}. The networks' training "
        f"steps took {seconds / 60:.0f} minutes in all, one core each, other work running beside.",
        "",
        "## AUROC on the validation folds, by which the pair is chosen",
        "",
        "Of the best epoch (or penalty), chosen on the same rows, and so a little too high on both sides.",
        "",
        f"| first | core | parameters | {' | '.join(f'fold {fold}' for fold in folds)} | mean |",
        f"|---|---|---:|{'---:|' * (len(folds) + 1)}",
    ]
    rows = sorted([*networks.items(), *regressions.items()], key=lambda item: -fmean(validation_aurocs(item[1])))
    for (first, core), runs in rows:
        values = [*validation_aurocs(runs), fmean(validation_aurocs(runs))]
        name = f"{first} | {core}" if core != "none" else f"logistic regression: {first} | "
        parameters = runs[folds[0]].metrics()["parameters"]
        lines.append(f"| {name} | {parameters:,} | {' | '.join(f'{value:.3f}' for value in values)} |")
    lines += [
        "",
        "## Once, on the test fold",
        "",
        f"{len(test):,} rows ({labels.sum():,} of label 1) in {len(np.unique(cluster)):,} clusters of similar "
        f"sequences; {near.count} of them share a stretch of {STRETCH} nt with a row that was trained or validated on. "
        f"Mean probability of the {len(folds)} networks, and of the {len(folds)} logistic regressions on positional "
        "one-hot.",
        "",
        f"| | {' | '.join(score.label for score in Binary.scores)} |",
        f"|---|{'---:|' * len(Binary.scores)}",
    ]
    for name, scores in sides.items():
        lines.append(f"| {name} | {' | '.join(score.text(scores[score.name]) for score in Binary.scores)} |")
    lines += [
        "",
        f"Difference of AUROC {difference:+.3f}, 95 % interval {low:+.3f} to {high:+.3f} ({SAMPLES:,} bootstrap "
        "samples of clusters). It is of these networks on this fold: another seed and other training rows are not in "
        "it.",
        "",
        f"AUROC of each by itself: networks {alone(labels, network)}; logistic regressions "
        f"{alone(labels, regression)}.",
        "",
    ]
    return "\n".join(lines)


def alone(labels: np.ndarray, probabilities: np.ndarray) -> str:
    """The AUROC of every model, in the order of the folds. probabilities: (folds, n)."""
    return ", ".join(f"{binary_scores(labels, of_one)['auroc']:.3f}" for of_one in probabilities)


def settings_title(config: dict[str, Any]) -> str:
    return f"{config['choices']['dataset']}: every first and core block with final=binary, and logistic regression"


def verdict(name: str, difference: float, low: float, high: float) -> str:
    """What the interval says, in a sentence."""
    shown = f"on the held-out clusters (AUROC {difference:+.3f}, {low:+.3f} to {high:+.3f})."
    if low > 0:
        return f"The network chosen, {name}, **ranks better** than logistic regression {shown}"
    if high < 0:
        return f"The network chosen, {name}, **loses** to logistic regression {shown}"
    return f"The network chosen, {name}, and logistic regression **cannot be told apart** {shown}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path, metavar="SWEEP", help="a folder of runs of experiment=promoters_small")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write there, not to standard output")
    arguments = parser.parse_args()
    try:
        text = compared(arguments.sweep)
    except InputError as error:
        sys.exit(f"compare.py: {error}")
    if arguments.output:
        write_text(arguments.output, text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
