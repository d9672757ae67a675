"""targets.json: what a run's network predicts, beside its weights."""

from __future__ import annotations

from prixfixe.bins import Bins
from prixfixe.contract import TargetSpec
from prixfixe.errors import InputError
from prixfixe.files import plain, write_json
from prixfixe.run_folder import RunFolder


def save_targets(folder: RunFolder, targets: TargetSpec) -> None:
    """Writes `tasks`, `mean`, `std` and `residual_sd`, one a task each, and `bins`, whose `low` and `high` are one
    number or one a task. `residual_sd` is null where none is known, and so is one that is not finite."""
    content = {
        "tasks": targets.tasks,
        "mean": targets.mean,
        "std": targets.std,
        "bins": vars(targets.bins),
        "residual_sd": targets.residual_sd,
    }
    write_json(folder.targets_file, plain(content))


def load_targets(folder: RunFolder) -> TargetSpec:
    """What `save_targets` wrote. A run of version 0.1 has no `residual_sd`."""
    content = folder.read_json(folder.targets_file)
    try:
        sds = content.get("residual_sd")
        return TargetSpec(
            tuple(content["tasks"]),
            tuple(content["mean"]),
            tuple(content["std"]),
            Bins(**content["bins"]),
            None if sds is None else tuple(float("nan") if sd is None else float(sd) for sd in sds),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder.targets_file} is missing or damaged: {error}; train the run again") from error
