"""Autosome.org's final layers: soft classification (Penzar et al. 2023, LegNet)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from prixfixe.contract import (
    Batch,
    ContractError,
    Conv1d,
    FinalBlock,
    InputSpec,
    Prediction,
    TargetSpec,
    autosome_,
    mean_over_measured,
    rescaled,
)


class SoftBins(FinalBlock):
    """(B, C, L) -> bin log-probabilities and their mean as the expression.

    1. Pointwise convolution to one channel a bin (and task), mean over positions, softmax.
    2. The expression is the probability-weighted mean of the bins.
    Loss, by `loss`: `kl`, as published: KL divergence from the soft bins, summed over bins, averaged over the batch.
    `mse` and `huber` (threshold 1) compare the expression alone with the measurement, in standardised units as the
    other final blocks do: the same network as a regression, to see what soft classification is worth. Nothing trains
    the width of its bins then, so that it is a scalar prediction, without log-probabilities.
    """

    std: Tensor

    def __init__(self, inputs: InputSpec, targets: TargetSpec, *, loss: Literal["kl", "mse", "huber"]) -> None:
        super().__init__()
        if targets.bins is None:
            raise ContractError(
                "final block SoftBins predicts bins, which this task has not: choose another final block"
            )
        self.bins, self.tasks = targets.bins, len(targets.tasks)
        self.mapper = Conv1d(inputs.channels, self.tasks * self.bins.number, kernel_size=1)
        self.apply(autosome_)
        self.register_buffer("std", torch.tensor(targets.std), persistent=False)  # no prediction depends on it
        self.scalar_loss = {"kl": None, "mse": F.mse_loss, "huber": F.huber_loss}[loss]

    def forward(self, features: Tensor) -> Prediction:
        logits = self.mapper(features).mean(dim=2)
        if self.tasks > 1:
            logits = logits.unflatten(1, (self.tasks, -1))
        log_probs = F.log_softmax(logits, dim=-1)
        expression = self.bins.expression(log_probs.exp())
        return Prediction(expression, log_probs if self.scalar_loss is None else None)

    def loss(self, prediction: Prediction, batch: Batch) -> Tensor:
        if self.scalar_loss is not None:
            return mean_over_measured(self.scalar_loss, prediction.expression / self.std, batch["y"] / self.std)
        assert prediction.log_probs is not None
        measured = ~batch["y"].isnan()
        target = torch.where(measured[..., None], batch["y_probs"], 0.0)
        divergence = F.kl_div(prediction.log_probs, target, reduction="none")
        return rescaled(divergence.sum(dim=-1).mean(), measured)
