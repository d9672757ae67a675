"""One combination, from its configuration to its scores."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from prixfixe.bins import Bins
from prixfixe.contract import TargetSpec
from prixfixe.datasets import Dataset, Split, expression_range
from prixfixe.errors import InputError
from prixfixe.files import write_json
from prixfixe.fit import Loop, fit
from prixfixe.measurements import Measurements
from prixfixe.network import Network, build, learning_rate_groups
from prixfixe.optim import Schedule
from prixfixe.parts import factory
from prixfixe.recipe import Recipe
from prixfixe.run_folder import RunFolder, identity

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def run(config: Mapping[str, Any], path: Path, *, show_progress: bool) -> dict[str, Any]:
    """Trains the combination that a resolved configuration describes, in the folder `path`; returns its scores.

    1. The dataset is read and split. 2. The recipe and the network are built and checked against each other.
    3. The folder is claimed: a run of the same identity that is done is not run again, one of another is refused.
    4. `fit` trains and scores. 5. metrics.json is written and the status says done, or failed with the reason.
    """
    if not isinstance(config["seed"], int) or config["seed"] < 0:
        raise InputError(f"seed={config['seed']!r}: a whole number, at least 0")
    split = dataset(config).read()
    folder = RunFolder(path)
    settings = training_settings(config["training"])
    recipe = build_recipe(config)
    taken = training_rows(recipe, split)
    targets = target_spec(split.train[taken], bins_of(config["bins"], split.train))
    torch.manual_seed(config["seed"])
    network = build(recipe, config, targets)
    if not folder.claim(config, identity(config, split.content)):
        return folder.read_json(folder.metrics_file)
    for warning in split.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    try:
        device = settings["device"]
        torch.backends.cudnn.deterministic = True  # the same seed, the same numbers
        train = recipe.load(split.train.sequences[taken], device, split.train.expression[taken])
        validation = recipe.load(split.validation.sequences, device)
        network.to(device)
        loop = Loop(
            settings["epochs"],
            settings["batch_size"],
            settings["micro_batch"],
            settings["precision"],
            config["optim"]["clip_norm"],
            config["optim"]["clip_value"],
            config["seed"],
        )
        steps = loop.epochs * math.ceil(len(train) * recipe.samples_per_sequence / loop.batch_size)
        optimizer, scheduler = build_optimizer(network, config, steps)
        save_targets(folder, targets)
        metrics = fit(
            network,
            recipe,
            train,
            validation,
            split.validation.expression,
            targets.bins,
            optimizer,
            scheduler,
            loop,
            folder,
            show_progress=show_progress,
        )
        metrics |= {
            "parameters": network.parameter_count(),
            "left_out": len(split.train) - len(taken),
            "simulated": split.simulated,
            "device": device_name(device),
        }
        write_json(folder.metrics_file, {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in metrics.items()})
        folder.write_status("done")
        return metrics
    except BaseException as error:
        folder.write_status("failed", reason=f"{type(error).__name__}: {error}")
        raise


def dataset(config: Mapping[str, Any]) -> Dataset:
    return factory(config["dataset"], Dataset, where="dataset")()


def build_recipe(config: Mapping[str, Any]) -> Recipe:
    node = {key: value for key, value in config["recipe"].items() if key != "published"}
    try:
        return factory(node, Recipe, where="recipe")()
    except ValueError as error:
        raise InputError(f"recipe: {error}") from error


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


def bins_of(node: Mapping[str, Any], train: Measurements) -> Bins:
    low, high = expression_range(np.asarray(train.expression), node["range"])
    try:
        return Bins(number=node["number"], shift=node["shift"], sd=node["sd"], low=low, high=high)
    except (TypeError, ValueError) as error:
        raise InputError(f"bins: {error}") from error


def target_spec(train: Measurements, bins: Bins) -> TargetSpec:
    """The tasks and the standardisation constants of a training set."""
    expression = np.asarray(train.expression, dtype=np.float64).reshape(len(train), -1)
    std = expression.std(axis=0)
    if not std.all():
        raise InputError(f"every training sequence has the same {train.tasks[int(np.argmin(std))]}: there is nothing to learn")
    return TargetSpec(tuple(train.tasks), tuple(expression.mean(axis=0).tolist()), tuple(std.tolist()), bins)


def build_optimizer(network: Network, config: Mapping[str, Any], steps: int) -> tuple[Optimizer, LRScheduler]:
    """The optimiser over one parameter group a block, and its schedule."""
    make_optimizer = factory(config["optim"]["optimizer"], Optimizer, where="optim.optimizer", given=1)
    optimizer = make_optimizer(learning_rate_groups(network, config))
    schedule = factory(config["optim"]["schedule"], Schedule, where="optim.schedule")()
    return optimizer, schedule(optimizer, total_steps=steps, width=network.width)


def training_settings(node: Mapping[str, Any]) -> dict[str, Any]:
    """`training` of the configuration, checked, with `auto` resolved."""
    for key in ("epochs", "batch_size"):
        if not isinstance(node[key], int) or node[key] < 1:
            raise InputError(f"training.{key}={node[key]!r}: a whole number, at least 1")
    if node["micro_batch"] is not None and (not isinstance(node["micro_batch"], int) or node["micro_batch"] < 1):
        raise InputError(f"training.micro_batch={node['micro_batch']!r}: a whole number, at least 1, or null")
    device = find_device(node["device"])
    if node["precision"] not in ("auto", *PRECISIONS):
        raise InputError(f"training.precision={node['precision']!r}: choose auto, {' or '.join(PRECISIONS)}")
    auto = torch.bfloat16 if device.type == "cuda" else torch.float32
    return {**node, "device": device, "precision": PRECISIONS.get(node["precision"], auto)}


def find_device(name: str) -> torch.device:
    """auto, cpu, cuda or cuda:N as a device that is there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"training.device={name!r} is no device; choose auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"training.device={name}: this machine has {torch.cuda.device_count()} GPUs that torch can use; choose auto or cpu"
        )
    return device


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def save_targets(folder: RunFolder, targets: TargetSpec) -> None:
    write_json(folder.targets_file, {"tasks": targets.tasks, "mean": targets.mean, "std": targets.std, "bins": vars(targets.bins)})


def load_targets(folder: RunFolder) -> TargetSpec:
    content = folder.read_json(folder.targets_file)
    try:
        return TargetSpec(tuple(content["tasks"]), tuple(content["mean"]), tuple(content["std"]), Bins(**content["bins"]))
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder.targets_file} is missing or damaged: {error}; train the run again") from error
