"""Windows of a genome for profile models: jitter, reverse complement, negatives drawn anew (Pampari et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

from prixfixe.contract import Batch, InputError, InputSpec, Measurements, Recipe, Samples, Spec, one_hot, place, strands


class Window(Recipe):
    """x (B, 4, length): one-hot A C G T, N all zeros. As ChromBPNet trains (Pampari et al. 2023, Methods).

    1. A sequence that is longer than `length` is read in its middle; a shorter one stands in the middle of N.
    2. In training the window of a peak (column `is_peak`) moves by up to `jitter` nt to either side, no further than
       its sequence reaches; negatives stay. The key `shift`, int64 (B,), says by how much.
    3. With `reverse_complement` half of the training rows, drawn one by one, are fed as the other strand. The key
       `reverse` says which, and the task turns what was measured.
    4. An epoch is all peaks and, drawn anew and without replacement, `negative_ratio` negatives a peak; all rows where
       none is a peak, as for a bias model. With null there are no peaks to ask for: all rows are in each epoch, and
       all of them move.
    Scoring takes the plus strand and the middle of every row.
    """

    def __init__(
        self,
        *,
        length: Annotated[int, Ge(1), Le(1 << 20)],
        jitter: Annotated[int, Ge(0), Le(1 << 19)],
        reverse_complement: bool,
        negative_ratio: Annotated[float, Ge(0), Le(1000)] | None,
    ) -> None:
        self.inputs = InputSpec(4, length)
        self.most_shift, self.reverse_complement, self.negative_ratio = jitter, reverse_complement, negative_ratio
        self.orders_by = () if negative_ratio is None else ("is_peak",)
        self.keys = {"shift": Spec((), torch.int64)}

    def window(self, codes: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The middle of each sequence, as wide as windows move."""
        width = self.inputs.length + 2 * self.most_shift
        start = torch.div(lengths - width, 2, rounding_mode="floor")
        return place(codes, lengths, start, width), lengths.clamp(max=width)

    def encode(self, samples: Samples, rows: Tensor, reverse: Tensor, generator: torch.Generator | None) -> Batch:
        shift = torch.zeros_like(rows)
        drawn: Batch = {}
        if generator is not None:
            moved, turned = torch.rand((2, len(rows)), generator=generator, device=rows.device, dtype=torch.float64)
            reach = ((samples.lengths[rows].long() - self.inputs.length) // 2).clamp(0, self.most_shift)
            if self.negative_ratio is not None:
                reach = reach * samples["is_peak"][rows]
            shift = (moved * (2 * reach + 1)).floor().long() - reach
            reverse = (turned < 0.5) & self.reverse_complement
            drawn = {"reverse": reverse}
        start = self.most_shift + shift
        index = start[:, None] + torch.arange(self.inputs.length, device=rows.device)
        codes = samples.codes.index_select(0, rows).gather(1, index)
        return {"x": one_hot(strands(codes, reverse), 4), "shift": shift, **drawn}

    def steps(self, rows: Measurements | Samples, batch_size: int) -> int:
        peaks, negatives = self._counts(rows)
        return math.ceil((peaks + negatives) / batch_size)

    def epoch(self, samples: Samples, batch_size: int, generator: torch.Generator) -> Sequence[Tensor]:
        peaks, negatives = self._counts(samples)
        order = torch.randperm(len(samples), generator=generator, device=generator.device)
        if peaks + negatives < len(samples):
            is_peak = samples["is_peak"][order]
            order = torch.cat([order[is_peak], order[~is_peak][:negatives]])
            order = order[torch.randperm(len(order), generator=generator, device=generator.device)]
        return order.tensor_split(self.steps(samples, batch_size))

    def remarks(self, train: Measurements) -> list[str]:
        peaks, negatives = self._counts(train)
        if peaks + negatives == len(train):
            return []
        return [
            f"an epoch has the {peaks:,} peaks of the training rows and {negatives:,} of their "
            f"{len(train) - peaks:,} negatives, drawn anew (recipe.negative_ratio={self.negative_ratio})"
        ]

    def _counts(self, rows: Measurements | Samples) -> tuple[int, int]:
        """How many peaks, and how many others, an epoch has."""
        if self.negative_ratio is None:
            return 0, len(rows)
        if "is_peak" not in rows.columns:
            raise InputError(
                "recipe Window draws negatives anew, by the column is_peak, and the data have none: "
                "recipe.negative_ratio=null takes all rows"
            )
        peaks = int(rows.columns["is_peak"].sum())  # type: ignore[union-attr]
        others = len(rows) - peaks
        return peaks, min(others, round(self.negative_ratio * peaks)) if peaks else others
