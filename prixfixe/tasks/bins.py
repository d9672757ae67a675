"""Soft classification (Penzar et al. 2023): an expression as probabilities of the bins that cells were sorted into."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

SMALLEST_SD = 1e-6  # in bins: below it a distribution is a point, whose divergence from any other is infinite


@dataclass(frozen=True)
class Bins:
    """Bins 0 .. number-1 of one unit each.

    An expression e becomes a normal distribution with mean e + shift and standard deviation sd, cut at 1, 2, ...,
    number-1 and open at both ends. Probabilities are read back as the probability-weighted mean of the bin numbers.

    number: how many bins; shift, sd: in bins.
    low, high: the expressions, in the measurement's own units, that stand for the first and the last bin: one number,
    or one a task, where expressions are (..., tasks). The yeast assay measures in bins, so 0 and 17 leave the
    expression as it is.
    An expression that is NaN, as where nothing was measured, gives probabilities that are NaN.
    """

    number: int = 18
    shift: float = 0.5
    sd: float = 0.5
    low: float | tuple[float, ...] = 0.0
    high: float | tuple[float, ...] = 17.0

    def __post_init__(self) -> None:
        if self.number < 2 or self.sd <= 0:
            raise ValueError("number must be at least 2, and sd above 0")
        for name in ("low", "high"):
            if isinstance(getattr(self, name), Sequence):  # a list, as JSON has it
                object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        lows, highs = _values(self.low), _values(self.high)
        if isinstance(self.low, tuple) != isinstance(self.high, tuple) or len(lows) != len(highs) or not lows:
            raise ValueError("low and high must both be one number, or both have one a task")
        if not all(-math.inf < low < high < math.inf for low, high in zip(lows, highs, strict=True)):
            raise ValueError(f"low must be below high, and both finite: {self.low} and {self.high}")

    @property
    def unit(self) -> float | tuple[float, ...]:
        """The width of a bin in the measurement's own units, of every task where low and high are given of each."""
        units = [
            (high - low) / (self.number - 1) for low, high in zip(_values(self.low), _values(self.high), strict=True)
        ]
        return tuple(units) if isinstance(self.low, tuple) else units[0]

    def of_task(self, task: int) -> Bins:
        """The bins of one of several tasks."""
        if not isinstance(self.low, tuple) or not isinstance(self.high, tuple):
            return self
        return replace(self, low=self.low[task], high=self.high[task])

    def probabilities(self, expression: Tensor) -> Tensor:
        """expression (...) in the measurement's own units -> probabilities (..., number)."""
        lower, upper = self._edges(expression, self.sd)
        return torch.special.ndtr(upper) - torch.special.ndtr(lower)

    def log_probabilities(self, expression: Tensor, sd: float | None = None) -> Tensor:
        """The logarithm of `probabilities`, finite also far from the expression.

        sd: another standard deviation of the distribution, in the measurement's own units; of one task only.
        """
        in_bins = self.sd
        if sd is not None:
            assert isinstance(self.unit, float)
            in_bins = np.maximum(sd / self.unit, SMALLEST_SD)  # which hands NaN on
        lower, upper = self._edges(expression, in_bins)
        log_upper, log_lower = torch.special.log_ndtr(upper), torch.special.log_ndtr(lower)
        return log_upper + torch.log1p(-torch.exp(log_lower - log_upper))

    def expression(self, probabilities: Tensor) -> Tensor:
        """Probabilities (..., number) -> the expression (...) that they stand for, in the measurement's own units."""
        numbers = torch.arange(self.number, dtype=probabilities.dtype, device=probabilities.device)
        return (probabilities * numbers).sum(-1) * _like(self.unit, probabilities) + _like(self.low, probabilities)

    def _edges(self, expression: Tensor, sd: float) -> tuple[Tensor, Tensor]:
        """Both edges of every bin as standard normal deviates, (..., number) each, mirrored into the lower tail.

        The mirror image has the same probability and loses no digits where both edges lie above the mean.
        """
        in_bins = (expression - _like(self.low, expression)) / _like(self.unit, expression)
        mean = (in_bins + self.shift)[..., None]
        cuts = torch.arange(self.number + 1, dtype=mean.dtype, device=mean.device)
        cuts[:1].fill_(-torch.inf)  # cuts[0] = ... would be a copy from the host, which waits for a GPU
        cuts[-1:].fill_(torch.inf)
        deviates = (cuts - mean) / sd
        lower, upper = deviates[..., :-1], deviates[..., 1:]
        above = lower > 0
        return torch.where(above, -upper, lower), torch.where(above, -lower, upper)


def spans(expression: np.ndarray, sorted_into: Sequence[float] | None) -> bool:
    """Whether measurements, (n,), are in the bins of a cell sorting: all within them, over more than half of them.

    sorted_into: the first and the last bin; None is no sorting. The random and the designed yeast promoters (Rafi et
    al. 2024; Vaishnav et al. 2022) span all of 0..17, and so few as 20 promoters still more than half. Values of
    another kind may lie within such bins, too: shares, or counts as logarithms.
    """
    if sorted_into is None or not len(expression):
        return False
    low, high = float(expression.min()), float(expression.max())
    first, last = sorted_into
    return first <= low and high <= last and high - low > (last - first) / 2


def _values(bound: float | tuple[float, ...]) -> tuple[float, ...]:
    return bound if isinstance(bound, tuple) else (bound,)


def _like(values: float | tuple[float, ...], tensor: Tensor) -> float | Tensor:
    """One number as it is; of several tasks a tensor (tasks,) of the same kind as another."""
    return _constant(values, tensor.dtype, tensor.device) if isinstance(values, tuple) else values


@cache
def _constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Copied to a device once, since a GPU would be waited for."""
    return torch.tensor(values, dtype=dtype, device=device)
