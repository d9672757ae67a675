"""targets.json: what a run's network predicts, beside its weights."""

from __future__ import annotations

import math

from prixfixe.common.files import json_values, write_json
from prixfixe.contract import TargetSpec
from prixfixe.runs.bounded import damaged
from prixfixe.runs.folder import RunFolder
from prixfixe.runs.lock import check_held
from prixfixe.runs.reader import read_targets
from prixfixe.tasks.bins import Bins


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
    check_held(folder.path)
    write_json(folder.targets_file, json_values(content), follow=False)


def load_targets(folder: RunFolder) -> TargetSpec:
    """What `save_targets` wrote. A run of version 0.1 has no `residual_sd`."""
    content = read_targets(folder.targets_file)
    sds = content.get("residual_sd")
    try:
        bins = Bins(**content["bins"])
    except ValueError as error:
        raise damaged(folder.targets_file, str(error)) from error
    return TargetSpec(
        tuple(content["tasks"]),
        tuple(content["mean"]),
        tuple(content["std"]),
        bins,
        None if sds is None else tuple(math.nan if sd is None else float(sd) for sd in sds),
    )
