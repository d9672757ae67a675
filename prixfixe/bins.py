"""Soft classification (Penzar et al. 2023): an expression as probabilities of the bins that cells were sorted into."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Bins:
    """Bins 0 .. number-1 of one unit each.

    An expression e becomes a normal distribution with mean e + shift and standard deviation sd, cut at 1, 2, ...,
    number-1 and open at both ends. Probabilities are read back as the probability-weighted mean of the bin numbers.

    number: how many bins; shift, sd: in bins.
    low, high: the expressions, in the measurement's own units, that stand for the first and the last bin. The yeast
    assay measures in bins, so 0 and 17 leave the expression as it is.
    """

    number: int = 18
    shift: float = 0.5
    sd: float = 0.5
    low: float = 0.0
    high: float = 17.0

    def __post_init__(self) -> None:
        if self.number < 2 or self.sd <= 0:
            raise ValueError("number must be at least 2, and sd above 0")

    @property
    def unit(self) -> float:
        """The width of a bin in the measurement's own units."""
        return (self.high - self.low) / (self.number - 1)

    def probabilities(self, expression: Tensor) -> Tensor:
        """expression (...) in the measurement's own units -> probabilities (..., number)."""
        lower, upper = self._edges(expression)
        return torch.special.ndtr(upper) - torch.special.ndtr(lower)

    def log_probabilities(self, expression: Tensor) -> Tensor:
        """The logarithm of `probabilities`, finite also far from the expression."""
        lower, upper = self._edges(expression)
        log_upper, log_lower = torch.special.log_ndtr(upper), torch.special.log_ndtr(lower)
        return log_upper + torch.log1p(-torch.exp(log_lower - log_upper))

    def expression(self, probabilities: Tensor) -> Tensor:
        """Probabilities (..., number) -> the expression (...) that they stand for, in the measurement's own units."""
        numbers = torch.arange(self.number, dtype=probabilities.dtype, device=probabilities.device)
        return (probabilities * numbers).sum(-1) * self.unit + self.low

    def _edges(self, expression: Tensor) -> tuple[Tensor, Tensor]:
        """Both edges of every bin as standard normal deviates, (..., number) each, mirrored into the lower tail.

        The mirror image has the same probability and loses no digits where both edges lie above the mean.
        """
        mean = ((expression - self.low) / self.unit + self.shift)[..., None]
        cuts = torch.arange(self.number + 1, dtype=mean.dtype, device=mean.device)
        cuts[:1].fill_(-torch.inf)  # cuts[0] = ... would be a copy from the host, which waits for a GPU
        cuts[-1:].fill_(torch.inf)
        deviates = (cuts - mean) / self.sd
        lower, upper = deviates[..., :-1], deviates[..., 1:]
        above = lower > 0
        return torch.where(above, -upper, lower), torch.where(above, -lower, upper)
