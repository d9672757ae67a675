"""A trained run as tangermeme and other libraries take a model: one-hot letters in, numbers out, differentiable."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from prixfixe.common.errors import InputError
from prixfixe.contract import Prediction
from prixfixe.data.flanks import add_flanks
from prixfixe.data.recipe import Samples
from prixfixe.data.sequences import N, Sequences
from prixfixe.inference.model import Model

BASES = 4


class TangermemeModel(nn.Module):
    """x (B, 4, length), one-hot A C G T, N all zeros -> (B, tasks), in the measurement's own units, as `Model.predict`.

    1. Every position of the recipe's input is fed by one position of the sequence as given, by none (constant ends,
       padding, flags), or, where the recipe extends or joins both strands, each in its own way. Which, and what each
       base puts there, is found once by encoding probe sequences of that length: no recipe is known by name.
    2. The input is then what the recipe makes of N everywhere, plus what the letters change: linear in x, so that
       gradients with respect to the sequence as given flow through windows, padding and both strands.
    3. All strands enter the network in one batch, a sequence's side by side, and the task combines them.

    x need not be one-hot: what lies between letters is encoded between them.
    columns: `Model.needs` in order, further arguments of `forward`, (B, ...) each.
    Raises InputError where the recipe gives tokens, or encodes letters together, such as k-mers.
    """

    def __init__(self, model: Model, length: int) -> None:
        super().__init__()
        if not model.recipe.inputs.channels:
            raise InputError(
                f"{model.name} takes tokens, which have no gradient with respect to letters: use mutagenesis"
            )
        self.network, self.recipe, self.task, self.length = model.network, model.recipe, model.task, length
        self.predicted, self.names = model.predicted, model.needs
        specs = model.task.spec.columns
        self.dtypes = [specs[name].dtype for name in model.needs]
        probes = _probes(length)
        samples = model.recipe.load(
            add_flanks(Sequences.from_padded(probes, np.full(len(probes), length)), *model.flanks), model.device
        )
        zeros = {
            name: torch.zeros((len(probes), *specs[name].shape), dtype=specs[name].dtype, device=model.device)
            for name in model.needs
        }
        views = next(model.recipe.scoring_batches(samples.with_columns(**zeros), len(probes), self.network.columns))
        self.unknown = samples[:1]
        encodings = [_Encoding.found(view["x"], probes, model.name) for view in views]
        self.sources, self.changes = [one.source for one in encodings], [one.change for one in encodings]

    def forward(self, x: Tensor, *columns: Tensor) -> Tensor:
        views = self.inputs(x, *columns)
        together = {}
        for key in views[0]:  # a sequence's strands side by side: the first half of the rows stays the first half
            together[key] = torch.stack([view[key] for view in views], dim=1).flatten(0, 1)
        outputs = self.network.forward(together).outputs
        each = [
            _prediction({name: one[view :: len(views)] for name, one in outputs.items()}) for view in range(len(views))
        ]
        return self.task.combine(each, views)[self.predicted].reshape(len(x), -1)

    def inputs(self, x: Tensor, *columns: Tensor) -> list[dict[str, Tensor]]:
        """The batches of each strand, or of both in one, with `x` (B, C, L) of x's kind of number."""
        given = zip(self.names, columns, self.dtypes, strict=True)
        unknown = Samples(
            self.unknown.codes.expand(len(x), -1),
            self.unknown.lengths.expand(len(x)),
            {name: value.to(dtype) for name, value, dtype in given},
        )
        padded = nn.functional.pad(x, (0, 1))  # where no position feeds
        views = next(self.recipe.scoring_batches(unknown, len(x), self.network.columns))
        for view, source, change in zip(views, self.sources, self.changes, strict=True):
            letters = padded.index_select(2, source)
            view["x"] = view["x"].to(x.dtype) + torch.einsum("nbp,bcp->ncp", letters, change.to(x.dtype))
        return views


def _prediction(outputs: dict[str, Tensor]) -> Prediction:
    prediction = Prediction()
    prediction.outputs = outputs
    return prediction


class _Encoding:
    """How letters become one view's input. source: int64 (P,), which position of the sequence as given feeds each of
    the input's, `length` where none does. change: (4, C, P), what each base puts there, less what N does."""

    def __init__(self, source: Tensor, change: Tensor) -> None:
        self.source, self.change = source, change

    @classmethod
    def found(cls, x: Tensor, probes: np.ndarray, name: str) -> _Encoding:
        """x: the input of the probes, (n, C, P)."""
        length = probes.shape[1]
        nothing, bases, test, digits = x[:1], x[1 : 1 + BASES], x[1 + BASES], x[2 + BASES :]
        fed = (bases != bases[:1]).any(dim=0).any(dim=0)  # (P,)
        same = (digits[:, None] == bases[None]).all(dim=2)  # (digits, 4, P)
        weights = BASES ** torch.arange(len(digits), device=x.device)
        source = (same.int().argmax(dim=1) * weights[:, None]).sum(dim=0)
        source = torch.where(fed, source.clamp(max=length), length)
        change = torch.where(fed, bases - nothing, 0.0)
        letters = torch.zeros((BASES, length + 1), device=x.device)
        letters[torch.from_numpy(probes[1 + BASES]).long().to(x.device), torch.arange(length, device=x.device)] = 1
        if not torch.equal(nothing[0] + torch.einsum("bp,bcp->cp", letters[:, source], change), test):
            raise InputError(
                f"{name}: its recipe does not encode letter by letter, so that there is no gradient with respect to "
                "them: use mutagenesis"
            )
        return cls(source, change)


def _probes(length: int) -> np.ndarray:
    """Sequences that show where each position goes: uint8 (n, length). N alone; A, C, G and T alone; a random one, to
    test what was found; and each position's number in base 4, a sequence a digit, the lowest first."""
    digits = max(1, math.ceil(math.log(length, BASES) + 1e-9))
    position = np.arange(length)
    rows = [np.full(length, letter) for letter in (N, *range(BASES))]
    rows.append(np.random.default_rng(0).integers(BASES, size=length))
    rows += [position // BASES**digit % BASES for digit in range(digits)]
    return np.stack(rows).astype(np.uint8)


def one_hot_letters(sequences: Sequences, rows: Sequence[int] | np.ndarray, device: torch.device) -> Tensor:
    """Some sequences of one length as (B, 4, L), N all zeros."""
    codes = torch.from_numpy(np.asarray(sequences[np.asarray(rows)].padded())).to(device)
    return (codes[:, None] == torch.arange(BASES, device=device, dtype=torch.uint8)[:, None]).float()
