"""The published studies of yeast promoters: what varies in each, and what is asked of it (docs/studies.md)."""

from __future__ import annotations

from prixfixe.analysis.studies import Factor, Question, Study
from prixfixe.common.errors import InputError

YES_NO = {True: "yes", False: "no"}

_ALL_DATA = Factor("dataset.training_fraction", {1.0: "all training data"}, "{} of the training data", default=1.0)
_FILLING = Factor("recipe.mask_share", {0: "without mask filling"}, "mask filling, share {}")
_HEAD = Factor("final.heads", {0: "pooling"}, "H={}")
_PROFORMER = {
    "choices.recipe": "unlockdna",
    "choices.first": "kmer",
    "choices.core": "proformer",
    "choices.final": "expression_heads",
}

PROFORMER_ABLATION = Study(
    name="proformer_ablation",
    about="The ablations of Kwak et al. 2024 (Proformer)",
    factors={
        "training data": _ALL_DATA,
        "mask filling": _FILLING,
        "dimension": Factor("first.channels"),
        "blocks": Factor("core.blocks"),
        "head": _HEAD,
    },
    panels=("training data", "mask filling"),
    rows=("dimension", "blocks"),
    columns=("head",),
    questions=(
        # of Kwak et al.: heads with mask filling against pooling without it; and what differs between heads and sizes
        Question(("head", "mask filling"), "mann_whitney", against=(0, 0), within=("training data",)),
        Question(("head",), "mann_whitney", within=("training data", "mask filling")),
        Question(("blocks",), "mann_whitney", within=("training data",)),
        Question(("dimension",), "mann_whitney", within=("training data",)),
        # and, as a grid of everything allows, paired over all else
        Question(("head",), "wilcoxon"),
        Question(("blocks",), "wilcoxon"),
        Question(("dimension",), "wilcoxon"),
        Question(("mask filling",), "wilcoxon"),
    ),
    holds=_PROFORMER,
    follows=(
        *("core.heads", "core.head_width"),
        *("optim.schedule.warmup_steps", "recipe.published.schedule.warmup_steps"),
    ),
)

PROFORMER_HEADS = Study(
    name="proformer_heads",
    about="Expression heads of Proformer at its published size (Kwak et al. 2024, Fig. 4b)",
    factors={
        "mask filling": _FILLING,
        "gated": Factor("final.glu", {False: "dense", True: "GLU"}, default=False),
        "head": _HEAD,
    },
    rows=("mask filling", "gated"),
    columns=("head",),
    questions=(
        Question(("head", "mask filling", "gated"), "wilcoxon", against=(0, 0, False)),
        Question(("gated",), "wilcoxon"),
    ),
    holds=_PROFORMER,
)

SOFT_CLASSIFICATION = Study(
    name="soft_classification",
    about="Soft classification against regression, with and without the two channels",
    factors={
        "loss": Factor("final.loss", {"kl": "KL", "mse": "MSE", "huber": "Huber"}),
        "is_reverse": Factor("recipe.is_reverse", YES_NO),
        "is_singleton": Factor("recipe.is_singleton", YES_NO),
        "first": Factor(
            "choices.first", {part: part for part in ("conv", "parallel_conv", "kmer")}, short={"parallel_conv": "par"}
        ),
        "core": Factor(
            "choices.core",
            {part: part for part in ("efficientnet", "bilstm", "proformer")},
            short={"efficientnet": "eff", "bilstm": "lstm", "proformer": "prof"},
        ),
    },
    rows=("loss", "is_reverse", "is_singleton"),
    columns=("first", "core"),
    questions=(
        Question(("loss", "is_reverse", "is_singleton"), "wilcoxon", against=("kl", True, True)),
        Question(("loss",), "wilcoxon"),
        Question(("is_reverse",), "wilcoxon"),
        Question(("is_singleton",), "wilcoxon"),
    ),
    holds={"choices.recipe": "autosome", "choices.final": "soft_bins"},
    follows=("first", "core"),
)

STUDIES = {study.name: study for study in (PROFORMER_ABLATION, PROFORMER_HEADS, SOFT_CLASSIFICATION)}


def find_study(name: str) -> Study:
    """InputError with the choices where there is none of this name."""
    if name not in STUDIES:
        raise InputError(
            f"there is no study {name}; choose one of {', '.join(STUDIES)} (docs/studies.md says how to make one)"
        )
    return STUDIES[name]
