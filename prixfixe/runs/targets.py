"""targets.json: what a run's network predicts and how that is judged, beside its weights."""

from __future__ import annotations

import math
from dataclasses import asdict

import torch

from prixfixe.common.files import json_values, write_json
from prixfixe.contract import Spec, TargetSpec
from prixfixe.data.flanks import Construct
from prixfixe.runs.bounded import damaged
from prixfixe.runs.folder import RunFolder
from prixfixe.runs.lock import check_held
from prixfixe.runs.reader import read_targets
from prixfixe.tasks.bins import Bins
from prixfixe.tasks.task import Task


def save_targets(folder: RunFolder, task: Task) -> None:
    """Writes a fitted task: `tasks`, `mean`, `std` and `residual_sd`, one a task each; `bins`, whose `low` and
    `high` are one number or one a task; `constants` and `columns`; and of the task its name, its `scores` and which
    of them selects, so that results need none of its code. `residual_sd` is null where none is known, and so is one
    that is not finite."""
    spec = task.spec
    columns = {}
    for name, one in spec.columns.items():
        columns[name] = [list(one.shape), str(one.dtype).removeprefix("torch."), *([one.names] if one.names else [])]
    content = {
        "task": task.name,
        "select": task.select.name,
        "scores": [asdict(score) for score in task.scores],
        "tasks": spec.tasks,
        "mean": spec.mean,
        "std": spec.std,
        "bins": None if spec.bins is None else vars(spec.bins),
        "residual_sd": spec.residual_sd,
        "constants": spec.constants,
        "columns": columns,
        "sequences": None if spec.construct is None else asdict(spec.construct),
    }
    check_held(folder.path)
    write_json(folder.targets_file, json_values(content), follow=False)


def load_targets(folder: RunFolder) -> TargetSpec:
    """The constants that `save_targets` wrote. A run of version 0.1 has no `residual_sd`."""
    content = read_targets(folder.targets_file)
    sds, bins, construct = content.get("residual_sd"), content.get("bins"), content.get("sequences")
    columns = {}
    for name, (shape, dtype, *names) in (content.get("columns") or {}).items():
        columns[name] = Spec(tuple(shape), getattr(torch, dtype), names=tuple(*names))
    try:
        return TargetSpec(
            tuple(content["tasks"]),
            tuple(content["mean"]),
            tuple(content["std"]),
            None if bins is None else Bins(**bins),
            None if sds is None else tuple(math.nan if sd is None else float(sd) for sd in sds),
            content.get("constants") or {},
            columns,
            None if construct is None else Construct(**{**construct, "composition": tuple(construct["composition"])}),
        )
    except ValueError as error:
        raise damaged(folder.targets_file, str(error)) from error
