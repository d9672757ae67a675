"""How far the mutagenesis maps of several runs agree, sequence by sequence and pair by pair, as Rafi et al. 2024
compare those of their three models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from prixfixe.analysis.effects import interval
from prixfixe.common.errors import InputError
from prixfixe.common.table_writer import table_writer
from prixfixe.common.text import printable
from prixfixe.data.sequences import N
from prixfixe.inference.mutagenesis import BASES, Mutagenesis, substitutions
from prixfixe.inference.predictor import Predictor


class MapAgreement:
    """Collects the Pearson r of all pairs of runs, a sequence after the other.

    names: of the runs, as short as they differ. pairs: of their numbers. r: of every sequence, float64 (pairs, tasks).
    """

    def __init__(self, model: Predictor) -> None:
        if len(model.members) < 2:
            raise InputError("--agreement is of several runs: name two or more, or a sweep's folder")
        self.names, self.tasks = short_names([member.name for member in model.members]), model.tasks
        self.pairs = list(combinations(range(len(self.names)), 2))
        self.sequences: list[str] = []
        self.r: list[np.ndarray] = []

    def noted(self, results: Iterator[tuple[str, Mutagenesis]]) -> Iterator[tuple[str, Mutagenesis]]:
        """The same results, their maps compared as they pass."""
        for name, one in results:
            self.sequences.append(name)
            self.r.append(self._correlations(one))
            yield name, one

    def _correlations(self, one: Mutagenesis) -> np.ndarray:
        """Over the effects of all single substitutions, three a position, none where N stands: (pairs, tasks). NaN
        where a map is constant."""
        assert one.members is not None
        known = np.flatnonzero(one.letters < N)
        effects = one.members[:, known.repeat(BASES - 1), substitutions(one.letters[known])]  # (members, 3 L, tasks)
        centred = effects - effects.mean(axis=1, keepdims=True) if len(known) else effects
        length = np.sqrt(np.square(centred).sum(axis=1))
        first, second = np.array(self.pairs).T
        with np.errstate(invalid="ignore", divide="ignore"):
            product = (centred[first] * centred[second]).sum(axis=1)
            return np.asarray(product / (length[first] * length[second]))

    def write(self, output: Path | None) -> None:
        """A long table: name, task (of several), run_a, run_b, pearson_r."""
        several = ["task"] if len(self.tasks) > 1 else []
        columns = ["name", *several, "run_a", "run_b"]
        with table_writer(output, {**dict.fromkeys(columns, "name"), "pearson_r": "number"}) as write:
            for name, values in zip(self.sequences, self.r, strict=True):
                rows: list[list[Any]] = []
                for (first, second), of_tasks in zip(self.pairs, values, strict=True):
                    for task, r in zip(self.tasks, of_tasks, strict=True):
                        rows.append([name, *([task] if several else []), self.names[first], self.names[second], r])
                write(*zip(*rows, strict=True))

    def by_pair(self) -> Iterator[tuple[str, str, np.ndarray]]:
        """Of every pair the two names and r of all sequences, tasks one after the other: (n * tasks,)."""
        values = np.array(self.r).reshape(len(self.r), len(self.pairs), -1)
        for number, (first, second) in enumerate(self.pairs):
            yield self.names[first], self.names[second], values[:, number].reshape(-1)

    def summary(self) -> list[str]:
        """A line a pair: the mean r, and where there are enough sequences its 95 % interval over them."""
        lines = []
        for first, second, r in self.by_pair():
            known = r[np.isfinite(r)]
            if not len(known):
                lines.append(f"{first} and {second}: a map is constant in every sequence")
                continue
            limits = interval(known)
            said = "" if limits is None else f" [{limits[0]:.3f}, {limits[1]:.3f}]"
            lines.append(f"{first} and {second}: mean Pearson r of {len(known):,} maps {known.mean():.3f}{said}")
        return lines


def short_names(paths: Sequence[str]) -> list[str]:
    """The last parts of paths, as many as it takes to tell them apart."""
    parts = [Path(path).parts for path in paths]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return [printable(name, 200) for name in names]
    return [printable(path, 200) for path in paths]
