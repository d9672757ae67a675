"""Sequences as they are: no construct, no assay's channels."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
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
    place,
    reverse_complement,
    strands,
)

Nucleotides = Annotated[int, Ge(0), Le(1 << 20)]


class Plain(Recipe):
    """x (B, 4 + flags, length): one-hot A C G T, N all zeros, and columns of the rows as constant channels.

    1. A longer sequence is trimmed at the right, a shorter one padded there with N.
    2. With `reverse_complement` true each strand is a sample of its own, and predictions are averaged over both; with
       `drawn` half of the training rows, drawn anew in every step, are given as the other strand; with false a
       sequence enters as it is given, as where its strand is known.
    3. flags: columns of the dataset, one number a row, each a channel that is constant over positions.
    4. With `mask_share` above 0, that share of the positions that are not N is masked while training: all zeros, as N.
       The keys `tokens` and `mask`, (B, length), say what stands there and where. A head on the core's output fills
       them in, with the weight `mask_weight`, or, in task masked, the final block does.
    5. flip_insert: the lengths of a construct's constant ends. Half of the training rows, drawn anew in every step,
       have what lies between them turned into its reverse complement, the ends unchanged, as an assay's reverse
       library has it (Agarwal et al. 2023). Training leaves longer sequences than `length` out, whose right end is cut
       off, and those without an insert.
    6. shift: `[left, right]`. The window of a training row begins up to so many nucleotides further left or right,
       drawn anew and uniformly. What comes into view are the letters of `beside`, `[LEFT, RIGHT]`, N beyond these.
       Training leaves longer sequences than `length` out.

    What is drawn is the input of training alone: at scoring and prediction a sequence is given as it is. Inserts are
    turned first, then the window is shifted, and then its strand drawn. Where a row is turned in either way, so is the
    flag `strand_flag`, 0 or 1; the other flags stay. With null all stay.
    """

    def __init__(
        self,
        *,
        length: Annotated[int, Ge(1), Le(1 << 20)],
        reverse_complement: bool | Literal["drawn"],
        flags: list[str],
        mask_share: Annotated[float, Ge(0), Lt(1)],
        mask_weight: Annotated[float, Ge(0)],
        strand_flag: str | None = "is_reverse",  # from here on: what a run of before has not
        flip_insert: list[Nucleotides] | None = None,
        shift: list[Nucleotides] | None = None,
        beside: list[str] | None = None,
    ) -> None:
        self.flags = self.takes = tuple(flags)
        self.mask_share, self.mask_weight = mask_share, mask_weight
        self.draws_strand, self.strand_flag = reverse_complement == "drawn", strand_flag
        self.ends, self.shift = _pair("flip_insert", flip_insert), _pair("shift", shift)
        self.beside = _pair("beside", beside) or ("", "")
        if any(letters.upper().strip("ACGTN") for letters in self.beside):
            raise ValueError(f"beside={beside}: letters A C G T N alone")
        if self.beside != ("", "") and not self.shift:
            raise ValueError(f"beside={beside} stands beside sequences that are shifted: give shift=[left,right], too")
        if self.draws_strand and self.ends:
            raise ValueError("reverse_complement=drawn and flip_insert turn the same rows: choose one of them")
        if (self.draws_strand or self.ends) and flags and strand_flag not in [*flags, None]:
            raise ValueError(
                f"flags={flags} and rows that are turned: strand_flag names the flag that tells which are, or is null"
            )
        self.most_shift, self.turns_inserts = max(self.shift or [0]), self.ends is not None
        self.views = self.samples_per_sequence = 1 + (reverse_complement is True)  # type: ignore[misc]
        self.inputs = InputSpec(4 + len(flags), length)
        if mask_share:
            self.keys = {"tokens": Spec((length,), torch.uint8, 0), "mask": Spec((length,), torch.bool, 0)}

    def fits(self, lengths: np.ndarray) -> np.ndarray:
        if not (self.ends or self.shift):
            return super().fits(lengths)
        return (lengths <= self.inputs.length) & (lengths > sum(self.ends or ()))

    def encode(self, samples: Samples, rows: Tensor, reverse: Tensor, generator: torch.Generator | None) -> Batch:
        codes = samples.codes.index_select(0, rows)
        flags = [_flag(name, samples[name][rows]) for name in self.flags]
        drawn: Batch = {}
        if generator is not None and (self.draws_strand or self.ends):
            turned = torch.rand(len(rows), generator=generator, device=rows.device) < 0.5
            if self.ends:
                codes = torch.where(turned[:, None], insert_turned(codes, samples.lengths[rows], *self.ends), codes)
            else:
                drawn["reverse"] = reverse = turned
            for number, name in enumerate(self.flags):
                if name == self.strand_flag:
                    flag = flags[number].float()
                    flags[number] = torch.where(turned, 1 - flag, flag)
        if generator is not None and self.shift:
            codes, drawn["shift"] = self._shifted(codes, samples.lengths[rows], generator)
        tokens = strands(codes, reverse)
        if not self.mask_share:
            return {"x": one_hot(tokens, 4, flags), **drawn}
        mask = self.mask_of(samples, rows, codes, generator)
        mask = torch.where(reverse[:, None], mask.flip(-1), mask)
        return {"x": one_hot(tokens.masked_fill(mask, 4), 4, flags), "tokens": tokens, "mask": mask, **drawn}

    def _shifted(self, codes: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Windows, uint8 (B, length), and by how much each is shifted to the right, int64 (B,)."""
        assert self.shift is not None
        left, right = self.shift
        start = torch.randint(-left, right + 1, lengths.shape, generator=generator, device=codes.device)
        before, behind = self.beside
        return place(codes, lengths, start, self.inputs.length, left=before, right=behind), start

    def auxiliary_heads(self, features: InputSpec) -> dict[str, AuxiliaryHead]:
        if not self.mask_share:
            return {}
        return {"mask_filling": MaskFilling(features, positions=self.inputs.length, weight=self.mask_weight)}


def insert_turned(codes: Tensor, lengths: Tensor, left: int, right: int) -> Tensor:
    """uint8 (B, L) -> the same with the reverse complement of what lies between constant ends of these lengths.

    lengths: int (B,), of the sequences, at most L; what stands behind them stays.
    """
    position = torch.arange(codes.shape[1], device=codes.device)
    inside = (position >= left) & (position < (lengths - right)[:, None])
    mirrored = torch.where(inside, lengths[:, None] - right - 1 + left - position, position)
    complement = reverse_complement(codes).flip(-1)
    return torch.where(inside, complement, codes).gather(1, mirrored)


def _pair(name: str, values: list[Any] | None) -> tuple[Any, Any] | None:
    if values is None:
        return None
    if len(values) != 2:
        raise ValueError(f"{name}={values}: give two values, of the left and of the right")
    return values[0], values[1]


def _flag(name: str, values: Tensor) -> Tensor:
    """A column's values as they are, (B,); InputError where a row has several."""
    if values.ndim != 1:
        shape = tuple(values.shape[1:])
        raise InputError(f"recipe.flags: the column {name} has values of shape {shape} a row, and a flag is one number")
    return values
