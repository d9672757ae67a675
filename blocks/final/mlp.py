"""BHI's final layers (Rafi et al. 2024)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from prixfixe.contract import Batch, InputSpec, Prediction, ScalarFinalBlock, TargetSpec


class MLP(ScalarFinalBlock):
    """(B, C, L) -> expression: flatten, two dense layers of `hidden` units with ReLU, one dense unit a task.

    Loss: Huber loss (threshold 1) of the standardised expression.
    """

    def __init__(self, inputs: InputSpec, targets: TargetSpec, *, hidden: int) -> None:
        super().__init__(targets)
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(inputs.channels * inputs.length, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, len(targets.tasks)),
        )

    def forward(self, features: Tensor) -> Prediction:
        return self.to_units(self.layers(features).float())

    def loss(self, prediction: Prediction, batch: Batch) -> Tensor:
        return F.huber_loss(self.standardised(prediction.expression), self.standardised(batch["y"]))
