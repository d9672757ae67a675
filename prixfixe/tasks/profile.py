"""Counts at every position of a window, as ATAC-seq and ChIP-seq give them: their sum and their shape (Avsec et al.
2021; Pampari et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from prixfixe.common.errors import InputError
from prixfixe.contract import Batch, InputSpec, Prediction, Spec, TargetSpec
from prixfixe.data.columns import chunks
from prixfixe.data.sequences import Sequences
from prixfixe.tasks import metrics
from prixfixe.tasks.scores import PROFILE, Score
from prixfixe.tasks.task import Scores, Task

if TYPE_CHECKING:
    from prixfixe.data.measurements import Measurements
    from prixfixe.data.recipe import Samples

AT_ONCE = 1 << 22  # counts that are read at a time


class Profile(Task):
    """A column `profile`, counts (n, positions) of one track, that need not be in memory.

    A final block gives `profile`, logits (B, positions), and `log_counts`, (B,), of log(1 + total). The profile of a
    reverse complement is read backwards. Strands, and the networks of an ensemble, are averaged as probabilities of
    positions and as log counts. `prixfixe predict` writes the log counts.
    count_weight: of the squared error of log counts beside the multinomial loss of the profile; null is a tenth of the
    median total of the training rows, at least 1 (Pampari et al. 2023).
    """

    name = "profile"
    scores: ClassVar[tuple[Score, ...]] = PROFILE
    predicts = "log_counts"
    correlated = "count_pearson_r"
    columns = ("profile",)

    def __init__(self, *, select: str, count_weight: float | None) -> None:
        super().__init__(select=select)
        self.count_weight = count_weight

    def find(self, train: Measurements, rows: np.ndarray | None) -> TargetSpec:
        if "profile" not in train.columns:
            raise InputError(
                f"task profile needs a column profile; the data have {', '.join(train.columns) or 'none'}, and "
                "dataset.columns={profile: FILE.npy} names it"
            )
        column = train.columns["profile"]
        if isinstance(column, Sequences) or len(column.shape) != 2 or column.dtype.kind not in "iuf":
            raise InputError("task profile needs counts of shape (rows, positions) in the column profile")
        chosen = column if rows is None else train[rows].columns["profile"]
        return self._of_totals(checked_totals(chosen, "training row"), column.shape[1])

    def _of_totals(self, totals: np.ndarray, positions: int) -> TargetSpec:
        if not totals.any():
            raise InputError("every training profile is empty: there is nothing to learn")
        weight = max(1.0, float(np.median(totals)) / 10) if self.count_weight is None else self.count_weight
        logs = np.log1p(totals)
        constants = {"count_weight": weight, "positions": float(positions)}
        return TargetSpec(("profile",), (float(logs.mean()),), (float(logs.std()) or 1.0,), constants=constants)

    @property
    def positions(self) -> int:
        return int(self.spec.constants["positions"])

    @property
    def keys(self) -> Mapping[str, Spec]:
        return {"counts": Spec((self.positions,), torch.float32)}

    def outputs(self, inputs: InputSpec) -> Mapping[str, Spec]:
        return {"profile": Spec((self.positions,), torch.float32), "log_counts": Spec((), torch.float32)}

    def targets(self, samples: Samples, rows: Tensor, reverse: Tensor) -> Batch:
        counts = samples["profile"][rows].float()
        return {"counts": torch.where(reverse[:, None], counts.flip(-1), counts)}

    def combine(self, predictions: Sequence[Prediction], batches: Sequence[Batch]) -> dict[str, Tensor]:
        profiles, totals = [], []
        for prediction, batch in zip(predictions, batches, strict=True):
            log_probs = prediction["profile"].float().log_softmax(-1)
            profiles.append(torch.where(batch["reverse"][:, None], log_probs.flip(-1), log_probs))
            totals.append(prediction["log_counts"].float())
        mixture = torch.stack(profiles).logsumexp(0) - np.log(len(profiles))
        return {"profile": mixture, "log_counts": torch.stack(totals).mean(0)}

    def ensemble(self, members: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        profiles = np.stack([member["profile"] for member in members])
        mixture = np.logaddexp.reduce(profiles, axis=0) - np.log(len(members))
        return {"profile": mixture, "log_counts": np.mean([member["log_counts"] for member in members], axis=0)}

    def track(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The expected counts: the total that `log_counts` tells, shared out as the profile's probabilities."""
        return np.exp(outputs["profile"]) * np.expm1(outputs["log_counts"]).clip(min=0)[:, None]

    def check(self, held_out: Measurements) -> None:
        super().check(held_out)
        column = held_out.columns["profile"]
        if tuple(column.shape[1:]) != (self.positions,):
            raise InputError(
                f"the column profile of held-out rows has the shape {tuple(column.shape)}, and that of training rows "
                f"{self.positions} positions: both need as many"
            )
        checked_totals(column, "held-out row")

    def measured(self, held_out: Measurements) -> np.ndarray:
        """log(1 + total), (n,)."""
        profile = held_out.columns["profile"]
        return np.log1p(np.concatenate([counts.sum(axis=1, dtype=np.float64) for counts in chunks(profile, AT_ONCE)]))

    def score_kept(self, kept: Measurements, outputs: Mapping[str, np.ndarray]) -> Scores:
        """Those of the counts: profiles are too large to be kept."""
        predicted = outputs["log_counts"]
        r, rho = metrics.pearson_r(kept.expression, predicted), metrics.spearman_rho(kept.expression, predicted)
        return {"count_pearson_r": r, "count_spearman_rho": rho, "n": len(kept)}

    def score(self, held_out: Measurements, outputs: Mapping[str, np.ndarray]) -> Scores:
        """loss: the multinomial negative log-likelihood plus the weighted squared error of log counts, the mean over
        rows. profile_jsd: the median over rows that have a count of scipy's Jensen-Shannon distance, which has the
        root."""
        totals, losses, distances = [], [], []
        measured_chunks = chunks(held_out.columns["profile"], AT_ONCE)
        for counts, log_probs in zip(measured_chunks, chunks(outputs["profile"], AT_ONCE), strict=True):
            counts = counts.astype(np.float64)
            totals.append(counts.sum(axis=1))
            losses.append(multinomial_loss(counts, log_probs))
            distances.append(profile_distances(counts, log_probs))
        measured = np.log1p(np.concatenate(totals))
        predicted = np.asarray(outputs["log_counts"], dtype=np.float64)
        squared = np.square(measured - predicted)
        distance = np.concatenate(distances)
        return {
            "loss": float((np.concatenate(losses) + self.spec.constants["count_weight"] * squared).mean()),
            "count_pearson_r": metrics.pearson_r(measured, predicted),
            "count_spearman_rho": metrics.spearman_rho(measured, predicted),
            "profile_jsd": float(np.nanmedian(distance)) if np.isfinite(distance).any() else np.nan,
            "n": len(held_out),
        }


def checked_totals(column: Any, what: str) -> np.ndarray:
    """The sums of counts, (n, positions), of each row: float64 (n,). InputError for a row that holds no counts."""
    totals: list[np.ndarray] = []
    for number, counts in enumerate(chunks(column, AT_ONCE)):
        sums = counts.sum(axis=1, dtype=np.float64)
        bad = ~np.isfinite(sums) | (counts.min(axis=1) < 0)
        if bad.any():
            row = number * len(totals[0] if totals else counts) + int(np.argmax(bad)) + 1
            raise InputError(f"the profile of {what} {row} holds a value below 0, or that is no finite number")
        totals.append(sums)
    return np.concatenate(totals)


def multinomial_loss(counts: np.ndarray, log_probs: np.ndarray) -> np.ndarray:
    """The negative log-likelihood of counts, (n, positions), under a multinomial: (n,), with the factorials."""
    from scipy.special import gammaln

    ways = gammaln(counts.sum(axis=1) + 1) - gammaln(counts + 1).sum(axis=1)
    terms = np.multiply(counts, log_probs, where=counts > 0, out=np.zeros_like(counts)).sum(axis=1)
    return np.asarray(-ways - terms)


def profile_distances(counts: np.ndarray, log_probs: np.ndarray) -> np.ndarray:
    """scipy's Jensen-Shannon distance of a row's counts and its predicted profile: (n,), NaN where there is no
    count."""
    from scipy.spatial.distance import jensenshannon

    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(jensenshannon(counts, np.exp(log_probs), axis=1))
