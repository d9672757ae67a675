"""Sequences as they are: no construct, no assay's channels."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Le, Lt
from torch import Tensor

from prixfixe.contract import (
    AuxiliaryHead,
    Batch,
    InputError,
    InputSpec,
    MaskFilling,
    Recipe,
    Samples,
    Spec,
    one_hot,
    strands,
)


class Plain(Recipe):
    """x (B, 4 + flags, length): one-hot A C G T, N all zeros, and columns of the rows as constant channels.

    1. A longer sequence is trimmed at the right, a shorter one padded there with N.
    2. With `reverse_complement` each strand is a sample of its own, and predictions are averaged over both; without it
       the sequence enters as it is given, as where its strand is known.
    3. flags: columns of the dataset, one number a row, each a channel that is constant over positions.
    4. With `mask_share` above 0, that share of the positions that are not N is masked while training: all zeros, as N.
       The keys `tokens` and `mask`, (B, length), say what stands there and where. A head on the core's output fills
       them in, with the weight `mask_weight`, or, in task masked, the final block does.
    """

    def __init__(
        self,
        *,
        length: Annotated[int, Ge(1), Le(1 << 20)],
        reverse_complement: bool,
        flags: list[str],
        mask_share: Annotated[float, Ge(0), Lt(1)],
        mask_weight: Annotated[float, Ge(0)],
    ) -> None:
        self.flags = self.takes = tuple(flags)
        self.mask_share, self.mask_weight = mask_share, mask_weight
        self.views = self.samples_per_sequence = 1 + reverse_complement  # type: ignore[misc]
        self.inputs = InputSpec(4 + len(flags), length)
        if mask_share:
            self.keys = {"tokens": Spec((length,), torch.uint8, 0), "mask": Spec((length,), torch.bool, 0)}

    def encode(self, samples: Samples, rows: Tensor, reverse: Tensor, generator: torch.Generator | None) -> Batch:
        codes = samples.codes.index_select(0, rows)
        tokens = strands(codes, reverse)
        flags = [_flag(name, samples[name][rows]) for name in self.flags]
        if not self.mask_share:
            return {"x": one_hot(tokens, 4, flags)}
        mask = self.mask_of(samples, rows, codes, generator)
        mask = torch.where(reverse[:, None], mask.flip(-1), mask)
        return {"x": one_hot(tokens.masked_fill(mask, 4), 4, flags), "tokens": tokens, "mask": mask}

    def auxiliary_heads(self, features: InputSpec) -> dict[str, AuxiliaryHead]:
        if not self.mask_share:
            return {}
        return {"mask_filling": MaskFilling(features, positions=self.inputs.length, weight=self.mask_weight)}


def _flag(name: str, values: Tensor) -> Tensor:
    """A column's values as they are, (B,); InputError where a row has several."""
    if values.ndim != 1:
        shape = tuple(values.shape[1:])
        raise InputError(f"recipe.flags: the column {name} has values of shape {shape} a row, and a flag is one number")
    return values
