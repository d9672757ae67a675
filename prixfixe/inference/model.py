"""A trained run, ready to predict."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from prixfixe.common.errors import InputError
from prixfixe.common.files import atomic_path
from prixfixe.common.inputs import is_missing
from prixfixe.common.text import printable
from prixfixe.data.columns import ColumnSource, column_sources, is_source
from prixfixe.data.measurements import Measurements
from prixfixe.data.recipe import Recipe
from prixfixe.data.sequences import Sequences
from prixfixe.networks.network import Network, build
from prixfixe.networks.parts import Origin, judge_all
from prixfixe.networks.weights import load_own_state, own_state, plain_state, prepare
from prixfixe.runs.folder import RunFolder
from prixfixe.runs.sources import BLOCKS, find_sources, read_tensors
from prixfixe.runs.targets import load_targets
from prixfixe.tasks.task import Task
from prixfixe.training.build import build_recipe, build_task
from prixfixe.training.scoring import AT_ONCE, AtOnce, predict_on_device, to_host
from prixfixe.training.settings import check_training, find_device

NO_COLUMNS: Mapping[str, Any] = MappingProxyType({})
ROWS, BATCHES = (
    1024,
    4,
)  # at least; launched at a time, so that a GPU has work while the host reads and writes, and no more than it queues


class Model:
    """A run's network, recipe and fitted task. `predict` takes strings and gives what the task predicts: expression in
    the measurement's own units, or a probability.

    name: what a message calls it. columns: where the columns of its training data came from, as `dataset.columns` says.
    needs: the names of those that predictions need.
    """

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        task: Task,
        device: torch.device,
        name: str = "the model",
        columns: Sequence[ColumnSource] = (),
    ) -> None:
        self.network, self.recipe, self.task, self.device = network.to(device).eval(), recipe, task, device
        self.tasks = task.spec.tasks
        self.at_once = AtOnce(AT_ONCE[device.type])  # what suits the device, and fits into its memory
        self.name = name
        self.needs = tuple(dict.fromkeys((*network.columns, *recipe.takes)))
        self._sources = {source.name: source for source in columns}

    def predict(
        self,
        sequences: Sequence[str],
        *,
        columns: Mapping[str, Any] = NO_COLUMNS,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """sequences: n strings over A C G T N, either case, of any lengths: the recipe pads and trims as it must.
        columns: what else the model needs (`needs`), a value a sequence each: numbers, strings of a further sequence,
        arrays (n, ...) or row sources. batch_size: how many enter the network at a time, or fewer where memory does not
        hold as many; None is what suits the device.

        Returns float64 (n,), or (n, tasks) for several tasks. Raises InputError for any other character, for an empty
        string, for a column that is missing or does not fit, and where a prediction is not finite.
        """
        if isinstance(sequences, str) or hasattr(sequences, "columns"):
            raise InputError(
                "predict takes a list of sequences: give [sequence] for a single one, or one column of a data frame"
            )
        strings = list(sequences)
        if wrong := next((number for number, string in enumerate(strings, 1) if not isinstance(string, str)), None):
            raise InputError(f"sequence {wrong} is {strings[wrong - 1]!r}, which is no string")
        if "" in strings:
            raise InputError(f"sequence {strings.index('') + 1} is empty")
        try:
            encoded = Sequences.from_strings(strings)
        except ValueError as error:
            raise InputError(str(error)) from error
        if longer := int((encoded.lengths > self.recipe.longest).sum()):
            warnings.warn(self.recipe.cut_off(longer, len(encoded)), stacklevel=2)
        return self.predict_sequences(encoded, columns=columns, batch_size=batch_size)

    def __repr__(self) -> str:
        parts = "+".join(type(getattr(self.network, slot)).__name__ for slot in ("first", "core", "final"))
        return f"<Model {type(self.recipe).__name__}+{parts}, predicts {', '.join(self.tasks)}, on {self.device}>"

    def predict_sequences(
        self,
        sequences: Sequences,
        *,
        columns: Mapping[str, Any] = NO_COLUMNS,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """The same for sequences that are encoded already. Only one chunk of them is on the device at a time."""
        rows = self.chunk_rows(batch_size)
        self._check_given(columns)
        given = {name: self._column(name, columns[name], len(sequences)) for name in self.needs}
        whole = Measurements(sequences, np.empty((len(sequences), 0)), (), columns=given)
        chunks = (whole[start : start + rows] for start in range(0, len(sequences), rows))
        none = np.empty((0,) if len(self.tasks) == 1 else (0, len(self.tasks)))
        return np.concatenate([none, *self.predict_chunks(chunks, batch_size=batch_size)])

    def chunk_rows(self, batch_size: int | None = None) -> int:
        """How many sequences to give to `predict_chunks` at a time: whole batches, so that only the last of all is
        smaller."""
        size = batch_size or self.at_once.size
        return size * max(BATCHES, ROWS // size)

    def sources(self, further: Sequence[str] = ()) -> tuple[ColumnSource, ...]:
        """Where a table has the columns that predictions need, and further ones: as the training data had them, or by
        their names."""
        found = []
        for name in dict.fromkeys((*self.needs, *further)):
            spec = self.task.spec.columns.get(name)
            if name in self._sources:
                found.append(self._sources[name])
            elif spec is not None and spec.shape == ():
                found.append(ColumnSource(name, "number", (name,)))
            else:
                raise InputError(
                    f"{self.name} needs the column {name}, which no table holds: give it to Model.predict as "
                    f"columns={{'{name}': ...}}"
                )
        return tuple(found)

    def _check_given(self, columns: Mapping[str, Any]) -> None:
        if missing := [name for name in self.needs if name not in columns]:
            raise InputError(
                f"{self.name} needs the columns {', '.join(self.needs)} beside the sequences: {', '.join(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} missing; Model.predict takes them as columns={{NAME: VALUES}}"
            )

    def _column(self, name: str, values: Any, rows: int) -> Any:
        """A column that was given, in the shape and kind of the training data's. InputError where it has another."""
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

    def predict_chunks(
        self, chunks: Iterable[Sequences | Measurements], *, batch_size: int | None = None
    ) -> Iterator[np.ndarray]:
        """The predictions of one chunk after the other, each as from `predict_sequences`, in memory that does not grow
        with their number. A chunk brings the columns that are needed.

        A chunk's predictions are given out once the next chunk has been launched, so that a GPU computes while they are
        used.
        """
        at_once = self.at_once if batch_size is None else AtOnce(batch_size)
        launched: Tensor | None = None
        for chunk in chunks:
            rows = chunk.sequences if isinstance(chunk, Measurements) else chunk
            given = chunk.columns if isinstance(chunk, Measurements) else NO_COLUMNS
            self._check_given(given)
            columns = {name: given[name] for name in self.needs}
            samples = self.recipe.load(rows, self.device, columns=columns, specs=self.task.spec.columns)
            # fetched before the next launch: after it, a GPU would have to finish both first
            ready = None if launched is None else to_host(launched)
            outputs = predict_on_device(self.network, self.recipe, self.task, samples, batch_size=at_once)
            launched = outputs[self.predicted]
            if ready is not None:
                yield self._finite(ready)
        if launched is not None:
            yield self._finite(to_host(launched))

    def save_weights(self, file: str | os.PathLike[str]) -> None:
        """Writes all weights of the network as one safetensors file, from which parts of other runs can start:
        adapters merged, and what came from elsewhere included."""
        tensors = {name: tensor.cpu().contiguous() for name, tensor in plain_state(self.network).items()}
        with atomic_path(file) as temporary:
            temporary.write_bytes(save(tensors))

    @property
    def predicted(self) -> str:
        """The output that is predicted for every sequence; InputError where the task has none."""
        if self.task.predicts is None:
            raise InputError(
                f"{self.name} was trained for task {self.task.name}, which predicts nothing a sequence: train another "
                "run from its weights, with first.train.weights and core.train.weights"
            )
        return self.task.predicts

    def _finite(self, predictions: np.ndarray) -> np.ndarray:
        """The predictions themselves; InputError where one is not finite, as of weights that are damaged."""
        if not np.isfinite(predictions).all():
            raise InputError(f"{self.name} predicts values that are not finite: its weights are not usable")
        return predictions


def load(
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
    columns = column_sources((config.get("dataset") or {}).get("columns"))
    return Model(network, recipe, task, find_device(device), printable(folder.path), columns)


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
