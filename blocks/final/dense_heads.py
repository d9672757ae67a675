"""Dense layers that all tasks share, one unit a task: the head of DeepSTARR, MPRAnn and MPRALegNet."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from prixfixe.contract import (
    KERAS_BATCH_NORM,
    Batch,
    Count,
    Dropout,
    InputSpec,
    Prediction,
    ScalarFinalBlock,
    Share,
    TargetSpec,
    autosome_,
    keras_,
    mean_over_measured,
)

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "silu": nn.SiLU}


class DenseHeads(ScalarFinalBlock):
    """(B, C, L) -> expression, (B,) or (B, tasks).

    1. The features of all positions side by side, (B, L * C), or their mean over positions, (B, C), as `pool` says.
    2. For each of `widths` a dense layer; batch norm where `batch_norm` is true; the activation; its dropout.
    3. One dense unit a task.
    conventions: whose initial weights, and whose momentum and epsilon of batch norm.
    Loss: MSE of the standardised expression, the mean over what was measured.

    Deviation: the published losses compare in the measurements' own units, and DeepSTARR adds those of its two tasks.
    With one task that is the same but for a factor, which Adam does not see; with two, here each weighs the same
    whatever its spread.
    """

    def __init__(
        self,
        inputs: InputSpec,
        targets: TargetSpec,
        *,
        pool: Literal["flatten", "mean"],
        widths: list[Count],
        activation: Literal["relu", "sigmoid", "silu"],
        batch_norm: bool,
        dropout: list[Share],
        conventions: Literal["keras", "legnet"],
    ) -> None:
        if len(widths) != len(dropout):
            raise ValueError(f"{len(widths)} widths and {len(dropout)} values of dropout: give one of each a layer")
        super().__init__(targets)
        self.flatten = pool == "flatten"
        settings = KERAS_BATCH_NORM if conventions == "keras" else {}
        before = inputs.channels * inputs.length if self.flatten else inputs.channels
        layers: list[nn.Module] = []
        for width, share in zip(widths, dropout, strict=True):
            norm = [nn.BatchNorm1d(width, **settings)] if batch_norm else []
            layers += [nn.Linear(before, width), *norm, ACTIVATIONS[activation](), Dropout(share)]
            before = width
        self.layers = nn.Sequential(*layers, nn.Linear(before, len(targets.tasks)))
        self.apply(keras_ if conventions == "keras" else autosome_)

    def forward(self, features: Tensor) -> Prediction:
        read = features.transpose(1, 2).flatten(1) if self.flatten else features.mean(dim=2)
        return self.to_units(self.layers(read))

    def loss(self, prediction: Prediction, batch: Batch) -> Tensor:
        expression, measured = self.standardised(prediction.expression), self.standardised(batch["y"])
        return mean_over_measured(F.mse_loss, expression, measured)
