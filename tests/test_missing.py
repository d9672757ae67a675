"""Several tasks: each in its own units, trained and scored where it was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from conftest import demo, random_strings
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_fit import table
from torch import Tensor

from prixfixe.analysis.evaluation import evaluate_table
from prixfixe.common.errors import InputError, TrainingError
from prixfixe.contract import Batch, Prediction, ScalarFinalBlock, TargetSpec
from prixfixe.data.datasets import Dataset, Split
from prixfixe.data.measurements import Measurements
from prixfixe.data.recipe import Samples
from prixfixe.data.sequences import Sequences
from prixfixe.networks.network import build
from prixfixe.runs.folder import RunFolder
from prixfixe.runs.targets import load_targets
from prixfixe.tasks import metrics
from prixfixe.tasks.bins import Bins
from prixfixe.tasks.expression import bins_of, residual_sd
from prixfixe.tasks.task import Task
from prixfixe.training import experiment
from prixfixe.training.build import build_recipe, build_task
from prixfixe.training.experiment import run
from prixfixe.training.gradients import backward
from prixfixe.training.processes import Processes

TASKS = ("log2FC", "reads")
CPU = torch.device("cpu")
BINS = {"number": 18, "shift": 0.5, "sd": 0.5, "range": None}
FINALS = ("soft_bins kl", "soft_bins mse", "soft_bins huber", "mlp", "expression_heads")


def measurements(n: int = 60, missing: float = 0.2, seed: int = 0) -> Measurements:
    """Two tasks of one signal, the count of G: -1..1 and 0..5000; a share of each is not measured, never both."""
    strings = random_strings(n, seed=seed)
    signal = np.array([string.count("G") for string in strings], dtype=np.float64)
    signal = (signal - signal.min()) / np.ptp(signal)
    expression = np.stack([2 * signal - 1, 5000 * signal], axis=1)
    drawn = np.random.default_rng(seed).random(n)
    expression[drawn < missing / 2, 0] = expression[drawn > 1 - missing / 2, 1] = np.nan
    return Measurements(Sequences.from_strings(strings), expression, TASKS)


def combination(final: str) -> dict[str, Any]:
    name, _, loss = final.partition(" ")
    settings = ["core.widths=[8]", "first.channels=8", "recipe.pad_left=0", "recipe.pad_both=0"]  # none is drawn
    if loss:
        settings.append(f"final.loss={loss}")
    return demo("bhi", "conv", "efficientnet", name, *settings)


def fitted(data: Measurements) -> Task:
    return build_task(combination("mlp")).fitted(data)


def prepared(final: str, data: Measurements) -> tuple[Any, Task, Samples, Batch]:
    """A network in float64 that computes the same whatever else is in the batch, and a batch of all samples."""
    config = combination(final)
    recipe = build_recipe(config)
    task = fitted(data)
    torch.manual_seed(0)
    network = build(recipe, config, task).double().eval()
    samples = recipe.load(data.sequences, CPU, data.expression)
    batch = recipe.training_batch(samples, torch.arange(len(samples)), task, torch.Generator().manual_seed(1))
    return network, task, samples, {key: value.double() for key, value in batch.items()}


# Each in its own units


def test_bins_are_those_of_each_task() -> None:
    data = measurements()
    bins = bins_of(BINS, data, None)
    assert bins.low == (-1.0, 0.0) and bins.high == (1.0, 5000.0)
    y = torch.from_numpy(data.expression)
    for task in range(2):
        own = bins.of_task(task)
        assert own.low == (-1.0, 0.0)[task] and isinstance(own.high, float)
        torch.testing.assert_close(bins.probabilities(y)[:, task], own.probabilities(y[:, task]), equal_nan=True)
        assert torch.equal(bins.probabilities(y)[:, task].isnan().all(-1), y[:, task].isnan())
    inside = torch.tensor([[-0.5, 1000.0], [0.25, 4000.0]], dtype=torch.float64)
    torch.testing.assert_close(
        bins.expression(bins.probabilities(inside)) / torch.tensor([1.0, 5000.0]),
        inside / torch.tensor([1.0, 5000.0]),
        atol=0.01,
        rtol=0,
    )


def test_the_range_of_each_task_can_be_given() -> None:
    data = measurements()
    assert bins_of({**BINS, "range": [-2, 9]}, data, None).high == (9.0, 9.0)
    bins = bins_of({**BINS, "range": [[-2, 2], [0, 9000]]}, data, None)
    assert (bins.low, bins.high) == ((-2.0, 0.0), (2.0, 9000.0))
    with pytest.raises(InputError, match=r"one pair of numbers for each of the 2 tasks \(log2FC, reads\), or one"):
        bins_of({**BINS, "range": [[-2, 2]]}, data, None)
    with pytest.raises(ValueError, match="both be one number"):
        Bins(low=(0.0, 1.0), high=2.0)
    with pytest.raises(ValueError, match="low must be below high"):
        Bins(low=(0.0, 1.0), high=(1.0, 1.0))


def test_constants_are_of_what_was_measured() -> None:
    data = measurements()
    spec = fitted(data).spec
    np.testing.assert_allclose(spec.mean, np.nanmean(data.expression, axis=0), rtol=1e-12)
    np.testing.assert_allclose(spec.std, np.nanstd(data.expression, axis=0), rtol=1e-12)
    nothing = Measurements(data.sequences, data.expression * [1, np.nan], TASKS)
    with pytest.raises(InputError, match="reads was measured in none of the training sequences"):
        fitted(nothing)


@pytest.mark.parametrize("final", FINALS)
def test_units_change_nothing_but_the_predictions_own(final: str) -> None:
    """A task in other units has the same loss and gradients: no task outweighs another by its scale."""
    data = measurements()
    losses, gradients, predictions = [], [], []
    for factor in (1.0, 0.001):
        other = Measurements(data.sequences, data.expression * [1, factor], TASKS)
        network, _, _, batch = prepared(final, other)
        prediction = network(batch)
        loss = network.loss(prediction, batch)
        loss.backward()
        losses.append(loss.detach())
        gradients.append([p.grad for p in network.parameters()])
        predictions.append(prediction.expression.detach() / torch.tensor([1, factor]))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(predictions[0], predictions[1], rtol=1e-4, atol=1e-4)
    for one, other_units in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other_units, rtol=1e-3, atol=1e-6)


# Trained where it was measured


@pytest.mark.parametrize("final", FINALS)
def test_the_loss_is_the_mean_over_what_was_measured(final: str) -> None:
    """Gradients are finite, and those of a batch in which every entry that was not measured is cut out by hand."""
    network, task, _, batch = prepared(final, measurements())
    known = ~batch["y"].isnan()
    loss = network.loss(network(batch), batch)
    loss.backward()
    found = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()

    prediction = network(batch)
    std = torch.tensor(task.spec.std, dtype=torch.float64)
    if final == "soft_bins kl":
        target, log_probs = batch["y_probs"][known], prediction.log_probs[known]
        expected = (torch.xlogy(target, target) - target * log_probs).sum(-1).mean()
    else:
        difference = ((prediction.expression - batch["y"]) / std)[known]
        huber = final.endswith(("huber", "mlp"))
        expected = torch.where(
            (difference.abs() < 1) | (not huber), difference**2 / (1 + huber), difference.abs() - 0.5
        )
        expected = expected.mean()
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-9)
    for got, parameter in zip(found, network.parameters(), strict=True):
        assert torch.isfinite(got).all()
        torch.testing.assert_close(got, parameter.grad, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("final", FINALS)
def test_a_task_without_any_measurement_in_a_batch_gives_zero(final: str) -> None:
    network, _, _, batch = prepared(final, measurements())
    nothing = {**batch, **{key: torch.full_like(batch[key], torch.nan) for key in ("y", "y_probs")}}
    loss = network.loss(network(nothing), nothing)
    loss.backward()
    assert loss == 0 and not any(p.grad.any() for p in network.parameters())


@pytest.mark.parametrize("final", FINALS)
@pytest.mark.parametrize("micro_batch", [None, 7, 1])
def test_parts_and_processes_give_the_gradients_of_the_step(final: str, micro_batch: int | None) -> None:
    network, _, _, whole = prepared(final, measurements())
    recipe = build_recipe(combination(final))
    network.loss(network(whole), whole).backward()
    expected = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    for rank in range(3):
        part, sizes = Processes(rank, 3).part(recipe, whole), network.sizes(whole)
        loss, _ = backward(network, recipe, part, micro_batch, torch.float32, 0, step_sizes=sizes)
        total += loss
    torch.testing.assert_close(total.float(), network.loss(network(whole), whole).float(), rtol=1e-5, atol=1e-7)
    for got, parameter in zip(expected, network.parameters(), strict=True):
        torch.testing.assert_close(got, parameter.grad, rtol=1e-6, atol=1e-8)


class Given(Dataset):
    """Two tasks, some of them not measured; the last rows are for validation."""

    def read(self) -> Split:
        data = measurements(160)
        return Split(data[np.arange(130)], data[np.arange(130, 160)], content="given")


@pytest.mark.parametrize("final", ["soft_bins kl", "mlp"])
def test_a_run_trains_and_scores_what_was_measured(final: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "build_dataset", lambda config, origin: Given())
    config = table(combination(final), tmp_path / "none.tsv", epochs=8, batch_size=16)
    found = run(config, tmp_path / "run", show_progress=False)
    folder = RunFolder(tmp_path / "run")
    with np.load(folder.validation_file) as kept:
        measured, predicted = kept["measured"], kept["predicted"]
    assert np.isnan(measured).any() and np.isfinite(predicted).all()
    rows = ~np.isnan(measured)
    each = [scipy.stats.pearsonr(measured[own, t], predicted[own, t]).statistic for t, own in enumerate(rows.T)]
    assert found["pearson_r"] == pytest.approx(np.mean(each)) and min(each) > 0.3
    assert [found["tasks"][task]["pearson_r"] for task in TASKS] == pytest.approx(each)
    assert np.isfinite(found["kl"]) and found["n"] == 30
    targets = load_targets(folder)
    assert targets.bins.low == pytest.approx((-1, 0)) and targets.bins.high == pytest.approx((1, 5000))
    content = json.loads(folder.targets_file.read_text())
    if final == "mlp":
        low, high = content["residual_sd"]
        assert 0 < low < 0.5 and 500 * low < high < 10_000 * low
    else:
        assert content["residual_sd"] is None


class Naive(ScalarFinalBlock):
    """A user's block that knows nothing of missing measurements."""

    def __init__(self, inputs: Any, targets: TargetSpec) -> None:
        super().__init__(targets)
        self.dense = torch.nn.Linear(inputs.channels, 2)

    def forward(self, features: Tensor) -> Prediction:
        return self.to_units(self.dense(features.mean(2)))

    def loss(self, prediction: Prediction, batch: Batch) -> Tensor:
        return (prediction.expression - batch["y"]).square().mean()


def test_a_block_that_does_not_leave_them_out_is_told_which_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "build_dataset", lambda config, origin: Given())
    config = table(combination("mlp"), tmp_path / "none.tsv", epochs=1, batch_size=16)
    config["final"] = {"_target_": f"{__name__}.Naive"}
    with pytest.raises(TrainingError, match=r"at step 1; .*batch\['y'\] is NaN where .*contract\.mean_over_measured"):
        run(config, tmp_path / "run", show_progress=False)


# Scored where it was measured

VALUES = arrays(np.float64, (20, 2), elements=st.floats(-100, 100, width=16))


@given(VALUES, VALUES, arrays(np.bool_, (20, 2)))
def test_scores_are_the_means_of_each_tasks_own_rows(measured: np.ndarray, predicted: np.ndarray, known: Any) -> None:
    holes = np.where(known, measured, np.nan)
    found = metrics.scores(holes, predicted, missing=True)
    enough = [t for t in range(2) if known[:, t].sum() >= 3] or [t for t in range(2) if known[:, t].any()]
    own = [metrics.scores(measured[known[:, t], t], predicted[known[:, t], t]) for t in enough]
    for name in ("pearson_r", "spearman_rho", "mse"):
        expected = np.mean([scores[name] for scores in own]) if own else np.nan
        assert found[name] == pytest.approx(expected, nan_ok=True)
    assert found["n"] == known.any(axis=1).sum()
    by_task = metrics.scores_by_task(holes, predicted, TASKS, missing=True)
    for t, (task, rows) in enumerate(zip(TASKS, known.T, strict=True)):
        assert by_task[task]["mse"] == pytest.approx(metrics.mse(measured[rows, t], predicted[rows, t]), nan_ok=True)


def test_missing_is_a_measurement_only_and_only_where_asked() -> None:
    measured, predicted = np.array([1.0, np.nan, 3.0, 4.0]), np.array([1.0, 2.0, 2.5, 4.5])
    assert np.isnan(metrics.scores(measured, predicted)["pearson_r"])
    assert metrics.scores(measured, predicted, missing=True)["mse"] == pytest.approx(0.5 / 3)
    assert np.isnan(metrics.scores(predicted, measured, missing=True)["mse"]), "a prediction that is NaN is no hole"


def test_kl_and_residuals_are_of_what_was_measured() -> None:
    data = measurements()
    task, known = fitted(data), ~np.isnan(data.expression)
    predicted = np.where(known, data.expression, 77) + np.random.default_rng(1).normal(0, [0.1, 300], (60, 2))
    sds = residual_sd(data.expression, predicted)
    own = []
    for t, rows in enumerate(known.T):
        assert sds[t] == pytest.approx(np.sqrt(np.square(predicted - data.expression)[rows, t].mean()))
        alone = Measurements(data.sequences[np.flatnonzero(rows)], data.expression[rows, t], TASKS[t : t + 1])
        bins = task.spec.bins.of_task(t)
        single = task.with_spec(TargetSpec(TASKS[t : t + 1], (0.0,), (1.0,), bins, residual_sd=sds[t : t + 1]))
        own.append(single.score(alone, {"expression": predicted[rows, t]})["kl"])
    training: Any = {"expression": torch.tensor(data.expression)}
    calibrated = task.calibrated(training, {"expression": predicted})
    assert calibrated.spec == replace(task.spec, residual_sd=sds)
    found = calibrated.score(data, {"expression": predicted})
    assert np.isfinite(own).all() and found["kl"] == pytest.approx(np.mean(own))
    each = calibrated.score_each(data, {"expression": predicted})
    assert [each[name]["kl"] for name in TASKS] == pytest.approx(own)
    assert [each[name]["n"] for name in TASKS] == known.sum(axis=0).tolist()
    assert np.isnan(task.score(data, {"expression": predicted})["kl"]), "without a deviation there is no divergence"


def test_an_evaluation_scores_each_task_where_it_was_measured() -> None:
    from prixfixe.data.testset import TestSet

    data = measurements()
    known = ~np.isnan(data.expression)
    predicted = np.where(known, data.expression, 0) * [1, 2] + np.random.default_rng(1).normal(0, 0.1, (60, 2))
    test_set = TestSet(data.sequences, data.expression, {"all": np.arange(60)}, tasks=TASKS)
    for t, (task, rows) in enumerate(
        zip(evaluate_table(test_set, predicted, bootstrap=20).tasks, known.T, strict=True)
    ):
        expected = scipy.stats.pearsonr(data.expression[rows, t], predicted[rows, t]).statistic
        assert task.n == rows.sum() and task.values["pearson_r"].value == pytest.approx(expected)
        assert task.values["pearson_r"].interval is not None
