"""The parts of a configuration but for its network: dataset, task, recipe and optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from prixfixe.common.errors import InputError
from prixfixe.data.datasets import Dataset, Split
from prixfixe.data.recipe import Recipe
from prixfixe.networks.network import Network, learning_rate_groups
from prixfixe.networks.parts import LOADED, Origin, factory, values_of
from prixfixe.tasks.task import Task
from prixfixe.training.optim import Schedule

LONGEST_INPUT = 1 << 20  # positions, and channels, of what a recipe gives


def build_dataset(config: Mapping[str, Any], origin: Origin = LOADED) -> Dataset:
    """The dataset of a configuration, not read yet."""
    return factory(config["dataset"], Dataset, where="dataset", origin=origin)()


def build_task(config: Mapping[str, Any], origin: Origin = LOADED) -> Task:
    """The task of a configuration, not fitted yet; that of version 0.1, which had expression alone."""
    node = config.get("task") or {
        "_target_": "prixfixe.tasks.expression.Expression",
        "select": "pearson_r",
        "bins": config["bins"],
        "sorted_into": [0.0, 17.0],
    }
    return factory(node, Task, where="task", origin=origin)()


def build_recipe(config: Mapping[str, Any], origin: Origin = LOADED) -> Recipe:
    """The recipe of a configuration; InputError for values that it refuses, and for an input that no machine holds."""
    try:
        recipe = factory(values_of(config["recipe"]), Recipe, where="recipe", origin=origin)()
    except ValueError as error:
        raise InputError(f"recipe: {error}") from error
    if not (0 < recipe.inputs.length <= LONGEST_INPUT and 0 < recipe.inputs.channels <= LONGEST_INPUT):
        raise InputError(
            f"recipe {type(recipe).__name__} with these values gives {recipe.inputs.channels:,} channels of "
            f"{recipe.inputs.length:,} positions; both must be 1 to {LONGEST_INPUT:,}"
        )
    return recipe


def training_rows(recipe: Recipe, split: Split) -> np.ndarray:
    """The rows of the training set that the recipe can take: int64 (m,)."""
    taken = np.flatnonzero(recipe.fits(np.asarray(split.train.sequences.lengths)))
    if not len(taken):
        lengths = split.train.sequences.lengths
        raise InputError(
            f"recipe {type(recipe).__name__} can take none of the {len(split.train)} training sequences "
            f"({lengths.min()} to {lengths.max()} nt); choose another recipe or change its lengths"
        )
    return taken


def build_optimizer(
    network: Network, config: Mapping[str, Any], steps: int, origin: Origin = LOADED
) -> tuple[Optimizer, LRScheduler]:
    """The optimiser over one parameter group a block, and its schedule."""
    make_optimizer = factory(config["optim"]["optimizer"], Optimizer, where="optim.optimizer", given=1, origin=origin)
    make_schedule = factory(config["optim"]["schedule"], Schedule, where="optim.schedule", origin=origin)
    try:
        optimizer = make_optimizer(learning_rate_groups(network, config))
        return optimizer, make_schedule()(optimizer, total_steps=steps, width=network.width)
    except ValueError as error:
        raise InputError(f"optim: {error}") from error
