"""Unlock_DNA's core layers (Kwak et al. 2024, Proformer; Rafi et al. 2024, DREAM-Attn)."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor, nn

from prixfixe.contract import Block, Conv1d, Count, Dropout, GroupedConv, InputSpec, Share


class Proformer(Block):
    """(B, C, L) -> (B, C, L): Macaron blocks of feed-forward, separable convolution, attention, feed-forward.

    1. A learned position embedding is added (left out where `position_embedding` is false).
    2. In each of `blocks` blocks:
       a. x + 1/2 feed-forward(x);
       b. a separable-convolution residual on the layer-normed x: x + conv(LN(x)) as Kwak et al. print it, or, with
          `double_residual`, x + LN(x) + conv(LN(x)) as the published PyTorch weights have it;
       c. layer norm, then x + attention(x), with `heads` heads of `head_width` channels each (null: they share the
       width);
       d. x + 1/2 feed-forward(x).
    """

    adapters = ("to_qkv.query", "to_qkv.value")

    def __init__(
        self,
        inputs: InputSpec,
        *,
        blocks: Annotated[int, Ge(0), Le(1000)],
        heads: Count,
        head_width: Count | None,
        expansion: Count,
        kernel_size: Count,
        dropout: Share,
        double_residual: bool,
        position_embedding: bool,
    ) -> None:
        super().__init__()
        width = self.out_channels = inputs.channels
        if head_width is None and width % heads:
            raise ValueError(f"{heads} heads cannot share a width of {width}; choose a divisor, or set head_width")
        self.position = nn.Parameter(torch.randn(inputs.length, width)) if position_embedding else None
        self.blocks = nn.ModuleList(
            MacaronBlock(width, heads, head_width or width // heads, expansion, kernel_size, dropout, double_residual)
            for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)  # (B, L, C) from here on
        if self.position is not None:
            x = x + self.position
        for block in self.blocks:
            x = block(x)
        return x.transpose(1, 2)

    def split_for_adapters(self) -> None:
        for block in self.blocks:
            block.attention.to_qkv = QueryKeyValue(block.attention.to_qkv)

    def join_after_adapters(self) -> None:
        for block in self.blocks:
            if isinstance(block.attention.to_qkv, QueryKeyValue):
                block.attention.to_qkv = block.attention.to_qkv.joined()


class MacaronBlock(nn.Module):
    """(B, L, C) -> (B, L, C)."""

    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int,
        expansion: int,
        kernel_size: int,
        dropout: float,
        double_residual: bool,
    ) -> None:
        super().__init__()
        self.double_residual = double_residual
        self.feed_forward_1 = FeedForward(width, expansion, dropout)
        self.norm_conv = nn.LayerNorm(width, eps=1e-6)
        self.conv = nn.Sequential(
            GroupedConv(width, kernel_size, group_width=1),
            Conv1d(width, width, kernel_size=1),
            nn.ReLU(),
            Dropout(dropout),
        )
        self.norm_attention = nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, heads, head_width)
        self.feed_forward_2 = FeedForward(width, expansion, dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0.5 * self.feed_forward_1(x)
        normed = self.norm_conv(x)
        x = x + self.conv(normed.transpose(1, 2)).transpose(1, 2) + (normed if self.double_residual else 0)
        x = self.norm_attention(x)
        x = x + self.attention(x)
        return x + 0.5 * self.feed_forward_2(x)


class FeedForward(nn.Module):
    """Layer norm, dense to `expansion` times the width, SwiGLU, dropout, dense, dropout; no biases."""

    def __init__(self, width: int, expansion: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.expand = nn.Linear(width, width * expansion, bias=False)
        self.contract = nn.Linear(width * expansion // 2, width, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.expand(self.norm(x)).chunk(2, dim=-1)
        return self.dropout(self.contract(self.dropout(value * F.silu(gate))))


class Attention(nn.Module):
    """Multi-head self-attention over positions, heads of any width, biases everywhere, no dropout."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * heads * head_width)
        self.to_out = nn.Linear(heads * head_width, width)
        nn.init.xavier_uniform_(self.to_qkv.weight)
        nn.init.zeros_(self.to_qkv.bias)
        nn.init.zeros_(self.to_out.bias)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )  # (B, heads, L, width)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.to_out(mixed.transpose(1, 2).flatten(2))


class QueryKeyValue(nn.Module):
    """The dense layer to queries, keys and values as three, for adapters: (B, L, C) -> (B, L, 3 C')."""

    def __init__(self, fused: nn.Linear) -> None:
        super().__init__()
        weights, biases = fused.weight.chunk(3), fused.bias.chunk(3)
        self.query, self.key, self.value = (dense(w, b) for w, b in zip(weights, biases, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.query(x), self.key(x), self.value(x)], dim=-1)

    def joined(self) -> nn.Linear:
        three = (self.query, self.key, self.value)
        return dense(torch.cat([one.weight for one in three]), torch.cat([one.bias for one in three]))


def dense(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A dense layer of these weights, copied."""
    layer = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], dtype=weight.dtype, device=weight.device)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer
