"""Layers that more than one block is made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ParallelConvs(nn.Module):
    """(B, C, L) -> (B, channels, L): one convolution a kernel size, each with ReLU and dropout, concatenated.

    Of BHI's model (Rafi et al. 2024), where it stands in the first layers and again behind the LSTM.
    """

    def __init__(self, in_channels: int, channels: int, kernel_sizes: list[int], dropout: float) -> None:
        super().__init__()
        if channels % len(kernel_sizes):
            raise ValueError(f"channels={channels} must be a multiple of the number of kernel sizes, {len(kernel_sizes)}")
        each = channels // len(kernel_sizes)
        self.convs = nn.ModuleList(nn.Conv1d(in_channels, each, size, padding="same") for size in kernel_sizes)
        self.tail = nn.Sequential(nn.ReLU(), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(torch.cat([conv(x) for conv in self.convs], dim=1))
