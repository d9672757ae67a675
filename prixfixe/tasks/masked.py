"""A language model of sequences: masked positions are named from what stands around them (Devlin et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from prixfixe.contract import Batch, InputSpec, Prediction, Spec, TargetSpec
from prixfixe.tasks.scores import MASKED, Score
from prixfixe.tasks.task import Scores, Task

if TYPE_CHECKING:
    from prixfixe.data.measurements import Measurements
    from prixfixe.data.recipe import Recipe, Samples

COUNTED = ("negative_log_likelihood", "correct", "tokens", "nucleotides")


class Masked(Task):
    """Mask filling alone: there is no measurement.

    The recipe masks (`mask_share`) and gives `tokens`, what stands at every position, and `mask`. A final block gives
    `logits`, (B, tokens, L), of the recipe's symbols at the recipe's positions. Held-out rows are masked once, from
    `seed`, so that every epoch and every network fills in the same.
    """

    name = "masked"
    scores: ClassVar[tuple[Score, ...]] = MASKED
    likelihood = ("negative_log_likelihood", "tokens")
    needs = ("tokens", "mask")
    with_auxiliary = False  # filling masks in is the task
    keys: Mapping[str, Spec] = {}

    def __init__(self, *, select: str, seed: int) -> None:
        super().__init__(select=select)
        self.seed = seed

    def find(self, train: Measurements, rows: np.ndarray | None) -> TargetSpec:
        return TargetSpec(("masked",))

    def outputs(self, inputs: InputSpec) -> Mapping[str, Spec]:
        return {"logits": Spec((inputs.tokens, inputs.length), torch.float32)}

    def targets(self, samples: Samples, rows: Tensor, reverse: Tensor) -> Batch:
        return {}

    def hold_out(self, recipe: Recipe, samples: Samples) -> Samples:
        return recipe.with_masks(samples, self.seed)

    def combine(self, predictions: Sequence[Prediction], batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Sums over a row's masked positions in all of its views: (B,) each of COUNTED."""
        totals: dict[str, Tensor] = {}
        for prediction, batch in zip(predictions, batches, strict=True):
            for name, value in counted_over_masks(prediction["logits"], batch).items():
                totals[name] = totals.get(name, 0) + value
        return totals

    def score(self, held_out: Measurements, outputs: Mapping[str, np.ndarray]) -> Scores:
        """cross_entropy: in nats a masked token; perplexity: its exponential; accuracy: the share of masked tokens that
        are named right. nucleotide_cross_entropy: a masked nucleotide, which alone compares vocabularies."""
        sums = {name: float(outputs[name].sum()) for name in COUNTED}
        tokens, nucleotides = sums["tokens"], sums["nucleotides"]
        loss = sums["negative_log_likelihood"]
        entropy = loss / tokens if tokens else np.nan
        return {
            "cross_entropy": entropy,
            "accuracy": sums["correct"] / tokens if tokens else np.nan,
            "perplexity": float(np.exp(entropy)),
            "nucleotide_cross_entropy": loss / nucleotides if nucleotides else np.nan,
            "n": int(tokens),
        }


def counted_over_masks(logits: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Of each row, (B,): the summed negative log-likelihood of its masked tokens, how many of them are named right, how
    many there are, and how many nucleotides they stand for.

    logits: (B, tokens, L). batch: `tokens`, int (B, L), and `mask`, bool (B, L); `token_lengths`, (B, L), where a
    recipe's tokens are not all one nucleotide.
    """
    mask = batch["mask"]
    tokens = batch["tokens"].long().masked_fill(~mask, 0)  # where nothing is masked a token may be none that is named
    log_probs = logits.double().log_softmax(dim=1)
    of_token = log_probs.gather(1, tokens[:, None]).squeeze(1)
    lengths = batch.get("token_lengths", torch.ones_like(tokens))
    return {
        "negative_log_likelihood": -of_token.masked_fill(~mask, 0).sum(1),
        "correct": ((logits.argmax(1) == tokens) & mask).sum(1).double(),
        "tokens": mask.sum(1).double(),
        "nucleotides": lengths.masked_fill(~mask, 0).sum(1).double(),
    }
