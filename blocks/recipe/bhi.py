"""BHI's recipe (Rafi et al. 2024, Methods and supplement)."""

from __future__ import annotations

import torch
from torch import Tensor

from prixfixe.contract import Batch, InputSpec, Recipe, Samples, one_hot, place, strands
from prixfixe.dream.construct import DISTAL, PROXIMAL


class BHI(Recipe):
    """Both strands in the same step, shorter sequences padded with vector sequence at a random side.

    1. A sequence longer than `length` is trimmed at the right.
    2. A shorter one is padded with vector sequence at its right, its left, or half at each, drawn anew in every batch
       with the shares `pad_right` : `pad_left` : `pad_both`, once for both strands; at scoring always at the right.
    3. Both strands enter, and the loss is the mean over the two: x (2 B, 4, length), N all zeros.

    Deviations: (1) the published code draws the side once, before training, and in the shares 3:2:4; the paper says
    3:4:2.
    (2) It passes the strands through the network one after the other; here they are one batch, which differs only in
    blocks that normalise over the batch.
    """

    views = 2
    samples_per_sequence = 1

    def __init__(self, *, length: int, pad_right: float, pad_left: float, pad_both: float) -> None:
        if min(pad_right, pad_left, pad_both) < 0 or pad_right + pad_left + pad_both == 0:
            raise ValueError("pad_right, pad_left and pad_both are shares: none below 0, not all 0")
        total = pad_right + pad_left + pad_both
        self.right, self.right_or_left = pad_right / total, (pad_right + pad_left) / total
        self.inputs = InputSpec(4, length)

    def encode(self, samples: Samples, rows: Tensor, reverse: Tensor, generator: torch.Generator | None) -> Batch:
        codes, lengths, width = samples.codes.index_select(0, rows), samples.lengths[rows], self.inputs.length
        padding = (width - lengths).clamp(min=0)
        if generator is None:
            start = torch.zeros_like(lengths)
        else:
            together = self.views // self.samples_per_sequence  # strands in one batch, one after the other
            drawn = torch.rand(len(rows) // together, generator=generator, device=rows.device).repeat(together)
            side = (drawn >= self.right).long() + (drawn >= self.right_or_left).long()
            start = -torch.stack([torch.zeros_like(padding), padding, padding // 2])[
                side, torch.arange(len(rows), device=rows.device)
            ]
        placed = place(codes, lengths, start, width, left=DISTAL, right=PROXIMAL)
        return {"x": one_hot(strands(placed, reverse), 4)}
