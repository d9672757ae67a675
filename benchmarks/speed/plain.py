"""What is compared with: the same networks, step and input written as one writes them first in PyTorch, in eager fp32.

Modules stand in the order of ours, so that weights are copied one by one (`like`). Nothing here is imported from
prixfixe.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import norm
from torch import Tensor, nn
from torch.utils.data import Dataset

# -- the networks ---------------------------------------------------------------


class ParallelConv(nn.Module):
    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv1d(inputs, channels // 2, size, padding="same"), nn.ReLU(), nn.Dropout(0.2))
            for size in (9, 15)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class SqueezeExcitation(nn.Module):
    def __init__(self, channels: int, bottleneck: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.Linear(channels, bottleneck), nn.SiLU(), nn.Linear(bottleneck, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x.mean(2)).unsqueeze(2)


def conv(inputs: int, channels: int, size: int, groups: int = 1) -> list[nn.Module]:
    return [
        nn.Conv1d(inputs, channels, size, padding="same", groups=groups, bias=False),
        nn.BatchNorm1d(channels),
        nn.SiLU(),
    ]


class Stage(nn.Module):
    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        inner = 4 * width
        self.residual = nn.Sequential(
            *conv(before, inner, 1),
            *conv(inner, inner, 7, inner // 2),
            SqueezeExcitation(inner, before // 4),
            *conv(inner, before, 1),
        )
        self.join = nn.Sequential(*conv(2 * before, width, 7))

    def forward(self, x: Tensor) -> Tensor:
        return self.join(torch.cat([x, self.residual(x)], dim=1))


class BiLSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(320, 320, batch_first=True, bidirectional=True)
        self.convs = ParallelConv(640, 320)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x.permute(0, 2, 1))
        return self.dropout(self.convs(states.permute(0, 2, 1)))


class FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.expand = nn.Linear(width, 4 * width, bias=False)
        self.contract = nn.Linear(2 * width, width, bias=False)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.expand(self.norm(x)).chunk(2, dim=-1)
        return self.dropout(self.contract(self.dropout(value * F.silu(gate))))


class MacaronBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.feed_forward_1 = FeedForward(width)
        self.norm_conv = nn.LayerNorm(width, eps=1e-6)
        self.conv = nn.Sequential(
            nn.Conv1d(width, width, 15, padding="same", groups=width, bias=False),
            nn.Conv1d(width, width, 1),
            nn.ReLU(),
            nn.Dropout(0.1),
        )
        self.norm_attention = nn.LayerNorm(width, eps=1e-6)
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed_forward_2 = FeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0.5 * self.feed_forward_1(x)
        normed = self.norm_conv(x)
        x = x + normed + self.conv(normed.permute(0, 2, 1)).permute(0, 2, 1)
        x = self.norm_attention(x)
        x = x + self.attention(x)
        return x + 0.5 * self.feed_forward_2(x)

    def attention(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        query, key, value = (
            y.view(batch, length, self.heads, -1).transpose(1, 2) for y in self.qkv(x).chunk(3, dim=-1)
        )
        weights = torch.softmax(query @ key.transpose(2, 3) / math.sqrt(width // self.heads), dim=-1)
        return self.out((weights @ value).transpose(1, 2).reshape(batch, length, width))


class Proformer(nn.Module):
    def __init__(self, width: int = 256, length: int = 150, heads: int = 4) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(length, width))
        self.blocks = nn.ModuleList(MacaronBlock(width, heads) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 1) + self.position
        for block in self.blocks:
            x = block(x)
        return x.permute(0, 2, 1)


class SoftBins(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mapper = nn.Conv1d(channels, 18, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(self.mapper(x).mean(2), dim=1)


def network(model: str) -> nn.Sequential:
    """dream_cnn, dream_rnn or dream_attn at published size: x (B, 6, 150) -> log-probabilities (B, 18)."""
    if model == "dream_attn":
        return nn.Sequential(nn.Sequential(*conv(6, 256, 7)), Proformer(), SoftBins(256))
    if model == "dream_rnn":
        return nn.Sequential(ParallelConv(6, 320), BiLSTM(), SoftBins(320))
    widths = [320, 128, 128, 64, 64, 64, 64]
    stages = [Stage(before, width) for before, width in itertools.pairwise(widths)]
    return nn.Sequential(ParallelConv(6, 320), nn.Sequential(*stages), SoftBins(64))


def like(plain: nn.Module, ours: nn.Module) -> nn.Module:
    """`plain` with the weights and running statistics of ours."""
    buffers = [
        buffer for name, buffer in ours.named_buffers() if name != "final.std"
    ]  # standardisation, which this network does not need
    theirs = [*ours.parameters(), *buffers]
    for to, source in zip([*plain.parameters(), *plain.buffers()], theirs, strict=True):
        to.data.copy_(source.data)
    return plain


# -- the step ---------------------------------------------------------------


def step(
    network: nn.Module, optimizer: torch.optim.Optimizer, scheduler: torch.optim.lr_scheduler.LRScheduler, batch: dict
) -> Tensor:
    optimizer.zero_grad()
    loss = F.kl_div(network(batch["x"]), batch["y_probs"], reduction="batchmean")
    loss.backward()
    optimizer.step()
    scheduler.step()
    return loss.detach()


# -- the input ---------------------------------------------------------------


CODES = {"A": 0, "C": 1, "G": 2, "T": 3, "N": 4}
COMPLEMENT = str.maketrans("ACGT", "TGCA")
CUTS = np.array([-np.inf, *range(1, 18), np.inf])


class Promoters(Dataset):
    """One sample an item: both strands of every sequence, one-hot in Python, soft bins by a scipy distribution."""

    def __init__(self, sequences: list[str], expression: np.ndarray) -> None:
        self.sequences, self.expression = sequences, expression

    def __len__(self) -> int:
        return 2 * len(self.sequences)

    def __getitem__(self, item: int) -> dict:
        row, is_reverse = item % len(self.sequences), item >= len(self.sequences)
        sequence, y = self.sequences[row], float(self.expression[row])
        if is_reverse:
            sequence = sequence.translate(COMPLEMENT)[::-1]
        bases = F.one_hot(torch.tensor([CODES[letter] for letter in sequence]), 5)[:, :4].float().T
        facts = [torch.full((1, len(sequence)), float(fact)) for fact in (is_reverse, y.is_integer())]
        x = torch.cat([bases, *facts])
        probabilities = np.diff(norm(loc=y + 0.5, scale=0.5).cdf(CUTS))
        return {"x": x, "y": torch.tensor(y), "y_probs": torch.tensor(probabilities, dtype=torch.float32)}
