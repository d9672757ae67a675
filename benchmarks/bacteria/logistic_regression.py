"""Logistic regressions beside the networks of a sweep of task=binary, in the same results table.

    python benchmarks/bacteria/logistic_regression.py runs/promoters_small

Reads, as the sweep's runs did, every split that one of them was trained on, and writes for each of them two runs into
the sweep's folder: on positional one-hot, a letter's weight at every place; and on base composition alone, which says
how much of the task the counts of A, C, G and T settle. L2 penalty, its strength C chosen by AUROC on the validation
fold, as a network's epoch is. The test fold is scored once, with that C. No weights are kept: a fit takes a second.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from prixfixe.common.errors import InputError
from prixfixe.common.files import json_values, write_arrays
from prixfixe.data.datasets import Split
from prixfixe.data.sequences import Sequences
from prixfixe.runs.folder import RunFolder, identity, run_name
from prixfixe.runs.lock import RunLock
from prixfixe.tasks.task import Task
from prixfixe.training.build import build_dataset, build_task

FINAL = "logistic_regression"
STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # C, the inverse of the penalty
LETTERS = np.vstack([np.eye(4), np.zeros(4)])  # N is none of the four


def positional_one_hot(sequences: Sequences) -> np.ndarray:
    """(n, 4 * longest): whether a place holds A, C, G, T."""
    return LETTERS[sequences.padded()].reshape(len(sequences), -1)


def base_composition(sequences: Sequences) -> np.ndarray:
    """(n, 4): the shares of A, C, G, T, as numbers of standard size."""
    shares = LETTERS[sequences.padded()].sum(axis=1) / sequences.lengths[:, None]
    return (shares - 0.25) * 10


FEATURES = {function.__name__: function for function in (positional_one_hot, base_composition)}


@dataclass(frozen=True)
class Baseline:
    """A fitted logistic regression of some features."""

    features: str
    strength: float
    fitted: LogisticRegression

    def predict(self, sequences: Sequences) -> np.ndarray:
        """The probability of label 1: float64 (n,)."""
        return np.asarray(self.fitted.predict_proba(FEATURES[self.features](sequences))[:, 1])


def fit(split: Split, features: str) -> Baseline:
    """Fits one regression for every strength to the training rows; the one with the highest AUROC of the validation
    rows, the most penalised of equal ones."""
    x, held_out = (FEATURES[features](rows.sequences) for rows in (split.train, split.validation))
    best: tuple[float, Baseline] | None = None
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=5000).fit(x, split.train.expression)
        auroc = float(roc_auc_score(split.validation.expression, model.decision_function(held_out)))
        if best is None or auroc > best[0]:
            best = auroc, Baseline(features, strength, model)
    assert best is not None
    return best[1]


def splits(sweep: Path) -> Iterator[dict[str, Any]]:
    """The configuration of one run of the sweep for each of the splits, in the order of their folders."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(sweep.glob("*/status.json")):
        folder = RunFolder(path.parent)
        config = folder.config()
        if folder.status().get("state") == "done" and "first" in config:  # a network's
            found.setdefault(json.dumps(config["dataset"], sort_keys=True), config)
    if not found:
        raise InputError(f"{sweep} has no network that is done: prixfixe train -m experiment=promoters_small")
    yield from found.values()


def write_run(sweep: Path, of_network: Mapping[str, Any], split: Split, task: Task, features: str) -> str:
    """Fits and scores one regression on the split of a network, in a run folder of its own; its name."""
    choices = {**of_network["choices"], "first": features, "core": "none", "final": FINAL}
    config = {key: of_network[key] for key in ("task", "dataset", "sweep", "variant", "seed")}
    config |= {"model": {"class": "sklearn.linear_model.LogisticRegression", "features": features}}
    config |= {"scikit_learn": sklearn.__version__, "choices": choices}
    name = run_name(choices, config["seed"], config["variant"], config["dataset"])
    folder, fingerprint = RunFolder(sweep / name), identity(config, split.content)
    if folder.is_done(config, fingerprint):
        return name
    began = time.monotonic()
    with RunLock(folder.path):
        folder.begin(config, fingerprint)
        model = fit(split, features)
        seconds = time.monotonic() - began
        predicted = model.predict(split.validation.sequences)
        metrics = {
            **task.score(split.validation, {"probability": predicted}),
            "task": task.name,
            "select": task.select.name,
            "scores": [asdict(score) for score in task.scores],
            "parameters": int(model.fitted.coef_.size + 1),
            "training_seconds": round(seconds, 2),
            "penalty_strength": model.strength,
            "validation_near_duplicates": split.near_duplicates,
            "simulated": split.simulated,
            "device": "cpu",
        }
        if split.test is not None:
            metrics["test"] = task.score(split.test, {"probability": model.predict(split.test.sequences)})
        measured = task.measured(split.validation)
        write_arrays(folder.validation_file, follow=False, measured=measured, predicted=predicted)
        folder.write_metrics(json_values(metrics))
        folder.write_status("done")
    return name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path, metavar="SWEEP", help="a folder of runs of task=binary")
    arguments = parser.parse_args()
    try:
        for config in splits(arguments.sweep):
            split = build_dataset(config).read()
            task = build_task(config).fitted(split.train)
            for features in FEATURES:
                print(arguments.sweep / write_run(arguments.sweep, config, split, task, features))
    except InputError as error:
        sys.exit(f"logistic_regression.py: {error}")


if __name__ == "__main__":
    main()
