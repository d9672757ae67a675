"""A head a task, as the DREAM models have on other assays (Rafi et al. 2024, benchmarks)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prixfixe.contract import (
    Batch,
    Conv1d,
    Count,
    InputSpec,
    Prediction,
    ScalarFinalBlock,
    TargetSpec,
    mean_over_measured,
)


class TaskHeads(ScalarFinalBlock):
    """(B, C, L) -> expression, (B, tasks): tasks share nothing here.

    1. For each task a pointwise convolution to `channels`, without activation, and the mean over positions. 2. One
    dense unit.
    Loss: MSE of the standardised expression, the mean over what was measured.

    Deviation: the published loss is the sum of the tasks' errors in their own units.
    """

    def __init__(self, inputs: InputSpec, targets: TargetSpec, *, channels: Count) -> None:
        super().__init__(targets)
        heads = []
        for _ in targets.tasks:
            heads.append(
                nn.ModuleDict(
                    {"conv": Conv1d(inputs.channels, channels, kernel_size=1), "dense": nn.Linear(channels, 1)}
                )
            )
        self.heads = nn.ModuleList(heads)

    def forward(self, features: Tensor) -> Prediction:
        each = [head["dense"](head["conv"](features).mean(dim=2)) for head in self.heads]  # type: ignore[index]
        return self.to_units(torch.cat(each, dim=1))

    def loss(self, prediction: Prediction, batch: Batch) -> Tensor:
        expression, measured = self.standardised(prediction.expression), self.standardised(batch["y"])
        return mean_over_measured(F.mse_loss, expression, measured)
