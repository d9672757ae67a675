"""Nucleotides as codes and as channels, on the device: what recipes are made of."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from prixfixe.data.sequences import ASCII_TO_CODE, N


@cache
def codes_of(sequence: str, device: torch.device) -> Tensor:
    """A constant sequence as codes: uint8 (length,). Copied to a device once, since a GPU would be waited for."""
    return torch.from_numpy(ASCII_TO_CODE[np.frombuffer(sequence.encode(), dtype=np.uint8)]).to(device)


def place(codes: Tensor, lengths: Tensor, start: Tensor, width: int, *, left: str = "", right: str = "") -> Tensor:
    """Cuts one window of `width` out of every sequence as it stands between its neighbours.

    codes: uint8 (n, longest); lengths: (n,). start: (n,), where the window begins, in the sequence's own coordinates:
    negative ones reach into `left`, those past the end into `right`, and what lies beyond these is N. Returns uint8 (n,
    width).
    """
    before, after, unknown = (codes_of(sequence, codes.device) for sequence in (left, right, "N"))
    surroundings = torch.cat([before, after, unknown])
    beyond = len(surroundings) - 1  # where the N stands
    position = start[:, None] + torch.arange(width, device=codes.device)
    past_end = position - lengths[:, None]
    outside = torch.where(
        past_end >= 0,
        torch.where(past_end < len(after), past_end + len(before), beyond),
        torch.where(position >= -len(before), position + len(before), beyond),
    )
    inside = (position >= 0) & (past_end < 0)
    if codes.shape[1] == 0:
        return surroundings[outside]
    own = codes.gather(1, position.clamp(0, codes.shape[1] - 1))
    return torch.where(inside, own, surroundings[outside.clamp(0, beyond)])


def reverse_complement(codes: Tensor) -> Tensor:
    """uint8 (n, positions) -> the other strand, read 5' to 3'; N stays N."""
    return (3 - codes).clamp(max=N).flip(-1)  # 3 - N is 255


def strands(codes: Tensor, reverse: Tensor) -> Tensor:
    """uint8 (B, L) -> the same, the rows where `reverse`, bool (B,), is true as the other strand."""
    both = torch.cat([codes, reverse_complement(codes)])
    return both.index_select(0, torch.arange(len(codes), device=codes.device) + len(codes) * reverse)


def one_hot(codes: Tensor, channels: int, facts: Sequence[Tensor] = ()) -> Tensor:
    """Codes (B, L) -> float32 (B, channels + facts, L): A C G T (N ...), then channels that are constant over
    positions.

    Codes of `channels` and above are all zeros. facts: what holds for whole sequences, (B,) each.
    """
    x = torch.empty((len(codes), channels + len(facts), codes.shape[1]), device=codes.device)
    symbols = torch.arange(channels, dtype=codes.dtype, device=codes.device)
    torch.eq(codes[:, None, :], symbols[:, None], out=x[:, :channels])
    for channel, fact in enumerate(facts, start=channels):
        x[:, channel] = fact.float()[:, None]
    return x
