"""Run folders with weights that are too small to be good, as training would leave them."""

from pathlib import Path
from typing import Any

from conftest import compose, demo, untrained_run

from prixfixe.data.flanks import Construct

SMALL = {
    "conv": ["first.channels=8"],
    "parallel_conv": ["first.channels=8"],
    "kmer": ["first.channels=8"],
    "efficientnet": ["core.widths=[8]"],
    "bilstm": ["core.hidden=4", "core.channels=8"],
    "proformer": ["core.blocks=1"],
}


def small_run(
    path: Path,
    tasks: tuple[str, ...] = ("expression",),
    *overrides: str,
    parts: tuple[str, str, str, str] = ("bhi", "conv", "efficientnet", "mlp"),
    construct: Construct | None = None,
    seed: int = 0,
    **changes: Any,
) -> Path:
    """A run of these parts, with random weights. changes: of the configuration's `dataset`."""
    _, first, core, _ = parts
    config = demo(*parts, *SMALL[first], *SMALL[core], f"seed={seed}", *overrides)
    return write_run(path, config, tasks, construct, seed, changes)


def small_binary_run(path: Path) -> Path:
    """A run of task binary on plain sequences of 40 nt."""
    parts = ("recipe=plain", "recipe.length=40", "task=binary", "final=binary", "first=conv", "core=efficientnet")
    config = compose(*parts, "first.channels=8", "core.widths=[8]", "dataset=simulated_promoters")
    return write_run(path, config, ("promoter",), None, 0, {})


def write_run(
    path: Path,
    config: dict[str, Any],
    tasks: tuple[str, ...],
    construct: Construct | None,
    seed: int,
    changes: dict[str, Any],
) -> Path:
    config["dataset"] |= changes
    return untrained_run(path, config, tasks, seed=seed, construct=construct)
