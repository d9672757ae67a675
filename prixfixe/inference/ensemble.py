"""Several runs as one model: their mean, its spread, and how far they agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from prixfixe.common.errors import InputError
from prixfixe.common.text import counted, printable
from prixfixe.data.columns import ColumnSource
from prixfixe.data.flanks import Flanks, add_flanks
from prixfixe.data.sequences import Sequences
from prixfixe.data.splits import found_in, strand_hashes
from prixfixe.inference.model import Model
from prixfixe.inference.predictor import Predictor
from prixfixe.runs.folder import RunFolder
from prixfixe.runs.reader import read_training_sample


class Ensemble(Predictor):
    """The mean of several runs that predict the same tasks; their parts, recipes and lengths may differ."""

    def __init__(self, members: Sequence[Model]) -> None:
        first, *others = members
        for other in others:
            same = (other.task.name, other.tasks, other.flanks) == (first.task.name, first.tasks, first.flanks)
            if not same:
                raise InputError(
                    f"{first.name} predicts {_what(first)}, and {other.name} {_what(other)}: an ensemble's runs "
                    "predict the same"
                )
        self._members = tuple(members)
        self.name = f"an ensemble of {counted(len(members), 'run')}"
        self.device, self.flanks = first.device, first.flanks
        # without the spread of residuals: those of the mean are not any member's
        self.task = first.task.with_spec(replace(first.task.spec, residual_sd=None))
        self.simulated = any(member.simulated for member in members)
        self.needs = tuple(dict.fromkeys(name for member in members for name in member.needs))

    @property
    def members(self) -> tuple[Model, ...]:
        return self._members

    @property
    def longest(self) -> int:
        return min(member.longest for member in self.members)

    def cut_off(self, longer: int, total: int) -> str:
        return min(self.members, key=lambda member: member.longest).cut_off(longer, total)

    @property
    def predicted(self) -> str:
        return self.members[0].predicted

    def _member_that_needs(self, column: str) -> Model:
        return next((member for member in self.members if column in member.needs), self.members[0])

    def source(self, column: str) -> ColumnSource:
        return self._member_that_needs(column).source(column)

    def as_column(self, name: str, values: Any, rows: int) -> Any:
        return self._member_that_needs(name).as_column(name, values, rows)

    def __repr__(self) -> str:
        return f"<Ensemble of {len(self.members)}, predicts {', '.join(self.tasks)}, on {self.device}>"


def _what(model: Model) -> str:
    flanks = f" between {model.flanks[0] or 'nothing'} and {model.flanks[1] or 'nothing'}" if any(model.flanks) else ""
    return f"{printable(', '.join(model.tasks), 200)} (task {model.task.name}){flanks}"


def trained_on(ensemble: Predictor, sequences: Sequences, where: str) -> list[str]:
    """What is to be said of rows that a run, or members, were trained on, where their folders tell it: by
    training_sample.npz, in which all rows are of a small training set, and a sample of a large one. A row is told by
    its sequence, on either strand. where: what the rows are called."""
    seen, told = np.zeros((2, len(sequences)), dtype=bool)
    by_member, unknown = [], 0
    hashes: dict[Flanks, tuple[np.ndarray, np.ndarray]] = {}
    for member in ensemble.members:
        sample = read_training_sample(RunFolder(member.run).training_sample_file) if member.run else {}
        if not sample:
            unknown += 1
            continue
        if member.flanks not in hashes:
            hashes[member.flanks] = strand_hashes(add_flanks(sequences, *member.flanks))
        own = np.any([found_in(strand, sample["rows"]) for strand in hashes[member.flanks]], axis=0)
        told |= np.any([strand <= sample["below"] for strand in hashes[member.flanks]], axis=0)
        seen |= own
        by_member.append(int(own.sum()))
    said = []
    if seen.any():
        of = "sequences" if told.all() else f"sequences that a sample of training rows can tell, of {len(seen):,},"
        by = f"by a member (up to {max(by_member):,} by one)" if len(ensemble.members) > 1 else f"by {ensemble.name}"
        said.append(
            f"{int(seen.sum()):,} of the {int(told.sum()):,} {of} in {where} were trained on {by}, so that these "
            "scores tell of memory as well"
        )
    if unknown and len(ensemble.members) > 1:
        said.append(
            f"whether {where} was trained on is not known of {unknown} of {counted(len(ensemble.members), 'member')}, "
            "which keep no sample of their training rows"
        )
    return said


def spread(predictions: np.ndarray) -> np.ndarray:
    """The standard deviation over members, (n,) or (n, tasks): of their number less one; 0 of a single one.

    predictions: (members, n) or (members, n, tasks).
    """
    if len(predictions) == 1:
        return np.zeros(predictions.shape[1:])
    return np.asarray(predictions.std(axis=0, ddof=1))


class Agreement:
    """How far members agree over all rows, which come in chunks: the mean Pearson r of two of them, and their mean
    spread."""

    def __init__(self) -> None:
        self.n = 0
        self._sums: Any = 0.0
        self._products: Any = 0.0
        self._origin: Any = None
        self._spread: Any = 0.0

    def add(self, predictions: np.ndarray) -> None:
        """predictions: (members, n) or (members, n, tasks)."""
        each = predictions.reshape(*predictions.shape[:2], -1)
        if self._origin is None and each.shape[1]:
            self._origin = each[:, :1].mean(axis=1, keepdims=True)  # near the mean, so that squares keep their digits
        self.n += each.shape[1]
        shifted = each - self._origin
        self._sums = self._sums + shifted.sum(axis=1)
        self._products = self._products + np.einsum("ant,bnt->tab", shifted, shifted)
        self._spread = self._spread + spread(each).sum(axis=0)

    def pearson_r(self) -> np.ndarray:
        """The mean over pairs of members, a task each: (tasks,). NaN where a member is constant."""
        means = np.asarray(self._sums) / self.n  # (members, tasks)
        covariance = self._products / self.n - np.einsum("at,bt->tab", means, means)
        deviation = np.sqrt(np.einsum("taa->ta", covariance).clip(min=0))
        with np.errstate(invalid="ignore", divide="ignore"):
            correlation = covariance / (deviation[:, :, None] * deviation[:, None, :])
        first, second = np.triu_indices(covariance.shape[1], 1)
        return np.asarray(correlation[:, first, second].mean(axis=1))

    def spread(self) -> np.ndarray:
        """The mean over rows of the members' standard deviation, a task each: (tasks,)."""
        return np.asarray(self._spread) / self.n

    def text(self, tasks: Sequence[str]) -> str:
        """The two in words, of each task."""
        said = []
        for task, r, width in zip(tasks, self.pearson_r(), self.spread(), strict=True):
            of = f"{printable(task, 100)}: " if len(tasks) > 1 else ""
            said.append(f"{of}Pearson r of two members {r:.3f} on average, their spread {width:.3g}")
        return "; ".join(said)
