"""Unlock_DNA's first layers (Kwak et al. 2024, Proformer)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prixfixe.contract import Block, Conv1d, Count, InputSpec


class Kmer(Block):
    """(B, C, L) -> (B, channels, ceil(L / stride)): sliding k-mers through one dense layer, with embeddings.

    1. Around every `stride`-th position a window of k positions is read (padded with zeros at both ends).
    2. One dense layer takes the k * C values of a window to `channels`.
    3. A learned embedding of the position and one of the strand are added. The strand is minus from the recipe's
       `strand_boundary` on, and plus everywhere where there is none.

    Deviation: with one strand only, the published strand embedding would be a constant; it is left out then.
    """

    def __init__(self, inputs: InputSpec, *, channels: Count, k: Count, stride: Count) -> None:
        super().__init__()
        self.out_channels = channels
        self.padding = ((k - 1) // 2, k // 2)
        self.dense = Conv1d(inputs.channels, channels, kernel_size=k, stride=stride)
        nn.init.xavier_uniform_(self.dense.weight.view(channels, -1, 1))  # as Keras initialises a dense layer
        nn.init.zeros_(self.dense.bias)
        positions = -(-inputs.length // stride)
        self.position = nn.Parameter(torch.empty(channels, positions).uniform_(-0.05, 0.05))
        self.strand = None
        if inputs.strand_boundary is not None:
            self.strand = nn.Parameter(torch.empty(2, channels).uniform_(-0.05, 0.05))
            is_minus = torch.arange(0, inputs.length, stride) >= inputs.strand_boundary
            self.register_buffer("is_minus", is_minus.long(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dense(F.pad(x, self.padding)) + self.position
        return x if self.strand is None else x + self.strand[self.is_minus].T
