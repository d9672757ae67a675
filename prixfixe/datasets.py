"""Where sequences and measurements come from: one class a file of `conf/dataset/`. No recipe, no model stands here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from prixfixe.data.measurements import Measurements, check_expression
from prixfixe.errors import InputError


@dataclass(frozen=True)
class Split:
    """The sequences that are trained on and the ones that every combination is scored on.

    content: a hash of everything in it, which is part of a run's identity; a path is not.
    simulated: whether the numbers come from the simulated assay and must be labelled so.
    warnings: what the user should know, a sentence each.
    """

    train: Measurements
    validation: Measurements
    content: str
    simulated: bool = False
    warnings: tuple[str, ...] = ()


class Dataset(ABC):
    """Base of datasets: constructed from a YAML's values, read when it is asked for."""

    @abstractmethod
    def read(self) -> Split: ...


class Simulated(Dataset):
    """The simulated assay: `size` random promoters and their measured expression, in bins 0 to 17."""

    def __init__(self, *, size: int, seed: int, validation_fraction: float) -> None:
        if size < 20:
            raise InputError(f"dataset.size={size}: too few promoters to train and score on; take at least 20")
        self.size, self.seed, self.validation_fraction = size, seed, validation_fraction

    def read(self) -> Split:
        from prixfixe.data.splits import split
        from prixfixe.simulation import VERSION, simulate

        measurements = simulate(self.size, self.seed).measurements
        train, validation = split(measurements, validation_fraction=self.validation_fraction, seed=self.seed)
        content = f"simulated version={VERSION} size={self.size} seed={self.seed} validation_fraction={self.validation_fraction}"
        return Split(measurements[train], measurements[validation], content=content, simulated=True)


class Table(Dataset):
    """A table of the user's own: split by sequence, by its `fold` column, by folds of similar sequences, or with a
    second table for validation."""

    def __init__(
        self,
        *,
        path: str,
        validation: str | None,
        validation_fraction: float,
        split_seed: int,
        sequence: str | None,
        expression: str | list[str] | None,
        fold: int | str | None,
        folds: int | None,
    ) -> None:
        if validation is not None and (fold is not None or folds is not None):
            raise InputError(
                f"dataset.validation={validation} and dataset.{'folds' if fold is None else 'fold'} both say "
                "what to validate on: "
                "leave one of them out"
            )
        if folds is not None and fold is None:
            raise InputError(
                f"dataset.folds={folds} needs the fold to validate on: give dataset.fold=N, 0 to {folds - 1}"
            )
        self.path, self.validation = path, validation
        self.validation_fraction, self.split_seed, self.fold = validation_fraction, split_seed, fold
        self.folds = folds
        self.columns: dict[str, Any] = {"sequence": sequence, "expression": expression}

    def read(self) -> Split:
        from prixfixe.data.prepared import prepare
        from prixfixe.data.splits import FEWEST_VALIDATION, shared

        measurements, content = prepare(self.path, {**self.columns, "fold": True if self.fold is not None else None})
        check_expression(measurements, self.path)
        remarks = list(measurements.remarks)
        if self.validation is not None:
            validation, other_content = prepare(self.validation, self.columns)
            check_expression(validation, self.validation)
            remarks += [f"{self.validation}: {remark}" for remark in validation.remarks]
            if validation.tasks != measurements.tasks:
                raise InputError(
                    f"{self.validation} measures {', '.join(validation.tasks)} but {self.path} measures "
                    f"{', '.join(measurements.tasks)}; "
                    "both tables need the same expression columns"
                )
            train, content = measurements, f"{content} {other_content}"
        else:
            rows, held_out = self._split(measurements)
            train, validation = measurements[rows], measurements[held_out]
        if len(validation) < FEWEST_VALIDATION:
            where = self.validation or f"dataset.fold={self.fold} of {self.path}"
            raise InputError(
                f"{where}: too few sequences to validate on ({len(validation)}); at least {FEWEST_VALIDATION} "
                "are needed"
            )
        drawn = self.validation is None and self.fold is None  # by sequence, so that none stands on both sides
        both = 0 if drawn else shared(train.sequences, validation.sequences)
        warning = f"{both} of the {len(validation)} validation sequences stand in training as well (or as their reverse complement)"
        return Split(train, validation, content=content, warnings=(*((warning,) if both else ()), *remarks))

    def _split(self, measurements: Measurements) -> tuple[np.ndarray, np.ndarray]:
        """The rows of one table to train on and those to validate on."""
        from prixfixe.data.splits import cluster_folds, fold_split, split

        if self.fold is None:
            return split(measurements, validation_fraction=self.validation_fraction, seed=self.split_seed)
        if self.folds is not None:
            if measurements.fold is not None:
                raise InputError(
                    f"{self.path} has folds of its own: leave dataset.folds={self.folds} out to use them, or "
                    "remove their column"
                )
            measurements = replace(measurements, fold=cluster_folds(measurements, self.folds, seed=self.split_seed))
        return fold_split(measurements, self.fold)


def expression_range(expression: np.ndarray, given: tuple[float, float] | None) -> tuple[float, float]:
    """The expressions that stand for the first and the last bin, in the measurement's own units.

    As given, or 0 and 17 where all measurements lie in that range, as the yeast assay's do, or else the measurements'
    own range.
    """
    if given is not None:
        low, high = given
        if not low < high:
            raise InputError(f"bins.range={[low, high]}: the first number must be the lower one")
        return float(low), float(high)
    low, high = float(expression.min()), float(expression.max())
    if low >= 0 and high <= 17:
        return 0.0, 17.0
    if low == high:
        raise InputError(
            f"every training sequence has the expression {low}: there is nothing to learn; check the expression column"
        )
    return low, high
