"""The scores that tasks are judged by: the one place that says a score's name, label, direction and digits.

Tables, reports, logs, progress, the live view, selection and statistics read them here, or from a run's targets.json
where the task is a user's own. Nothing else is imported here: a listing of results needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Score:
    """One number by which predictions are judged.

    name: its key in metrics.json and its column in tables. label: what readers see. short: the same on one crowded
    line; on_a_line: whether it stands there at all. higher_is_better: its direction. digits: after the point.
    """

    name: str
    label: str
    higher_is_better: bool = True
    digits: int = 3
    short: str = ""
    on_a_line: bool = True

    @property
    def brief(self) -> str:
        return self.short or self.label

    @property
    def direction(self) -> str:
        return "higher" if self.higher_is_better else "lower"

    def loss(self, value: Any) -> Any:
        """A value, or an array of them, so turned that less is better: the best has the least."""
        return -value if self.higher_is_better else value

    def text(self, value: Any, digits: int | None = None) -> str:
        """A value as readers see it; `-` where there is none."""
        if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
            return "-"
        return f"{value:.{self.digits if digits is None else digits}f}"

    def better(self, value: float, than: float | None) -> bool:
        """Whether a value beats another one. NaN beats nothing, and everything that is a number beats NaN."""
        if math.isnan(value):
            return False
        if than is None or math.isnan(than):
            return True
        return value > than if self.higher_is_better else value < than


KL = Score("kl", "KL", higher_is_better=False, digits=3)
PEARSON = Score("pearson_r", "Pearson r", short="r")
SPEARMAN = Score("spearman_rho", "Spearman rho", short="rho")
MSE = Score("mse", "MSE", higher_is_better=False, on_a_line=False)
EXPRESSION = (KL, PEARSON, SPEARMAN, MSE)

BINARY = (
    Score("auroc", "AUROC"),
    Score("average_precision", "average precision", short="AP"),
    Score("mcc", "MCC"),
    Score("accuracy", "accuracy", short="acc"),
    Score("sensitivity", "sensitivity", short="sens", on_a_line=False),
    Score("specificity", "specificity", short="spec", on_a_line=False),
    Score("brier", "Brier", higher_is_better=False, on_a_line=False),
    Score("calibration_error", "calibration error", higher_is_better=False, short="ECE", on_a_line=False),
)
MASKED = (
    Score("cross_entropy", "cross-entropy", higher_is_better=False, short="CE"),
    Score("accuracy", "accuracy", short="acc"),
    Score("perplexity", "perplexity", higher_is_better=False, short="ppl"),
    Score(
        "nucleotide_cross_entropy", "cross-entropy a nucleotide", higher_is_better=False, short="CE/nt", on_a_line=False
    ),
)
PROFILE = (
    Score("loss", "loss", higher_is_better=False, short="validation loss"),
    Score("count_pearson_r", "Pearson r of log counts", short="r"),
    Score("count_spearman_rho", "Spearman rho of log counts", short="rho"),
    Score("profile_jsd", "Jensen-Shannon distance", higher_is_better=False, short="JSD"),
)
GROUPED = (Score("r2", "R2", short="R2"), Score("pearson_r", "Pearson r", short="r"))

# of an evaluation on a test set with weighted subsets
WEIGHTED = (Score("pearson_score", "Pearson score"), Score("spearman_score", "Spearman score"))

TASKS: Mapping[str, tuple[Score, ...]] = {
    "expression": EXPRESSION,
    "binary": BINARY,
    "masked": MASKED,
    "profile": PROFILE,
    "grouped_expression": GROUPED,
}


def declared(content: Mapping[str, Any]) -> tuple[Score, ...]:
    """The scores of a run, as its metrics.json or targets.json declares them; expression's of a run of version 0.1."""
    own = content.get("scores")
    if not own:
        return TASKS.get(str(content.get("task")), EXPRESSION)
    known = Score.__dataclass_fields__  # a later version may say more
    return tuple(Score(**{key: facts[key] for key in facts if key in known}) for facts in own)


def on_a_line(content: Mapping[str, Any], digits: int | None = None) -> list[str]:
    """The scores of a metrics.json as they stand on one line, `KL 0.512`."""
    shown = [score for score in declared(content) if score.on_a_line]
    return [f"{score.brief} {score.text(content.get(score.name), digits):^5}" for score in shown]


def by_name(scores: Iterable[Score]) -> dict[str, Score]:
    return {score.name: score for score in scores}
