"""BHI's core layers (Rafi et al. 2024)."""

from __future__ import annotations

from torch import Tensor, nn

from prixfixe.contract import Block, InputSpec
from prixfixe.layers import ParallelConvs


class BiLSTM(Block):
    """(B, C, L) -> (B, channels, L).

    1. One bidirectional LSTM with `hidden` units each way: (B, 2 * hidden, L).
    2. Parallel convolutions with ReLU and dropout `conv_dropout`, concatenated to `channels`.
    3. Dropout.
    """

    def __init__(self, inputs: InputSpec, *, hidden: int, channels: int, kernel_sizes: list[int], conv_dropout: float,
                 dropout: float) -> None:
        super().__init__()
        self.out_channels = channels
        self.lstm = nn.LSTM(inputs.channels, hidden, batch_first=True, bidirectional=True)
        self.convs = ParallelConvs(2 * hidden, channels, kernel_sizes, conv_dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x.transpose(1, 2))  # (B, L, 2 * hidden)
        return self.dropout(self.convs(states.transpose(1, 2)))
