"""Yes or no: pooled features, one logit a task."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prixfixe.contract import Batch, Dropout, FinalBlock, InputSpec, Prediction, Share, TargetSpec, rescaled


class Binary(FinalBlock):
    """(B, C, L) -> logit, (B,) or (B, tasks): the log odds of label 1.

    1. The mean and the maximum over positions, (B, 2 C), and dropout. 2. One dense unit a task.
    The bias begins at the log odds of the training labels.
    Loss: binary cross-entropy, the mean over the labels that are known.
    """

    def __init__(self, inputs: InputSpec, targets: TargetSpec, *, dropout: Share) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.dense = nn.Linear(2 * inputs.channels, len(targets.tasks))
        shares = torch.tensor(targets.mean or [0.5] * len(targets.tasks)).clamp(0.01, 0.99)
        with torch.no_grad():
            self.dense.bias.copy_(shares.logit())

    def forward(self, features: Tensor) -> Prediction:
        pooled = torch.cat([features.mean(dim=2), features.amax(dim=2)], dim=1)
        logit = self.dense(self.dropout(pooled))
        return Prediction(logit=logit.squeeze(-1) if logit.shape[-1] == 1 else logit)

    def loss(self, prediction: Prediction, batch: Batch) -> Tensor:
        known = ~batch["y"].isnan()
        label = torch.where(known, batch["y"], 0.0)
        losses = F.binary_cross_entropy_with_logits(prediction["logit"], label, reduction="none")
        return rescaled(losses.masked_fill(~known, 0.0).mean(), known)
