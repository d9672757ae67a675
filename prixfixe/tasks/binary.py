"""Yes or no: one label or several a sequence, scored by scikit-learn's metrics."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from prixfixe.common.errors import InputError
from prixfixe.common.text import printable
from prixfixe.contract import Batch, InputSpec, Prediction, Spec, TargetSpec
from prixfixe.tasks.scores import BINARY, Score
from prixfixe.tasks.task import Scores, Task, measured_columns, per_task

if TYPE_CHECKING:
    from prixfixe.data.measurements import Measurements
    from prixfixe.data.recipe import Samples

THRESHOLD = 0.5  # of a probability, from which on a prediction counts as yes
CALIBRATION_BINS = 15  # of equal width (Guo et al. 2017)


class Binary(Task):
    """Labels 0 and 1.

    A final block gives `logit`, the log odds of 1. What is kept, written and scored is the probability; that of both
    strands, and of an ensemble, is the mean of their probabilities.
    """

    name = "binary"
    scores: ClassVar[tuple[Score, ...]] = BINARY
    predicts = "probability"

    def find(self, train: Measurements, rows: np.ndarray | None) -> TargetSpec:
        columns = measured_columns(train, rows)
        for task, column in zip(train.tasks, columns, strict=True):
            check_labels(column, task)
            if column.min() == column.max():
                raise InputError(
                    f"every training sequence has {printable(task, 100)} {column[0]:g}: there is nothing to learn"
                )
        shares = [float(column.mean()) for column in columns]
        deviations = [float(column.std()) for column in columns]
        return TargetSpec(tuple(train.tasks), tuple(shares), tuple(deviations))

    @property
    def keys(self) -> Mapping[str, Spec]:
        return {"y": Spec(self.spec.of_tasks(), torch.float32)}

    def outputs(self, inputs: InputSpec) -> Mapping[str, Spec]:
        return {"logit": Spec(self.spec.of_tasks(), torch.float32)}

    def targets(self, samples: Samples, rows: Tensor, reverse: Tensor) -> Batch:
        return {"y": samples["expression"][rows]}

    def combine(self, predictions: Sequence[Prediction], batches: Sequence[Batch]) -> dict[str, Tensor]:
        return {"probability": torch.stack([p["logit"].double().sigmoid() for p in predictions]).mean(0)}

    def score(self, held_out: Measurements, outputs: Mapping[str, np.ndarray]) -> Scores:
        """The means over tasks; a task without a label in these rows adds nothing. `n` is the labels' number of
        rows."""
        each = self._each(held_out, outputs)
        some = [scores for scores in each.values() if scores["n"]]
        means = {}
        for score in self.scores:
            values = [scores[score.name] for scores in some]
            means[score.name] = float(np.mean(values)) if values else np.nan
        labelled = ~np.isnan(np.asarray(held_out.expression).reshape(len(held_out), -1))
        return {**means, "n": int(labelled.any(axis=1).sum())}

    def check(self, held_out: Measurements) -> None:
        super().check(held_out)
        for task, labels in per_task(held_out.expression, held_out.tasks):
            check_labels(labels[~np.isnan(labels)], task)

    def score_each(self, held_out: Measurements, outputs: Mapping[str, np.ndarray]) -> dict[str, Scores]:
        return self._each(held_out, outputs) if len(held_out.tasks) > 1 else {}

    def _each(self, held_out: Measurements, outputs: Mapping[str, np.ndarray]) -> dict[str, Scores]:
        truths = per_task(held_out.expression, held_out.tasks)
        guesses = per_task(outputs["probability"], held_out.tasks)
        found = {}
        for (task, truth), (_, guess) in zip(truths, guesses, strict=True):
            rows = ~np.isnan(truth)
            found[task] = {**binary_scores(truth[rows], guess[rows]), "n": int(rows.sum())}
        return found


def check_labels(values: np.ndarray, task: str) -> None:
    """Raises InputError for a label that is neither 0 nor 1."""
    wrong = values[(values != 0) & (values != 1)]
    if len(wrong):
        raise InputError(
            f"{printable(task, 100)} holds {wrong[0]:g}: task binary takes the labels 0 and 1; for other measurements "
            "choose task=expression"
        )


def binary_scores(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """All scores of one task. labels: 0 and 1, (n,); probabilities: of 1, (n,). NaN where a score has no value: ranks
    of one class alone, the sensitivity without a 1, the specificity without a 0."""
    from sklearn import metrics  # a second, which a listing of parts need not wait for

    nothing = dict.fromkeys([score.name for score in BINARY], np.nan)
    if not len(labels) or not np.isfinite(probabilities).all():
        return nothing
    truth, guess = labels.astype(int), probabilities >= THRESHOLD
    both = truth.min() != truth.max()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of one class alone, which NaN says
        found = {
            "auroc": metrics.roc_auc_score(truth, probabilities) if both else np.nan,
            "average_precision": metrics.average_precision_score(truth, probabilities) if truth.any() else np.nan,
            "mcc": metrics.matthews_corrcoef(truth, guess) if both else np.nan,
            "accuracy": metrics.accuracy_score(truth, guess),
            "sensitivity": metrics.recall_score(truth, guess) if truth.any() else np.nan,
            "specificity": metrics.recall_score(truth, guess, pos_label=0) if not truth.all() else np.nan,
            "brier": metrics.brier_score_loss(truth, probabilities, pos_label=1),
            "calibration_error": calibration_error(truth, probabilities),
        }
    return {name: float(value) for name, value in found.items()}


def calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error (Guo et al. 2017) of the probability of 1: over bins of equal width, the mean distance
    of the share of 1 from the mean probability, weighted by rows."""
    place = np.minimum((probabilities * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins)
    gaps = np.bincount(place, weights=probabilities - labels, minlength=bins)
    return float(np.abs(gaps).sum() / counts.sum())
