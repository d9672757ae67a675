"""Whether a part keeps the contract: what the tests ask of every YAML in `conf/`, and `prixfixe blocks --check` of
one."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.modules.module import register_module_forward_hook

from prixfixe.common.errors import InputError
from prixfixe.contract import Batch, TargetSpec, shape_in_words
from prixfixe.data.datasets import Dataset
from prixfixe.data.measurements import Measurements
from prixfixe.data.recipe import Recipe, Samples
from prixfixe.data.sequences import Sequences
from prixfixe.menu.parts import Part, partners
from prixfixe.networks.network import Network, build
from prixfixe.networks.parts import OWN, factory
from prixfixe.tasks.bins import Bins
from prixfixe.tasks.expression import Expression
from prixfixe.tasks.task import Task
from prixfixe.training.build import build_recipe, build_task
from prixfixe.training.scoring import predict

SEQUENCES = 6  # that a network is tried on
FEW_ROWS = 200  # of a simulated dataset


def violations(config: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a network of a configuration's parts, task and data, a sentence each; nothing where the
    contract is kept.

    1. It builds, shapes fit. 2. Predictions and loss are finite. 3. Every parameter gets a gradient. 4. The batch is
    not changed. 5. The state goes to another network and predicts the same. 6. In eval mode a sequence's prediction
    does not depend on the rest of its batch.
    """
    torch.manual_seed(0)
    try:
        recipe = build_recipe(config, OWN)
        task, rows = example_rows(config, recipe)
        network = build(recipe, config, task, origin=OWN)
    except Exception as error:
        yield _reason(error)
        return
    try:
        yield from _broken_rules(config, recipe, task, rows, network)
    except Exception as error:
        yield f"it cannot be trained and scored: {_reason(error)}"


def _broken_rules(
    config: Mapping[str, Any], recipe: Recipe, task: Task, rows: Measurements, network: Network
) -> Iterator[str]:
    """Rules 2 to 6, of a network that builds."""
    samples, batch = loaded(recipe, task, rows, network)
    before = {key: value.clone() for key, value in batch.items()}
    network.train()
    prediction = network(batch)
    loss = network.loss(prediction, batch)
    if changed := [key for key in before if not torch.equal(before[key], batch[key])]:
        yield f"the batch is changed in place: {', '.join(changed)}; make a new tensor instead"
    if loss.ndim != 0:
        yield f"the loss must be one number, but has the shape {tuple(loss.shape)}"
        return
    if not all(torch.isfinite(output).all() for output in (*prediction.outputs.values(), loss)):
        yield "the prediction or the loss is not finite on ordinary sequences"
        return
    loss.backward()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any()):
            shape = tuple(parameter.shape)
            yield f"parameter {name} {shape} gets no gradient: nothing that it computes reaches the loss"

    held_out = task.hold_out(recipe, samples)
    together = predict(network, recipe, task, held_out, batch_size=SEQUENCES)
    twin = build(recipe, config, task, origin=OWN)
    twin.load_state_dict(copy.deepcopy(network.state_dict()))
    again = predict(twin, recipe, task, held_out, batch_size=SEQUENCES)
    alone = predict(network, recipe, task, held_out, batch_size=1)
    if not all(np.array_equal(together[name], again[name]) for name in together):
        yield (
            "the state dict does not hold all that decides a prediction: a network that loads it predicts something "
            "else"
        )
    if not all(np.allclose(together[name], alone[name], rtol=1e-3, atol=1e-3) for name in together):
        yield "in eval mode a sequence's prediction depends on the other sequences of its batch"


def example_rows(config: Mapping[str, Any], recipe: Recipe) -> tuple[Task, Measurements]:
    """The task of a configuration, fitted to a few rows of its dataset, and SEQUENCES of these that the recipe
    takes."""
    rows = _few_rows(json.dumps(config["dataset"]))
    fitting = np.flatnonzero(recipe.fits(np.asarray(rows.sequences.lengths)))
    if len(fitting) < SEQUENCES:
        raise InputError(f"recipe {type(recipe).__name__} takes {len(fitting)} of the dataset's {len(rows)} first rows")
    return build_task(config, OWN).fitted(rows, fitting), rows[fitting[:SEQUENCES]]


@functools.cache
def _few_rows(dataset: str) -> Measurements:
    """The training rows of a dataset, of a simulated one a few. dataset: its node as JSON."""
    node = json.loads(dataset)
    small = {"size": min(node["size"], FEW_ROWS)} if "size" in node else {}
    return factory({**node, **small}, Dataset, where="dataset", origin=OWN)().read().train


def loaded(recipe: Recipe, task: Task, rows: Measurements, network: Network) -> tuple[Samples, Batch]:
    """Some rows on the CPU, and a training batch of all of them."""
    wanted = dict.fromkeys((*network.training_columns, *recipe.takes, *recipe.orders_by, *task.columns))
    columns = {name: rows.columns[name] for name in wanted}
    samples = recipe.load(rows.sequences, torch.device("cpu"), rows.expression, columns=columns)
    chosen = torch.arange(len(rows) * recipe.samples_per_sequence)
    generator = torch.Generator().manual_seed(1)
    return samples, recipe.training_batch(samples, chosen, task, generator, network.training_columns)


def _reason(error: Exception) -> str:
    """The contract's own messages as they are; of what a part raises, its kind too."""
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


def example(recipe: Recipe) -> tuple[Samples, Batch]:
    """A few sequences and a training batch of them."""
    generator = np.random.default_rng(0)
    letters = np.array(list("ACGT"))
    strings = ["".join(generator.choice(letters, length)) for length in (110, 110, 109, 105, 110, 111)]
    expression = np.array([11.0, 3.5, 8.0, 14.2, 0.0, 17.0])
    samples = recipe.load(Sequences.from_strings(strings), torch.device("cpu"), expression)
    chosen = torch.arange(SEQUENCES * recipe.samples_per_sequence)
    return samples, recipe.training_batch(samples, chosen, example_task(), torch.Generator().manual_seed(1))


def example_task(spec: TargetSpec | None = None) -> Task:
    """Expression in the bins of the yeast assay, fitted to nothing."""
    bins = {"number": 18, "shift": 0.5, "sd": 0.5, "range": None}
    task = Expression(select="pearson_r", bins=bins, sorted_into=[0.0, 17.0])
    return task.with_spec(spec or TargetSpec(("expression",), (11.0,), (2.0,), Bins()))


def describe_part(part: Part, parts: Sequence[Part]) -> tuple[str, str, str]:
    """What a part takes, gives and how many parameters it has, beside the default choices of the other slots. Nothing
    is computed."""
    try:
        return _description(part, partners(parts, part))
    except Exception as error:
        return "-", f"broken: {_reason(error)}", "-"


def _description(part: Part, config: Mapping[str, Any]) -> tuple[str, str, str]:
    recipe = build_recipe(config, OWN)
    if part.slot == "recipe":
        return "sequences", shape_in_words((0, recipe.inputs.channels, recipe.inputs.length)), "-"
    shapes: dict[torch.nn.Module, tuple[str, str]] = {}

    def note(module: torch.nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if inputs and isinstance(inputs[0], torch.Tensor):
            shapes[module] = (
                shape_in_words(inputs[0].shape),
                shape_in_words(output.shape) if isinstance(output, torch.Tensor) else "Prediction",
            )

    with register_module_forward_hook(note):  # of every module: building a network infers all shapes
        network = build(recipe, config, example_rows(config, recipe)[0], origin=OWN)
    block = getattr(network, part.slot)
    return *shapes[block], f"{sum(p.numel() for p in block.parameters()):,}"
