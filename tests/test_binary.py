"""task=binary: scores, probabilities, missing labels, every first and core block, simulated and real promoters."""

import csv
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, compose, random_strings
from sklearn import metrics
from torch import Tensor, nn

import prixfixe
from blocks.final.binary import Binary as BinaryBlock
from prixfixe.cli import main
from prixfixe.common.errors import ContractError, InputError
from prixfixe.common.simulated import is_simulated
from prixfixe.contract import InputSpec, Prediction, TargetSpec
from prixfixe.data.measurements import Measurements
from prixfixe.data.sequences import Sequences
from prixfixe.data.splits import clusters, found_in
from prixfixe.networks.network import build
from prixfixe.runs.folder import RunFolder
from prixfixe.simulation import promoters
from prixfixe.tasks.binary import Binary, binary_scores, calibration_error
from prixfixe.tasks.scores import BINARY
from prixfixe.training.build import build_dataset, build_recipe, build_task
from prixfixe.training.experiment import run

sys.path.append(str(ROOT / "benchmarks" / "bacteria"))

FIRST, CORE = ("conv", "parallel_conv", "kmer"), ("efficientnet", "bilstm", "proformer")
NAN = float("nan")
SMALL = ("experiment=promoters_small", "dataset=simulated_promoters", "training.device=cpu")


def measured(labels: object, tasks: tuple[str, ...] = ("label",)) -> Measurements:
    """Rows of any sequences with these labels, (n,) or (n, tasks)."""
    expression = np.asarray(labels, dtype=np.float64)
    return Measurements(Sequences.from_strings(random_strings(len(expression), 12)), expression, tasks)


def fitted(labels: object, tasks: tuple[str, ...] = ("label",)) -> Binary:
    task = Binary(select="auroc").fitted(measured(labels, tasks))
    assert isinstance(task, Binary)
    return task


# scores


def test_scores_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 500)
    probability = np.clip(0.5 + 0.3 * (label - 0.5) + rng.normal(0, 0.25, 500), 0, 1).round(2)  # with ties
    called = probability >= 0.5
    scores = fitted(label).score(measured(label), {"probability": probability})
    assert scores["n"] == 500
    assert [*scores][:-1] == [score.name for score in BINARY]
    assert scores["auroc"] == pytest.approx(metrics.roc_auc_score(label, probability))
    assert scores["average_precision"] == pytest.approx(metrics.average_precision_score(label, probability))
    assert scores["mcc"] == pytest.approx(metrics.matthews_corrcoef(label, called))
    assert scores["accuracy"] == pytest.approx((called == label).mean())
    assert scores["sensitivity"] == pytest.approx(called[label == 1].mean())
    assert scores["specificity"] == pytest.approx(1 - called[label == 0].mean())
    assert scores["brier"] == pytest.approx(((probability - label) ** 2).mean())


def test_scores_by_hand() -> None:
    scores = binary_scores(np.array([0, 0, 1, 1.0]), np.array([0.1, 0.5, 0.4, 0.9]))  # 0.5 counts as yes
    by_hand = {"auroc": 3 / 4, "average_precision": (1 + 2 / 3) / 2, "mcc": 0, "accuracy": 1 / 2}
    by_hand |= {"sensitivity": 1 / 2, "specificity": 1 / 2, "brier": (0.01 + 0.25 + 0.36 + 0.01) / 4}
    assert {name: scores[name] for name in by_hand} == pytest.approx(by_hand)


def test_calibration_error_by_hand() -> None:
    label, probability = np.array([0, 1, 1, 1.0]), np.array([0.02, 0.04, 0.99, 1.0])
    # of 15 bins two are not empty: |1/2 - 0.03| and |1 - 0.995|, two rows each
    assert calibration_error(label, probability) == pytest.approx((0.47 + 0.005) / 2)


@pytest.mark.parametrize("only", [0, 1])
def test_one_class_alone_has_no_ranks(only: int) -> None:
    scores = binary_scores(np.full(4, float(only)), np.array([0.2, 0.4, 0.6, 0.9]))
    without = {"auroc", "mcc", "specificity" if only else "sensitivity"} | (set() if only else {"average_precision"})
    assert {name for name, value in scores.items() if np.isnan(value)} == without
    assert scores["accuracy"] == 0.5 and scores["specificity" if not only else "sensitivity"] == 0.5


def test_all_alike_predictions_rank_at_random_and_correlate_with_nothing() -> None:
    scores = binary_scores(np.array([0, 1, 0, 1.0]), np.full(4, 0.7))
    assert scores["auroc"] == 0.5 and scores["mcc"] == 0 and scores["sensitivity"] == 1 and scores["specificity"] == 0


def test_a_probability_that_is_not_finite_has_no_scores() -> None:
    scores = binary_scores(np.array([0, 1.0]), np.array([0.2, NAN]))
    assert all(np.isnan(value) for value in scores.values())


def test_missing_labels_are_not_scored() -> None:
    label, probability = [0, NAN, 1, 1, NAN, 0], np.array([0.1, 0.9, 0.8, 0.4, 0.2, 0.6])
    known = [0, 2, 3, 5]
    scores = fitted(label).score(measured(label), {"probability": probability})
    assert scores == {**binary_scores(np.array([0, 1, 1, 0.0]), probability[known]), "n": 4}


def test_several_labels_are_scored_by_themselves_and_averaged() -> None:
    labels = np.array([[0, 1], [1, NAN], [1, 0], [0, 1.0]])
    probability = np.array([[0.2, 0.7], [0.6, 0.9], [0.4, 0.8], [0.3, 0.6]])
    task, rows = fitted(labels, ("a", "b")), measured(labels, ("a", "b"))
    each = task.score_each(rows, {"probability": probability})
    assert each["a"] == {**binary_scores(labels[:, 0], probability[:, 0]), "n": 4}
    assert each["b"] == {**binary_scores(labels[[0, 2, 3], 1], probability[[0, 2, 3], 1]), "n": 3}
    together = task.score(rows, {"probability": probability})
    assert together["auroc"] == pytest.approx((each["a"]["auroc"] + each["b"]["auroc"]) / 2) and together["n"] == 4


def test_a_task_without_a_label_in_these_rows_adds_nothing() -> None:
    labels = np.array([[0, 1], [1, 0.0]])
    rows = measured([[0, NAN], [1, NAN]], ("a", "b"))
    scores = fitted(labels, ("a", "b")).score(rows, {"probability": np.array([[0.2, 0.5], [0.7, 0.5]])})
    assert scores["auroc"] == 1 and scores["n"] == 2


# probabilities, never logits


def test_logits_between_0_and_1_are_logits() -> None:
    logit = torch.tensor([0.0, 0.3, 0.9])
    outputs = fitted([0, 1]).combine([Prediction(logit=logit)], [{}])
    torch.testing.assert_close(outputs["probability"], logit.double().sigmoid())
    assert outputs["probability"].min() == 0.5  # a logit of 0


def test_strands_and_ensembles_average_probabilities() -> None:
    task, logits = fitted([0, 1]), [torch.tensor([4.0, -1.0]), torch.tensor([-2.0, -1.0])]
    outputs = task.combine([Prediction(logit=logit) for logit in logits], [{}, {}])
    expected = (logits[0].double().sigmoid() + logits[1].double().sigmoid()) / 2
    torch.testing.assert_close(outputs["probability"], expected)
    members = [{"probability": logit.double().sigmoid().numpy()} for logit in logits]
    np.testing.assert_allclose(task.ensemble(members)["probability"], expected.numpy())


# missing labels in training


@pytest.mark.parametrize("labels", [[[0, NAN], [NAN, 1], [1, 0.0]], [[NAN, NAN]] * 3])
def test_missing_labels_give_no_gradient(labels: list[list[float]]) -> None:
    torch.manual_seed(0)
    block = BinaryBlock(InputSpec(4, 9), TargetSpec(("a", "b"), (0.5, 0.5)), dropout=0.0)
    features, y = torch.randn(3, 4, 9, requires_grad=True), torch.tensor(labels)
    prediction = block(features)
    loss = block.loss(prediction, {"x": features, "y": y})
    loss.backward()
    known = ~y.isnan()
    expected = nn.functional.binary_cross_entropy_with_logits(prediction["logit"][known], y[known])
    torch.testing.assert_close(loss, expected if known.any() else torch.zeros(()))
    assert features.grad is not None and torch.isfinite(features.grad).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in block.parameters())
    assert block.size({"x": features, "y": y}) == known.sum()


def test_the_bias_begins_at_the_log_odds_of_the_labels() -> None:
    block = BinaryBlock(InputSpec(4, 9), TargetSpec(("a", "b"), (0.25, 1.0)), dropout=0.0)
    torch.testing.assert_close(block.dense.bias, torch.tensor([0.25, 0.99]).logit())


# labels


@pytest.mark.parametrize("wrong", [2, -1, 0.5])
def test_labels_other_than_0_and_1_are_refused(wrong: float) -> None:
    with pytest.raises(
        InputError, match=rf"^label holds {wrong:g}: task binary takes the labels 0 and 1; .*expression"
    ):
        fitted([0, 1, wrong])


@pytest.mark.parametrize("label", [0, 1])
def test_one_label_alone_is_nothing_to_learn(label: int) -> None:
    with pytest.raises(InputError, match=rf"every training sequence has label {label}: there is nothing to learn"):
        fitted([label] * 5)


def test_wrong_labels_end_a_run_with_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_table(tmp_path / "labels.tsv", np.array([0, 1, 2] * 20))
    command = [
        "train",
        *SMALL[:1],
        f"dataset.path={file}",
        "first=conv",
        "core=bilstm",
        f"hydra.sweep.dir={tmp_path}/r",
    ]
    assert main(command) == 2
    assert "label holds 2: task binary takes the labels 0 and 1" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("folds", [("dataset.fold=0",), ("dataset.fold=1", "dataset.test_fold=0")])
def test_wrong_labels_of_held_out_rows_are_refused(folds: tuple[str, ...], tmp_path: Path) -> None:
    lines = [f"{s}\t{2 if i % 3 == 0 else i % 2}\t{i % 3}\n" for i, s in enumerate(random_strings(60))]
    (tmp_path / "labels.tsv").write_text("sequence\tlabel\tfold\n" + "".join(lines))
    table = ("dataset=table", f"dataset.path={tmp_path / 'labels.tsv'}", "dataset.expression=label")
    config = compose("task=binary", "recipe=plain", "final=binary", "training.device=cpu", *table, *folds)
    with pytest.raises(InputError, match="label holds 2: task binary takes the labels 0 and 1"):
        run(config, tmp_path / "run", show_progress=False)
    assert not (tmp_path / "run").exists()


def test_select_is_one_of_the_scores() -> None:
    with pytest.raises(InputError, match=r"task.select=pearson_r: choose one of auroc, average_precision, mcc"):
        Binary(select="pearson_r")


def write_table(path: Path, label: np.ndarray) -> Path:
    """A table of sequence and label."""
    rows = zip(random_strings(len(label), 81), label, strict=True)
    path.write_text("sequence\tlabel\n" + "".join(f"{sequence}\t{value}\n" for sequence, value in rows))
    return path


# networks


@pytest.mark.parametrize(("first", "core"), [*itertools.product(FIRST, CORE)])
def test_every_first_and_core_block_builds_and_trains(first: str, core: str) -> None:
    config = compose(*SMALL, f"first={first}", f"core={core}", "dataset.size=60")
    split = build_dataset(config).read()
    recipe, task = build_recipe(config), build_task(config).fitted(split.train)
    torch.manual_seed(0)
    network = build(recipe, config, task)
    samples = recipe.load(split.train.sequences[:8], torch.device("cpu"), split.train.expression[:8])
    batch = recipe.training_batch(samples, torch.arange(8), task, torch.Generator().manual_seed(0))
    assert batch["x"].shape == (8, 4, 81)
    prediction = network(batch)
    assert prediction["logit"].shape == (8,)
    network.loss(prediction, batch).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


def test_a_final_block_of_another_task_is_refused_by_name() -> None:
    config = compose(*SMALL, "final=mlp", "dataset.size=60")
    split = build_dataset(config).read()
    with pytest.raises(ContractError, match="logit"):
        build(build_recipe(config), config, build_task(config).fitted(split.train))


# simulated promoters


def test_boxes_are_planted_where_the_truth_says() -> None:
    made = promoters.simulate_promoters(3000, seed=1)
    codes, is_promoter = made.sequences.padded(), made.label == 1
    assert len(made) == 3000 and is_promoter.sum() == 1500 and codes.shape == (3000, promoters.LENGTH)
    assert (made.minus10[~is_promoter] == -1).all() and (made.minus35[~is_promoter] == -1).all()
    spacer = (made.minus10 - made.minus35 - promoters.BOX)[is_promoter]
    distance = (promoters.START - (made.minus10 + promoters.BOX - 1))[is_promoter]
    assert set(spacer) == set(promoters.SPACERS) and set(distance) == set(promoters.DISTANCES)
    assert (abs(spacer - 17) <= 1).mean() == pytest.approx(0.92, abs=0.03)  # Harley and Reynolds 1987
    assert (abs(distance - 7) <= 1).mean() == pytest.approx(0.75, abs=0.04)
    for (consensus, shares), start in ((promoters.MINUS_35, made.minus35), (promoters.MINUS_10, made.minus10)):
        found = codes[is_promoter][np.arange(1500)[:, None], start[is_promoter][:, None] + np.arange(promoters.BOX)]
        hits = (found == Sequences.from_strings([consensus]).padded()).mean(axis=0)
        np.testing.assert_allclose(hits, shares, atol=0.05)


def test_composition_tells_nothing_and_the_truth_most() -> None:
    made = promoters.simulate_promoters(4000, seed=2)
    codes = made.sequences.padded()
    for letter in range(4):
        assert abs(metrics.roc_auc_score(made.label, (codes == letter).sum(axis=1)) - 0.5) < 0.03
    assert 0.90 < metrics.roc_auc_score(made.label, promoters.true_log_odds(made.sequences)) < 0.95


def test_simulated_promoters_come_from_their_seed() -> None:
    one, same, other = (promoters.simulate_promoters(100, seed).sequences.to_strings() for seed in (5, 5, 6))
    assert one == same and not set(one) & set(other)


def test_the_simulated_folds_are_apart() -> None:
    config = compose(*SMALL, "dataset.size=500", "dataset.fold=2")
    split = build_dataset(config).read()
    assert split.simulated and is_simulated(config) and split.test is not None and split.near_duplicates == 0
    parts = [set(part.sequences.to_strings()) for part in (split.train, split.validation, split.test)]
    assert list(map(len, parts)) == [300, 100, 100] and len(set.union(*parts)) == 500
    assert split.train.tasks == ("label",) and set(split.train.columns) == {"minus35", "minus10"}


@pytest.mark.parametrize("wrong", ["dataset.fold=4", "dataset.fold=5", "dataset.test_fold=9"])
def test_folds_that_are_not_there_are_refused(wrong: str) -> None:
    with pytest.raises(InputError, match=wrong.replace(".", r"\.")):
        build_dataset(compose(*SMALL, wrong))


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network's run on 2,400 simulated promoters."""
    folder = tmp_path_factory.mktemp("binary") / "run"
    choices = {"recipe": "plain", "first": "kmer", "core": "efficientnet", "final": "binary"}
    tiny = ("dataset.size=4000", "first.channels=16", "core.widths=[8]", "training.epochs=5")
    config = compose(*SMALL, *(f"{slot}={name}" for slot, name in choices.items()), *tiny)
    config["choices"] = {"task": "binary", "dataset": "simulated_promoters", **choices}
    run(config, folder, show_progress=False)
    return folder


def test_a_tiny_network_learns_simulated_promoters(learned: Path) -> None:
    found = json.loads((learned / "metrics.json").read_text())
    assert found["auroc"] > 0.7 and found["test"]["auroc"] > 0.7  # 0.5 is chance, and 0.93 the most that can be
    assert found["task"] == "binary" and found["select"] == "auroc" and found["simulated"]
    assert found["n"] == found["test"]["n"] == 800
    with np.load(learned / "validation.npz") as kept:
        assert ((kept["predicted"] > 0) & (kept["predicted"] < 1)).all()  # probabilities
        assert metrics.roc_auc_score(kept["measured"], kept["predicted"]) == pytest.approx(found["auroc"])


def test_predict_writes_probabilities_and_evaluate_takes_labels(learned: Path, tmp_path: Path) -> None:
    made = promoters.simulate_promoters(60, seed=9)
    table, out = tmp_path / "new.tsv", tmp_path / "predictions.csv"
    rows = zip(made.sequences.to_strings(), made.label, strict=True)
    table.write_text("sequence\tlabel\n" + "".join(f"{sequence}\t{label}\n" for sequence, label in rows))
    assert main(["predict", str(learned), str(table), "-o", str(out)]) == 0
    with out.open() as file:
        written = [float(row["prediction"]) for row in csv.DictReader(file)]
    probabilities = prixfixe.load(learned).predict(made.sequences.to_strings())
    np.testing.assert_allclose(written, probabilities, atol=1e-5)
    assert ((probabilities > 0) & (probabilities < 1)).all()
    assert main(["evaluate", str(learned), str(table), "--expression", "label", "-o", str(tmp_path / "e.json")]) == 0


def test_both_strands_of_a_model_are_averaged_as_probabilities(learned: Path) -> None:
    model = prixfixe.load(learned)
    sequences = promoters.simulate_promoters(20, seed=3).sequences

    class TwoStrands(nn.Module):
        """Says 4 of the strand as given and -2 of the other one."""

        columns: tuple[str, ...] = ()

        def forward(self, batch: dict[str, Tensor]) -> Prediction:
            return Prediction(logit=torch.where(batch["reverse"], -2.0, 4.0))

    recipe = build_recipe(compose(*SMALL, "recipe.reverse_complement=true"))
    network: Any = TwoStrands()
    both = prixfixe.inference.model.Model(network, recipe, model.task, torch.device("cpu"))
    expected = torch.tensor([4.0, -2.0]).double().sigmoid().mean()
    np.testing.assert_allclose(both.predict_sequences(sequences), expected)


# benchmarks/bacteria


def test_logistic_regression_stands_beside_the_networks(learned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import compare
    import logistic_regression

    sweep = learned.parent
    [config] = logistic_regression.splits(sweep)
    split = build_dataset(config).read()
    task = build_task(config).fitted(split.train)
    found = {}
    for features in logistic_regression.FEATURES:
        folder = RunFolder(sweep / logistic_regression.write_run(sweep, config, split, task, features))
        found[features] = folder.metrics()
        assert folder.state() == "done" and folder.name == f"plain+{features}+none+logistic_regression+t4f0"
        with np.load(folder.validation_file) as kept, np.load(learned / "validation.npz") as other:
            np.testing.assert_array_equal(kept["measured"], other["measured"])
            assert found[features]["auroc"] == pytest.approx(metrics.roc_auc_score(kept["measured"], kept["predicted"]))
    assert found["positional_one_hot"]["auroc"] > 0.7 and abs(found["base_composition"]["auroc"] - 0.5) < 0.06
    assert main(["results", str(sweep)]) == 0
    table = capsys.readouterr().out
    assert "positional_one_hot" in table and "kmer" in table
    text = compare.compared(sweep)
    assert "SIMULATED" in text and "The network chosen, kmer+efficientnet," in text and "\n800 rows (" in text


def test_the_auroc_of_a_bootstrap_sample_is_that_of_scikit_learn() -> None:
    import compare

    rng = np.random.default_rng(0)
    labels, probability = rng.integers(0, 2, 60), rng.random(60).round(1)
    weight = rng.integers(0, 4, 60).astype(float)
    expected = metrics.roc_auc_score(labels, probability, sample_weight=weight)
    assert compare.Ranked(labels, probability).auroc(weight) == pytest.approx(expected)
    assert not compare.bootstrap(labels, probability, probability, np.arange(60)).any()


# real promoters


def test_real_promoters_are_parted_in_clusters(real_data: Path) -> None:
    file = real_data / "bacteria" / "promoters.tsv"
    if not file.exists():
        pytest.skip(f"no {file}")
    config = compose("experiment=promoters_small", f"dataset.path={file}")
    split = build_dataset(config).read()
    assert split.test is not None and split.near_duplicates == 0 and not split.warnings
    parts = [split.train, split.validation, split.test]
    assert sum(map(len, parts)) == 4259 and min(map(len, parts)) > 800
    cluster = clusters(Sequences.concatenate([part.sequences for part in parts]))
    train, validation, test = np.split(cluster, np.cumsum([*map(len, parts)])[:-1])
    assert not found_in(validation, train).any() and not found_in(test, np.concatenate([train, validation])).any()
    task = build_task(config).fitted(split.train)
    assert task.spec.tasks == ("label",) and task.spec.mean[0] == pytest.approx(0.52, abs=0.03)
