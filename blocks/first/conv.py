"""Autosome.org's first layers (Penzar et al. 2023, LegNet)."""

from __future__ import annotations

from torch import Tensor, nn

from prixfixe.contract import BatchNorm1d, Block, Conv1d, Count, InputSpec, autosome_


class Conv(Block):
    """(B, C, L) -> (B, channels, L): convolution without bias, batch norm, SiLU."""

    def __init__(self, inputs: InputSpec, *, channels: Count, kernel_size: Count) -> None:
        super().__init__()
        self.out_channels = channels
        self.block = nn.Sequential(
            Conv1d(inputs.channels, channels, kernel_size, padding="same", bias=False),
            BatchNorm1d(channels),
            nn.SiLU(),
        )
        self.apply(autosome_)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)
