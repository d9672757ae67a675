"""What the plain recipe draws in training: strands, inserts between unchanged adapters, shifts; and nothing of it where
it is left out, or where rows are scored."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import compose, random_strings, reverse_complement
from test_fit import weights
from test_recipes import letters

from prixfixe.common.errors import ContractError, InputError
from prixfixe.contract import Batch, Measurements, Sequences
from prixfixe.data.recipe import Recipe, Samples
from prixfixe.menu.check import example_task
from prixfixe.networks.network import build
from prixfixe.runs.checkpoint import checkpoints
from prixfixe.runs.folder import identity
from prixfixe.training.build import build_recipe, build_task
from prixfixe.training.experiment import run
from prixfixe.training.keeper import Keeper

LEFT, RIGHT = "AGGACCGGATCAACT", "CATTGCGTGAACCGA"  # of lentiMPRA
INSERTS = [*random_strings(4, 20), "ACGTN" * 3, *random_strings(1, 9, seed=1), ""]
STRINGS = [LEFT + insert + RIGHT for insert in INSERTS]
TURNED = [LEFT + reverse_complement(insert) + RIGHT for insert in INSERTS]
ADDED = ("strand_flag", "flip_insert", "shift", "beside")
LENGTH = 50
OFTEN = 400


def recipe_of(*overrides: str) -> Recipe:
    return build_recipe(compose("recipe=plain", f"recipe.length={LENGTH}", *overrides))


def loaded(recipe: Recipe, strings: list[str] = STRINGS, **columns: Any) -> Samples:
    rows = Sequences.from_strings(strings)
    return recipe.load(rows, torch.device("cpu"), np.arange(len(strings), dtype=float), columns=columns)


def train(recipe: Recipe, samples: Samples, times: int = OFTEN, seed: int = 0) -> Batch:
    """Every row so many times."""
    chosen = torch.arange(len(samples)).repeat(times)
    return recipe.training_batch(samples, chosen, example_task(), torch.Generator().manual_seed(seed))


def padded(string: str) -> str:
    return string.ljust(LENGTH, "N")


# inserts


def test_an_insert_is_turned_between_unchanged_ends_and_its_flag_with_it() -> None:
    recipe = recipe_of("recipe.flip_insert=[15,15]", "recipe.flags=[gc,is_reverse]")
    is_reverse = np.array([True, False, True, False, False, True, True])
    gc = np.linspace(0, 1, len(STRINGS), dtype=np.float32)
    batch = train(recipe, loaded(recipe, gc=gc, is_reverse=is_reverse))
    turned = []
    for number, (string, other, (share, flag)) in enumerate(
        zip(letters(batch["x"]), batch["x"][:, 5, 7].tolist(), batch["x"][:, 4:, 0].tolist(), strict=True)
    ):
        row = number % len(STRINGS)
        assert share == gc[row]
        assert other == flag, "constant over positions"
        assert batch["y"][number] == row
        turned.append(flag != is_reverse[row])
        assert string == padded((TURNED if turned[-1] else STRINGS)[row])
    assert 0.45 < np.mean(turned) < 0.55
    both = np.array(turned).reshape(OFTEN, len(STRINGS))
    assert (both.mean(axis=0) > 0.35).all(), "every row in both orientations"
    assert 0.4 < (both != both[:, :1])[:, 1:].mean() < 0.6, "a draw a row, not one for all"


def test_an_insert_that_is_turned_twice_is_the_given_one() -> None:
    recipe = recipe_of("recipe.flip_insert=[15,15]", "recipe.flags=[]")
    for strings in (TURNED, STRINGS):
        seen = set(letters(train(recipe, loaded(recipe, strings))["x"]))
        assert seen == {*map(padded, STRINGS), *map(padded, TURNED)}


def test_masks_lie_on_what_is_given() -> None:
    recipe = recipe_of("recipe.flip_insert=[15,15]", "recipe.mask_share=0.2", "recipe.flags=[]")
    batch = train(recipe, loaded(recipe))
    whole = ["".join("ACGTN"[code] for code in row) for row in batch["tokens"].tolist()]
    known = [{padded(a), padded(b)} for a, b in zip(STRINGS, TURNED, strict=True)]
    for number, (string, masked, mask) in enumerate(zip(whole, letters(batch["x"]), batch["mask"], strict=True)):
        assert string in known[number % len(STRINGS)]
        hidden = "".join("N" if hide else letter for letter, hide in zip(string, mask.tolist(), strict=True))
        assert masked == hidden
    nucleotides = batch["tokens"] < 4
    assert not batch["mask"][~nucleotides].any()
    assert batch["mask"][nucleotides].float().mean() == pytest.approx(0.2, abs=0.02)


# shifts and strands


@pytest.mark.parametrize("beside", [("", ""), ("GATTACA", "CCCCT")], ids=str)
def test_a_shift_brings_into_view_what_stands_beside(beside: tuple[str, str]) -> None:
    overrides = [] if beside == ("", "") else [f"recipe.beside=[{','.join(beside)}]"]
    recipe = recipe_of("recipe.shift=[3,9]", *overrides)
    samples = loaded(recipe, [random_strings(1, LENGTH)[0], *STRINGS])
    batch = train(recipe, samples)
    before, behind = beside
    for number, (string, shift) in enumerate(zip(letters(batch["x"]), batch["shift"].tolist(), strict=True)):
        own = [random_strings(1, LENGTH)[0], *STRINGS][number % len(samples)]
        whole = "N" * 20 + before + own + behind + "N" * LENGTH
        begin = 20 + len(before) + shift
        assert string == whole[begin : begin + LENGTH]
    counts = Counter(batch["shift"].tolist())
    assert sorted(counts) == list(range(-3, 10)), "every shift, both ends among them"
    assert max(counts.values()) < 1.35 * min(counts.values())
    assert recipe.most_shift == 9


def test_a_strand_is_drawn_of_the_shifted_window_and_its_flag_turns() -> None:
    recipe = recipe_of("recipe.reverse_complement=drawn", "recipe.shift=[0,4]", "recipe.flags=[is_reverse]")
    assert (recipe.views, recipe.samples_per_sequence) == (1, 1)
    samples = loaded(recipe, is_reverse=np.array([True, False, True, False, False, True, True]))
    batch = train(recipe, samples)
    for number, (string, shift, reverse) in enumerate(
        zip(letters(batch["x"]), batch["shift"].tolist(), batch["reverse"].tolist(), strict=True)
    ):
        row = number % len(STRINGS)
        plus = (STRINGS[row] + "N" * LENGTH)[shift : shift + LENGTH]
        assert string == (reverse_complement(plus) if reverse else plus)
        assert batch["x"][number, 4, 0] == (samples["is_reverse"][row].item() != reverse)
    assert 0.45 < batch["reverse"].float().mean() < 0.55


def test_the_published_shifts_of_mpralegnet() -> None:
    config = compose("experiment=mpralegnet", "dataset=simulated")
    recipe = build_recipe(config)
    [string] = random_strings(1, 230)
    batch = train(recipe, loaded(recipe, [string]), times=2000)
    seen = set(letters(batch["x"]))
    behind = "CACTAGAGGGTATATAATGGAAGCTCGACTTCCAGCTTGGCAATCCGGTACTGT"
    windows = {string[shift:] + behind[:shift] for shift in range(22)}
    assert seen == windows | set(map(reverse_complement, windows))


# where nothing is drawn


@pytest.mark.parametrize(
    "overrides", [["recipe.flip_insert=[15,15]"], ["recipe.reverse_complement=drawn", "recipe.shift=[5,5]"]], ids=str
)
def test_rows_are_scored_as_they_are_given(overrides: list[str]) -> None:
    plain, recipe = recipe_of("recipe.flags=[is_reverse]"), recipe_of("recipe.flags=[is_reverse]", *overrides)
    is_reverse = np.arange(len(STRINGS)) % 2 == 0
    [[one]] = plain.scoring_batches(loaded(plain, is_reverse=is_reverse), 100)
    [[other]] = recipe.scoring_batches(loaded(recipe, is_reverse=is_reverse), 100)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert letters(one["x"]) == list(map(padded, STRINGS))


@pytest.mark.parametrize("reverse", ["true", "false"])
def test_without_them_nothing_is_drawn_and_runs_are_those_of_before(reverse: str) -> None:
    config = compose("recipe=plain", f"recipe.length={LENGTH}", f"recipe.reverse_complement={reverse}")
    before = {key: value for key, value in config["recipe"].items() if key not in ADDED}
    assert len(before) == len(config["recipe"]) - len(ADDED)
    old = {**config, "recipe": before}
    assert identity(old, "data") == identity(config, "data")
    recipe, same = build_recipe(config), build_recipe(old)  # a run of before is read
    generator = torch.Generator().manual_seed(3)
    state = generator.get_state()
    chosen = torch.arange(len(STRINGS) * recipe.samples_per_sequence)
    batch = recipe.training_batch(loaded(recipe), chosen, example_task(), generator)
    assert torch.equal(generator.get_state(), state)
    again = same.training_batch(loaded(same), chosen, example_task(), generator)
    assert batch.keys() == again.keys() == {"x", "y", "y_probs"}
    assert torch.equal(batch["x"], again["x"])
    assert letters(batch["x"])[: len(STRINGS)] == list(map(padded, STRINGS))
    assert recipe.fits(np.array([0, 10, 500])).all()


@pytest.mark.parametrize("change", ["flip_insert=[15,15]", "shift=[0,3]", "reverse_complement=drawn"])
def test_with_them_it_is_another_run(change: str) -> None:
    settings = ("recipe=plain", f"recipe.length={LENGTH}")
    one, other = compose(*settings), compose(*settings, f"recipe.{change}")
    assert identity(one, "data") != identity(other, "data")


def test_draws_follow_from_the_generator_alone() -> None:
    recipe = recipe_of("recipe.flip_insert=[15,15]", "recipe.shift=[2,2]", "recipe.mask_share=0.1")
    samples = loaded(recipe)
    one, same, other = (train(recipe, samples, seed=seed) for seed in (5, 5, 6))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["tokens"], other["tokens"])
    parts = recipe.cut(one, 7)
    assert all(torch.equal(torch.cat([part[key] for part in parts]), one[key]) for key in one)


def small(*overrides: str) -> dict[str, Any]:
    return compose(
        *("experiment=mpralegnet", "dataset=simulated", "dataset.size=150", "recipe.length=120", "first.channels=8"),
        *("first.kernel_size=3", "core.widths=[8]", "core.pool_sizes=[4]", "final.widths=[8]", "training.epochs=3"),
        *("training.batch_size=16", "training.device=cpu", *overrides),
    )


def test_a_run_that_breaks_off_ends_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, after_step = small("training.checkpoint_minutes=0"), Keeper.after_step
    run(config, tmp_path / "whole", show_progress=False)

    def breaks_off(keeper: Keeper, *facts: Any) -> None:
        after_step(keeper, *facts)
        if keeper.account.step == 13:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "after_step", breaks_off)
        with pytest.raises(KeyboardInterrupt):
            run(config, tmp_path / "broken", show_progress=False)
    assert checkpoints(tmp_path / "broken")
    run(config, tmp_path / "broken", show_progress=False)
    assert weights(tmp_path / "broken") == weights(tmp_path / "whole")


# what cannot be had


def test_training_leaves_out_what_has_no_insert_or_no_right_end() -> None:
    whole, short = recipe_of("recipe.flip_insert=[15,15]"), recipe_of("recipe.shift=[0,2]")
    assert whole.fits(np.array([0, 29, 30, 31, LENGTH, LENGTH + 1])).tolist() == [False] * 3 + [True, True, False]
    assert short.fits(np.array([0, 1, LENGTH, LENGTH + 1])).tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["flip_insert=[15]"], "give two values"),
        (["flip_insert=[15,-1]"], "flip_insert"),
        (["flip_insert=[15,15]", "reverse_complement=drawn"], "choose one of them"),
        (["beside=[ACGT,ACGT]"], "give shift="),
        (["beside=[ACGT,AC1]", "shift=[0,2]"], "A C G T N"),
        (["flip_insert=[15,15]", "flags=[rev]"], "strand_flag"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_had_are_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        recipe_of(*(f"recipe.{override}" for override in overrides))
    assert recipe_of("recipe.flip_insert=[15,15]", "recipe.flags=[rev]", "recipe.strand_flag=rev")
    assert recipe_of("recipe.flip_insert=[15,15]", "recipe.flags=[gc]", "recipe.strand_flag=null")


def test_a_profile_is_not_left_behind() -> None:
    profile = np.random.default_rng(0).poisson(1.0, size=(7, LENGTH)).astype(np.float32)
    columns = {"profile": profile}
    rows = Measurements(Sequences.from_strings(random_strings(7, LENGTH)), np.zeros((7, 0)), columns=columns)

    def build_with(*overrides: str) -> None:
        config = compose("recipe=plain", f"recipe.length={LENGTH}", "task=profile", "first=conv", *overrides)
        build(build_recipe(config), config, build_task(config).fitted(rows))

    for override, said in (("flip_insert=[5,5]", "turns inserts"), ("shift=[0,2]", "moves windows")):
        with pytest.raises(ContractError, match=said):
            build_with(f"recipe.{override}")


# the real sample


def test_real_inserts_become_those_of_the_other_library(real_data: Path) -> None:
    """Where an insert stands in the sample in both orientations, the one that is turned is the other."""
    given: list[str] = []
    for part in ("train", "val"):
        path = real_data / "human" / f"lentimpra_{part}.tsv"
        if not path.exists():
            pytest.skip(f"no {path}")
        with path.open() as file:
            given += [row["seq"] for row in csv.DictReader(file, delimiter="\t")]
    recipe = build_recipe(compose("recipe=plain", "recipe.length=230", "recipe.flip_insert=[15,15]"))
    seen = letters(train(recipe, loaded(recipe, given), times=1)["x"])
    assert all(string[:15] == LEFT and string[-15:] == RIGHT for string in seen)
    turned = [string for string, before in zip(seen, given, strict=True) if string != before]
    assert 0.45 < len(turned) / len(given) < 0.55
    assert len(set(turned) & set(given)) > 10
