"""What every recipe shares: from sequences and measurements to batches, on the device, without per-item Python."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from prixfixe.contract import AuxiliaryHead, Batch, InputSpec, KeySpec
from prixfixe.data.sequences import ASCII_TO_CODE, N, Sequences, padded_chunks
from prixfixe.tasks.bins import Bins, spans_sorting_bins

SINGLETONS = (0.2, 0.95)  # the share of integers, from and to which they tell singletons from the rest
CHUNK_ROWS, CHUNK_LETTERS = (
    1 << 16,
    1 << 23,
)  # whose windows are cut at a time: indices of millions are never in memory at once


@dataclass(frozen=True)
class Samples:
    """A recipe's sequences on the device, one row a sequence.

    codes: uint8 (n, positions); lengths: int32 (n,); is_singleton: bool (n,), see `is_singleton`; y: float32 (n,) or
    (n, tasks), the measurement's own units, NaN where a task was not measured; None at prediction.
    """

    codes: Tensor
    lengths: Tensor
    is_singleton: Tensor
    y: Tensor | None

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: slice | Tensor) -> Samples:
        """Some of them: a slice, or int64 row numbers on the samples' device."""
        some = {field: getattr(self, field)[rows] for field in ("codes", "lengths", "is_singleton")}
        return replace(self, **some, y=None if self.y is None else self.y[rows])


class Recipe(ABC):
    """A data processor and how it feeds the trainer.

    Subclasses set `inputs` and give `encode`; they override `fits`, `window` and `auxiliary_heads` where they need to.

    views: how many inputs a sequence has: 2 where each strand is fed by itself, 1 where both stand in one input.
    samples_per_sequence: how many training samples a sequence is. With 2 views and 2 samples each strand is a sample of
    its own; with 2 views and 1 sample both strands of a sequence enter the same step and the loss is the mean over
    them.
    keys: the batch keys beside x, y and y_probs.
    """

    inputs: InputSpec
    views: ClassVar[int] = 1
    samples_per_sequence: ClassVar[int] = 1
    keys: Mapping[str, KeySpec] = MappingProxyType({})

    def fits(self, lengths: np.ndarray) -> np.ndarray:
        """Which sequences can be trained on, by their lengths in nucleotides: bool (n,). Scoring takes every
        sequence."""
        return np.ones(len(lengths), dtype=bool)

    @property
    def longest(self) -> int:
        """The longest sequence, in nucleotides, that reaches the network whole, but for constant parts that the recipe
        removes."""
        return self.inputs.length

    def cut_off(self, longer: int, total: int, what: str = "sequences") -> str:
        """What to say where so many are longer than that."""
        taken = f"the {self.longest} nt that recipe {type(self).__name__} takes, and are cut to that"
        return f"{longer:,} of {total:,} {what} are longer than {taken}"

    def window(self, codes: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """What of the encoding is the same every time and is done once: codes (n, longest) -> codes (n, positions).

        By default what is longer than `self.longest` is cut off at the right, and the rest filled with N.
        """
        return place(codes, lengths, torch.zeros_like(lengths), self.longest), lengths.clamp(max=self.longest)

    @abstractmethod
    def encode(self, samples: Samples, rows: Tensor, reverse: Tensor, generator: torch.Generator | None) -> Batch:
        """The inputs of some sequences: `x` (B, C, L) and the recipe's own keys.

        rows: int64 (B,). reverse: bool (B,), which of them to give as the reverse complement, where strands are fed
        separately. generator: on the samples' device while training, the source of all that is random; None at scoring
        and prediction, where nothing is random.
        """

    def auxiliary_heads(self, features: InputSpec) -> dict[str, AuxiliaryHead]:
        """The heads on the core's output that this recipe trains along, by name."""
        return {}

    # what the framework calls

    def load(
        self,
        sequences: Sequences,
        device: torch.device,
        expression: np.ndarray | None = None,
        rows: np.ndarray | None = None,
    ) -> Samples:
        """Moves sequences, and what was measured of them, to the device and does there what is done once.

        rows: int64 (m,), which of the sequences are taken; None is all. expression: (m,) or (m, tasks). The host never
        holds all of them
        twice: millions may lie in a file that is mapped.
        """
        if rows is not None and len(rows) == len(sequences):
            rows = None  # all of them, and without a copy
        count = len(sequences) if rows is None else len(rows)
        taken = np.asarray(sequences.lengths) if rows is None else np.asarray(sequences.lengths)[rows]
        nothing = torch.empty((0, 0), dtype=torch.uint8), torch.empty(0, dtype=torch.int32)
        codes, lengths = (tensor.to(device) for tensor in self.window(*nothing))
        for chunk in padded_chunks(taken, letters=CHUNK_LETTERS, rows=CHUNK_ROWS):
            part = sequences[chunk if rows is None else rows[chunk]]
            part_codes, part_lengths = self.window(_tensor(part.padded()).to(device), _tensor(part.lengths).to(device))
            if chunk.start == 0:
                codes, lengths = part_codes.new_empty((count, part_codes.shape[1])), part_lengths.new_empty(count)
            codes[chunk], lengths[chunk] = part_codes, part_lengths
        y = None if expression is None else torch.from_numpy(np.asarray(expression, dtype=np.float32)).to(device)
        singleton = np.zeros(count, dtype=bool) if expression is None else is_singleton(expression)
        return Samples(codes, lengths, torch.from_numpy(singleton).to(device), y)

    def training_batch(self, samples: Samples, chosen: Tensor, bins: Bins, generator: torch.Generator) -> Batch:
        """The batch of some training samples.

        chosen: int64 (B,), sample numbers below len(samples) * samples_per_sequence.
        """
        rows, reverse = chosen % len(samples), chosen >= len(samples)
        if self.samples_per_sequence < self.views:
            rows, reverse = rows.repeat(2), torch.cat([reverse, ~reverse])
        batch = self.encode(samples, rows, reverse, generator)
        assert samples.y is not None, "training needs measurements"
        y = samples.y[rows]
        return {**batch, "y": y, "y_probs": bins.probabilities(y)}

    def scoring_batches(self, samples: Samples, batch_size: int) -> Iterator[list[Batch]]:
        """All sequences in order, `batch_size` at a time: for each chunk one batch a view, whose predictions are
        averaged."""
        for chunk in torch.arange(len(samples), device=samples.codes.device).split(batch_size):
            yield [
                self.encode(samples, chunk, torch.full_like(chunk, view, dtype=torch.bool), None)
                for view in range(self.views)
            ]


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array))  # a copy: the array may be a read-only memory map


def is_singleton(expression: np.ndarray) -> np.ndarray:
    """Whether a sequence was measured in one cell, which leaves an integer (Penzar et al. 2023): bool (n,).

    expression: (n,) or (n, tasks), of all that is trained on. None is, where integers do not mean that; see
    `integers_mark_singletons`. An unknown task, NaN, is no integer.
    """
    if not integers_mark_singletons(expression):
        return np.zeros(len(expression), dtype=bool)
    return np.asarray(expression).reshape(-1) == np.round(expression).reshape(-1)


def integers_mark_singletons(expression: np.ndarray) -> bool:
    """Whether the integers among the measurements, (n,) or (n, tasks), are the sequences seen in one cell.

    They are in a cell-sorting assay of one task in the yeast assay's bins, where a share of them is integers that is
    neither next to nothing nor next to all: in the random promoters of Rafi et al. 2024 58 %. Values that are rounded
    to one decimal hold 10 % by chance, means over many cells about 1 % (designed promoters, Vaishnav et al. 2022), and
    rounded to integers all. There the fact would say nothing, or be true of nearly every sequence in training and of
    none at scoring, where nobody knows it.
    """
    values = np.asarray(expression, dtype=np.float64)
    if not len(values) or values.size != len(values) or not np.isfinite(values).all():
        return False
    fewest, most = SINGLETONS
    share = float((values == np.round(values)).mean())
    return fewest <= share <= most and spans_sorting_bins(values)


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
