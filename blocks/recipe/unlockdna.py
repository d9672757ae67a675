"""Unlock_DNA's recipe (Kwak et al. 2024, Proformer; Rafi et al. 2024, Methods)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from prixfixe.contract import (
    AuxiliaryHead,
    Batch,
    InputSpec,
    MaskFilling,
    Recipe,
    Samples,
    Spec,
    one_hot,
    place,
    reverse_complement,
)

MASK = 5  # the code, and the channel, of a masked nucleotide


class UnlockDNA(Recipe):
    """Both strands in one input, a share of the nucleotides masked and filled in again.

    1. The construct's constant parts are cut off: `head` nucleotides at the left, `tail` at the right.
    2. What is left is padded at both sides with N to `width` positions. Training leaves longer ones out; scoring trims
       them at the right.
    3. The reverse complement is appended: 2 * width positions, 6 channels: A C G T N M.
    4. While training, `mask_share` of the positions that are not N are masked, and a head on the core's output names
       the nucleotides that were masked (mask filling): cross-entropy over the masked positions, weight `mask_weight`.

    Deviations: (1) the published network names one of six tokens; here one of the four nucleotides, since N is never
    masked.
    (2) A core that changes the length is read at the nearest of its positions.
    """

    def __init__(self, *, width: int, head: int, tail: int, mask_share: float, mask_weight: float) -> None:
        if not 0 <= mask_share < 1:
            raise ValueError("mask_share is a share: at least 0, below 1")
        self.width, self.head, self.tail = width, head, tail
        self.mask_share, self.mask_weight = mask_share, mask_weight
        self.inputs = InputSpec(6, 2 * width, strand_boundary=width)
        self.keys = {"tokens": Spec((2 * width,), torch.uint8, 0), "mask": Spec((2 * width,), torch.bool, 0)}

    def fits(self, lengths: np.ndarray) -> np.ndarray:
        kept = lengths - self.head - self.tail
        return (kept > 0) & (kept <= self.width)

    @property
    def longest(self) -> int:
        return self.head + self.width + self.tail

    def window(self, codes: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        insert = (lengths - self.head - self.tail).clamp(min=0)
        before = (self.width - insert).clamp(min=0) // 2
        plus = place(codes[:, self.head :], insert, -before, self.width)
        return torch.cat([plus, reverse_complement(plus)], dim=1), torch.full_like(lengths, 2 * self.width)

    def encode(self, samples: Samples, rows: Tensor, reverse: Tensor, generator: torch.Generator | None) -> Batch:
        tokens = samples.codes.index_select(0, rows)
        mask = self.mask_of(samples, rows, tokens, generator)
        return {"x": one_hot(tokens.masked_fill(mask, MASK), 6), "tokens": tokens, "mask": mask}

    def auxiliary_heads(self, features: InputSpec) -> dict[str, AuxiliaryHead]:
        if not self.mask_share:
            return {}
        return {"mask_filling": MaskFilling(features, positions=self.inputs.length, weight=self.mask_weight)}
