"""Sequences edited by gradient descent, with a price on every change (Ledidi: Schreiber and Lu 2020, bioRxiv
2020.05.21.109686).

1. Every free position has a logit a base, at first in favour of the base that stands in the start.
2. Each step draws some sequences of every design by Gumbel noise. They enter the model as whole letters; the gradient
   passes through the softmax behind them (straight through; Jang et al. 2017, arXiv:1611.01144).
3. The loss is minus what is to be large, in standard deviations over some random sequences, plus `PRICE` a change; Adam
   moves the logits.
4. What is drawn is a sequence with a prediction: the best one that keeps to the constraints is the design.

Deviations: the start's logit and the price are constants of ours; of more changes than are allowed, those stay that
the draw favours most; a position that is fixed is never drawn. A forward and backward pass counts as three calls, since
the latter costs about two of the former.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prixfixe.data.sequences import N
from prixfixe.inference.design import Search
from prixfixe.inference.mutagenesis import BASES
from prixfixe.inference.predictor import Predictor
from prixfixe.inference.tangermeme_model import TangermemeModel

DRAWN = 4  # sequences a design and step
COST = 3  # calls of a forward and backward pass
SAMPLE = 16  # random sequences a design, which say how far predictions are apart
AT_START = 4.0  # logit of the base that stands in the start, the others being 0
PRICE = 0.02  # of a changed letter, in standard deviations
RATE = 0.5  # of Adam
AT_ONCE = 64  # sequences in one backward pass


def gradient(search: Search, model: Predictor, task: int, better: Callable[[Any], Any]) -> None:
    """Spends a search's calls. InputError where a member's recipe does not encode letter by letter."""
    n, length = search.starts.shape
    device = model.device
    members = [TangermemeModel(member, length) for member in model.members]
    columns = [_columns(member, search) for member in model.members]
    for member in model.members:
        member.network.requires_grad_(False)
    generator = torch.Generator(device).manual_seed(int(search.rng.integers(1 << 31)))
    start = torch.from_numpy(search.starts.astype(np.int64)).to(device)
    free = torch.from_numpy(search.limits.free).to(device)
    logits = (AT_START * _one_hot(start)).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=RATE)
    search.evaluate(search.starts, np.arange(n))
    some = np.arange(n).repeat(SAMPLE)
    sample = search.evaluate(search.fresh(some), some)
    unit = float(sample[np.isfinite(sample)].std()) if np.isfinite(sample).any() else 0.0
    unit = unit or 1.0
    most = search.limits.most_changes
    kept_changes = int(free.sum()) if most is None else most
    owner = np.arange(n).repeat(DRAWN)

    for _ in range(int(search.left.min()) // (COST * DRAWN)):
        optimizer.zero_grad()
        values = []
        noise = -torch.empty((n, DRAWN, BASES, length), device=device).exponential_(generator=generator).log()
        drawn = logits[:, None] + noise
        letters = _within(drawn.detach(), start, free, kept_changes)  # (n, DRAWN, L)
        hard, soft = _one_hot(letters), drawn.softmax(dim=2)
        through = (hard - soft.detach() + soft).where(free, hard).flatten(0, 1)
        x = through.detach().requires_grad_()
        for rows in torch.arange(len(x), device=device).split(AT_ONCE):
            further = [[column[rows // DRAWN] for column in given] for given in columns]
            with torch.backends.cudnn.flags(enabled=False):  # whose LSTM has no gradient in eval mode
                each = [one(x[rows], *given)[:, task] for one, given in zip(members, further, strict=True)]
                score = better(torch.stack(each).mean(0))
                changes = (x[rows] - _one_hot(start)[rows // DRAWN]).abs().sum((1, 2)) / 2
                (-score / unit + PRICE * changes).sum().backward()
            values.append(score.detach().double().cpu().numpy())
        through.backward(x.grad)
        optimizer.step()
        codes = letters.flatten(0, 1).cpu().numpy().astype(np.uint8)
        codes[:, ~search.limits.free] = search.starts[owner][:, ~search.limits.free]
        scores = np.concatenate(values)
        scores[search.limits.violations(codes, search.origin[owner]) > 0] = -np.inf
        search.note(codes, owner, scores)
        search.left -= COST * DRAWN
        search.advance(COST * DRAWN * n)


def _one_hot(letters: Tensor) -> Tensor:
    """int64 (..., L) -> float (..., 4, L), N all zeros."""
    bases = torch.arange(BASES, device=letters.device)
    return (letters[..., None, :] == bases[:, None]).float()


def _within(drawn: Tensor, start: Tensor, free: Tensor, most: int) -> Tensor:
    """The letters of a draw, the start's where a position is fixed, and where more than `most` would change those that
    the draw favours least: int64 (n, DRAWN, L). drawn: (n, DRAWN, 4, L)."""
    known = start.clamp(max=N - 1)
    top, letters = drawn.max(dim=2)
    here = drawn.gather(2, known[:, None, None].expand(-1, drawn.shape[1], 1, -1))[:, :, 0]
    gain = (top - here).where(free, torch.zeros(()).to(top))
    least = gain.topk(min(most, gain.shape[-1]), dim=-1).values[..., -1:]
    return letters.where((gain > 0) & (gain >= least), start[:, None])


def _columns(member: Any, search: Search) -> list[Tensor]:
    """What a member needs beside the sequences, a row a design."""
    samples = member.samples(search.given.rows)
    return [samples[name][torch.arange(len(samples), device=member.device)] for name in member.needs]
