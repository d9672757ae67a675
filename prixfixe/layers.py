"""Layers that more than one block is made of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
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


class GroupedConv(nn.Conv1d):
    """A convolution over groups of few channels: nn.Conv1d of the same numbers, laid out with the channels last.

    Where groups are small, each position's channels lie side by side and are read once, which takes a CPU about half the time.
    """

    def __init__(self, channels: int, kernel_size: int, group_width: int) -> None:
        if channels % group_width:
            raise ValueError(f"{channels} channels cannot stand in groups of {group_width}")
        super().__init__(channels, channels, kernel_size, padding="same", groups=channels // group_width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        return F.conv2d(flat, self.weight.unsqueeze(2), padding="same", groups=self.groups).squeeze(2).contiguous()
