"""Mask filling (Kwak et al. 2024): a head on the core's output that names what was masked."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from prixfixe.contract import AuxiliaryHead, Batch, InputSpec
from prixfixe.networks.layers import Conv1d


class MaskFilling(AuxiliaryHead):
    """Names the nucleotide at every position from the core's output; trained at the masked positions only.

    A core that changes the length is read at the nearest of its positions.
    """

    def __init__(self, features: InputSpec, *, positions: int, weight: float) -> None:
        super().__init__()
        self.positions, self.weight = positions, weight
        self.nucleotide = Conv1d(features.channels, features.tokens, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        logits = self.nucleotide(features)  # (B, tokens, L)
        return (
            logits if logits.shape[2] == self.positions else F.interpolate(logits, size=self.positions, mode="nearest")
        )

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        target = batch["tokens"].long().masked_fill(~batch["mask"], -100)
        whole = output if output.dtype == torch.float64 else output.float()  # a loss has more digits than bf16
        logits = whole.transpose(1, 2).flatten(0, 1)  # a sum over two dimensions has no fixed order on a GPU
        total = F.cross_entropy(logits, target.flatten(), ignore_index=-100, reduction="sum")
        return self.weight * total / batch["mask"].sum().clamp(min=1)

    def size(self, batch: Batch) -> Tensor:
        return batch["mask"].sum()
