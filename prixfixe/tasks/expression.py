"""Expression as numbers: one task or several, scored by KL of soft bins, Pearson, Spearman and MSE (Rafi et al.
2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from prixfixe.common.errors import InputError
from prixfixe.common.text import counted, printable
from prixfixe.contract import Batch, InputSpec, Prediction, Spec, TargetSpec
from prixfixe.tasks import metrics
from prixfixe.tasks.bins import Bins, spans
from prixfixe.tasks.scores import EXPRESSION, Score
from prixfixe.tasks.task import Scores, Task, measured_columns

if TYPE_CHECKING:
    from prixfixe.data.measurements import Measurements
    from prixfixe.data.recipe import Samples

Range = Sequence[float]


class Expression(Task):
    """Regression of one or several measurements.

    bins: of soft classification (Penzar et al. 2023): `number`, `shift` and `sd` in bins, and `range`, the expressions
    of the first and the last bin, or a list of such pairs, one a task.
    sorted_into: the first and the last bin of an assay that sorts cells, in which it measures. Where `range` is null,
    it is that of a task whose measurements span most of it, and else the measurements' own.
    """

    name = "expression"
    scores: ClassVar[tuple[Score, ...]] = EXPRESSION
    predicts = "expression"
    kept = ("log_probs",)
    correlated: ClassVar[str | None] = "pearson_r"

    def __init__(self, *, select: str, bins: dict[str, Any], sorted_into: list[float] | None) -> None:
        super().__init__(select=select)
        self.bins, self.sorted_into = bins, sorted_into

    def find(self, train: Measurements, rows: np.ndarray | None) -> TargetSpec:
        bins = bins_of(self.bins, train, self.sorted_into)
        columns = measured_columns(train, rows)
        std = [float(column.std()) for column in columns]
        if not all(std):
            raise InputError(
                f"every training sequence has the same {train.tasks[int(np.argmin(std))]}: there is nothing to learn"
            )
        return TargetSpec(tuple(train.tasks), tuple(float(column.mean()) for column in columns), tuple(std), bins)

    @property
    def keys(self) -> Mapping[str, Spec]:
        assert self.spec.bins is not None
        return {
            "y": Spec(self.spec.of_tasks(), torch.float32),
            "y_probs": Spec(self.spec.of_tasks(self.spec.bins.number), torch.float32),
        }

    def outputs(self, inputs: InputSpec) -> Mapping[str, Spec]:
        return {"expression": Spec(self.spec.of_tasks(), torch.float32)}

    def optional_outputs(self, inputs: InputSpec) -> Mapping[str, Spec]:
        assert self.spec.bins is not None
        return {"log_probs": Spec(self.spec.of_tasks(self.spec.bins.number), torch.float32)}

    def targets(self, samples: Samples, rows: Tensor, reverse: Tensor) -> Batch:
        assert self.spec.bins is not None
        y = samples["expression"][rows]
        return {"y": y, "y_probs": self.spec.bins.probabilities(y)}

    def combine(self, predictions: Sequence[Prediction], batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Expressions are averaged as they are, bins as probabilities."""
        outputs = {"expression": torch.stack([p.expression.float() for p in predictions]).mean(0)}
        binned = [p.log_probs.float() for p in predictions if p.log_probs is not None]
        if binned:
            outputs["log_probs"] = torch.stack(binned).logsumexp(0) - np.log(len(binned))
        return outputs

    def ensemble(self, members: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        outputs = {"expression": np.mean([member["expression"] for member in members], axis=0)}
        if all("log_probs" in member for member in members):
            stacked = np.stack([member["log_probs"] for member in members])
            outputs["log_probs"] = np.logaddexp.reduce(stacked, axis=0) - np.log(len(members))
        return outputs

    def asks_for_training_rows(self, outputs: Mapping[str, np.ndarray]) -> bool:
        """A scalar prediction has no bins: its KL needs the deviation of its residuals."""
        return "log_probs" not in outputs

    def calibrated(self, training: Samples, outputs: Mapping[str, np.ndarray]) -> Task:
        measured = training["expression"].double().cpu().numpy()
        return self.with_spec(replace(self.spec, residual_sd=residual_sd(measured, outputs["expression"])))

    def score(self, held_out: Measurements, outputs: Mapping[str, np.ndarray]) -> Scores:
        """kl, pearson_r, spearman_rho, mse and n: the numbers that every combination is compared by. Each task is
        scored where it was measured, and several give the mean of their scores."""
        measured = np.asarray(held_out.expression)
        kl = [value for value, n in self.divergences(measured, outputs) if n]
        own = metrics.scores(measured, outputs["expression"], missing=True)
        return {"kl": float(np.mean(kl)) if kl else np.nan, **own}

    def score_each(self, held_out: Measurements, outputs: Mapping[str, np.ndarray]) -> dict[str, Scores]:
        if len(self.spec.tasks) == 1:
            return {}
        measured = np.asarray(held_out.expression)
        found = metrics.scores_by_task(measured, outputs["expression"], self.spec.tasks, missing=True)
        divergences = self.divergences(measured, outputs)
        return {
            task: {"kl": kl, **scores, "n": n}
            for (task, scores), (kl, n) in zip(found.items(), divergences, strict=True)
        }

    def divergences(self, measured: np.ndarray, outputs: Mapping[str, np.ndarray]) -> list[tuple[float, int]]:
        """Each task's soft-classification KL divergence, and in how many rows it was measured.

        A scalar prediction, without log_probs, is given the normal distribution around it with the task's deviation of
        `residual_sd` (in the task's own units), cut into the bins of the measurement. Without it there is no
        divergence: NaN.
        """
        bins, sds = self.spec.bins, self.spec.residual_sd
        assert bins is not None
        truth = measured.reshape(len(measured), -1)
        guess = outputs["expression"].reshape(len(measured), -1)
        log_probs = outputs.get("log_probs")
        binned = None if log_probs is None else log_probs.reshape(len(measured), -1, bins.number)
        found = []
        for task in range(truth.shape[1]):
            rows, own = ~np.isnan(truth[:, task]), bins.of_task(task)
            if binned is not None:
                log_q = binned[rows, task]
            elif sds is not None:
                log_q = own.log_probabilities(torch.from_numpy(guess[rows, task]), sds[task]).numpy()
            else:
                log_q = np.full((int(rows.sum()), bins.number), np.nan)
            target = own.probabilities(torch.from_numpy(np.array(truth[rows, task], dtype=np.float64))).numpy()
            found.append((metrics.kl_divergence(target, log_q), int(rows.sum())))
        return found

    def remarks(self, train: Measurements) -> list[str]:
        """That the bins stand for the measurements' own range, where they do: of which tasks, the first few by name."""
        if self.bins["range"] is not None:
            return []
        ranges = []
        for task, column in zip(train.tasks, measured_columns(train), strict=True):
            if not spans(column, self.sorted_into):
                low, high = expression_range(column, None, self.sorted_into)
                ranges.append(f"{low:.6g} and {high:.6g}, the lowest and the highest {task}")
        if not ranges:
            return []
        more = f"; and so on for {len(ranges) - 3} more tasks" if len(ranges) > 3 else ""
        others = "[LOW,HIGH]" if len(train.tasks) == 1 else "[[LOW,HIGH],[LOW,HIGH]], a pair a task,"
        shown = "; ".join(ranges[:3])
        return [f"bins: the first and the last stand for {shown}{more} (bins.range={others} sets others)"]


def residual_sd(measured: np.ndarray, expression: np.ndarray) -> tuple[float, ...]:
    """The root mean square of a task's residuals, in its own units: one number a task.

    measured, expression: (n,) or (n, tasks), of training rows. Where nothing was measured, NaN, is left out; a task
    that no row measures gives NaN.
    """
    squares = np.square(expression - measured).reshape(len(measured), -1)
    counts = (~np.isnan(measured)).reshape(len(measured), -1).sum(axis=0)
    sums = np.where(np.isnan(measured).reshape(squares.shape), 0, squares).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return tuple(np.sqrt(sums / counts).tolist())


def bins_of(node: Mapping[str, Any], train: Measurements, sorted_into: Range | None) -> Bins:
    """The bins of a training set: of several tasks, each has its own range."""
    columns, given = _ranges_given(node["range"], train)
    ranges = []
    for column, own, task in zip(columns, given, train.tasks, strict=True):
        ranges.append(expression_range(column, own, sorted_into, task))
    lows, highs = zip(*ranges, strict=True)
    one = len(ranges) == 1
    try:
        return Bins(
            number=node["number"],
            shift=node["shift"],
            sd=node["sd"],
            low=lows[0] if one else lows,
            high=highs[0] if one else highs,
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"bins: {error}") from error


def _ranges_given(given: Any, train: Measurements) -> tuple[list[np.ndarray], list[Any]]:
    """What was measured of each task, (m,), and the range that `bins.range` gives its bins, or None."""
    columns = measured_columns(train)
    if given is None or not all(isinstance(pair, Sequence) for pair in given):
        return columns, [given] * len(columns)
    if len(given) != len(columns):
        raise InputError(
            f"bins.range={list(map(list, given))}: one pair of numbers for each of the {len(columns)} tasks "
            f"({', '.join(train.tasks)}), or one for all"
        )
    return columns, list(given)


def expression_range(
    expression: np.ndarray, given: Range | None, sorted_into: Range | None, task: str = "expression"
) -> tuple[float, float]:
    """The expressions that stand for the first and the last bin, in the measurement's own units.

    expression: (n,), of one task, without missing ones.
    As given, or those of the assay's sorting where the measurements span most of it (`prixfixe.tasks.bins.spans`), or
    else the measurements' own range.
    """
    if given is not None:
        low, high = given
        if not low < high:
            raise InputError(f"bins.range={[low, high]}: the first number must be the lower one")
        return float(low), float(high)
    if sorted_into is not None and spans(expression, sorted_into):
        return float(sorted_into[0]), float(sorted_into[1])
    low, high = float(expression.min()), float(expression.max())
    if low == high:
        raise InputError(
            f"{printable(task, 100)} is {low:.6g} wherever it was measured in training "
            f"({counted(len(expression), 'sequence')}): there is nothing to learn; check that column, or choose another"
        )
    return low, high
