"""What was measured, and how predictions of it are judged: the base of tasks, one class a file of `conf/task/`."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor

from prixfixe.common.errors import InputError
from prixfixe.contract import Batch, InputSpec, Prediction, Spec, TargetSpec
from prixfixe.data.flanks import construct
from prixfixe.tasks.scores import Score, by_name

if TYPE_CHECKING:
    from prixfixe.data.measurements import Measurements
    from prixfixe.data.recipe import Recipe, Samples

Scores = dict[str, Any]


class Task(ABC):
    """Base of tasks. A task is fitted to the training rows (`fitted`) before a network is built for it.

    name: as in `conf/task/`. scores: what it is judged by, in the order of their columns.
    select: the score that chooses the best epoch.
    predicts: the output that `prixfixe predict` writes and that ranks compare; None where there is none a row.
    kept: further outputs that a run keeps of its test parts, so that averages over runs can be scored (`score_kept`).
    correlated: the score that is Pearson r of `predicts` and `measured` over all rows, whose ceiling repeated
    measurements tell; None where there is none.
    likelihood: the outputs that sum the negative log-likelihood of a row's masked tokens, and count these, over all of
    its views; None where nothing is masked.
    columns: of the data, what it reads beside the sequences and `expression`.
    needs: keys that the recipe must give. with_auxiliary: whether the recipe's auxiliary heads are trained along.
    spec: what it has found in the training rows.
    """

    name: ClassVar[str]
    scores: ClassVar[tuple[Score, ...]]
    predicts: ClassVar[str | None] = None
    kept: ClassVar[tuple[str, ...]] = ()
    correlated: ClassVar[str | None] = None
    likelihood: ClassVar[tuple[str, str] | None] = None
    columns: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    with_auxiliary: ClassVar[bool] = True
    spec: TargetSpec

    def __init__(self, *, select: str) -> None:
        if select not in by_name(self.scores):
            raise InputError(f"task.select={select}: choose one of {', '.join(by_name(self.scores))}")
        self.select = by_name(self.scores)[select]

    def fitted(self, train: Measurements, rows: np.ndarray | None = None) -> Task:
        """The task with the constants of a training set, or of some rows of it. InputError where there is nothing to
        learn."""
        found = self.find(train, rows)
        return self.with_spec(replace(found, columns=train.column_specs(), construct=construct(train.sequences)))

    def with_names_of(self, columns: Collection[str]) -> Task:
        """The task with the words of groups of these columns alone: those that parts are given as numbers."""
        specs = self.spec.columns.items()
        trimmed = {name: spec if name in columns else spec._replace(names=()) for name, spec in specs}
        return self.with_spec(replace(self.spec, columns=trimmed))

    def with_spec(self, spec: TargetSpec) -> Task:
        """The task with constants that were found before, as targets.json holds them."""
        other = copy.copy(self)
        other.spec = spec
        return other

    @abstractmethod
    def find(self, train: Measurements, rows: np.ndarray | None) -> TargetSpec:
        """The constants of the training rows: `spec`."""

    @property
    @abstractmethod
    def keys(self) -> Mapping[str, Spec]:
        """The keys that `targets` puts into a batch."""

    @abstractmethod
    def outputs(self, inputs: InputSpec) -> Mapping[str, Spec]:
        """The outputs that a final block must give. inputs: the recipe's."""

    def optional_outputs(self, inputs: InputSpec) -> Mapping[str, Spec]:
        """The outputs that are scored where a final block gives them."""
        return {}

    @abstractmethod
    def targets(self, samples: Samples, rows: Tensor, reverse: Tensor) -> Batch:
        """What was measured of some rows, int64 (B,), as the keys of a batch.

        reverse: bool (B,), which of them are fed as their reverse complement.
        """

    def aligned(self, targets: Batch, batch: Batch) -> Batch:
        """What `targets` gave, as it lies along the inputs of a batch; by default as it is.

        batch: the recipe's, with `reverse`, bool (B,), and, of a recipe that moves its windows, `shift`, int64 (B,):
        nucleotides to the right on the plus strand.
        """
        return targets

    @property
    def margin(self) -> int | None:
        """By how many positions a window may be moved to either side; None where nothing lies along the positions."""
        return None

    @abstractmethod
    def combine(self, predictions: Sequence[Prediction], batches: Sequence[Batch]) -> dict[str, Tensor]:
        """One output a row from those of the views (strands) of the same rows: what is kept, and scored."""

    def ensemble(self, members: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """One output a row from those of several networks: their mean."""
        return {name: np.mean([member[name] for member in members], axis=0) for name in members[0]}

    def used(self, outputs: Collection[str]) -> str | None:
        """Which of a network's outputs, by their names, is given where the network is used; by default `predicts`."""
        return self.predicts

    def used_in_words(self, outputs: Collection[str]) -> str:
        """What `used` is, where it is not what was measured; '' where it is."""
        return ""

    def track(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """What is predicted at every position of a window, (n, positions), from the outputs of n rows; None of a task
        that predicts nothing there."""
        return None

    def further(self, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What else stands in the arrays that `prixfixe predict` writes, by name, from the outputs of n rows."""
        return {}

    def hold_out(self, recipe: Recipe, samples: Samples) -> Samples:
        """Held-out samples with what is drawn of them once, so that every epoch and every network is scored on the
        same."""
        return samples

    def asks_for_training_rows(self, outputs: Mapping[str, np.ndarray]) -> bool:
        """Whether outputs can be scored only with those of some training rows beside them; see `calibrated`."""
        return False

    def calibrated(self, training: Samples, outputs: Mapping[str, np.ndarray]) -> Task:
        """The task with what outputs of training rows say of how far a prediction is off."""
        return self

    @abstractmethod
    def score(self, held_out: Measurements, outputs: Mapping[str, np.ndarray]) -> Scores:
        """The scores of the outputs of held-out rows, and `n`, how many were scored. NaN where a score has no value."""

    def score_each(self, held_out: Measurements, outputs: Mapping[str, np.ndarray]) -> dict[str, Scores]:
        """The same of each of several tasks by its name; {} of a single one."""
        return {}

    def score_kept(self, kept: Measurements, outputs: Mapping[str, np.ndarray]) -> Scores:
        """Those scores that follow from what a run keeps: `measured` as the rows' expression, `columns` that are plain
        arrays, and the outputs `predicts` and `kept`; its sequences are not kept."""
        return self.score(kept, outputs)

    def check(self, held_out: Measurements) -> None:
        """InputError where rows that were measured elsewhere are none that this task can score."""
        if missing := [name for name in self.columns if name not in held_out.columns]:
            raise InputError(f"task {self.name} is scored with the column {missing[0]}, which the data have not")

    def measured(self, held_out: Measurements) -> np.ndarray:
        """What outputs of `predicts` are compared with, as a run keeps it: (n,) or (n, tasks)."""
        return np.asarray(held_out.expression)

    def remarks(self, train: Measurements) -> list[str]:
        """What the user should know of what was measured, a sentence each."""
        return []


def measured_columns(train: Measurements, rows: np.ndarray | None = None) -> list[np.ndarray]:
    """The measurements of each task, float64 (m,), without those that are missing. rows: of these rows alone."""
    if not train.tasks:
        raise InputError("the data measure nothing: task=masked learns from sequences alone")
    expression = np.asarray(train.expression, dtype=np.float64).reshape(len(train), -1)
    chosen = expression if rows is None else expression[rows]
    columns = [column[~np.isnan(column)] for column in chosen.T]
    for task, column in zip(train.tasks, columns, strict=True):
        if not len(column):
            raise InputError(f"{task} was measured in none of the training sequences: there is nothing to learn")
    return columns


def per_task(expression: np.ndarray, tasks: Sequence[str]) -> list[tuple[str, np.ndarray]]:
    """(n,) or (n, tasks) as one array (n,) a task, by its name."""
    return list(zip(tasks, np.asarray(expression).reshape(len(expression), -1).T, strict=True))
