"""The contract, over every YAML of every slot: a new part is tested by being there.

The 81 published combinations are tested as one explicit grid. Every other part is tested in one pairing: the one that
a line `# prixfixe train recipe=... first=...` of its own YAML names, or else the first experiment that chooses it, or
else the default choice of the other slots.
"""

import copy
import functools
import importlib
import itertools
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import yaml
from conftest import PUBLISHED_PARTS, compose, demo
from torch import Tensor, nn

from prixfixe.common.paths import conf_folder
from prixfixe.contract import Block, InputSpec
from prixfixe.menu.check import example_rows, example_task, loaded, violations
from prixfixe.menu.parts import Part, grid, menu, pairing, values_beside
from prixfixe.networks.network import build, learning_rate_groups
from prixfixe.runs.folder import SLOTS
from prixfixe.training.build import build_optimizer, build_recipe
from prixfixe.training.scoring import predict

PARTS = menu()
NAMES = {slot: [part.name for part in PARTS if part.slot == slot] for slot in SLOTS}
GRID = list(itertools.product(*(grid()[slot] for slot in SLOTS)))


@functools.cache
def composed(*overrides: str) -> dict[str, Any]:
    return compose("experiment=demo", *overrides)


def beside(part: Part) -> list[str]:
    """The overrides that choose what a part is tested beside; a dataset of a file is stood for by its twin."""
    choices = pairing(part)
    if (conf_folder() / "dataset" / f"simulated_{choices['dataset']}.yaml").exists():
        choices["dataset"] = f"simulated_{choices['dataset']}"
    values = [f"{setting}={json.dumps(value)}" for setting, value in values_beside(part).items()]
    return [*(f"{group}={name}" for group, name in choices.items()), *values]


def small(part: Part) -> dict[str, Any]:
    """A demo-sized network with the part in it."""
    if part in PARTS:
        return copy.deepcopy(composed(*beside(part)))
    others = [override for override in beside(part) if not override.startswith(f"{part.slot}=")]
    return copy.deepcopy({**composed(*others), part.slot: part.node})


def name_of(value: Any) -> str:
    return f"{value.slot}/{value.name}" if isinstance(value, Part) else str(value)


@pytest.mark.parametrize("part", PARTS, ids=name_of)
def test_part_keeps_the_contract(part: Part) -> None:
    assert list(violations(small(part))) == []


@pytest.mark.parametrize("part", [p for p in PARTS if p.slot != "recipe"], ids=name_of)
def test_part_builds_at_published_size(part: Part) -> None:
    config = compose(*beside(part))
    recipe = build_recipe(config)
    assert build(recipe, config, example_rows(config, recipe)[0]).parameter_count() > 0


def test_the_grid_has_81_combinations() -> None:
    assert len(GRID) == 81 and {name for choices in GRID for name in choices} == set(PUBLISHED_PARTS)


OTHERS = [part for part in PARTS if part.name not in PUBLISHED_PARTS]


@pytest.mark.parametrize("choices", GRID, ids="+".join)
def test_every_combination_takes_a_step(choices: tuple[str, ...]) -> None:
    takes_a_step(demo(*choices))


@pytest.mark.parametrize("part", OTHERS, ids=name_of)
def test_every_other_part_takes_a_step(part: Part) -> None:
    takes_a_step(small(part))


def takes_a_step(config: dict[str, Any]) -> None:
    torch.manual_seed(0)
    recipe = build_recipe(config)
    task, rows = example_rows(config, recipe)
    network = build(recipe, config, task)
    optimizer, scheduler = build_optimizer(network, config, steps=10)
    _, batch = loaded(recipe, task, rows, network)
    before = {name: value.clone() for name, value in network.named_parameters()}
    loss = network.loss(network(batch), batch)
    loss.backward()
    optimizer.step()
    scheduler.step()
    assert torch.isfinite(loss)
    assert any(not torch.equal(before[name], value) for name, value in network.named_parameters())


# no dead knobs: every value in every YAML changes something

Place = tuple[str, ...]  # of a value in a part's YAML: its key, and the keys below it in a dictionary


def knobs(part: Part) -> Iterator[Place]:
    """Every value of a part's YAML; of a dictionary, every value in it."""

    def below(place: Place, value: Any) -> Iterator[Place]:
        if isinstance(value, dict) and "train" in value:
            return  # a whole network of another run, which tests/test_bias.py is about
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                yield from below((*place, key), inner)
        else:
            yield place

    for key, value in part.values.items():
        yield from below((key,), value)


def hint_of(part: Part, place: Place) -> Any:
    """The type that the constructor says for a value; Any where it says none."""
    module, _, name = part.node["_target_"].rpartition(".")
    hint = typing.get_type_hints(getattr(importlib.import_module(module), name).__init__).get(place[0], Any)
    for _ in place[1:]:
        inner = [options[1] for options in map(typing.get_args, alternatives(hint)) if len(options) == 2]
        hint = inner[0] if inner else Any
    return hint


def alternatives(hint: Any) -> list[Any]:
    """The types of a union, in order; a type that is none, alone."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return [inner for option in typing.get_args(hint) for inner in alternatives(option)] if is_union else [hint]


def in_the_comment(part: Part, place: Place) -> list[str]:
    """The words behind a value's `#`, among which are its other choices: `residual: concatenate # or add`."""
    line = re.search(rf"^\s*{re.escape(place[-1])}:[^#\n]*#(.*)$", part.file.read_text(encoding="utf-8"), re.MULTILINE)
    return re.findall(r"[\w./+-]*\w", line[1]) if line else []


def changed(value: Any, hint: Any = Any, words: list[str] | None = None) -> list[Any]:
    """Other values for a knob, in the order in which they are tried; the block may refuse some of them.

    hint: its type in the constructor. words: what its comment names.
    """
    options = alternatives(hint)
    literals = [
        choice for option in options if typing.get_origin(option) is Literal for choice in typing.get_args(option)
    ]
    found: list[Any] = [choice for choice in literals if choice != value or type(choice) is not type(value)]
    if isinstance(value, bool):
        found = [not value, *found]
    elif isinstance(value, int):
        found = [*found, value + 2, value * 2, value + 1, value * 50, value - 1]
    elif isinstance(value, float):
        found = [*found, value / 2 + 0.2, value + 1, value / 2]
    elif isinstance(value, str):
        found = [*found, *(words or []), *(text for text in (value[::-1], value[:-1], value + "A") if text != value)]
    elif isinstance(value, list):
        inner = next((typing.get_args(o)[0] for o in options if typing.get_origin(o) in (list, tuple)), Any)
        tried = itertools.zip_longest(*(changed(item, inner, words) for item in value))
        filled = [[was if new is None else new for was, new in zip(value, items, strict=True)] for items in tried]
        found = [*found, *filled, value[:-1], [*value, *value[-1:]]]
        found += [[item] for item in samples(inner, words)]
    elif isinstance(value, dict):  # an empty one
        found = [*found, *({"a": item} for item in samples(Any, words))]
    return [*found, *(item for option in options if option is not type(value) for item in samples(option, words))]


def samples(hint: Any, words: list[str] | None) -> list[Any]:
    """A few values of a type."""
    origin = typing.get_origin(hint)
    if origin in (list, tuple):
        return [[item] for item in samples((*typing.get_args(hint), Any)[0], words)]
    known = {bool: [True, False], int: [4, 2], float: [0.25, 2.0], str: [*(words or []), "A"], type(None): [None]}
    return [*itertools.chain(*known.values())] if hint is Any else known.get(hint, [])


def behaviour(config: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that a hyperparameter can change: shapes, initial values, rates, outputs and loss, training and
    scoring."""
    torch.manual_seed(0)
    recipe = build_recipe(config)
    task, rows = example_rows(config, recipe)
    network = build(recipe, config, task)
    samples, batch = loaded(recipe, task, rows, network)
    torch.manual_seed(1)
    network.train()
    loss = network.loss(network(batch), batch)
    scores = predict(network, recipe, task, task.hold_out(recipe, samples), batch_size=8)
    rates = [group["max_lr"] for group in learning_rate_groups(network, config)]
    often = torch.arange(len(samples) * recipe.samples_per_sequence).repeat(20)  # for what is drawn by chance
    generator = torch.Generator().manual_seed(1)
    return {
        "draws": recipe.training_batch(samples, often, task, generator, network.columns),
        "epoch": list(recipe.epoch(samples, 8, generator)),
        "batch": batch,
        "weights": dict(network.named_parameters()),
        "loss": loss,
        "scores": {name: torch.from_numpy(output) for name, output in scores.items()},
        "rates": rates,
        "fits": torch.tensor(recipe.fits(torch.arange(400).numpy())),
    }


def differ(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.shape != b.shape or not torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() != b.keys() or any(differ(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) != len(b) or any(differ(x, y) for x, y in zip(a, b, strict=True))
    return a != b


@functools.cache
def unchanged(file: Path) -> dict[str, Any]:
    """The behaviour of the part of a file as its YAML has it."""
    return behaviour(small(next(part for part in PARTS if part.file == file)))


def dead(part: Part, place: Place) -> str | None:
    """Why a value of a part's YAML seems to do nothing; None where it does something."""
    base = small(part)
    before = unchanged(part.file) if part in PARTS else behaviour(base)
    was = functools.reduce(lambda node, key: node[key], place, base[part.slot])
    refused, changes_nothing = [], []
    for value in changed(was, hint_of(part, place), in_the_comment(part, place)):
        config = copy.deepcopy(base)
        functools.reduce(lambda node, key: node[key], place[:-1], config[part.slot])[place[-1]] = value
        try:
            after = behaviour(config)
        except Exception as error:  # this value cannot be had beside the others, as heads that do not divide the width
            refused.append(f"{value!r}: {error}")
            continue
        if differ(before, after):
            return None
        changes_nothing.append(value)
    key = f"{part.slot}/{part.name}: {'.'.join(place)}"
    if changes_nothing:
        return f"{key} changes nothing, as {was!r} or {changes_nothing}"
    return f"{key}: no other value was taken, name one in its comment or its type: {refused}"


KNOBS = [(part, place) for part in PARTS for place in knobs(part)]


@pytest.mark.parametrize(("part", "place"), KNOBS, ids=lambda v: ".".join(v) if isinstance(v, tuple) else name_of(v))
def test_no_dead_knob(part: Part, place: Place) -> None:
    assert dead(part, place) is None


@pytest.mark.parametrize("recipe", NAMES["recipe"])
@pytest.mark.parametrize("optim", ["onecycle", "published"])
def test_no_dead_optimiser_knob(recipe: str, optim: str) -> None:
    base = compose(f"recipe={recipe}", f"optim={optim}", "experiment=demo", "core=proformer")

    def trajectory(config: dict[str, Any]) -> Any:
        network = build(build_recipe(config), config, example_task())
        optimizer, scheduler = build_optimizer(network, config, steps=40)
        rates = []
        for _ in range(40):
            rates.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            scheduler.step()
        return rates, {k: v for k, v in optimizer.defaults.items() if k != "lr"}

    for node in ("optimizer", "schedule"):
        for key, value in base["optim"][node].items():
            if key != "_target_":
                config = copy.deepcopy(base)
                config["optim"][node][key] = [0.8, 0.9] if isinstance(value, list) else changed(value)[0]
                assert trajectory(config) != trajectory(base), f"{optim} of {recipe}: {node}.{key} changes nothing"


# parts of a stranger's: knobs of every type, in a core that changes the length


class Pooling(Block):
    """(B, C, L) -> (B, C * repeat, L / 2): pools, then a few steps that hang on one value each."""

    def __init__(
        self,
        inputs: InputSpec,
        *,
        kind: str,
        norm: Literal["layer", "none"],
        order: list[str],
        steps: dict[str, dict[str, float]],
        bias: bool,
        clamp: float | None,
        kernels: list[int] | None,
        motif: str,
        scales: dict[str, float],
        repeat: int | Literal["twice"],
    ) -> None:
        super().__init__()
        self.pool = {"mean": nn.AvgPool1d, "largest": nn.MaxPool1d}[kind](2)
        self.norm = nn.GroupNorm(1, inputs.channels) if norm == "layer" else nn.Identity()
        known = {"silu": nn.SiLU(), "double": nn.Threshold(0.1, 0.3), "relu": nn.LeakyReLU(0.3)}
        self.order = nn.Sequential(*(known[step] for step in order))
        self.affine, self.clamp = steps["affine"], clamp
        self.motif = sum(map(ord, motif)) / 100
        self.scales = sum(scales.values())
        self.repeat = 2 if repeat == "twice" else repeat
        self.convs = nn.ModuleList(
            nn.Conv1d(inputs.channels, inputs.channels, 2 * size + 1, padding=size, bias=bias)
            for size in kernels or [1]
        )
        self.out_channels = inputs.channels * self.repeat

    def forward(self, x: Tensor) -> Tensor:
        x = self.order(self.norm(self.pool(x))) * self.affine["scale"] + self.affine["shift"] + self.motif + self.scales
        x = sum(conv(x) for conv in self.convs)
        return torch.cat([x if self.clamp is None else x.clamp(max=self.clamp)] * self.repeat, dim=1)


class Idle(Block):
    """Takes the same values and reads none of them."""

    def __init__(
        self,
        inputs: InputSpec,
        *,
        kind: str,
        norm: Literal["layer", "none"],
        order: list[str],
        steps: dict[str, dict[str, float]],
        bias: bool,
        clamp: float | None,
        kernels: list[int] | None,
        motif: str,
        scales: dict[str, float],
        repeat: int | Literal["twice"],
    ) -> None:
        super().__init__()
        self.out_channels = inputs.channels
        self.conv = nn.Conv1d(inputs.channels, inputs.channels, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


STRANGE = """\
# prixfixe train recipe=bhi core=strange final=mlp
_target_: test_contract.CLASS
kind: mean # or largest
norm: layer
order: [silu, double] # of silu, double, relu
steps: # each with its values
  affine:
    scale: 0.5
    shift: 0.0
bias: true
clamp: null # or a limit
kernels: null
motif: GATTACA
scales: {}
repeat: 1
"""
PLACES = [
    *(("kind",), ("norm",), ("order",), ("steps", "affine", "scale"), ("steps", "affine", "shift"), ("bias",)),
    *(("clamp",), ("kernels",), ("motif",), ("scales",), ("repeat",)),
]


def strange(folder: Path, name: str) -> Part:
    file = folder / "strange.yaml"
    file.write_text(STRANGE.replace("CLASS", name))
    return Part("core", "strange", file, yaml.safe_load(file.read_text()))


def test_a_core_that_changes_the_length_is_tested_beside_the_parts_that_its_yaml_names(tmp_path: Path) -> None:
    part = strange(tmp_path, "Pooling")
    slots = {"recipe": "bhi", "first": "conv", "core": "strange", "final": "mlp"}
    assert pairing(part) == {"task": "expression", "dataset": "simulated", **slots}
    config = small(part)
    assert list(violations(config)) == []
    network = build(build_recipe(config), config, example_task())
    assert network.core(torch.zeros(1, 32, 110)).shape == (1, 32, 55)


def test_knobs_of_every_type_are_known_to_do_something(tmp_path: Path) -> None:
    part = strange(tmp_path, "Pooling")
    assert list(knobs(part)) == PLACES
    assert [reason for place in PLACES if (reason := dead(part, place))] == []


def test_knobs_of_every_type_are_found_where_they_do_nothing(tmp_path: Path) -> None:
    part = strange(tmp_path, "Idle")
    reasons = [dead(part, place) for place in PLACES]
    assert [reason and reason.partition(" changes nothing")[0] for reason in reasons] == [
        f"core/strange: {'.'.join(place)}" for place in PLACES
    ]


def test_a_part_that_an_experiment_chooses_is_tested_beside_that_experiments(tmp_path: Path) -> None:
    for folder in ("experiment", "core"):
        (tmp_path / folder).mkdir()
    (tmp_path / "experiment" / "a.yaml").write_text("defaults:\n  - grid81\n  - override /core: bilstm\n")
    chosen = "defaults:\n  - override /recipe: unlockdna\n  - override /core: new\n  - override /optim: published\n"
    (tmp_path / "experiment" / "b.yaml").write_text(chosen)
    part = Part("core", "new", tmp_path / "core" / "new.yaml", {})
    part.file.write_text("_target_: test_contract.Pooling\n")
    assert {slot: pairing(part)[slot] for slot in SLOTS} == {
        "recipe": "unlockdna",
        "first": "conv",
        "core": "new",
        "final": "soft_bins",
    }
