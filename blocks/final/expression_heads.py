"""Unlock_DNA's final layers: multiple expression heads (Kwak et al. 2024, Proformer)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from prixfixe.contract import (
    Batch,
    Dropout,
    InputSpec,
    Prediction,
    ScalarFinalBlock,
    Share,
    TargetSpec,
    mean_over_measured,
)


class ExpressionHeads(ScalarFinalBlock):
    """(B, C, H + L) -> expression: the mean of one dense unit over the H expression heads in front.

    1. Dropout on the core's output at the first `heads` positions. With `heads` 0 nothing stands in front, and all
       positions are read:
       global average pooling, which Kwak et al. compare the heads with.
    2. One dense unit a task at each of them, then the mean. With `glu` it is a gated linear unit (Dauphin et al. 2017),
       value times sigmoid of a gate, each of a dense unit of its own: the variant that Kwak et al. compare.
    Loss: MSE of the standardised expression.
    """

    expression_heads = "heads"

    def __init__(
        self, inputs: InputSpec, targets: TargetSpec, *, heads: int, dropout: Share, glu: bool = False
    ) -> None:
        super().__init__(targets)  # glu: a run of version 0.1 has none
        self.glu = glu
        self.read = heads or inputs.length
        self.dropout = Dropout(dropout)
        self.dense = nn.Linear(inputs.channels, (1 + glu) * len(targets.tasks))

    def forward(self, features: Tensor) -> Prediction:
        read = self.dropout(features[:, :, : self.read].transpose(1, 2))  # (B, H, C)
        expression = self.dense(read)  # (B, H, tasks), with glu twice as many
        return self.to_units((F.glu(expression) if self.glu else expression).mean(dim=1))

    def loss(self, prediction: Prediction, batch: Batch) -> Tensor:
        expression, measured = self.standardised(prediction.expression), self.standardised(batch["y"])
        return mean_over_measured(F.mse_loss, expression, measured)
