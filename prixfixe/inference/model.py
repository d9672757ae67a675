"""A trained run, ready to predict."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from prixfixe.common.errors import InputError
from prixfixe.common.files import atomic_path
from prixfixe.common.inputs import is_missing
from prixfixe.common.text import printable
from prixfixe.data.recipe import Recipe
from prixfixe.data.sequences import Sequences
from prixfixe.networks.network import Network, build
from prixfixe.networks.parts import Origin, judge_all
from prixfixe.networks.weights import load_own_state, own_state, plain_state, prepare
from prixfixe.runs.folder import RunFolder
from prixfixe.runs.sources import BLOCKS, find_sources, read_tensors
from prixfixe.runs.targets import load_targets
from prixfixe.tasks.task import Task
from prixfixe.training.experiment import build_recipe, build_task
from prixfixe.training.scoring import AT_ONCE, AtOnce, predict_on_device, to_host
from prixfixe.training.settings import check_training, find_device

ROWS, BATCHES = (
    1024,
    4,
)  # at least; launched at a time, so that a GPU has work while the host reads and writes, and no more than it queues


class Model:
    """A run's network, recipe and fitted task. `predict` takes strings and gives what the task predicts: expression in
    the measurement's own units, or a probability.

    name: what a message calls it.
    """

    def __init__(
        self, network: Network, recipe: Recipe, task: Task, device: torch.device, name: str = "the model"
    ) -> None:
        self.network, self.recipe, self.task, self.device = network.to(device).eval(), recipe, task, device
        self.tasks = task.spec.tasks
        self.at_once = AtOnce(AT_ONCE[device.type])  # what suits the device, and fits into its memory
        self.name = name

    def predict(self, sequences: Sequence[str], *, batch_size: int | None = None) -> np.ndarray:
        """sequences: n strings over A C G T N, either case, of any lengths: the recipe pads and trims as it must.
        batch_size: how many enter the network at a time, or fewer where memory does not hold as many; None is what
        suits the device.

        Returns float64 (n,), or (n, tasks) for several tasks. Raises InputError for any other character, for an empty
        string, and where a prediction is not finite.
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
        return self.predict_sequences(encoded, batch_size=batch_size)

    def __repr__(self) -> str:
        parts = "+".join(type(getattr(self.network, slot)).__name__ for slot in ("first", "core", "final"))
        return f"<Model {type(self.recipe).__name__}+{parts}, predicts {', '.join(self.tasks)}, on {self.device}>"

    def predict_sequences(self, sequences: Sequences, *, batch_size: int | None = None) -> np.ndarray:
        """The same for sequences that are encoded already. Only one chunk of them is on the device at a time."""
        rows = self.chunk_rows(batch_size)
        chunks = (sequences[start : start + rows] for start in range(0, len(sequences), rows))
        none = np.empty((0,) if len(self.tasks) == 1 else (0, len(self.tasks)))
        return np.concatenate([none, *self.predict_chunks(chunks, batch_size=batch_size)])

    def chunk_rows(self, batch_size: int | None = None) -> int:
        """How many sequences to give to `predict_chunks` at a time: whole batches, so that only the last of all is
        smaller."""
        size = batch_size or self.at_once.size
        return size * max(BATCHES, ROWS // size)

    def predict_chunks(self, chunks: Iterable[Sequences], *, batch_size: int | None = None) -> Iterator[np.ndarray]:
        """The predictions of one chunk after the other, each as from `predict_sequences`, in memory that does not grow
        with their number.

        A chunk's predictions are given out once the next chunk has been launched, so that a GPU computes while they are
        used.
        """
        if self.network.columns or self.recipe.takes:
            needed = ", ".join(dict.fromkeys((*self.network.columns, *self.recipe.takes)))
            raise InputError(f"{self.name} needs the columns {needed} beside the sequences")
        at_once = self.at_once if batch_size is None else AtOnce(batch_size)
        launched: Tensor | None = None
        for chunk in chunks:
            samples = self.recipe.load(chunk, self.device)
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
    return Model(network, recipe, task, find_device(device), printable(folder.path))


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
