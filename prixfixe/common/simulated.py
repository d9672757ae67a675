"""How numbers of the simulated assay are labelled, wherever they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SIMULATED = "SIMULATED assay: these numbers are no real measurements."


def is_simulated(config: Mapping[str, Any]) -> bool:
    """Whether a run of this configuration trains on the simulated assay; its metrics.json says so itself once it is
    done."""
    dataset = config.get("dataset")
    return isinstance(dataset, Mapping) and ".Simulated" in str(dataset.get("_target_"))


def simulated_suffix(simulated: object) -> str:
    """What stands behind scores on one line."""
    return " (simulated assay)" if simulated else ""
