"""Counts at every position of a window, as ATAC-seq and ChIP-seq give them: their sum and their shape (Avsec et al.
2021; Pampari et al. 2023)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from prixfixe.common.errors import InputError
from prixfixe.contract import Batch, Count, InputSpec, Prediction, Spec, TargetSpec
from prixfixe.data.columns import chunks
from prixfixe.data.sequences import Sequences
from prixfixe.tasks import metrics
from prixfixe.tasks.scores import PROFILE, Score
from prixfixe.tasks.task import Scores, Task

if TYPE_CHECKING:
    from prixfixe.data.measurements import Measurements
    from prixfixe.data.recipe import Samples

AT_ONCE = 1 << 22  # counts that are read at a time
WITHOUT_BIAS = "_without_bias"  # behind the name of an output: the same without what a bias model adds


class Profile(Task):
    """A column `profile`, counts (n, positions) of one track, that need not be in memory.

    A final block gives `profile`, logits (B, positions), and `log_counts`, (B,), of log(1 + total). The profile of a
    reverse complement is read backwards. Strands, and the networks of an ensemble, are averaged as probabilities of
    positions and as log counts. `prixfixe predict` writes the log counts.
    A network with a bias model also gives `profile_without_bias` and `log_counts_without_bias`. What was measured is
    compared with the outputs that have the bias; those without it are what the network is used for.
    positions: of a profile, in the middle of a wider column, whose margins are there for windows that move; null is
    the whole column.
    count_weight: of the squared error of log counts beside the multinomial loss of the profile; null is a tenth of the
    median total of the training rows, at least 1 (Pampari et al. 2023).
    """

    name = "profile"
    scores: ClassVar[tuple[Score, ...]] = PROFILE
    predicts = "log_counts"
    correlated = "count_pearson_r"
    columns = ("profile",)

    def __init__(self, *, select: str, count_weight: float | None, positions: Count | None = None) -> None:
        super().__init__(select=select)
        self.count_weight, self.wanted_positions = count_weight, positions

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
        width, positions = column.shape[1], self.wanted_positions or column.shape[1]
        if positions > width or (width - positions) % 2:
            raise InputError(
                f"task.positions={positions}: the column profile has {width} positions, of which as many must lie on "
                "either side"
            )
        return self._of_totals(checked_totals(chosen, "training row", positions), positions, width)

    def _of_totals(self, totals: np.ndarray, positions: int, width: int) -> TargetSpec:
        if not totals.any():
            raise InputError("every training profile is empty: there is nothing to learn")
        weight = max(1.0, float(np.median(totals)) / 10) if self.count_weight is None else self.count_weight
        logs = np.log1p(totals)
        constants = {"count_weight": weight, "positions": float(positions), "width": float(width)}
        return TargetSpec(("profile",), (float(logs.mean()),), (float(logs.std()) or 1.0,), constants=constants)

    @property
    def positions(self) -> int:
        return int(self.spec.constants["positions"])

    @property
    def width(self) -> int:
        """Positions of the column profile."""
        return int(self.spec.constants.get("width", self.positions))  # which runs of before have not

    @property
    def margin(self) -> int:
        return (self.width - self.positions) // 2

    @property
    def keys(self) -> Mapping[str, Spec]:
        return {"counts": Spec((self.positions,), torch.float32, 0)}

    def outputs(self, inputs: InputSpec) -> Mapping[str, Spec]:
        return {"profile": Spec((self.positions,), torch.float32), "log_counts": Spec((), torch.float32)}

    def optional_outputs(self, inputs: InputSpec) -> Mapping[str, Spec]:
        return {f"{name}{WITHOUT_BIAS}": spec for name, spec in self.outputs(inputs).items()}

    def used(self, outputs: Collection[str]) -> str:
        return without_bias("log_counts", outputs)

    def used_in_words(self, outputs: Collection[str]) -> str:
        if self.used(outputs) == self.predicts:
            return ""
        return "without the bias model: log counts of the sequence alone, not what an assay would measure"

    def targets(self, samples: Samples, rows: Tensor, reverse: Tensor) -> Batch:
        counts = samples["profile"][rows].float()
        return {"counts": torch.where(reverse[:, None], counts.flip(-1), counts)}

    def aligned(self, targets: Batch, batch: Batch) -> Batch:
        """The `positions` of a window that was moved: `counts`, (B, width) -> (B, positions)."""
        counts = targets["counts"]
        if counts.shape[1] == self.positions:
            return targets
        shift = batch.get("shift", torch.zeros(len(counts), dtype=torch.int64, device=counts.device))
        start = self.margin + torch.where(batch["reverse"], -shift, shift)
        index = start[:, None] + torch.arange(self.positions, device=counts.device)
        return {**targets, "counts": counts.gather(1, index)}

    def combine(self, predictions: Sequence[Prediction], batches: Sequence[Batch]) -> dict[str, Tensor]:
        combined = {}
        for end in ends(predictions[0].outputs):
            profiles, totals = [], []
            for prediction, batch in zip(predictions, batches, strict=True):
                log_probs = prediction[f"profile{end}"].float().log_softmax(-1)
                profiles.append(torch.where(batch["reverse"][:, None], log_probs.flip(-1), log_probs))
                totals.append(prediction[f"log_counts{end}"].float())
            combined[f"profile{end}"] = torch.stack(profiles).logsumexp(0) - np.log(len(profiles))
            combined[f"log_counts{end}"] = torch.stack(totals).mean(0)
        return combined

    def ensemble(self, members: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        combined = {}
        for end in max(map(ends, members), key=len):

            def of(member: Mapping[str, np.ndarray], name: str, end: str = end) -> np.ndarray:
                return member[without_bias(name, member) if end else name]  # a member may have no bias model

            profiles = np.stack([of(member, "profile") for member in members])
            combined[f"profile{end}"] = np.logaddexp.reduce(profiles, axis=0) - np.log(len(members))
            combined[f"log_counts{end}"] = np.mean([of(member, "log_counts") for member in members], axis=0)
        return combined

    def track(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The expected counts: the total that the log counts tell, shared out as the profile's probabilities; without
        the bias, where the outputs say so."""
        return expected_counts(outputs, ends(outputs)[-1])

    def further(self, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """With a bias model, what an assay would measure."""
        if len(ends(outputs)) == 1:
            return {}
        return {"predictions_with_bias": outputs["log_counts"], "track_with_bias": expected_counts(outputs, "")}

    def check(self, held_out: Measurements) -> None:
        super().check(held_out)
        column = held_out.columns["profile"]
        if tuple(column.shape[1:]) not in ((self.width,), (self.positions,)):
            raise InputError(
                f"the column profile of held-out rows has the shape {tuple(column.shape)}, and that of training rows "
                f"{self.width} positions: both need as many"
            )
        checked_totals(column, "held-out row", self.positions)

    def measured(self, held_out: Measurements) -> np.ndarray:
        """log(1 + total), (n,)."""
        totals = []
        for counts in chunks(held_out.columns["profile"], AT_ONCE):
            totals.append(in_middle(counts, self.positions).sum(axis=1, dtype=np.float64))
        return np.log1p(np.concatenate(totals))

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
        done = 0
        for wide in chunks(held_out.columns["profile"], AT_ONCE):
            counts = in_middle(wide, self.positions).astype(np.float64)
            log_probs = outputs["profile"][done : done + len(counts)]
            done += len(counts)
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


def without_bias(name: str, outputs: Collection[str]) -> str:
    """An output without the bias, where there is one, or else the output itself."""
    return f"{name}{WITHOUT_BIAS}" if f"{name}{WITHOUT_BIAS}" in outputs else name


def expected_counts(outputs: Mapping[str, np.ndarray], end: str) -> np.ndarray:
    """(n, positions). end: one of `ends`."""
    return np.exp(outputs[f"profile{end}"]) * np.expm1(outputs[f"log_counts{end}"]).clip(min=0)[:, None]


def ends(outputs: Collection[str]) -> tuple[str, ...]:
    """What stands behind the names `profile` and `log_counts`: nothing, and WITHOUT_BIAS where it is among the
    outputs."""
    return ("", WITHOUT_BIAS) if f"profile{WITHOUT_BIAS}" in outputs else ("",)


def in_middle(counts: np.ndarray, positions: int) -> np.ndarray:
    """(n, width) -> (n, positions), those in the middle."""
    first = (counts.shape[1] - positions) // 2
    return counts[:, first : first + positions]


def checked_totals(column: Any, what: str, positions: int) -> np.ndarray:
    """The sums of the counts in the middle, (n, width) -> float64 (n,). InputError for a row that holds no counts."""
    totals: list[np.ndarray] = []
    for number, counts in enumerate(chunks(column, AT_ONCE)):
        sums = in_middle(counts, positions).sum(axis=1, dtype=np.float64)
        bad = ~np.isfinite(counts.sum(axis=1, dtype=np.float64)) | (counts.min(axis=1) < 0)
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
