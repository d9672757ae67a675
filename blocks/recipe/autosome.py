"""Autosome.org's recipe (Penzar et al. 2023; Rafi et al. 2024, Methods)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from prixfixe.contract import Batch, InputSpec, Measurements, Recipe, Samples, one_hot, place, strands
from prixfixe.dream.construct import UPSTREAM
from prixfixe.dream.singletons import is_singleton, remark


class Autosome(Recipe):
    """Both strands as separate samples, with two facts of the sequence as channels.

    1. The sequence is extended at the 5' end by the plasmid to `length` positions; a longer one loses its 5' end.
    2. Each strand is a sample of its own: x (B, 4 + is_reverse + is_singleton, length), N all zeros.
    3. is_singleton: the expression is an integer, as one cell leaves it; 0 at scoring and prediction, where it is not
       known. It is 0 in training as well where integers do not mean that, so that training and scoring see the same:
       outside the yeast assay's bins, with next to no integers, or with integers alone
       (`prixfixe.dream.singletons`). The channel stays, and so does the number of parameters.

    Deviation: the published code replaces the first 17 nucleotides by the construct's left flank, which is the same
    where the flank is intact; here they are kept as they were measured.
    """

    views = 2
    samples_per_sequence = 2

    def __init__(self, *, length: int, is_reverse: bool, is_singleton: bool) -> None:
        self.is_reverse, self.is_singleton = is_reverse, is_singleton
        self.inputs = InputSpec(4 + is_reverse + is_singleton, length)

    def derived(self, expression: np.ndarray) -> dict[str, np.ndarray]:
        return {"is_singleton": is_singleton(expression)} if self.is_singleton else {}

    def remarks(self, train: Measurements) -> list[str]:
        said = remark(train.expression) if self.is_singleton else None
        return [said] if said else []

    def window(self, codes: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        width = self.inputs.length
        return place(codes, lengths, lengths - width, width, left=UPSTREAM), torch.full_like(lengths, width)

    def encode(self, samples: Samples, rows: Tensor, reverse: Tensor, generator: torch.Generator | None) -> Batch:
        facts = []
        if self.is_reverse:
            facts.append(reverse)
        if self.is_singleton:
            facts.append(samples.is_singleton[rows] if generator is not None else torch.zeros_like(reverse))
        return {"x": one_hot(strands(samples.codes.index_select(0, rows), reverse), 4, facts)}
