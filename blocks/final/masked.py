"""A language model's head: names the symbol at every masked position."""

from __future__ import annotations

from torch import Tensor

from prixfixe.contract import Batch, FinalBlock, InputSpec, MaskFilling, Prediction, TargetSpec


class Masked(FinalBlock):
    """(B, C, L) -> logits, (B, symbols, positions of the recipe): one pointwise convolution.

    A core that changes the length is read at the nearest of its positions.
    Loss: cross-entropy, the mean over the masked positions.
    """

    requires = ("tokens", "mask")

    def __init__(self, inputs: InputSpec, targets: TargetSpec) -> None:
        super().__init__()
        self.head = MaskFilling(inputs, positions=inputs.positions, weight=1.0)

    def forward(self, features: Tensor) -> Prediction:
        return Prediction(logits=self.head(features))

    def loss(self, prediction: Prediction, batch: Batch) -> Tensor:
        return self.head.loss(prediction["logits"], batch)

    def size(self, batch: Batch) -> Tensor:
        return self.head.size(batch)
