"""Where what version 0.1 had is now: run folders name classes in its modules, and blocks of users import from them."""

from __future__ import annotations

MOVED = {
    "prixfixe.datasets.Simulated": "prixfixe.simulation.assay.Simulated",
    "prixfixe.datasets": "prixfixe.data.datasets",
    "prixfixe.optim": "prixfixe.training.optim",
    "prixfixe.loggers": "prixfixe.runs.loggers",
    "prixfixe.recipe": "prixfixe.data.recipe",
    "prixfixe.layers": "prixfixe.networks.layers",
    "prixfixe.initialise": "prixfixe.networks.initialise",
    "prixfixe.network": "prixfixe.networks.network",
    "prixfixe.bins": "prixfixe.tasks.bins",
    "prixfixe.metrics": "prixfixe.tasks.metrics",
    "prixfixe.construct": "prixfixe.dream.construct",
    "prixfixe.experiment": "prixfixe.training.experiment",
    "prixfixe.scoring": "prixfixe.training.scoring",
    "prixfixe.errors": "prixfixe.common.errors",
    "prixfixe.files": "prixfixe.common.files",
    "prixfixe.model": "prixfixe.inference.model",
    "prixfixe.run_folder": "prixfixe.runs.folder",
}


def current_name(target: str) -> str:
    """The dotted name of a class as it is today."""
    if target in MOVED:
        return MOVED[target]
    module, dot, name = target.rpartition(".")
    return f"{MOVED.get(module, module)}{dot}{name}"
