"""Masked language models: what is masked, what is counted, and the windows of a genome that they learn from."""

import bz2
import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import compose, demo, reverse_complement
from forked import finish, start, until
from torch import nn

import prixfixe
from prixfixe.cli import main
from prixfixe.common.errors import InputError
from prixfixe.contract import Prediction
from prixfixe.data.genome import Genome
from prixfixe.data.measurements import Measurements
from prixfixe.data.recipe import Recipe, Samples
from prixfixe.data.sequences import NUCLEOTIDES, N, Sequences, Windows
from prixfixe.menu.check import example, example_task
from prixfixe.networks.network import Network, build
from prixfixe.runs.checkpoint import checkpoints
from prixfixe.simulation.genome import SimulatedGenome
from prixfixe.tasks.masked import counted_over_masks
from prixfixe.tasks.task import Task
from prixfixe.training.build import build_recipe, build_task
from prixfixe.training.experiment import run
from prixfixe.training.gradients import backward
from prixfixe.training.scoring import predict

SMALL = (
    *(
        "task=masked",
        "dataset=simulated_genome",
        "dataset.nucleotides=120000",
        "dataset.window=60",
        "dataset.stride=60",
    ),
    *("recipe=plain", "recipe.length=60", "recipe.mask_share=0.15", "recipe.reverse_complement=true"),
    *("first=conv", "first.channels=24", "core=efficientnet", "core.widths=[24]", "core.expansion=2", "final=masked"),
    *("training.device=cpu", "training.epochs=2", "training.batch_size=32"),
)
STRINGS = ["ACGTNACGTACGTTGCA", "GGGTTTNNNACGTTTTTTTTTTT", "ACG", "TTTTACCCGATTACAAGGAC"]


def small(*overrides: str) -> dict[str, Any]:
    return compose(*SMALL, *overrides)


def parts(config: dict[str, Any], strings: list[str]) -> tuple[Recipe, Task, Network, Samples]:
    """A recipe, its task, a network with random weights, and held-out samples with their masks."""
    recipe = build_recipe(config)
    sequences = Sequences.from_strings(strings)
    task = build_task(config).fitted(Measurements(sequences, np.empty((len(sequences), 0)), tasks=()))
    torch.manual_seed(0)
    network = build(recipe, config, task)
    return recipe, task, network, task.hold_out(recipe, recipe.load(sequences, torch.device("cpu")))


def random_strings(count: int, length: int) -> list[str]:
    rows = np.random.default_rng(1).choice(list("ACGTN"), (count, length), p=[0.3, 0.2, 0.2, 0.2, 0.1])
    return ["".join(row) for row in rows]


def nothing_measured(count: int) -> Measurements:
    return Measurements(Sequences.from_strings(["A"] * count), np.empty((count, 0)), tasks=())


# what is counted


def test_counts_and_scores_are_those_of_a_hand() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 4, 5))
    tokens = rng.integers(0, 4, size=(3, 5))
    mask = rng.random((3, 5)) < 0.5
    mask[2] = False
    tokens[2] = N  # which no logit stands for
    batch = {"tokens": torch.from_numpy(tokens.astype(np.uint8)), "mask": torch.from_numpy(mask)}
    counted = {k: v.numpy() for k, v in counted_over_masks(torch.from_numpy(logits), batch).items()}
    losses, right = [0.0] * 3, [0] * 3
    for row, position in zip(*np.nonzero(mask), strict=True):
        scores = logits[row, :, position]
        losses[row] += math.log(sum(math.exp(score) for score in scores)) - scores[tokens[row, position]]
        right[row] += int(scores.argmax() == tokens[row, position])
    np.testing.assert_allclose(counted["negative_log_likelihood"], losses, rtol=1e-12)
    assert counted["correct"].tolist() == right
    assert counted["tokens"].tolist() == counted["nucleotides"].tolist() == mask.sum(1).tolist()
    found = build_task(small()).score(nothing_measured(3), counted)
    entropy = sum(losses) / mask.sum()
    assert found == {
        "cross_entropy": pytest.approx(entropy, rel=1e-12),
        "accuracy": pytest.approx(sum(right) / mask.sum(), rel=1e-12),
        "perplexity": pytest.approx(math.exp(entropy), rel=1e-12),
        "nucleotide_cross_entropy": pytest.approx(entropy, rel=1e-12),
        "n": mask.sum(),
    }


def test_a_token_of_several_nucleotides_counts_as_so_many() -> None:
    batch = {
        "tokens": torch.tensor([[0, 1]]),
        "mask": torch.tensor([[True, False]]),
        "token_lengths": torch.tensor([[6, 1]]),
    }
    counted = counted_over_masks(torch.zeros(1, 4, 2), batch)
    scores = build_task(small()).score(nothing_measured(1), {k: v.numpy() for k, v in counted.items()})
    assert scores["cross_entropy"] == pytest.approx(math.log(4))
    assert scores["nucleotide_cross_entropy"] == pytest.approx(math.log(4) / 6)


def test_the_loss_is_the_cross_entropy_that_is_scored() -> None:
    recipe, _, network, samples = parts(small(), random_strings(20, 60))
    batch = next(iter(recipe.scoring_batches(samples, 20)))[0]
    prediction = network.eval()(batch)
    counted = counted_over_masks(prediction["logits"], batch)
    expected = counted["negative_log_likelihood"].sum() / counted["tokens"].sum()
    torch.testing.assert_close(network.loss(prediction, batch).double(), expected)
    assert network.final.size(batch) == counted["tokens"].sum()


# what is masked


def test_held_out_masks_are_the_same_in_every_epoch_and_in_batches_of_any_size() -> None:
    recipe, task, network, samples = parts(small(), random_strings(50, 60))
    fresh = recipe.load(Sequences.from_strings(random_strings(50, 60)), torch.device("cpu"))
    assert torch.equal(task.hold_out(recipe, fresh)["mask"], samples["mask"])
    other = build_task(small("task.seed=1"))
    assert not torch.equal(other.hold_out(recipe, fresh)["mask"], samples["mask"])
    masks = [torch.cat([v[0]["mask"] for v in recipe.scoring_batches(samples, size)]) for size in (50, 50, 7, 1)]
    assert all(torch.equal(masks[0], mask) for mask in masks)
    whole, few = (predict(network, recipe, task, samples, batch_size=size) for size in (50, 7))
    assert whole["tokens"].tolist() == few["tokens"].tolist()
    scores = [task.score(nothing_measured(50), outputs) for outputs in (whole, few)]
    assert scores[0]["cross_entropy"] == pytest.approx(scores[1]["cross_entropy"], rel=1e-6)


def test_masks_of_both_strands_are_of_the_same_nucleotides() -> None:
    recipe, _, _, samples = parts(small("recipe.length=17"), STRINGS)
    for forward, backwards in recipe.scoring_batches(samples, 3):
        assert torch.equal(forward["mask"], backwards["mask"].flip(-1))
        known = forward["tokens"] != N
        assert torch.equal((3 - forward["tokens"])[known], backwards["tokens"].flip(-1)[known])
        for batch in (forward, backwards):
            assert not batch["x"].sum(1)[batch["mask"]].any(), "a masked nucleotide is not to be seen"
            assert torch.equal(batch["x"].sum(1) == 1, ~batch["mask"] & (batch["tokens"] != N))


@pytest.mark.parametrize("share", [0.15, 0.9])
def test_n_is_never_masked_and_a_share_of_the_rest_is(share: float) -> None:
    recipe, task, _, samples = parts(small(f"recipe.mask_share={share}"), random_strings(200, 50))
    chosen = torch.arange(400)
    batch = recipe.training_batch(samples_without_masks(samples), chosen, task, torch.Generator().manual_seed(0))
    for tokens, mask in ((samples.codes, samples["mask"]), (batch["tokens"], batch["mask"])):
        assert not mask[tokens == N].any()
        assert mask[tokens != N].float().mean() == pytest.approx(share, abs=0.02)
    drawn = [
        recipe.training_batch(samples_without_masks(samples), chosen, task, torch.Generator().manual_seed(seed))["mask"]
        for seed in (0, 1)
    ]
    assert torch.equal(batch["mask"], drawn[0])
    assert not torch.equal(*drawn), "every step draws masks of its own"


def weights(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


def samples_without_masks(samples: Samples) -> Samples:
    return Samples(samples.codes, samples.lengths)


def test_where_nothing_is_masked_scores_are_nan_and_nothing_breaks(tmp_path: Path) -> None:
    scores = build_task(small()).score(nothing_measured(2), {k: np.zeros(2) for k in COUNTS})
    assert scores.pop("n") == 0
    assert all(math.isnan(score) for score in scores.values())
    config = small("recipe.mask_share=1e-12", "dataset.nucleotides=6000", "training.epochs=1")
    run(config, tmp_path / "run", show_progress=False)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["cross_entropy"], metrics["n"]) == (None, 0)


COUNTS = ("negative_log_likelihood", "correct", "tokens", "nucleotides")


# training


def test_a_small_model_of_a_simulated_genome_knows_more_than_its_composition(tmp_path: Path) -> None:
    config = small("dataset.nucleotides=60000", "training.epochs=4")
    metrics = run(config, tmp_path / "run", show_progress=False)
    split = SimulatedGenome(**{k: v for k, v in config["dataset"].items() if k != "_target_"}).read()
    shares = np.bincount(split.validation.sequences.letters, minlength=4) / len(split.validation.sequences.letters)
    composition = -(shares * np.log(shares)).sum()
    assert metrics["cross_entropy"] < composition - 0.05
    assert metrics["perplexity"] == pytest.approx(math.exp(metrics["cross_entropy"]))
    assert metrics["simulated"]
    assert metrics["task"] == "masked"
    with pytest.raises(InputError, match=r"trained for task masked, which predicts nothing a sequence.*first.train.w"):
        prixfixe.load(tmp_path / "run").predict(["ACGT"])


def test_a_masked_run_that_is_killed_ends_with_the_same_weights(tmp_path: Path) -> None:
    config = small("dataset.nucleotides=12000", "training.checkpoint_minutes=0")
    finish(start(config, tmp_path / "whole"), tmp_path / "whole")
    killed = tmp_path / "killed"
    process = start(config, killed)
    until(lambda: bool(checkpoints(killed)) or not process.is_alive())
    process.kill()
    process.join()
    assert "going on after step" in finish(start(config, killed), killed)
    assert weights(killed) == weights(tmp_path / "whole")
    histories = [pd.read_csv(p / "history.csv").drop(columns="seconds") for p in (killed, tmp_path / "whole")]
    pd.testing.assert_frame_equal(*histories)


def in_float64(network: Network, batch: dict[str, torch.Tensor]) -> tuple[Network, dict[str, torch.Tensor]]:
    """Without dropout, and with batch norm in eval mode, so that a row's loss does not depend on its neighbours."""
    network.double().train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
        if hasattr(module, "p"):
            module.p = 0.0
    return network, {key: v.double() if v.is_floating_point() else v for key, v in batch.items()}


def gradients(network: Network, recipe: Recipe, batch: dict[str, torch.Tensor], rows: int | None) -> torch.Tensor:
    network.zero_grad()
    backward(network, recipe, batch, rows, torch.float32, 0)
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


@pytest.mark.parametrize("header", ["sequence\n", ""])
def test_a_table_that_measures_nothing_is_learned_from(
    header: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "windows.txt"
    table.write_text(header + "".join(f"{string}\n" for string in random_strings(40, 60)))
    choices = [word for word in SMALL if not word.startswith("dataset")]
    config = compose(*choices, "dataset=table", f"dataset.path={table}", "dataset.expression=[]")
    assert run(config, tmp_path / "run", show_progress=False)["n"] > 0
    assert main(["predict", str(tmp_path / "run"), str(table)]) == 2
    said = capsys.readouterr()
    assert "task masked, which predicts nothing a sequence" in said.err and said.out == ""


@pytest.mark.parametrize("rows", [1, 3, 7])
def test_micro_batches_of_masked_rows_give_the_gradient_of_one_step(rows: int) -> None:
    strings = [string[:length] for string, length in zip(random_strings(20, 60), range(3, 60, 3), strict=False)]
    recipe, task, network, samples = parts(small(), strings)
    drawn = torch.Generator().manual_seed(3)
    batch = recipe.training_batch(samples_without_masks(samples), torch.arange(2 * len(samples)), task, drawn)
    network, batch = in_float64(network, batch)
    assert len(set(batch["mask"].sum(1).tolist())) > 3, "rows count differently"
    whole = gradients(network, recipe, batch, None)
    torch.testing.assert_close(gradients(network, recipe, batch, rows), whole, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("rows", [1, 4])
def test_micro_batches_with_mask_filling_give_the_gradient_of_one_step(rows: int) -> None:
    config = demo("unlockdna", "conv", "efficientnet", "mlp")
    recipe = build_recipe(config)
    network = build(recipe, config, example_task())
    network, batch = in_float64(network, example(recipe)[1])
    assert network.auxiliary
    assert batch["mask"].any()
    whole = gradients(network, recipe, batch, None)
    torch.testing.assert_close(gradients(network, recipe, batch, rows), whole, rtol=1e-6, atol=1e-9)


def test_a_head_reads_the_nearest_position_of_a_shorter_core() -> None:
    recipe, task, network, samples = parts(small(), random_strings(4, 60))
    batch = next(iter(recipe.scoring_batches(samples, 4)))[0]
    features = torch.randn(4, 24, 30)
    prediction: Prediction = network.final(features)
    assert prediction["logits"].shape == (4, 4, 60)
    assert torch.isfinite(network.final.loss(prediction, batch))
    assert task.outputs(recipe.inputs)["logits"].shape == (4, 60)


# the genome


def chromosomes() -> dict[str, str]:
    rng = np.random.default_rng(5)
    made = {f"chr{number}": "".join(rng.choice(list("ACGT"), 100 + 13 * number)) for number in range(1, 6)}
    made["chr2"] = made["chr2"][:30] + "N" * 25 + made["chr2"][55:].lower()
    made["scrap"] = "ACGTACGT"
    return made


def fasta(path: Path, genome: dict[str, str]) -> Path:
    text = "; a comment\n"
    for name, sequence in genome.items():
        text += f">{name} some words\n" + "\n".join(sequence[at : at + 17] for at in range(0, len(sequence), 17)) + "\n"
    opener: Any = {".gz": gzip.open, ".bz2": bz2.open}.get(path.suffix, open)
    with opener(path, "wt") as file:
        file.write(text)
    return path


def genome(path: Path, **settings: Any) -> Genome:
    given = {"window": 20, "stride": 7, "most_unknown": 0.1, "validation": None, "validation_fraction": 0.2}
    return Genome(path=str(path), **{**given, **settings})


@pytest.mark.parametrize("name", ["genome.fa", "genome.fa.gz", "genome.fa.bz2"])
@pytest.mark.parametrize("stride", [1, 7, 20, 31])
def test_windows_are_the_letters_of_the_genome(name: str, stride: int, tmp_path: Path) -> None:
    made = chromosomes()
    split = genome(fasta(tmp_path / name, made), stride=stride, validation=["chr4", "chr5"]).read()
    expected: dict[str, list[str]] = {"train": [], "held_out": []}
    left_out = 0
    for chromosome, sequence in made.items():
        for at in range(0, len(sequence) - 20 + 1, stride):
            window = sequence[at : at + 20].upper()
            if window.count("N") > 2:
                left_out += 1
            else:
                expected["held_out" if chromosome in ("chr4", "chr5") else "train"].append(window)
    assert split.train.sequences.to_strings() == expected["train"]
    assert split.validation.sequences.to_strings() == expected["held_out"]
    assert left_out
    assert any(warning.startswith(f"{left_out} window") for warning in split.warnings)
    assert any("1 sequence of" in warning and "shorter than a window" in warning for warning in split.warnings)
    assert split.train.tasks == ()
    assert split.train.expression.shape == (len(split.train), 0)
    names = list(made)
    for (chromosome, start_, end), window in zip(split.train.regions, expected["train"], strict=True):
        assert made[names[chromosome]][start_:end].upper() == window


def test_overlapping_windows_share_their_letters_and_are_sequences_all_the_same(tmp_path: Path) -> None:
    split = genome(fasta(tmp_path / "g.fa", chromosomes()), stride=1).read()
    windows = split.train.sequences
    strings = windows.to_strings()
    assert isinstance(windows, Windows)
    total = sum(map(len, chromosomes().values()))
    for some in (windows, windows[3:40], windows[np.array([5, 2, 2])]):
        assert len(some.stored) == total
        assert np.shares_memory(some.stored, windows.stored)
    assert windows[3:40].to_strings() == strings[3:40]
    assert windows[np.array([5, 2, 2])].to_strings() == [strings[5], strings[2], strings[2]]
    assert windows[3:6].reverse_complement().to_strings() == [reverse_complement(s) for s in strings[3:6]]
    cut = windows.cut(np.array([1, 2]), np.array([4, 3]), np.array([0, 7]))
    assert cut.to_strings() == [strings[0][1:5], strings[7][2:5]]
    padded = windows[:5].padded(25)
    assert ["".join(NUCLEOTIDES[code] for code in row) for row in padded] == [s + "N" * 5 for s in strings[:5]]
    recipe = build_recipe(small("recipe.length=20"))
    rows = np.array([4, 0, 9])
    codes = recipe.load(windows, torch.device("cpu"), rows=rows).codes.numpy()
    assert ["".join(NUCLEOTIDES[code] for code in row) for row in codes] == [strings[row] for row in rows]


def places(part: Measurements) -> set[tuple[int, int]]:
    """Every nucleotide that is in a window: the number of its chromosome, and its position."""
    assert part.regions is not None
    return {(chromosome, at) for chromosome, first, end in part.regions.tolist() for at in range(first, end)}


def test_no_nucleotide_is_on_both_sides(tmp_path: Path) -> None:
    path = fasta(tmp_path / "g.fa", chromosomes())
    by_name = genome(path, stride=3, validation="chr2").read()
    assert {chromosome for chromosome, _ in places(by_name.validation)} == {1}
    last = genome(path, stride=3).read()
    assert {chromosome for chromosome, _ in places(last.validation)} == {4}, (
        "a fifth of the letters, as near as it goes"
    )
    assert any("last sequences" in warning and "chr5" in warning for warning in last.warnings)
    more = genome(path, stride=3, validation_fraction=0.5).read()
    assert {chromosome for chromosome, _ in places(more.validation)} in ({3, 4}, {2, 3, 4})
    one = genome(fasta(tmp_path / "one.fa", {"plasmid": chromosomes()["chr5"]}), stride=3).read()
    assert any("one sequence" in warning for warning in one.warnings)
    for split in (by_name, last, more, one):
        assert len(split.train)
        assert not places(split.train) & places(split.validation)
    assert len({split.content for split in (by_name, last, more, one)}) == 4


def test_what_a_run_learns_from_is_part_of_its_identity_and_a_path_is_not(tmp_path: Path) -> None:
    made = chromosomes()
    content = genome(fasta(tmp_path / "a.fa", made)).read().content
    assert genome(fasta(tmp_path / "b.fa.gz", made)).read().content == content
    changed = (
        {**made, "chr1": "A" + made["chr1"][1:]} if made["chr1"][0] != "A" else {**made, "chr1": "C" + made["chr1"][1:]}
    )
    for other in (
        genome(fasta(tmp_path / "c.fa", changed)),
        genome(tmp_path / "a.fa", stride=8),
        genome(tmp_path / "a.fa", window=21),
        genome(tmp_path / "a.fa", validation="chr1"),
    ):
        assert other.read().content != content


def test_what_is_wrong_with_a_genome_is_said(tmp_path: Path) -> None:
    path = fasta(tmp_path / "g.fa", chromosomes())
    with pytest.raises(InputError, match=r"has no sequence chrX; it has chr1, chr2"):
        genome(path, validation=["chr1", "chrX"]).read()
    with pytest.raises(InputError, match=r"too few sequences to validate on \(0\)"):
        genome(path, validation="scrap").read()
    with pytest.raises(InputError, match=r"no window of 20 nt is left to train on"):
        genome(path, validation=list(chromosomes())).read()
    with pytest.raises(InputError, match=r"no sequence that holds a window"):
        genome(path, window=5000).read()
    (tmp_path / "iupac.fa").write_text(">chr1\nACGTRACGT\n")
    with pytest.raises(InputError, match="IUPAC's codes for several nucleotides are not read: write N"):
        genome(tmp_path / "iupac.fa").read()
    (tmp_path / "table.tsv").write_text("ACGT\t1\n")
    with pytest.raises(InputError, match="is no FASTA"):
        genome(tmp_path / "table.tsv").read()
    with pytest.raises(InputError, match="the data measure nothing: task=masked"):
        data = ("dataset=genome", f"dataset.path={path}", "dataset.window=20", "dataset.stride=7")
        config = compose(*data, "recipe=plain", "training.device=cpu")
        run(config, tmp_path / "run", show_progress=False)


def test_a_simulated_genome_is_the_same_for_a_seed_and_labelled() -> None:
    settings = {"nucleotides": 5000, "chromosomes": 4, "window": 30, "stride": 10, "validation_fraction": 0.25}
    first, again, other = (SimulatedGenome(seed=seed, **settings).read() for seed in (0, 0, 1))
    assert first.simulated
    assert first.content == again.content != other.content
    assert not places(first.train) & places(first.validation)
    assert {chromosome for chromosome, _ in places(first.validation)} == {3}
