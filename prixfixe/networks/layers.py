"""Layers that blocks are made of: torch's own, with channels last in memory.

Shapes are (B, C, L) as everywhere, but a position's channels lie side by side (strides L * C, 1, C), which convolutions
and batch norm compute up to twice as fast. The numbers are those of torch's layers, and so are the names and shapes of
the weights. A block may use torch's as well: what they are given in this layout they copy into their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERAS_BATCH_NORM = {"momentum": 0.01, "eps": 1e-3}  # Keras's defaults; its momentum 0.99 is torch's 0.01


class Conv1d(nn.Conv1d):
    """nn.Conv1d, computed as a convolution over images of one row, which torch knows with channels last.

    With another padding_mode than zeros it is computed as torch does.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.padding_mode != "zeros":
            return super().forward(x)
        image = x.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        padding = self.padding if isinstance(self.padding, str) else (0, *self.padding)
        weight = self.weight.unsqueeze(2)
        return F.conv2d(image, weight, self.bias, (1, *self.stride), padding, (1, *self.dilation), self.groups).squeeze(
            2
        )


class BatchNorm1d(nn.BatchNorm1d):
    """nn.BatchNorm1d of (B, C, L)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.unsqueeze(2)).squeeze(2)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim != 4:
            raise ValueError(f"expected (batch, channels, length), got {input.ndim - 1} dimensions")


class LSTM(nn.LSTM):
    """nn.LSTM, in fp32 where mixed precision would harm it.

    On a GPU mixed precision would be cuDNN's fp16, below whose range many of the gradients fall. A CPU without the
    instructions for it cannot do an LSTM in bf16: there torch refuses an input in fp32, such as that of a dense layer
    or a batch norm, and takes one in bf16, such as that of a convolution, through a slow way of its own.
    """

    def forward(  # type: ignore[override]
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        kind = input.device.type
        if kind == "meta" or not torch.is_autocast_enabled(kind) or (kind == "cpu" and cpu_has_bf16_lstm()):
            return super().forward(input, hx)
        with torch.autocast(kind, enabled=False):
            return super().forward(input.float(), hx)


@cache
def cpu_has_bf16_lstm() -> bool:
    """Whether this processor can do an LSTM in bf16: tried once on the smallest one, without random numbers."""
    x, state = torch.zeros(1, 1, 16), torch.zeros(1, 1, 16)
    weights = [torch.zeros(64, 16), torch.zeros(64, 16), torch.zeros(64), torch.zeros(64)]
    try:
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            torch.lstm(x, (state, state), weights, True, 1, 0.0, False, False, True)
    except RuntimeError:
        return False
    return True


class Dropout(nn.Dropout):
    """nn.Dropout, on a CPU from 16 random bits an element, so that p is kept to 1 in 65,536.

    torch draws a random number of 64 bits for each, which takes a fifth of a training step of DREAM-Attn. It is left to
    do so for p below 1/256 or above 255/256, of which 16 bits would be too coarse a measure.
    """

    def forward(self, x: Tensor) -> Tensor:
        coarse = not 1 / 256 <= self.p <= 255 / 256
        if not self.training or x.device.type != "cpu" or coarse or torch.compiler.is_compiling():
            return super().forward(x)
        dropped = round(self.p * 65536)
        bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        mask = torch.empty_like(x, requires_grad=False)
        torch.ge(bits[: x.numel()].as_strided(mask.shape, mask.stride()), dropped - 32768, out=mask)
        return x * mask.mul_(65536 / (65536 - dropped))


def concatenate(tensors: Sequence[Tensor]) -> Tensor:
    """(B, C1, L), (B, C2, L), ... -> (B, C1 + C2 + ..., L)."""
    return torch.cat([x.transpose(1, 2) for x in tensors], dim=2).transpose(1, 2)


class ParallelConvs(nn.Module):
    """(B, C, L) -> (B, channels, L): one convolution a kernel size, each with ReLU and dropout, concatenated.

    Of BHI's model (Rafi et al. 2024), where it stands in the first layers and again behind the LSTM.
    """

    def __init__(self, in_channels: int, channels: int, kernel_sizes: list[int], dropout: float) -> None:
        super().__init__()
        if channels % len(kernel_sizes):
            raise ValueError(
                f"channels={channels} must be a multiple of the number of kernel sizes, {len(kernel_sizes)}"
            )
        each = channels // len(kernel_sizes)
        self.convs = nn.ModuleList(Conv1d(in_channels, each, size, padding="same") for size in kernel_sizes)
        self.tail = nn.Sequential(nn.ReLU(), Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(concatenate([conv(x) for conv in self.convs]))


class GroupedConv(Conv1d):
    """A convolution over groups of `group_width` channels that keeps shape and has no bias.

    On a GPU with channels first: cuDNN was seen to take far longer over small groups with channels last (PyTorch issue
    34977).
    """

    def __init__(self, channels: int, kernel_size: int, group_width: int) -> None:
        if channels % group_width:
            raise ValueError(f"{channels} channels cannot stand in groups of {group_width}")
        super().__init__(channels, channels, kernel_size, padding="same", groups=channels // group_width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return nn.Conv1d.forward(self, x.contiguous()) if x.is_cuda else super().forward(x)
