"""BHI's final layers (Rafi et al. 2024)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from prixfixe.contract import Batch, Count, InputSpec, Prediction, ScalarFinalBlock, TargetSpec, mean_over_measured


class MLP(ScalarFinalBlock):
    """(B, C, L) -> expression: flatten, two dense layers of `hidden` units with ReLU, one dense unit a task.

    Loss: Huber loss (threshold 1) of the standardised expression.

    Deviation: with `normalise` the flattened features are batch-normed first, without learned values. The first dense
    layer reads up to 100,000 features, and at the grid's learning rates its units die in the first steps where these
    are not centred, as behind Proformer's residual stream. Without it the block is as published.
    """

    def __init__(self, inputs: InputSpec, targets: TargetSpec, *, hidden: Count, normalise: bool) -> None:
        super().__init__(targets)
        features = inputs.channels * inputs.length
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.BatchNorm1d(features, affine=False) if normalise else nn.Identity(),
            nn.Linear(features, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, len(targets.tasks)),
        )

    def forward(self, features: Tensor) -> Prediction:
        return self.to_units(self.layers(features))

    def loss(self, prediction: Prediction, batch: Batch) -> Tensor:
        expression, measured = self.standardised(prediction.expression), self.standardised(batch["y"])
        return mean_over_measured(F.huber_loss, expression, measured)
