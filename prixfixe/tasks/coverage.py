"""How often an interval around a prediction holds what was measured: the calibration of uncertainties."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEVELS = (0.5, 0.8, 0.9, 0.95)


def coverage(
    measured: np.ndarray, mean: np.ndarray, deviation: np.ndarray, levels: Sequence[float] = LEVELS
) -> np.ndarray:
    """The share of rows whose measurement lies in the central interval of a normal distribution: (levels,).

    measured, mean, deviation: (n,), in one unit; deviation at least 0. levels: what each share is where the intervals
    are calibrated. A row of which nothing was measured, NaN, does not count.
    """
    from scipy.stats import norm

    rows = ~np.isnan(measured)
    distance = np.abs(measured[rows] - mean[rows])
    half = norm.ppf(0.5 + np.asarray(levels) / 2)
    return np.asarray((distance <= half[:, None] * deviation[rows]).mean(axis=1))


def added_deviation(measured: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> float:
    """The noise that, added in squares to the deviations, makes the mean squared residual what it should be: the root
    of mean(residual^2 - deviation^2), 0 where the deviations alone are too large. Of rows that neither trained nor are
    counted on."""
    rows = ~np.isnan(measured)
    rest = np.square(measured[rows] - mean[rows]) - np.square(deviation[rows])
    return float(np.sqrt(max(rest.mean(), 0.0)))
