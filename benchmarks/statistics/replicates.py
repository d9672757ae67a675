"""How well the interval of the noise ceiling covers: measurements of a known function of the sequence with known noise,
some sequences measured repeatedly."""

from __future__ import annotations

import numpy as np
from grids import DISTRIBUTIONS

from prixfixe.tasks.ceiling import noise_ceiling
from prixfixe.tasks.metrics import pearson_r

NOISE = 0.5  # standard deviations of the function
SINGLE = 300  # sequences measured once
DEVIATIONS = {"normal": 1.0, "skewed": 1.0, "heavy tails": 3**0.5}


def ceiling_holds_the_truth(generator: np.random.Generator, repeated: int, kind: str) -> dict[str, bool]:
    """Whether the interval holds the ceiling, and Pearson r of the true function with the measurements. repeated: how
    many sequences are measured twice. kind: the distribution of the noise."""
    keys = np.concatenate([np.repeat(np.arange(repeated), 2), repeated + np.arange(SINGLE)])
    function = generator.normal(size=repeated + SINGLE)[keys]
    measured = function + NOISE / DEVIATIONS[kind] * DISTRIBUTIONS[kind](generator, len(keys))
    found, truth = noise_ceiling(keys.astype(np.uint64), measured), 1 / np.sqrt(1 + NOISE**2)
    assert found is not None
    reached = pearson_r(measured, function)
    return {"ceiling": found.low <= truth <= found.high, "r of the truth": found.low <= reached <= found.high}
