"""The contract, over every YAML of every slot: a new part is tested by being there."""

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from conftest import PUBLISHED_PARTS, compose, demo

from prixfixe.block_check import example, targets, violations
from prixfixe.errors import InputError
from prixfixe.experiment import build_optimizer, build_recipe
from prixfixe.menu import Part, menu, partners
from prixfixe.network import build, learning_rate_groups
from prixfixe.run_folder import SLOTS

PARTS = menu()
NAMES = {slot: [part.name for part in PARTS if part.slot == slot] for slot in SLOTS}
GRID = list(itertools.product(*NAMES.values()))


def small(part: Part) -> dict[str, Any]:
    """A demo-sized network with the part in it, and beside it the first choices of the other slots."""
    choices = {slot: NAMES[slot][0] for slot in SLOTS} | {part.slot: part.name}
    return demo(**choices)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{part.slot}/{part.name}")
def test_part_keeps_the_contract(part: Part) -> None:
    assert list(violations(small(part))) == []


@pytest.mark.parametrize("part", [p for p in PARTS if p.slot != "recipe"], ids=lambda part: f"{part.slot}/{part.name}")
def test_part_builds_at_published_size(part: Part) -> None:
    config = partners(PARTS, part)
    assert build(build_recipe(config), config, targets()).parameter_count() > 0


def test_the_grid_has_81_combinations() -> None:
    assert len([choices for choices in GRID if set(choices) <= set(PUBLISHED_PARTS)]) == 81


@pytest.mark.parametrize("choices", GRID, ids="+".join)
def test_every_combination_takes_a_step(choices: tuple[str, ...]) -> None:
    config = demo(*choices)
    torch.manual_seed(0)
    recipe = build_recipe(config)
    network = build(recipe, config, targets())
    optimizer, scheduler = build_optimizer(network, config, steps=10)
    _, batch = example(recipe)
    before = {name: value.clone() for name, value in network.named_parameters()}
    loss = network.loss(network(batch), batch)
    loss.backward()
    optimizer.step()
    scheduler.step()
    assert torch.isfinite(loss)
    assert any(not torch.equal(before[name], value) for name, value in network.named_parameters())


# no dead knobs: every value in every YAML changes something


def knobs() -> Iterator[tuple[Part, str]]:
    for part in PARTS:
        for key in part.values:
            yield part, key


def changed(value: Any) -> list[Any]:
    """Other values for a knob, in the order in which they are tried."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 2, value * 2, value + 1, value * 50]
    if isinstance(value, float):
        return [value / 2 + 0.2, value + 1]
    if isinstance(value, list):
        return [[item + 2 for item in value], [item * 2 for item in value]]
    if value is None:
        return [4]
    return {"concatenate": ["add"], "add": ["concatenate"], "kl": ["mse"]}[value]


def behaviour(config: dict[str, Any]) -> dict[str, Any]:
    """Everything that a hyperparameter can change: shapes, initial values, rates, outputs and loss, training and
    scoring."""
    torch.manual_seed(0)
    recipe = build_recipe(config)
    network = build(recipe, config, targets())
    samples, batch = example(recipe)
    torch.manual_seed(1)
    network.train()
    loss = network.loss(network(batch), batch)
    network.eval()
    with torch.no_grad():
        scores = [network(views[0]).expression for views in recipe.scoring_batches(samples, 8)]
    rates = [group["max_lr"] for group in learning_rate_groups(network, config)]
    often = torch.arange(len(samples) * recipe.samples_per_sequence).repeat(
        20
    )  # for what is drawn with some probability
    return {
        "draws": recipe.training_batch(samples, often, targets().bins, torch.Generator().manual_seed(1)),
        "batch": batch,
        "weights": dict(network.named_parameters()),
        "loss": loss,
        "scores": scores,
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


@pytest.mark.parametrize(
    ("part", "key"), list(knobs()), ids=lambda value: f"{value.slot}/{value.name}" if isinstance(value, Part) else value
)
def test_no_dead_knob(part: Part, key: str) -> None:
    base = small(part)
    before, refused = behaviour(base), []
    for value in changed(base[part.slot][key]):
        config = copy.deepcopy(base)
        config[part.slot][key] = value
        try:
            after = behaviour(config)
        except InputError as error:  # this value cannot be had beside the others, as heads that do not divide the width
            refused.append(str(error))
            continue
        if differ(before, after):
            return
    pytest.fail(f"{part.slot}/{part.name}: {key} changes nothing; {refused}")


@pytest.mark.parametrize("recipe", NAMES["recipe"])
@pytest.mark.parametrize("optim", ["onecycle", "published"])
def test_no_dead_optimiser_knob(recipe: str, optim: str) -> None:
    base = compose(f"recipe={recipe}", f"optim={optim}", "experiment=demo", "core=proformer")

    def trajectory(config: dict[str, Any]) -> Any:
        network = build(build_recipe(config), config, targets())
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
