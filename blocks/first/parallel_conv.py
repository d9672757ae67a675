"""BHI's first layers (Rafi et al. 2024)."""

from __future__ import annotations

from torch import Tensor

from prixfixe.contract import Block, Count, InputSpec, ParallelConvs, Share


class ParallelConv(Block):
    """(B, C, L) -> (B, channels, L): convolutions of several kernel sizes side by side, each with ReLU and dropout."""

    def __init__(self, inputs: InputSpec, *, channels: Count, kernel_sizes: list[Count], dropout: Share) -> None:
        super().__init__()
        self.out_channels = channels
        self.convs = ParallelConvs(inputs.channels, channels, kernel_sizes, dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.convs(x)
