"""The heads of BPNet (Avsec et al. 2021) and, beside a bias model, of ChromBPNet (Pampari et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from prixfixe.contract import (
    Batch,
    ContractError,
    Conv1d,
    Count,
    FinalBlock,
    InputError,
    InputSpec,
    Prediction,
    TargetSpec,
)

QUANTILES = (0.0001, 0.9999)  # of all totals, between which those lie that the bias model's offset is fitted on
LEAST_R = -0.5  # of a bias model's counts in peaks
FEWEST_PEAKS = 20  # of which a correlation says something


class ProfileCounts(FinalBlock):
    """(B, C, L) -> profile, logits (B, positions), and log_counts, (B,), of log(1 + total).

    1. profile: one convolution without padding, cropped at both ends to `positions` of the task. (Its bias, which is
       counted among the published parameters, changes no probability.)
    2. log_counts: the mean over all L positions, one dense unit.
    3. With a bias model (`bias`, a network of another run, which is frozen): logits are added, and log counts are those
       of the sum, log(exp(own) + exp(bias + offset)). What is its own stands in `profile_without_bias` and
       `log_counts_without_bias`.
    Loss: the negative log-likelihood of the counts under a multinomial, its factorials included, plus the task's
    `count_weight` times the squared error of log(1 + total); the mean over rows.

    The offset is found before training, on the training and validation rows that are no peaks (column `is_peak`) and
    whose total lies between two quantiles of all totals: the mean of log(1 + total) less what the bias model predicts.
    A bias model is refused that has learned what makes peaks (its counts fall where those of peaks rise), or whose
    profile tells of the cuts in non-peaks no more than a flat one.

    Weights start as Keras has them: Glorot uniform, biases 0.
    """

    offset: Tensor

    def __init__(self, inputs: InputSpec, targets: TargetSpec, *, kernel_size: Count, bias: nn.Module | None) -> None:
        super().__init__()
        self.positions = int(targets.constants["positions"])
        self.count_weight = targets.constants["count_weight"]
        self.crop = (inputs.length - kernel_size + 1 - self.positions) // 2
        if kernel_size % 2 == 0:
            raise ValueError("kernel_size must be odd, so that both ends are cropped alike")
        if self.crop < 0 or (inputs.length - self.positions) % 2:
            left = max(inputs.length - kernel_size + 1, 0)
            raise ContractError(
                f"final block ProfileCounts gives {self.positions} positions (task.positions), in the middle of the "
                f"{left} that its kernel of {kernel_size} leaves of the core's {inputs.length}: they must be as many, "
                "or an even number fewer"
            )
        self.profile = Conv1d(inputs.channels, 1, kernel_size)
        self.counts = nn.Linear(inputs.channels, 1)
        for layer in (self.profile, self.counts):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        if not isinstance(bias, nn.Module | None):
            raise InputError(f"final.bias={bias}: the run of a bias model is final.bias.train.weights=RUN")
        self.bias = bias
        if bias is not None:
            taken: dict[str, Any] = getattr(bias, "takes", {})
            if further := sorted({key for keys in taken.values() for key in keys} - {"x"}):
                raise ValueError(f"its bias model takes {', '.join(further)}; a bias model takes x alone")
            self.register_buffer("offset", torch.zeros(()))

    @property
    def requires(self) -> tuple[str, ...]:  # type: ignore[override]
        return () if self.bias is None else ("x", "is_peak")

    def forward(self, features: Tensor, x: Tensor | None = None) -> Prediction:
        profile = self.profile(features).squeeze(1)[:, self.crop : self.crop + self.positions]
        log_counts = self.counts(features.mean(dim=2)).squeeze(1)
        if self.bias is None:
            return Prediction(profile=profile, log_counts=log_counts)
        bias = self.bias({"x": x})
        return Prediction(
            profile=profile + bias["profile"],
            log_counts=torch.logaddexp(log_counts, bias["log_counts"] + self.offset),
            profile_without_bias=profile,
            log_counts_without_bias=log_counts,
        )

    def size(self, batch: Batch) -> int:
        return len(batch["counts"])

    def loss(self, prediction: Prediction, batch: Batch) -> Tensor:
        counts = batch["counts"].to(prediction["profile"].dtype)
        total = counts.sum(dim=1)
        ways = torch.lgamma(total + 1) - torch.lgamma(counts + 1).sum(dim=1)
        likelihood = ways + (counts * prediction["profile"].log_softmax(-1)).sum(dim=1)
        squared = (prediction["log_counts"] - total.log1p()).square()
        return (self.count_weight * squared - likelihood).mean()

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Judges the bias model, and finds its offset. InputError where it is of no use, or no row is no peak."""
        if self.bias is None:
            return
        found: dict[str, list[Tensor]] = {"is_peak": [], "total": [], "predicted": [], "gain": []}
        flat = -math.log(self.positions)
        for batch in batches:
            counts, bias = batch["counts"].double(), self.bias(batch)
            found["is_peak"].append(batch["is_peak"] > 0)
            found["total"].append(counts.sum(dim=1))
            found["predicted"].append(bias["log_counts"].double())
            found["gain"].append((counts * (bias["profile"].double().log_softmax(-1) - flat)).sum(dim=1))  # in nats
        is_peak, total, predicted, gain = (torch.cat(parts).cpu() for parts in found.values())
        difference = total.log1p() - predicted
        low, high = torch.quantile(total, total.new_tensor(QUANTILES)).tolist()
        fitted = ~is_peak & (total > low) & (total < high)
        if not fitted.any():
            raise InputError(
                f"final.bias: of the {len(total):,} training and validation rows {int((~is_peak).sum()):,} are no "
                f"peaks (column is_peak), and none of these has between {low:g} and {high:g} counts: a bias model is "
                "brought to the depth of these data on such rows"
            )
        peaks = int(is_peak.sum())
        if peaks >= FEWEST_PEAKS and (r := pearson_r(predicted[is_peak], total[is_peak].log1p())) < LEAST_R:
            raise InputError(
                f"final.bias: where it predicts more counts, peaks have fewer (Pearson r {r:.2f} in {peaks:,} peaks, "
                f"the least that is taken is {LEAST_R}): it has learned more than the enzyme's bias; train it on "
                "non-peaks with fewer counts"
            )
        nats = float(gain[~is_peak].sum() / total[~is_peak].sum())
        if not nats > 0:
            raise InputError(
                f"final.bias: its profile tells of a cut in non-peaks {nats:.2g} nats more than a flat one does, which "
                "is nothing: train it longer, or on more of them"
            )
        self.offset.fill_(difference[fitted].mean())


def pearson_r(a: Tensor, b: Tensor) -> float:
    """(n,), (n,) -> their correlation; NaN where one of them is constant."""
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])
