"""What every recipe shares: from columns to batches, on the device, without per-item Python; and the steps of an
epoch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from prixfixe.common.errors import InputError
from prixfixe.common.text import printable
from prixfixe.contract import AuxiliaryHead, Batch, InputSpec, Spec
from prixfixe.data.columns import RowSource, is_source
from prixfixe.data.encoding import place
from prixfixe.data.sequences import N, Sequences, padded_chunks

if TYPE_CHECKING:
    from prixfixe.data.measurements import Measurements
    from prixfixe.tasks.task import Task

# whose windows are cut at a time: indices of millions are never in memory at once
CHUNK_ROWS, CHUNK_LETTERS = 1 << 16, 1 << 23


class OnDisk:
    """A column whose rows come to the device as they are asked for."""

    def __init__(self, source: RowSource, device: torch.device) -> None:
        self.source, self.device = source, device

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, chosen: Tensor | slice) -> Any:
        """The values of some rows, int64 (m,), on the device; of a slice a column of its own, of which nothing is
        read."""
        if isinstance(chosen, slice):
            return OnDisk(self.source.take(chosen), self.device)
        return _as_given(torch.from_numpy(self.source[chosen.cpu().numpy()]).to(self.device))


Column = Tensor | OnDisk


@dataclass(frozen=True)
class Samples:
    """A recipe's rows: what is on the device of each.

    codes: uint8 (n, positions); lengths: int32 (n,). columns: all else by name, (n, ...) each: `expression`, float32
    (n,) or (n, tasks), NaN where a task was not measured, and none at prediction; what the recipe derives; and what
    parts ask for of the dataset. A column is an attribute, too.
    """

    codes: Tensor
    lengths: Tensor
    columns: Mapping[str, Column] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, wanted: str | slice | Tensor) -> Any:
        """A column by its name; or the samples of some rows: a slice, or int64 row numbers on the samples' device."""
        if isinstance(wanted, str):
            if wanted not in self.columns:
                raise InputError(f"the data have no column {wanted}; they have {', '.join(self.columns) or 'none'}")
            return self.columns[wanted]
        columns = {name: column[wanted] for name, column in self.columns.items()}
        return replace(self, codes=self.codes[wanted], lengths=self.lengths[wanted], columns=columns)

    def __getattr__(self, name: str) -> Any:
        columns = self.__dict__.get("columns", {})
        if name in columns:
            return columns[name]
        raise AttributeError(
            f"samples have no column {name}; a recipe derives one of its own in `Recipe.derived`, as "
            "blocks/recipe/autosome.py does"
        )

    @property
    def y(self) -> Tensor | None:
        return self.columns.get("expression")  # type: ignore[return-value]

    def with_columns(self, **columns: Column) -> Samples:
        return replace(self, columns={**self.columns, **columns})


class Recipe(ABC):
    """A data processor and how it feeds the trainer.

    Subclasses set `inputs` and give `encode`; they override `fits`, `window`, `derived` and `auxiliary_heads` where
    they need to, and `epoch`, `steps` and `unit` where rows belong together.

    views: how many inputs a sequence has: 2 where each strand is fed by itself, 1 where both stand in one input.
    samples_per_sequence: how many training samples a sequence is. With 2 views and 2 samples each strand is a sample of
    its own; with 2 views and 1 sample both strands of a sequence enter the same step and the loss is the mean over
    them.
    keys: the batch keys beside x and the task's. takes: columns of the dataset that `encode` reads; orders_by: those
    that `epoch` reads, of training rows alone.
    unit: how many neighbouring rows of a batch are never torn apart by micro-batches and processes.
    mask_share: of the positions that are not N, how many are masked; see `mask_of`.
    most_shift: by how many nucleotides, at most, windows are moved to either side in training.
    turns_inserts: whether training turns a part of a sequence, where nothing that is measured along it can follow.
    """

    inputs: InputSpec
    views: ClassVar[int] = 1
    samples_per_sequence: ClassVar[int] = 1
    keys: Mapping[str, Spec] = MappingProxyType({})
    takes: tuple[str, ...] = ()
    orders_by: tuple[str, ...] = ()
    unit: int = 1
    mask_share: float = 0.0
    most_shift: int = 0
    turns_inserts: bool = False

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

    def derived(self, expression: np.ndarray) -> dict[str, np.ndarray]:
        """Columns of a recipe's own, (n, ...) each, from what was measured of all training rows; where nothing was, as
        at prediction, they are not there."""
        return {}

    def remarks(self, train: Measurements) -> list[str]:
        """What the user should know of what the recipe makes of the training rows, a sentence each."""
        return []

    @abstractmethod
    def encode(self, samples: Samples, rows: Tensor, reverse: Tensor, generator: torch.Generator | None) -> Batch:
        """The inputs of some sequences: `x`, float (B, C, L) or int64 (B, L), and the recipe's own keys.

        rows: int64 (B,). reverse: bool (B,), which of them to give as the reverse complement, where strands are fed
        separately; a recipe that draws strands itself gives those that it has drawn as the key `reverse`, and one that
        moves windows gives the key `shift`, both as `Task.aligned` reads them. generator: on the samples' device while
        training, the source of all that is random; None at scoring and prediction, where nothing is random.
        """

    def auxiliary_heads(self, features: InputSpec) -> dict[str, AuxiliaryHead]:
        """The heads on the core's output that this recipe trains along, by name."""
        return {}

    # masks, of recipes that have them filled in

    def mask_of(self, samples: Samples, rows: Tensor, codes: Tensor, generator: torch.Generator | None) -> Tensor:
        """Which positions of some rows are masked: bool, as `codes`, (B, L). Drawn anew in training; at scoring as
        drawn once (`with_masks`), or else none."""
        if "mask" in samples.columns:
            return samples["mask"][rows]
        if generator is None or not self.mask_share:
            return torch.zeros_like(codes, dtype=torch.bool)
        return self.draw_mask(codes, generator)

    def draw_mask(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        """bool, as `codes`: a share `mask_share` of the positions that are not N."""
        drawn = torch.rand(codes.shape, generator=generator, device=codes.device) < self.mask_share
        return drawn & (codes != N)

    def with_masks(self, samples: Samples, seed: int) -> Samples:
        """Held-out samples with masks that are the same in every epoch and for every network."""
        generator = torch.Generator(samples.codes.device).manual_seed(seed)
        return samples.with_columns(mask=self.draw_mask(samples.codes, generator))

    # the order of an epoch, and what is never torn apart

    def steps(self, rows: Measurements | Samples, batch_size: int) -> int:
        """How many steps an epoch has."""
        return math.ceil(len(rows) * self.samples_per_sequence / batch_size)

    def epoch(self, samples: Samples, batch_size: int, generator: torch.Generator) -> Sequence[Tensor]:
        """The sample numbers of every step, int64 (about batch_size,) each, below len(samples) * samples_per_sequence.

        By default all samples in a random order, in equal parts, so that no epoch ends with a step of a few.
        """
        total = len(samples) * self.samples_per_sequence
        order = torch.randperm(total, generator=generator, device=generator.device)
        return order.tensor_split(self.steps(samples, batch_size))

    def cut(self, batch: Batch, parts: int) -> list[Batch]:
        """A batch in so many parts of whole units, as equal as these allow; none is empty."""
        units = -(-len(batch["x"]) // self.unit)
        parts = min(parts, units)
        cuts = [self.unit * (units * part // parts) for part in range(1, parts)]
        pieces = {key: value.tensor_split(cuts) for key, value in batch.items()}
        return [{key: pieces[key][part] for key in batch} for part in range(parts)]

    # what the framework calls

    def load(
        self,
        sequences: Sequences,
        device: torch.device,
        expression: np.ndarray | None = None,
        rows: np.ndarray | None = None,
        columns: Mapping[str, Any] = MappingProxyType({}),
        specs: Mapping[str, Spec] = MappingProxyType({}),
    ) -> Samples:
        """Moves sequences, and what was measured of them, to the device and does there what is done once.

        rows: int64 (m,), which of the sequences are taken; None is all. expression: (m,) or (m, tasks). columns: what
        parts ask for, of all rows: arrays (n, ...), row sources, which stay where they are, or further sequences, which
        become codes, uint8 (m, longest). specs: the columns of the training rows, as the network was built for them:
        further sequences are as wide, whatever the longest here, and cut off at the right. The host never holds
        all of them twice: millions may lie in a file that is mapped.
        """
        given = rows
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
        loaded: dict[str, Column] = {}
        for name, value in columns.items():
            loaded[name] = _column(name, value, device, given, specs.get(name))
        if expression is not None:
            loaded["expression"] = torch.from_numpy(np.asarray(expression, dtype=np.float32)).to(device)
            for name, values in self.derived(expression).items():
                loaded[name] = torch.from_numpy(values).to(device)
        return Samples(codes, lengths, loaded)

    def training_batch(
        self, samples: Samples, chosen: Tensor, task: Task, generator: torch.Generator, keys: Sequence[str] = ()
    ) -> Batch:
        """The batch of some training samples, with the task's targets.

        chosen: int64 (B,), sample numbers below len(samples) * samples_per_sequence. keys: columns that blocks ask for.
        """
        rows, reverse = chosen % len(samples), chosen >= len(samples)
        if self.samples_per_sequence < self.views:
            rows, reverse = rows.repeat(2), torch.cat([reverse, ~reverse])
        batch = self.encode(samples, rows, reverse, generator)
        reverse = batch.get("reverse", reverse)
        targets = task.aligned(task.targets(samples, rows, reverse), {**batch, "reverse": reverse})
        return {**batch, **{key: samples[key][rows] for key in keys}, **targets}

    def scoring_batches(self, samples: Samples, batch_size: int, keys: Sequence[str] = ()) -> Iterator[list[Batch]]:
        """All sequences in order, `batch_size` at a time: for each chunk one batch a view, whose predictions are
        combined. `reverse`, bool (B,), says which rows are fed as their reverse complement."""
        for chunk in torch.arange(len(samples), device=samples.codes.device).split(batch_size):
            views = []
            for view in range(self.views):
                reverse = torch.full_like(chunk, view, dtype=torch.bool)
                batch = self.encode(samples, chunk, reverse, None)
                views.append({**batch, **{key: samples[key][chunk] for key in keys}, "reverse": reverse})
            yield views


class GroupedRecipe(Recipe):
    """Base of recipes whose steps hold rows of one group, such as the people in whom a gene was measured (Drusinsky et
    al. 2026).

    group: the column of groups. Every epoch draws, of each group, whole steps of `batch_size` different rows, and then
    the order of all steps. `batch_size` is rounded down to whole units. A group of fewer rows has one step, of as many
    whole units as it fills; one that fills none, of all its rows.
    """

    group: str = "group"

    @property
    def orders_by(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.group,)

    def steps(self, rows: Measurements | Samples, batch_size: int) -> int:
        counts = np.unique(self._groups(rows), return_counts=True)[1]
        return int(np.maximum(counts // self._whole_units(batch_size), 1).sum())

    def _whole_units(self, rows: int) -> int:
        if rows < self.unit:
            raise InputError(
                f"training.batch_size={rows}: recipe {type(self).__name__} never tears {self.unit} rows apart; give at "
                "least as many"
            )
        return rows // self.unit * self.unit

    def epoch(self, samples: Samples, batch_size: int, generator: torch.Generator) -> Sequence[Tensor]:
        groups = torch.from_numpy(self._groups(samples)).to(generator.device)
        order = torch.randperm(len(samples), generator=generator, device=generator.device)
        order = order[groups[order].argsort(stable=True)]  # by group, and within it at random
        size = self._whole_units(batch_size)
        steps: list[Tensor] = []
        for rows in order.split(torch.unique(groups, return_counts=True)[1].tolist()):
            if len(rows) >= size:
                steps += rows[: len(rows) // size * size].split(size)
            else:
                steps.append(rows[: len(rows) // self.unit * self.unit or len(rows)])
        shuffled = torch.randperm(len(steps), generator=generator, device=generator.device).tolist()
        return [steps[number] for number in shuffled]

    def _groups(self, rows: Measurements | Samples) -> np.ndarray:
        """Each row's group as a number: int64 (n,)."""
        if self.group not in rows.columns:
            raise InputError(
                f"recipe {type(self).__name__} needs the column {self.group} of groups; the data have "
                f"{', '.join(rows.columns) or 'none'} (dataset.columns names further columns of a table)"
            )
        column = rows.columns[self.group]
        values = column.cpu().numpy() if isinstance(column, Tensor) else np.asarray(column)
        return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array))  # a copy: the array may be a read-only memory map


def _column(name: str, values: Any, device: torch.device, rows: np.ndarray | None, spec: Spec | None) -> Column:
    """A dataset's column on the device, or where it is if it is mapped."""
    if isinstance(values, Sequences):
        chosen = values if rows is None else values[rows]
        width = values.longest if spec is None else spec.shape[0]
        if chosen.longest > width:
            chosen = chosen.cut(np.zeros(len(chosen), dtype=np.int64), np.minimum(chosen.lengths, width))
        return _tensor(chosen.padded(width)).to(device)
    if is_source(values):
        return OnDisk(values if rows is None else values.take(rows), device)
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        array = _numbers_of(array, name, spec)
    return _as_given(_tensor(array if rows is None else array[rows]).to(device))


def _numbers_of(words: np.ndarray, name: str, spec: Spec | None) -> np.ndarray:
    """Words as the numbers of those of the training rows: int64 (n,). InputError for one that none of these has."""
    known = np.unique(words) if spec is None or not spec.names else np.array(spec.names)
    found = np.searchsorted(known, words).clip(max=len(known) - 1)
    if len(strange := np.flatnonzero(known[found] != words)):
        raise InputError(
            f"column {name} holds {printable(words[strange[0]])}, which no training row has: a part of the network "
            f"asks for it, and has learned only what the training rows hold ({len(known):,} different ones)"
        )
    return found


def _as_given(values: Tensor) -> Tensor:
    """A column as parts are given it: `Measurements.column_specs` says so, too."""
    if values.dtype == torch.bool:
        return values
    return values.float() if values.is_floating_point() else values.long()
