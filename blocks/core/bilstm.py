"""BHI's core layers (Rafi et al. 2024)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prixfixe.contract import LSTM, Block, Count, Dropout, InputSpec, ParallelConvs, Share


class BiLSTM(Block):
    """(B, C, L) -> (B, channels, L).

    1. One bidirectional LSTM with `hidden` units each way: (B, 2 * hidden, L).
    2. Parallel convolutions with ReLU and dropout `conv_dropout`, concatenated to `channels`.
    3. Dropout.

    Deviation: where expression heads stand in front (a pairing that was never published), the LSTM's memory is their
    only view of the sequence, which torch's initial weights forget within ten positions. Its gates then start with
    memories of all lengths up to the input's (chrono initialisation, Tallec & Ollivier 2018). Without heads the
    published initialisation stays.
    """

    def __init__(
        self,
        inputs: InputSpec,
        *,
        hidden: Count,
        channels: Count,
        kernel_sizes: list[Count],
        conv_dropout: Share,
        dropout: Share,
    ) -> None:
        super().__init__()
        self.out_channels = channels
        self.lstm = LSTM(inputs.channels, hidden, batch_first=True, bidirectional=True)
        self.convs = ParallelConvs(2 * hidden, channels, kernel_sizes, conv_dropout)
        self.dropout = Dropout(dropout)
        if inputs.heads:
            remember_(self.lstm, longest=inputs.length)

    def forward(self, x: Tensor) -> Tensor:
        if x.is_meta:  # torch would take every step apart
            states = x.new_empty((len(x), x.shape[2], 2 * self.lstm.hidden_size))
        else:
            states, _ = self.lstm(x.transpose(1, 2))  # (B, L, 2 * hidden)
        return self.dropout(self.convs(states.transpose(1, 2)))


@torch.no_grad()
def remember_(lstm: nn.LSTM, longest: int) -> None:
    """Sets the gates' biases so that the units remember for up to `longest` positions; in place."""
    for name, bias in lstm.named_parameters():
        if name.startswith("bias"):
            forget = (
                torch.log(torch.empty(lstm.hidden_size).uniform_(1, longest - 1))
                if name.startswith("bias_ih")
                else torch.zeros(lstm.hidden_size)
            )
            bias[: lstm.hidden_size] = -forget  # torch's order: input, forget, cell, output
            bias[lstm.hidden_size : 2 * lstm.hidden_size] = forget
