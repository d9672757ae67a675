"""How much each base of a sequence adds to its prediction, by four methods.

An attribution is that of the base that stands at a position, in the sequence as given, in the measurement's own units.

- mutagenesis: the prediction of the sequence less the mean over all four bases at that position. For every network.
- gradient: gradient times input, less the mean of the gradient over the four bases, since a base never comes alone but
  in the place of another (Majdandzic et al. 2023).
- integrated: integrated gradients (Sundararajan et al. 2017) from the baseline of 1/4 of each base; positions of N stay
  N. Their sum is the difference of the two predictions.
- deeplift: DeepLIFT/SHAP from dinucleotide-shuffled references (`prixfixe.inference.deeplift`). Their sum is the
  prediction less the mean prediction of the references.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from prixfixe.common.errors import InputError
from prixfixe.common.memory import halved
from prixfixe.common.text import printable
from prixfixe.data.measurements import Measurements
from prixfixe.data.sequences import N
from prixfixe.inference.model import Model
from prixfixe.inference.mutagenesis import BASES, LETTERS, mutate_rows
from prixfixe.inference.predictor import Predictor, checked_batch_size
from prixfixe.inference.tangermeme_model import TangermemeModel, one_hot_letters

if TYPE_CHECKING:
    import pandas as pd

METHODS = ("mutagenesis", "gradient", "integrated", "deeplift")
TOLERANCE = 0.01  # of the sum of absolute attributions: how far their sum may be from the difference of predictions
FEWEST_STEPS, MOST_STEPS = 16, 1024  # of the path of integrated gradients: doubled until the sums agree
Method = Callable[[TangermemeModel, Tensor, Sequence[Tensor], int, int], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Attribution:
    """letters: uint8 (L,), the sequence's codes. prediction: (tasks,).

    values: float64 (L, 4, tasks), what each base A C G T would add if it stood there (hypothetical
    contributions); NaN where N stands. error: (tasks,), how far the sum of the attributions is from the difference of
    predictions, in the measurement's own units; None of methods that promise no sum.
    """

    letters: np.ndarray
    prediction: np.ndarray
    values: np.ndarray
    error: np.ndarray | None = None

    def attribution(self) -> np.ndarray:
        """Of the base that stands there: (L, tasks); 0 where N does."""
        known = self.letters < N
        found = np.zeros((len(self.letters), self.values.shape[2]))
        found[known] = self.values[np.flatnonzero(known), self.letters[known]]
        return found

    def arrays(self) -> dict[str, np.ndarray]:
        """attributions (of every base), prediction, and error where sums are promised."""
        found = {"attributions": self.values, "prediction": self.prediction}
        return found if self.error is None else {**found, "error": self.error}

    def table(self, tasks: Sequence[str]) -> dict[str, Any]:
        """One row a position and task, none where N stands: position, base, task (of several), attribution, and where
        sums are promised error, that of the sequence."""
        position = np.flatnonzero(self.letters < N)
        columns: dict[str, Any] = {"position": position.repeat(len(tasks))}
        columns["base"] = LETTERS[self.letters[position]].repeat(len(tasks))
        if len(tasks) > 1:
            columns["task"] = np.tile(np.array(tasks, dtype=object), len(position))
        columns["attribution"] = self.attribution()[position].reshape(-1)
        if self.error is not None:
            columns["error"] = np.tile(self.error, len(position))
        return columns


def attribute_rows(
    model: Predictor,
    chunks: Iterable[Measurements],
    *,
    method: str = METHODS[0],
    seed: int = 0,
    batch_size: int | None = None,
) -> Iterator[Attribution]:
    """The attribution of one sequence after the other; of an ensemble the mean over its members. seed: of DeepLIFT's
    references.

    Raises InputError where a network has no gradient with respect to letters, where DeepLIFT lacks a rule, and where a
    sum is further from the difference of predictions than TOLERANCE.
    """
    if method not in METHODS:
        raise InputError(f"method {printable(method)}: choose one of {', '.join(METHODS)}")
    checked_batch_size(batch_size)
    if method == "mutagenesis":
        for one in mutate_rows(model, chunks, batch_size=batch_size):
            values = one.effects - one.effects.mean(axis=1, keepdims=True)
            yield Attribution(one.letters, one.reference, values)
        return
    for chunk in chunks:
        members = [_of_member(member, chunk, method, seed, batch_size) for member in model.members]
        for each in zip(*members, strict=True):
            errors = [one.error for one in each if one.error is not None]
            yield Attribution(
                each[0].letters,
                np.mean([one.prediction for one in each], axis=0),
                np.mean([one.values for one in each], axis=0),
                np.mean(errors, axis=0) if errors else None,
            )


def _of_member(model: Model, chunk: Measurements, method: str, seed: int, batch_size: int | None) -> list[Attribution]:
    """In the order of the rows; those of one length are computed together."""
    found: list[Any] = [None] * len(chunk)
    lengths = np.asarray(chunk.sequences.lengths)
    samples, compute = model.samples(chunk), _METHODS[method]
    for length in np.unique(lengths).tolist():
        adapter = TangermemeModel(model, length).eval()
        if method == "deeplift":
            from prixfixe.inference.deeplift import check_rules

            check_rules(adapter, model.name)
        rows, done, size = np.flatnonzero(lengths == length), 0, batch_size or model.at_once.size
        while done < len(rows):
            some = rows[done : done + size]
            x = one_hot_letters(chunk.sequences, some, model.device)
            chosen = torch.from_numpy(some).to(model.device)
            columns = [samples[name][chosen] for name in model.needs]
            try:
                results = _computed(adapter, compute, x, columns, seed)
            except RuntimeError as error:
                size = halved(len(some), error) or 0
                if not size:
                    raise InputError("out of memory with one sequence at a time: use another device") from error
                continue
            for place, row in enumerate(some.tolist()):
                found[row] = _result(np.array(chunk.sequences[row : row + 1].letters), *(one[place] for one in results))
            done += len(some)
    if method != "gradient":
        _check_sums(found, model, chunk)
    return found


def _computed(
    adapter: TangermemeModel,
    compute: Method,
    x: Tensor,
    columns: Sequence[Tensor],
    seed: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """predictions (B, tasks), values (B, tasks, 4, L), errors (B, tasks)."""
    with _differentiable(adapter.network):
        with torch.no_grad():
            predictions = adapter(x, *columns)
        each = [compute(adapter, x, columns, task, seed) for task in range(predictions.shape[1])]
    values = torch.stack([value for value, _ in each], dim=1).double()
    errors = torch.stack([error for _, error in each], dim=1).double()
    return predictions.double().cpu().numpy(), values.cpu().numpy(), errors.cpu().numpy()


def _result(letters: np.ndarray, prediction: np.ndarray, values: np.ndarray, error: np.ndarray) -> Attribution:
    """values: (tasks, 4, L). error: NaN of a method that promises no sum."""
    ordered = values.transpose(2, 1, 0).copy()
    ordered[letters == N] = np.nan
    return Attribution(letters, prediction, ordered, None if np.isnan(error).any() else error)


def _check_sums(found: Sequence[Attribution], model: Model, chunk: Measurements) -> None:
    """InputError for the row whose sum is furthest from what it should be, where that is beyond TOLERANCE."""
    worst, where, allowed = 0.0, 0, 0.0
    for row, one in enumerate(found):
        assert one.error is not None
        bound = TOLERANCE * np.abs(one.attribution()).sum(axis=0) + 1e-5 * (1 + np.abs(one.prediction))
        share = float((one.error / bound).max())
        if not share <= max(worst, 1.0):
            worst, where, allowed = share, row, float(bound[(one.error / bound).argmax()])
    if worst:
        sequence = printable(chunk.sequences[where : where + 1].to_strings()[0], 60)
        raise InputError(
            f"{model.name}: the attributions of {sequence} add up to something else than the difference of its "
            f"predictions, by {worst * allowed:.3g} where {allowed:.3g} is allowed: use --method mutagenesis"
        )


@contextmanager
def _differentiable(network: nn.Module) -> Iterator[None]:
    """On a GPU cuDNN has no gradients of a recurrent layer in eval mode; torch's own has."""
    recurrent = any(isinstance(module, nn.RNNBase) for module in network.modules())
    with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled and not recurrent):
        yield


def _slope(adapter: TangermemeModel, x: Tensor, columns: Sequence[Tensor], task: int) -> Tensor:
    """The gradient of a prediction with respect to x, (B, 4, L), less its mean over the four bases."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(adapter(x, *columns)[:, task].sum(), x)
    return gradient - gradient.mean(dim=1, keepdim=True)


def _gradient(
    adapter: TangermemeModel,
    x: Tensor,
    columns: Sequence[Tensor],
    task: int,
    seed: int,
) -> tuple[Tensor, Tensor]:
    return _slope(adapter, x, columns, task), x.new_full((len(x),), torch.nan)


def _integrated(
    adapter: TangermemeModel,
    x: Tensor,
    columns: Sequence[Tensor],
    task: int,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre quadrature. As the baseline is 1/4 of each base, what a base adds is the mean gradient along the
    path less its mean over the bases."""
    baseline = x.sum(dim=1, keepdim=True).expand_as(x) / BASES
    with torch.no_grad():
        difference = (adapter(x, *columns) - adapter(baseline, *columns))[:, task]
    values, errors = torch.zeros_like(x), torch.zeros_like(difference)
    rows, steps = torch.arange(len(x), device=x.device), FEWEST_STEPS
    while len(rows):
        start, end, own = baseline[rows], x[rows], [column[rows] for column in columns]
        total = torch.zeros_like(end)
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        for node, weight in zip(((nodes + 1) / 2).tolist(), (weights / 2).tolist(), strict=True):
            total += weight * _slope(adapter, start + node * (end - start), own, task)
        attributed = (total * end).sum(dim=1)
        values[rows], errors[rows] = total, (attributed.sum(dim=1) - difference[rows]).abs()
        rows = rows[errors[rows] > TOLERANCE * attributed.abs().sum(dim=1)]
        steps *= 2
        if steps > MOST_STEPS:
            break
    return values, errors


def _deeplift(
    adapter: TangermemeModel,
    x: Tensor,
    columns: Sequence[Tensor],
    task: int,
    seed: int,
) -> tuple[Tensor, Tensor]:
    from prixfixe.inference.deeplift import deeplift

    if not bool((x.sum(dim=1) == 1).all()):
        raise InputError(
            "DeepLIFT's references are shuffled sequences, and one of these holds N: use --method integrated"
        )
    return deeplift(adapter, x, columns, task, seed)


_METHODS: dict[str, Method] = {"gradient": _gradient, "integrated": _integrated, "deeplift": _deeplift}


def attributions(
    model: Predictor, sequences: Sequence[str], method: str, columns: Any, seed: int, batch_size: int | None
) -> Iterator[Attribution]:
    """One `Attribution` a sequence, of strings."""
    rows = model.rows_of(sequences, columns)
    model.warn_of_longer(rows.sequences)
    return attribute_rows(model, [rows], method=method, seed=seed, batch_size=batch_size)


def attribute(
    model: Predictor, sequences: Sequence[str], method: str, columns: Any, seed: int, batch_size: int | None
) -> pd.DataFrame:
    """The long table of `Predictor.attribute`."""
    import pandas as pd

    tables = []
    for row, one in enumerate(attributions(model, sequences, method, columns, seed, batch_size)):
        tables.append(pd.DataFrame({"name": str(row), **one.table(model.tasks)}))
    if tables:
        return pd.concat(tables, ignore_index=True)
    empty = Attribution(np.empty(0, np.uint8), np.empty(0), np.zeros((0, BASES, len(model.tasks))))
    return pd.DataFrame({"name": [], **empty.table(model.tasks)})
