"""Training: it learns, it is reproducible, it fails with a reason, it keeps the best epoch."""

import json
import math
import re
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ONE_OF_EACH, demo, table_dataset
from scipy.stats import entropy, norm
from torch import Tensor

import prixfixe
from prixfixe.common.errors import InputError, TrainingError
from prixfixe.data.sequences import Sequences
from prixfixe.data.splits import split
from prixfixe.data.tables import read_measurements
from prixfixe.menu.check import example, example_task
from prixfixe.networks.network import build
from prixfixe.runs.folder import RunFolder
from prixfixe.training import fit as fit_module
from prixfixe.training import keeper
from prixfixe.training.build import build_recipe
from prixfixe.training.experiment import run
from prixfixe.training.gradients import SavedBuffers, backward
from prixfixe.training.scoring import RESIDUAL_ROWS, predict, residual_rows
from prixfixe.training.settings import training_settings


def table(config: dict[str, Any], path: Path, **training: Any) -> dict[str, Any]:
    """The combination on a table, on the CPU."""
    return {**config, "dataset": table_dataset(path), "training": {**config["training"], "device": "cpu", **training}}


@pytest.mark.parametrize(
    "choices",
    ONE_OF_EACH,
    ids="+".join,
)
def test_one_combination_of_each_recipe_overfits(choices: tuple[str, ...], promoters: Path, tmp_path: Path) -> None:
    lines = promoters.read_text().splitlines()
    promoters.write_text("\n".join(lines[:25]) + "\n")
    config = table(demo(*choices), promoters, epochs=150, batch_size=24)
    config["dataset"] |= {"validation": str(promoters)}
    for slot in ("first", "core", "final"):
        config[slot] = {k: 0.0 if "dropout" in k else v for k, v in config[slot].items()}
    if choices[0] == "unlockdna":
        config["recipe"]["mask_share"] = 0.0
    if choices[0] == "autosome":  # unknown at scoring, so that what it explains cannot be scored
        config["recipe"]["is_singleton"] = False
    config["core"].pop("max_lr", None)
    metrics = run(config, tmp_path / "run", show_progress=False)
    assert metrics["pearson_r"] > 0.9


def weights(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
BOTH = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=on_a_gpu)])


@BOTH
@pytest.mark.parametrize("recipe", ["autosome", "bhi", "unlockdna"])
@pytest.mark.parametrize("core", ["bilstm", "proformer"])
def test_the_same_seed_gives_the_same_numbers(
    recipe: str, core: str, device: str, promoters: Path, tmp_path: Path
) -> None:
    config = table(demo(recipe, "conv", core, "expression_heads"), promoters, batch_size=32, device=device)
    for name in ("a", "b"):
        run(config, tmp_path / name, show_progress=False)
    run({**config, "seed": 1}, tmp_path / "c", show_progress=False)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert weights(tmp_path / "a") != weights(tmp_path / "c")


def test_a_batch_too_large_for_memory_is_accumulated(monkeypatch: pytest.MonkeyPatch) -> None:
    config = demo("bhi", "conv", "efficientnet", "soft_bins")
    recipe = build_recipe(config)
    network = build(recipe, config, example_task())
    _, batch = example(recipe)
    forward = network.forward

    def small_memory(part: Any) -> Any:
        if len(part["y"]) > 3:
            raise torch.OutOfMemoryError("no room")
        return forward(part)

    monkeypatch.setattr(network, "forward", small_memory)
    loss, micro_batch = backward(network, recipe, batch, None, torch.float32, 0)
    assert micro_batch == 3
    assert torch.isfinite(loss)


@pytest.mark.parametrize(("slot", "name"), [("first", "Conv"), ("core", "BiLSTM"), ("final", "MLP")])
def test_what_does_not_fit_even_with_one_sample_is_named(slot: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = demo("bhi", "conv", "bilstm", "mlp")
    recipe = build_recipe(config)
    network = build(recipe, config, example_task())
    _, batch = example(recipe)
    shapes = {"first": "(1, 4, 110)", "core": "(1, 32, 110)", "final": "(1, "}

    def no_memory(*_: Any) -> Any:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(getattr(network, slot), "forward", no_memory)
    where = f"{slot} block {name}, given an input of shape {re.escape(shapes[slot])}"
    message = rf"out of memory with one sample at a time: {where}"
    with pytest.raises(TrainingError, match=message):
        backward(network, recipe, batch, None, torch.float32, 0)


def test_parts_are_equal_and_no_rest_of_one_sample_is_left() -> None:
    config = demo("autosome", "conv", "efficientnet", "mlp")
    recipe = build_recipe(config)
    network = build(recipe, config, example_task())
    _, batch = example(recipe)
    assert len(batch["y"]) == 6 * 2
    sizes: list[int] = []
    network.register_forward_pre_hook(lambda _, arguments: sizes.append(len(arguments[0]["y"])))
    backward(network, recipe, batch, 11, torch.float32, 0)
    assert sizes == [6, 6]
    with pytest.raises(
        TrainingError, match=r"one sample at a time is too few for final block MLP, given an input of shape \(1, "
    ):
        backward(network, recipe, batch, 1, torch.float32, 0)


def test_what_has_no_fixed_order_is_computed_in_any(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU all that can be is computed deterministically; what cannot is a user's block's, and trains all the
    same."""
    config = demo("bhi", "conv", "efficientnet", "soft_bins")
    recipe = build_recipe(config)
    network = build(recipe, config, example_task())
    _, batch = example(recipe)
    forward = network.forward

    def without_order(part: Any) -> Any:
        torch.zeros(3).put_(torch.tensor([1]), torch.ones(1))
        return forward(part)

    expected, _ = backward(network, recipe, batch, None, torch.float32, 0)
    monkeypatch.setattr(network, "forward", without_order)
    try:
        torch.use_deterministic_algorithms(True)
        with pytest.warns(UserWarning, match="deterministic implementation"):
            loss, micro_batch = backward(network, recipe, batch, None, torch.float32, 0)
        torch.testing.assert_close(loss, expected)
        assert micro_batch is None
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_what_did_not_fit_is_let_go() -> None:
    """Memory that runs out in the backward pass is free again before a smaller part is tried."""
    config = demo("bhi", "conv", "efficientnet", "soft_bins")
    recipe = build_recipe(config)
    network = build(recipe, config, example_task())
    _, batch = example(recipe)
    held: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def watch(_: Any, arguments: Any, output: Any) -> None:
        alive.append(sum(tensor() is not None for tensor in held))
        held.append(weakref.ref(output))
        if len(held) < 3:
            output.register_hook(no_memory)

    def no_memory(_: Tensor) -> None:
        raise torch.OutOfMemoryError("no room")

    network.core.register_forward_hook(watch)
    _, micro_batch = backward(network, recipe, batch, None, torch.float32, 0)
    assert micro_batch == 3
    assert alive[:3] == [0, 0, 0]


def test_what_did_not_fit_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss and running statistics after an attempt that ran out of memory are those of the part size that fitted."""
    config = demo("bhi", "parallel_conv", "efficientnet", "soft_bins", "first.dropout=0.5")
    recipe = build_recipe(config)
    outcomes = []
    for fails in (False, True):
        torch.manual_seed(0)
        network = build(recipe, config, example_task())
        _, batch = example(recipe)
        if fails:
            final = network.final.forward

            def small_memory(features: Any, final: Any = final) -> Any:
                if len(features) > 4:
                    raise torch.OutOfMemoryError("no room")
                return final(features)

            monkeypatch.setattr(network.final, "forward", small_memory)
        loss, micro_batch = backward(network, recipe, batch, None if fails else 3, torch.float32, 5)
        outcomes.append((micro_batch, loss, *network.buffers(), *(p.grad for p in network.parameters())))
    assert len(batch["y"]) == 12, "halved twice: 6, 3"
    for without, after in zip(*outcomes, strict=True):
        torch.testing.assert_close(without, after, rtol=0, atol=0)


def test_a_loss_that_is_not_finite_fails_with_step_and_rate(
    promoters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def broken(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        loss, micro_batch = backward(*arguments, **options)
        return (loss * math.nan if len(calls) == 3 else loss), micro_batch

    monkeypatch.setattr(fit_module, "backward", broken)
    with pytest.raises(
        TrainingError, match=r"the loss is not finite \(nan\) at step 3; the last learning rate was 0\.\d+"
    ):
        run(table(demo("bhi", "conv", "efficientnet", "soft_bins"), promoters), tmp_path / "run", show_progress=False)
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == "failed"
    assert "step 3" in status["reason"]


def test_run_folder(promoters: Path, tmp_path: Path) -> None:
    config = table(demo("autosome", "conv", "efficientnet", "mlp"), promoters, epochs=3)
    metrics = run(config, tmp_path / "run", show_progress=False)
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert history["epoch"].tolist() == [1, 2, 3]
    best = history.loc[history["pearson_r"].idxmax()]
    assert metrics["best_epoch"] == best["epoch"]
    assert metrics["pearson_r"] == pytest.approx(best["pearson_r"])
    on_disk = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {"kl", "pearson_r", "spearman_rho", "mse", "n", "parameters", "samples_per_second"} <= on_disk.keys()
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "done"

    again = run(config, tmp_path / "run", show_progress=False)
    assert again == on_disk, "a run that is done is not run again"
    with pytest.raises(InputError, match=r"training.epochs: 3 there, 4 here"):
        run({**config, "training": {**config["training"], "epochs": 4}}, tmp_path / "run", show_progress=False)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == on_disk


@pytest.mark.parametrize("recipe", ["autosome", "bhi", "unlockdna"])
@pytest.mark.parametrize("final", ["soft_bins", "mlp"])
def test_loaded_predictions_are_the_scored_ones(recipe: str, final: str, promoters: Path, tmp_path: Path) -> None:
    config = table(demo(recipe, "conv", "efficientnet", final), promoters)
    metrics = run(config, tmp_path / "run", show_progress=False)
    from prixfixe.tasks.metrics import pearson_r

    measurements = read_measurements(promoters)
    held_out = measurements[split(measurements, validation_fraction=0.2, seed=0)[1]]
    model = prixfixe.load(tmp_path / "run", device="cpu")
    predicted = model.predict(held_out.sequences.to_strings())
    assert predicted.shape == (len(held_out),)
    assert pearson_r(held_out.expression, predicted) == pytest.approx(metrics["pearson_r"], abs=1e-5)
    with pytest.warns(UserWarning, match=f"1 of 2 sequences are longer than the {model.recipe.longest} nt"):
        trimmed = model.predict(["ACGT", "acgtn" * 60], batch_size=1)
    sequences = Sequences.from_strings(["ACGT", "ACGTN" * 60])
    np.testing.assert_allclose(trimmed, model.predict_sequences(sequences), rtol=1e-4)
    with pytest.raises(InputError, match="sequence 2, position 3: 'X' is no nucleotide"):
        model.predict(["ACGT", "ACX"])


@pytest.mark.parametrize("final", ["mlp", "soft_bins", "soft_bins mse"])
def test_a_scalar_prediction_has_the_kl_of_its_own_residuals(final: str, promoters: Path, tmp_path: Path) -> None:
    """Their deviation is that of the best epoch's residuals on training rows; with it scipy gives the KL."""
    name, _, loss = final.partition(" ")
    overrides = ("first.dropout=0.5", "recipe.is_singleton=true", *([f"final.loss={loss}"] if loss else []))
    config = table(demo("autosome", "parallel_conv", "efficientnet", name, *overrides), promoters, epochs=4)
    metrics = run(config, tmp_path / "run", show_progress=False)
    content = json.loads((tmp_path / "run" / "targets.json").read_text())
    spec = {"tasks", "mean", "std", "bins", "residual_sd", "constants", "columns", "sequences"}
    assert content.keys() == {"task", "select", "scores", *spec}
    if final == "soft_bins":
        assert content["residual_sd"] is None
        return
    measurements = read_measurements(promoters)
    train, held_out = (measurements[rows] for rows in split(measurements, validation_fraction=0.2, seed=0))
    model = prixfixe.load(tmp_path / "run", device="cpu")
    residuals = model.predict_sequences(train.sequences) - train.expression
    (sd,) = content["residual_sd"]
    assert sd == pytest.approx(np.sqrt(np.square(residuals).mean()), rel=1e-5)
    cuts = np.array([-np.inf, *range(1, 18), np.inf])
    p = np.diff(norm.cdf(cuts, held_out.expression[:, None] + 0.5, 0.5), axis=1)
    q = np.diff(norm.cdf(cuts, model.predict_sequences(held_out.sequences)[:, None] + 0.5, sd), axis=1)
    assert metrics["kl"] == pytest.approx(entropy(p, q, axis=1).mean(), rel=1e-4)


def test_residuals_are_of_a_seeded_sample_of_training_rows() -> None:
    recipe = build_recipe(demo("bhi", "conv", "efficientnet", "mlp"))
    n = RESIDUAL_ROWS + 5
    sequences = Sequences.from_strings(["ACGT"] * n)
    samples = recipe.load(sequences, torch.device("cpu"), np.arange(n, dtype=np.float64))
    state = torch.get_rng_state()
    first, again, other = (residual_rows(samples, seed).y.tolist() for seed in (0, 0, 1))  # type: ignore[union-attr]
    assert first == again != other
    assert len(set(first)) == RESIDUAL_ROWS and torch.equal(torch.get_rng_state(), state)
    assert residual_rows(samples[:7], 0) is not samples and len(residual_rows(samples[:7], 0)) == 7


def test_scores_change_nothing_in_training(promoters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A final block that predicts bins and one that does not train alike, whatever is scored of them."""
    config = table(demo("bhi", "parallel_conv", "efficientnet", "mlp", "first.dropout=0.5"), promoters, epochs=3)
    run(config, tmp_path / "with", show_progress=False)
    monkeypatch.setattr(keeper, "residual_rows", lambda train, seed: train[:3])
    run(config, tmp_path / "few", show_progress=False)
    assert weights(tmp_path / "with") == weights(tmp_path / "few")


@pytest.mark.parametrize("core", ["efficientnet", "bilstm"])
def test_epochs_are_scored_in_the_precision_of_predictions(core: str, promoters: Path, tmp_path: Path) -> None:
    """A run in bf16 is scored in fp32, as it will predict."""
    config = table(demo("autosome", "kmer", core, "mlp"), promoters, epochs=2, precision="bf16")
    metrics = run(config, tmp_path / "run", show_progress=False)
    assert metrics["precision"] == "bf16"
    with np.load(tmp_path / "run" / "validation.npz") as kept:
        measurements = read_measurements(promoters)
        held_out = measurements[split(measurements, validation_fraction=0.2, seed=0)[1]]
        predicted = prixfixe.load(tmp_path / "run", device="cpu").predict_sequences(held_out.sequences)
        np.testing.assert_allclose(kept["predicted"], predicted, rtol=1e-5)


def test_the_identity_has_the_precision_that_was_used(promoters: Path, tmp_path: Path) -> None:
    config = table(demo("bhi", "conv", "efficientnet", "mlp"), promoters, epochs=1)
    assert config["training"]["precision"] == "auto"
    metrics = run(config, tmp_path / "run", show_progress=False)
    folder = RunFolder(tmp_path / "run")
    assert folder.config()["training"]["precision"] == metrics["precision"] == "fp32"
    named = {**config, "training": {**config["training"], "precision": "fp32"}}
    assert run(named, folder.path, show_progress=False) == run(config, folder.path, show_progress=False) == metrics
    other = {**config, "training": {**config["training"], "precision": "bf16"}}
    with pytest.raises(InputError, match=r"training\.precision: fp32 there, bf16 here"):
        run(other, folder.path, show_progress=False)


def test_scoring_takes_what_fits(promoters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that holds 5 sequences at a time: 32, 16, 8, 4 are tried once, and the predictions are the same."""
    config = table(demo("bhi", "conv", "efficientnet", "soft_bins"), promoters, epochs=1)
    run(config, tmp_path / "run", show_progress=False)
    model = prixfixe.load(tmp_path / "run", device="cpu")
    sequences = read_measurements(promoters).sequences
    expected = model.predict_sequences(sequences)
    forward, sizes = model.network.forward, list[int]()

    def small_memory(batch: Any) -> Any:
        sizes.append(len(batch["x"]))
        if len(batch["x"]) > 5:
            raise torch.OutOfMemoryError("no room")
        return forward(batch)

    monkeypatch.setattr(model.network, "forward", small_memory)
    np.testing.assert_allclose(model.predict_sequences(sequences), expected, rtol=1e-5)
    assert sizes[:4] == [32, 16, 8, 4] and max(sizes[4:]) == 4
    samples = model.recipe.load(sequences, torch.device("cpu"))
    outputs = predict(model.network, model.recipe, model.task, samples, batch_size=120)
    np.testing.assert_allclose(outputs["expression"], expected, rtol=1e-5)

    def no_memory(batch: Any) -> Any:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(model.network, "forward", no_memory)
    with pytest.raises(TrainingError, match=r"out of memory with one sequence at a time \(no room\)"):
        model.predict_sequences(sequences)
    monkeypatch.setattr(model.network, "forward", lambda batch: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="size"):
        model.predict_sequences(sequences)


def test_buffers_that_a_block_puts_there_anew_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build(build_recipe(config := demo("bhi", "conv", "efficientnet", "mlp")), config, example_task())
    norm_layer = next(m for m in network.modules() if getattr(m, "running_mean", None) is not None)
    saved = SavedBuffers(network)
    saved.save()
    before = [buffer.clone() for buffer in network.buffers()]
    norm_layer.running_mean = torch.ones_like(norm_layer.running_mean)
    norm_layer.running_var.fill_(7)
    saved.restore()
    assert all(torch.equal(new, old) for new, old in zip(network.buffers(), before, strict=True))
    norm_layer.running_mean = torch.ones(3)  # of another shape, before a step
    saved.save()
    norm_layer.running_mean.zero_()
    saved.restore()
    assert norm_layer.running_mean.tolist() == [1, 1, 1]


def test_foreign_configuration_executes_nothing(promoters: Path, tmp_path: Path) -> None:
    run(table(demo("bhi", "conv", "efficientnet", "mlp"), promoters), tmp_path / "run", show_progress=False)
    file = tmp_path / "run" / "config.yaml"
    marker = tmp_path / "executed"
    file.write_text(
        file.read_text()
        .replace("blocks.core.efficientnet.EfficientNet", "os.mkdir")
        .replace("widths:", f"path: {marker}\n  widths:")
    )
    with pytest.raises(InputError, match=r"os\.mkdir is of Python's own library"):
        prixfixe.load(tmp_path / "run")
    assert not marker.exists()
    file.write_text("core: !!python/object/apply:os.mkdir ['" + str(marker) + "']\n")
    with pytest.raises(InputError, match="it has a tag"):
        prixfixe.load(tmp_path / "run")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("epochs", 0, "training.epochs=0"),
        ("batch_size", "x", "training.batch_size='x'"),
        ("micro_batch", 0, "training.micro_batch=0"),
        ("precision", "fp8", "choose auto, fp32 or bf16"),
        ("compile", "yes", "training.compile='yes'"),
        ("checkpoint_minutes", -1, "training.checkpoint_minutes=-1"),
        ("device", "gpu", "is no device"),
        ("device", "cuda:99", "this machine has"),
        ("device", "meta", "networks run on cpu, cuda or cuda:N"),
    ],
)
def test_training_settings_are_checked(key: str, value: Any, message: str) -> None:
    good = {
        "epochs": 1,
        "batch_size": 8,
        "micro_batch": None,
        "precision": "auto",
        "device": "cpu",
        "compile": False,
        "checkpoint_minutes": 5,
    }
    with pytest.raises(InputError, match=message):
        training_settings({**good, key: value})


@on_a_gpu
@pytest.mark.parametrize("recipe", ["autosome", "bhi", "unlockdna"])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_gpu_trains_in_bf16_as_a_cpu_does_in_fp32(
    recipe: str, compiled: bool, promoters: Path, tmp_path: Path
) -> None:
    config = demo(recipe, "kmer", "proformer", "soft_bins", "core.dropout=0")
    losses = {}
    for device in ("cpu", "cuda"):
        metrics = run(
            table(config, promoters, device=device, compile=compiled and device == "cuda"),
            tmp_path / device,
            show_progress=False,
        )
        assert metrics["precision"] == {"cpu": "fp32", "cuda": "bf16"}[device]
        losses[device] = pd.read_csv(tmp_path / device / "history.csv")["loss"].to_numpy()
    # another order of the samples, and other masks
    np.testing.assert_allclose(losses["cuda"], losses["cpu"], rtol=0.05)


def test_predictions_have_more_digits_than_bf16() -> None:
    for final in ("soft_bins", "mlp", "expression_heads"):
        config = demo("autosome", "conv", "bilstm", final)
        recipe = build_recipe(config)
        network = build(recipe, config, example_task()).eval()
        _, batch = example(recipe)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            prediction = network(batch)
        assert prediction.expression.dtype == torch.float32
        assert not torch.equal(prediction.expression, prediction.expression.bfloat16().float())
