"""A trained run, ready to predict."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from prixfixe.common.errors import InputError
from prixfixe.common.files import atomic_path
from prixfixe.common.inputs import is_missing
from prixfixe.common.simulated import is_simulated
from prixfixe.common.text import printable
from prixfixe.data.columns import ColumnSource, column_sources, is_source
from prixfixe.data.flanks import NO_FLANKS, Flanks, add_flanks, checked_flanks
from prixfixe.data.measurements import Measurements
from prixfixe.data.recipe import Recipe, Samples
from prixfixe.data.sequences import Sequences
from prixfixe.inference.predictor import Predictor
from prixfixe.networks.network import Network, build
from prixfixe.networks.parts import Origin, judge_all
from prixfixe.networks.weights import load_own_state, own_state, plain_state, prepare
from prixfixe.runs.folder import RunFolder
from prixfixe.runs.sources import BLOCKS, find_sources, read_tensors
from prixfixe.runs.targets import load_targets
from prixfixe.tasks.task import Task
from prixfixe.training.build import build_recipe, build_task
from prixfixe.training.scoring import AT_ONCE, AtOnce, predict_on_device
from prixfixe.training.settings import check_training, find_device


class Model(Predictor):
    """A run's network, recipe and fitted task.

    name: what a message calls it. columns: where the columns of its training data came from, as `dataset.columns` says.
    flanks: the construct around every sequence that it is given, `dataset.flanks` of its training data. simulated:
    whether it was trained on a simulated assay.
    """

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        task: Task,
        device: torch.device,
        name: str = "the model",
        columns: Sequence[ColumnSource] = (),
        flanks: Flanks = NO_FLANKS,
        simulated: bool = False,
    ) -> None:
        self.network, self.recipe, self.task, self.device = network.to(device).eval(), recipe, task, device
        self.name, self.flanks, self.simulated = name, flanks, simulated
        self.at_once = AtOnce(AT_ONCE[device.type])  # what suits the device, and fits into its memory
        self.run: Path | None = None  # the folder that it was loaded from
        self.needs = tuple(dict.fromkeys((*network.columns, *recipe.takes)))
        self._sources = {source.name: source for source in columns}

    @property
    def members(self) -> tuple[Model, ...]:
        return (self,)

    @property
    def longest(self) -> int:
        return max(self.recipe.longest - sum(map(len, self.flanks)), 0)

    def cut_off(self, longer: int, total: int) -> str:
        return self.recipe.cut_off(longer, total)

    @property
    def predicted(self) -> str:
        """The output that is predicted for every sequence; InputError where the task has none."""
        if self.task.predicts is None:
            raise InputError(
                f"{self.name} was trained for task {self.task.name}, which predicts nothing a sequence: train another "
                "run from its weights, with first.train.weights and core.train.weights"
            )
        outputs = getattr(self.network, "outputs", ())  # which a module that is no `Network` does not name
        return self.task.used(outputs) or self.task.predicts

    def __repr__(self) -> str:
        parts = "+".join(type(getattr(self.network, slot)).__name__ for slot in ("first", "core", "final"))
        return f"<Model {type(self.recipe).__name__}+{parts}, predicts {', '.join(self.tasks)}, on {self.device}>"

    def source(self, column: str) -> ColumnSource:
        spec = self.task.spec.columns.get(column)
        if column in self._sources:
            return self._sources[column]
        if spec is not None and spec.shape == ():
            return ColumnSource(column, "number", (column,))
        raise InputError(
            f"{self.name} needs the column {column}, which no table holds: give it to Model.predict as "
            f"columns={{'{column}': ...}}"
        )

    def as_column(self, name: str, values: Any, rows: int) -> Any:
        spec, source = self.task.spec.columns[name], self._sources.get(name)
        if source is not None and source.alphabet is not None and not isinstance(values, Sequences):
            try:
                values = Sequences.from_strings(list(values), source.alphabet)
            except (ValueError, TypeError) as error:
                raise InputError(f"column {name}: {error}") from error
        elif not isinstance(values, Sequences) and not is_source(values):
            values = np.asarray(values)
        shape = (len(values), *(spec.shape if isinstance(values, Sequences) else values.shape[1:]))
        if shape != (rows, *spec.shape):
            raise InputError(f"column {name} has the shape {shape}, and {self.name} takes {(rows, *spec.shape)}")
        if isinstance(values, Sequences) or is_source(values) or values.dtype.kind != "f":
            return values
        if len(wrong := np.flatnonzero(~np.isfinite(values).reshape(rows, -1).all(axis=1))):
            raise InputError(f"column {name} is not finite for sequence {wrong[0] + 1}: a number is needed for each")
        return values

    def samples(self, chunk: Measurements) -> Samples:
        """The rows of a chunk on the device, with the construct around them and the columns that are needed."""
        sequences = add_flanks(chunk.sequences, *self.flanks)
        columns = {name: chunk.columns[name] for name in self.needs}
        return self.recipe.load(sequences, self.device, columns=columns, specs=self.task.spec.columns)

    def launch(self, chunk: Measurements, batch_size: int | None = None) -> dict[str, Tensor]:
        """All outputs of a chunk by name, (n, ...), on the device, which may still be at work on them."""
        at_once = self.at_once if batch_size is None else AtOnce(batch_size)
        return predict_on_device(self.network, self.recipe, self.task, self.samples(chunk), batch_size=at_once)

    def save_weights(self, file: str | os.PathLike[str]) -> None:
        """Writes all weights of the network as one safetensors file, from which parts of other runs can start:
        adapters merged, and what came from elsewhere included."""
        tensors = {name: tensor.cpu().contiguous() for name, tensor in plain_state(self.network).items()}
        with atomic_path(file) as temporary:
            temporary.write_bytes(save(tensors))


def load_run(
    run: str | os.PathLike[str], *, device: str = "auto", config_dir: str | os.PathLike[str] | None = None
) -> Model:
    """The model of a run folder, with the weights of its best epoch.

    config_dir: the user's own conf folder, whose YAMLs name the packages that the run's classes may come from beside
    `prixfixe` and `blocks`; None is `conf/` in the current folder. Raises InputError where the folder, its
    configuration or its weights cannot be used, those that it started from included, and where it names a class of
    another package: nothing is imported then.
    """
    folder = RunFolder(Path(run))
    origin = Origin(run=folder.path, conf=None if config_dir is None else Path(config_dir))
    config = folder.config()
    judge_all(config, origin)
    if is_missing(folder.weights_file):
        state = folder.status().get("state", "unknown")
        raise InputError(f"{printable(folder.path)} has no weights yet (its state is {state}); finish the run first")
    spec = load_targets(folder)
    weights = read_tensors(folder.weights_file)
    try:
        for slot in BLOCKS:
            check_training(config[slot], slot)
        sources = find_sources(config, folder, trained=True)
        recipe = build_recipe(config, origin)
        task = build_task(config, origin).with_spec(spec)
        network = build(recipe, config, task, origin=origin)
        prepare(network, config, sources)
    except (KeyError, RuntimeError, TypeError, AttributeError) as error:
        reason = f"it has no {error.args[0]}" if isinstance(error, KeyError) and error.args else error
        raise InputError(f"{printable(folder.config_file)} describes no network: {printable(reason, 300)}") from error
    check_weights(weights, network, folder.weights_file)
    load_own_state(network, weights)
    dataset = config.get("dataset") or {}
    columns, flanks = column_sources(dataset.get("columns")), checked_flanks(dataset.get("flanks"))
    name, simulated = printable(folder.path), is_simulated(config)
    model = Model(network, recipe, task, find_device(device), name, columns, flanks, simulated)
    model.run = folder.path
    return model


def check_weights(weights: Mapping[str, Tensor], network: Network, file: Path) -> None:
    """InputError where tensors are not exactly those that the network's run writes, by name, shape and kind of
    number, or hold values that are not finite."""
    problems, own = [], own_state(network)
    for name, ours in own.items():
        tensor = weights.get(name)
        if tensor is None:
            problems.append(f"it has no {name}")
        elif tensor.shape != ours.shape:
            problems.append(f"{name} has shape {tuple(tensor.shape)}, not {tuple(ours.shape)}")
        elif tensor.dtype != ours.dtype:
            problems.append(f"{name} holds {_kind(tensor)}, not {_kind(ours)}")
        elif not torch.isfinite(tensor).all():
            problems.append(f"{name} holds values that are not finite")
    problems += [f"{name} is left over" for name in weights if name not in own]
    if problems:
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise InputError(
            f"{printable(file)} does not fit {printable(file.parent / 'config.yaml')}: "
            f"{printable(problems[0], 300)}{more}; "
            "copy both again, or train the run again with --force"
        )


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
