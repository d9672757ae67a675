"""How many changes `--against` calls better or worse where nothing has changed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from prixfixe.analysis.against import compare
from prixfixe.analysis.results import Results, Row
from prixfixe.runs.folder import SLOTS
from prixfixe.tasks.metrics import pearson_r
from prixfixe.tasks.scores import PEARSON

OF_SIDE, OF_RUN = 0.9, 0.45  # standard deviations of predictions: the same in all runs of a side; of each run
OF_LEVEL = 0.1  # spread of the logarithm of a run's own: some trainings end better than others


def null_changes(
    generator: np.random.Generator, seeds: int, *, combinations: int = 20, n: int = 400, uneven: float = 1.0
) -> list[str]:
    """What the changes of some combinations are called, each trained so many times on both sides, with new and old of
    the same expected score on new sequences. uneven: how many times as much runs of the new side vary."""
    measured = generator.normal(size=n)
    rows: list[list[Row]] = [[], []]
    with tempfile.TemporaryDirectory() as folder:
        for side, number in ((side, number) for number in range(combinations) for side in (0, 1)):
            of_side = OF_SIDE * generator.normal(size=n)
            for seed in range(seeds):
                level = OF_LEVEL * (uneven if side else 1.0) * generator.normal()
                predicted = measured + (of_side + OF_RUN * generator.normal(size=n)) * np.exp(level)
                run = Path(folder) / f"{side}+{number}+{seed}"
                run.mkdir()
                np.savez(run / "validation.npz", measured=measured, predicted=predicted)
                parts = dict.fromkeys(SLOTS, f"part{number}")
                score = pearson_r(measured, predicted)
                rows[side].append(
                    {**parts, "variant": None, "seed": seed, "state": "done", "run": str(run), "pearson_r": score}
                )
        changes = compare(Results(rows[1], []), Results(rows[0], []), PEARSON)
    return [change["change"] for change in changes]
