"""The recipes against plain Python: what a reader of the papers would do by hand, one sequence at a time."""

import numpy as np
import pytest
import torch
from conftest import compose, random_strings

from prixfixe.contract import Batch
from prixfixe.data import recipe as recipe_module
from prixfixe.data.encoding import place
from prixfixe.data.recipe import Recipe, Samples
from prixfixe.data.sequences import N, Sequences
from prixfixe.dream.construct import DISTAL, LEFT_FLANK, PROXIMAL, RIGHT_FLANK, UPSTREAM
from prixfixe.dream.singletons import is_singleton
from prixfixe.menu.check import example_task
from prixfixe.tasks.bins import Bins
from prixfixe.training.build import build_recipe

COMPLEMENT = str.maketrans("ACGTN", "TGCAN")
INSERTS = ("ACGT" * 20, "GATTACA" * 8 + "N", "CCGGT" * 21, "")
STRINGS = [LEFT_FLANK + insert + RIGHT_FLANK for insert in INSERTS]
EXPRESSION = np.array([11.0, 3.25, 8.0, 17.0])


def reverse(sequence: str) -> str:
    return sequence.translate(COMPLEMENT)[::-1]


def letters(x: torch.Tensor, alphabet: str = "ACGT") -> list[str]:
    """One-hot (B, C, L) back to strings; all zeros are N."""
    codes = torch.where(x[:, : len(alphabet)].any(1), x[:, : len(alphabet)].argmax(1), len(alphabet))
    return ["".join((alphabet + "N")[code] for code in row) for row in codes.tolist()]


def recipe_of(name: str, *overrides: str) -> Recipe:
    return build_recipe(compose(f"recipe={name}", *overrides))


def loaded(recipe: Recipe) -> Samples:
    return recipe.load(Sequences.from_strings(STRINGS), torch.device("cpu"), EXPRESSION)


def train(recipe: Recipe, chosen: list[int], seed: int = 0) -> Batch:
    return recipe.training_batch(
        loaded(recipe), torch.tensor(chosen), example_task(), torch.Generator().manual_seed(seed)
    )


def score(recipe: Recipe) -> list[Batch]:
    [views] = recipe.scoring_batches(loaded(recipe), 10)
    return views


def test_autosome_extends_by_the_plasmid_and_gives_each_strand_as_a_sample() -> None:
    recipe = recipe_of("autosome")
    plus = [(UPSTREAM + sequence)[-150:].rjust(150, "N") for sequence in STRINGS]
    batch = train(recipe, [0, 1, 2, 3, 4, 5, 6, 7])
    assert letters(batch["x"]) == plus + [reverse(sequence) for sequence in plus]
    assert batch["x"][:, 4].tolist() == [[0.0] * 150] * 4 + [[1.0] * 150] * 4
    assert batch["x"][:, 5, 0].tolist() == [1, 0, 1, 1] * 2
    assert batch["y"].tolist() == [*EXPRESSION, *EXPRESSION]
    forward, backward = score(recipe)
    assert letters(forward["x"]) == plus
    assert letters(backward["x"]) == [reverse(sequence) for sequence in plus]
    assert not forward["x"][:, 4].any()
    assert backward["x"][:, 4].all()
    assert not forward["x"][:, 5].any(), "at scoring nobody knows whether a sequence was seen in one cell"


def test_bhi_pads_with_vector_and_trims_at_the_right() -> None:
    recipe = recipe_of("bhi")
    batch = train(recipe, [0, 1, 2, 3])
    forward, backward = letters(batch["x"][:4]), letters(batch["x"][4:])
    assert len(batch["y"]) == 8, "both strands of every sequence are in the step"
    assert forward[0] == STRINGS[0]
    assert forward[2] == STRINGS[2][:110]
    short, missing = STRINGS[1], 110 - len(STRINGS[1])
    choices = {
        "right": short + PROXIMAL[:missing],
        "left": DISTAL[-missing:] + short,
        "both": DISTAL[-(missing // 2) :] + short + PROXIMAL[: missing - missing // 2],
    }
    assert forward[1] in choices.values()
    assert backward[0] == reverse(forward[0])
    assert letters(score(recipe)[0]["x"])[1] == choices["right"]
    assert letters(score(recipe)[1]["x"])[1] == reverse(choices["right"])


def test_bhi_draws_the_side_in_the_published_shares() -> None:
    recipe = recipe_of("bhi")
    batch = train(recipe, [1] * 9000)
    starts = [sequence.find(LEFT_FLANK) for sequence in letters(batch["x"][:9000])]
    missing = 110 - len(STRINGS[1])
    shares = [starts.count(0) / 9000, starts.count(missing) / 9000, starts.count(missing // 2) / 9000]
    np.testing.assert_allclose(shares, [3 / 9, 4 / 9, 2 / 9], atol=0.03)


def test_bhi_gives_both_strands_of_a_sequence_with_the_same_padding() -> None:
    batch = train(recipe_of("bhi"), [0, 1, 2, 3] * 500)
    forward, backward = letters(batch["x"][:2000]), letters(batch["x"][2000:])
    assert backward == [reverse(sequence) for sequence in forward]
    assert len(set(forward[1::4])) == 3, "and all three ways of padding are drawn"


DRAWN = np.random.default_rng(0)
TENTHS = DRAWN.uniform(0, 17, 2000)


@pytest.mark.parametrize(
    ("expression", "used"),
    [
        (np.where(DRAWN.random(2000) < 0.58, TENTHS.round(), TENTHS), True),  # as in the random promoters
        (np.where(DRAWN.random(2000) < 0.25, TENTHS.round(), TENTHS), True),
        (TENTHS.round(), False),  # rounded: all are integers
        (np.append(TENTHS.round()[:-3], [0.5, 1.5, 16.5]), False),  # all but three
        (TENTHS, False),  # none is
        (TENTHS.round(1), False),  # one in ten is by chance
        (TENTHS - 8.5, False),
        (np.where(DRAWN.random(2000) < 0.58, 0.0, TENTHS / 17), False),  # half of it 0, of another assay
        (np.where(DRAWN.random(2000) < 0.58, TENTHS.round(), TENTHS)[:, None] * [1.0, 1.0], False),  # two tasks
        (np.where(TENTHS > 8, np.nan, TENTHS.round()), False),
    ],
    ids=["58%", "25%", "all", "nearly all", "none", "tenths", "negative", "shares", "two tasks", "missing"],
)
def test_singletons_are_integers_where_these_mean_that(expression: np.ndarray, used: bool) -> None:
    """Where they do not, the channel is there, and 0 in training as it is at scoring."""
    found = is_singleton(expression)
    assert found.tolist() == ((expression == expression.round()) if used else np.zeros(2000, dtype=bool)).tolist()
    recipe = recipe_of("autosome")
    samples = recipe.load(Sequences.from_strings([STRINGS[0]] * 2000), torch.device("cpu"), expression)
    batch = recipe.training_batch(samples, torch.arange(2000), example_task(), torch.Generator().manual_seed(0))
    assert batch["x"].shape[1] == recipe.inputs.channels == 6
    assert batch["x"][:, 5, 0].bool().tolist() == found.tolist()


def test_unlockdna_joins_both_strands_and_masks() -> None:
    recipe = recipe_of("unlockdna")
    assert recipe.fits(np.array([len(s) for s in STRINGS])).tolist() == [True, True, False, False]
    batch = train(recipe, [0, 1])
    padded = [insert.center(100, "N")[:100] for insert in INSERTS[:2]]
    expected = ["N" * ((100 - len(i)) // 2) + i + "N" * (100 - len(i) - (100 - len(i)) // 2) for i in INSERTS[:2]]
    assert padded[0] == expected[0]
    tokens = ["".join("ACGTN"[t] for t in row) for row in batch["tokens"].tolist()]
    assert tokens == [sequence + reverse(sequence) for sequence in expected]
    masked = batch["mask"]
    assert (batch["tokens"][masked] != N).all()
    assert torch.equal(batch["x"][:, 5].bool(), masked)
    assert (batch["x"].sum(1) == 1).all(), "every position is one of A C G T N M"
    assert torch.equal(batch["x"].argmax(1)[~masked], batch["tokens"].long()[~masked])
    [view] = score(recipe)
    assert not view["mask"].any()
    assert letters(view["x"], "ACGTN")[2][:100] == INSERTS[2][:100]
    assert set(letters(view["x"], "ACGTN")[3]) == {"N"}


def test_unlockdna_masks_five_per_cent_of_what_is_not_n() -> None:
    batch = train(recipe_of("unlockdna"), [0] * 2000)
    share = batch["mask"].sum() / (batch["tokens"] != N).sum()
    assert share == pytest.approx(0.05, abs=0.005)


@pytest.mark.parametrize("name", ["autosome", "bhi", "unlockdna"])
def test_the_same_generator_gives_the_same_batch(name: str) -> None:
    recipe = recipe_of(name)
    first, again, other = (train(recipe, [0, 1] * 20, seed) for seed in (5, 5, 6))
    assert all(torch.equal(first[key], again[key]) for key in first)
    if name != "autosome":
        assert not torch.equal(first["x"], other["x"])


@pytest.mark.parametrize("name", ["autosome", "bhi", "unlockdna"])
def test_targets_of_all_kinds_are_in_every_batch(name: str) -> None:
    batch = train(recipe_of(name), [0, 1])
    assert batch["y_probs"].shape == (len(batch["y"]), 18)
    torch.testing.assert_close(batch["y_probs"], Bins().probabilities(batch["y"]))


def test_place_reaches_past_its_neighbours() -> None:
    codes = Sequences.from_strings(["ACG"])
    window = place(
        torch.from_numpy(codes.padded()), torch.from_numpy(codes.lengths), torch.tensor([-3]), 9, left="TT", right="C"
    )
    assert "".join("ACGTN"[c] for c in window[0]) == "NTTACGCNN"


def test_the_plasmid_is_the_published_one(real_data) -> None:  # type: ignore[no-untyped-def]
    import json

    plasmid = json.loads((real_data / "yeast" / "plasmid.json").read_text())
    insert = plasmid.find("N" * 80)
    assert plasmid[:insert].endswith(UPSTREAM + LEFT_FLANK)
    assert plasmid[insert + 80 :].startswith(RIGHT_FLANK + PROXIMAL)


@pytest.mark.parametrize("name", ["autosome", "bhi", "unlockdna"])
def test_loading_in_chunks_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = loaded(recipe_of(name))
    monkeypatch.setattr("prixfixe.data.recipe.CHUNK_ROWS", 3)
    chunked = loaded(recipe_of(name))
    assert torch.equal(whole.codes, chunked.codes)
    assert torch.equal(whole.lengths, chunked.lengths)


@pytest.mark.parametrize("name", ["autosome", "bhi", "unlockdna"])
def test_chosen_rows_are_loaded_as_if_they_were_all(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    strings = [string[: 60 + row % 9] for row, string in enumerate(random_strings(50))]
    recipe, sequences = recipe_of(name), Sequences.from_strings(strings)
    rows, expression = np.array([4, 7, 30, 31, 49]), np.array([1.0, 2.5, 3.0, 4.0, 5.5])
    whole = recipe.load(sequences[rows], torch.device("cpu"), expression)
    monkeypatch.setattr(recipe_module, "CHUNK_ROWS", 2)
    parts = recipe.load(sequences, torch.device("cpu"), expression, rows)
    assert torch.equal(parts.codes, whole.codes) and torch.equal(parts.lengths, whole.lengths)
    own = {"is_singleton"} if name == "autosome" else set()
    assert parts.columns.keys() == whole.columns.keys() == {"expression", *own}
    for column in whole.columns:
        assert torch.equal(parts[column], whole[column]), column
    assert parts.y is not None and torch.equal(parts.y, parts["expression"])
    assert len(recipe.load(sequences[:0], torch.device("cpu"))) == 0


def test_the_random_promoters_tell_their_singletons(real_data) -> None:  # type: ignore[no-untyped-def]
    from prixfixe.data.tables import read_measurements

    random = read_measurements(real_data / "yeast" / "random_promoters.txt").expression
    assert is_singleton(random).mean() == pytest.approx(0.58, abs=0.005)
    assert not is_singleton(random.round()).any() and not is_singleton((random - random.mean()) / random.std()).any()
    designed = read_measurements(real_data / "yeast" / "designed_complex_media.tsv").expression
    assert not is_singleton(designed).any(), "1 % of these are integers by chance"
