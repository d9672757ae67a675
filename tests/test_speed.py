"""Faster forms give the numbers of the plain ones."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import demo, random_strings
from torch import Tensor, nn

from prixfixe.data.sequences import Sequences
from prixfixe.menu.check import example_task
from prixfixe.networks.layers import LSTM, BatchNorm1d, Conv1d, Dropout, GroupedConv, concatenate, cpu_has_bf16_lstm
from prixfixe.networks.network import Network, build
from prixfixe.training.build import build_recipe
from prixfixe.training.experiment import compiles
from prixfixe.training.gradients import backward

SPEED = Path(__file__).resolve().parents[1] / "benchmarks" / "speed"
sys.path.append(str(SPEED))

import plain  # noqa: E402
from networks import DREAM, built, configuration, promoters, training_step  # noqa: E402

CPU = torch.device("cpu")


def with_gradients(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """What a layer gives, and the gradients of its input and parameters."""
    x = x.clone().requires_grad_()
    y = layer(x)
    (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)).sum().backward()
    return [y.detach(), x.grad, *(parameter.grad for parameter in layer.parameters())]  # type: ignore[list-item]


@pytest.mark.parametrize("layout", ["channels first", "channels last"])
@pytest.mark.parametrize(
    ("ours", "torchs"),
    [
        (lambda: Conv1d(6, 8, 7, padding="same"), lambda: nn.Conv1d(6, 8, 7, padding="same")),
        (lambda: Conv1d(6, 8, 10, padding="same"), lambda: nn.Conv1d(6, 8, 10, padding="same")),
        (
            lambda: Conv1d(6, 8, 3, stride=2, padding=1, bias=False),
            lambda: nn.Conv1d(6, 8, 3, stride=2, padding=1, bias=False),
        ),
        (
            lambda: Conv1d(6, 8, 7, padding="same", padding_mode="circular"),
            lambda: nn.Conv1d(6, 8, 7, padding="same", padding_mode="circular"),
        ),
        (
            lambda: Conv1d(6, 8, 5, padding=2, padding_mode="reflect"),
            lambda: nn.Conv1d(6, 8, 5, padding=2, padding_mode="reflect"),
        ),
        (lambda: GroupedConv(6, 5, 2), lambda: nn.Conv1d(6, 6, 5, padding="same", groups=3, bias=False)),
        (lambda: BatchNorm1d(6), lambda: nn.BatchNorm1d(6)),
        (lambda: BatchNorm1d(6).eval(), lambda: nn.BatchNorm1d(6).eval()),
    ],
    ids=[
        *("conv", "even kernel", "stride", "circular", "reflect"),
        *("groups", "batch norm", "batch norm at scoring"),
    ],
)
def test_layers_with_channels_last_are_torchs(ours: Any, torchs: Any, layout: str) -> None:
    torch.manual_seed(0)
    mine, theirs = ours().double(), torchs().double()
    mine.load_state_dict(theirs.state_dict())
    x = torch.randn(4, 6, 21, dtype=torch.float64)
    given = x if layout == "channels first" else x.transpose(1, 2).contiguous().transpose(1, 2)
    for got, expected in zip(with_gradients(mine, given), with_gradients(theirs, x), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-12)
    for got, expected in zip(mine.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize(
    "make",
    [
        lambda: Conv1d(16, 8, 7, padding="same"),
        lambda: GroupedConv(16, 7, 2),
        lambda: GroupedConv(16, 15, 1),
        lambda: BatchNorm1d(16),
    ],
    ids=["conv", "groups", "depthwise", "batch norm"],
)
def test_layers_on_a_gpu_are_those_on_a_cpu(make: Any) -> None:
    torch.manual_seed(0)
    layer, x = make(), torch.randn(4, 16, 21)
    on_cpu = with_gradients(layer, x)
    layer.zero_grad()
    with torch.backends.cudnn.flags(allow_tf32=False):
        on_gpu = with_gradients(layer.cuda(), x.cuda())
    for got, expected in zip(on_gpu, on_cpu, strict=True):
        torch.testing.assert_close(got.cpu(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_an_lstm_on_a_gpu_is_in_fp32_under_mixed_precision() -> None:
    lstm, x = LSTM(16, 8, batch_first=True).cuda(), torch.randn(4, 21, 16, device="cuda")
    with torch.autocast("cuda", dtype=torch.bfloat16):
        states, _ = lstm(x.bfloat16())
    assert states.dtype == torch.float32
    torch.testing.assert_close(states, lstm(x)[0], atol=2e-2, rtol=0)


@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("can", [True, False])
def test_an_lstm_on_a_cpu_is_in_bf16_where_the_cpu_can(
    given: torch.dtype, can: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As given by a dense layer, and by a convolution; with this processor's own answer and with a lesser one's."""
    monkeypatch.setattr("prixfixe.networks.layers.cpu_has_bf16_lstm", lambda: can and cpu_has_bf16_lstm())
    lstm, x = LSTM(16, 8, batch_first=True), torch.randn(4, 21, 16).to(given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states, _ = lstm(x)
    states.float().sum().backward()
    assert states.dtype == (torch.bfloat16 if can and cpu_has_bf16_lstm() else torch.float32)
    torch.testing.assert_close(states.float(), lstm(x.float())[0], atol=2e-2, rtol=0)


def test_without_mixed_precision_an_lstm_is_torchs() -> None:
    torch.manual_seed(0)
    lstm, x = LSTM(16, 8, batch_first=True).double(), torch.randn(4, 21, 16, dtype=torch.float64)
    assert lstm(x)[0].dtype == torch.float64


def test_a_processor_without_the_instructions_trains_an_lstm_in_bf16() -> None:
    code = (
        "import sys, torch; from prixfixe.networks.layers import LSTM, cpu_has_bf16_lstm\n"
        "lstm, state = LSTM(32, 16, batch_first=True), torch.get_rng_state()\n"
        "assert not cpu_has_bf16_lstm() and torch.equal(state, torch.get_rng_state())\n"
        "for x in (torch.randn(4, 21, 32), torch.randn(4, 21, 32).bfloat16()):\n"
        "    with torch.autocast('cpu', dtype=torch.bfloat16):\n"
        "        lstm(x)[0].sum().backward()\n"
        "    assert lstm.eval()(x.float())[0].dtype == torch.float32"
    )
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_batch_norm_says_what_it_takes() -> None:
    with pytest.raises(ValueError, match="batch, channels, length"):
        BatchNorm1d(6)(torch.zeros(4, 6, 2, 2))


def test_concatenate() -> None:
    a, b = torch.randn(2, 3, 5), torch.randn(2, 4, 5)
    assert torch.equal(concatenate([a, b]), torch.cat([a, b], dim=1))


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(64, 100, 101).transpose(1, 2).requires_grad_()
    y = Dropout(p)(x)
    dropped = (y == 0).double()
    deviation = (p * (1 - p) / x.numel()) ** 0.5
    assert abs(dropped.mean() - p) < 5 * deviation + 1 / 65536
    assert torch.allclose(y[y != 0], torch.tensor(1 / (1 - p)), atol=2e-5)
    for axis in range(3):  # everywhere alike
        shares = dropped.mean(dim=[other for other in range(3) if other != axis])
        assert (shares - p).abs().max() < 6 * (p * (1 - p) / (x.numel() / x.shape[axis])) ** 0.5
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


@pytest.mark.parametrize("p", [1e-9, 0.001, 0.004, 0.996, 0.999, 0.99999, 0.999999, 1 - 1e-9])
def test_dropout_of_nearly_nothing_or_nearly_all(p: float) -> None:
    torch.manual_seed(0)
    n = 2_000_000
    y = Dropout(p)(torch.ones(n))
    kept = (y != 0).double().sum().item()
    assert abs(kept - n * (1 - p)) <= 6 * (n * p * (1 - p)) ** 0.5 + n / 65536 * (0.003 < p < 0.997)
    assert torch.isfinite(y).all()
    assert torch.allclose(y[y != 0].double(), torch.tensor(1 / (1 - p), dtype=torch.float64), rtol=5e-3)


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(0)
    dropped = (Dropout(0.5)(torch.ones(400_000)) == 0).double() - 0.5
    for lag in (1, 2, 3, 4, 5, 8, 16):
        assert abs((dropped[lag:] * dropped[:-lag]).mean()) < 5 * 0.25 / 400_000**0.5


def test_dropout_follows_the_seed_and_is_nothing_at_scoring() -> None:
    x, dropout = torch.randn(3, 5, 7), Dropout(0.5)
    torch.manual_seed(1)
    first = dropout(x)
    torch.manual_seed(1)
    assert torch.equal(dropout(x), first) and not torch.equal(dropout(x), first)
    assert torch.equal(dropout.eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(Dropout(1.0)(x), torch.zeros_like(x))
    assert Dropout(0.5)(x.bfloat16()).dtype == torch.bfloat16


def test_the_input_is_that_of_a_pipeline_that_makes_one_item_at_a_time() -> None:
    data = promoters(50)
    recipe = build_recipe(configuration("recipe=autosome"))
    samples = recipe.load(data.sequences, CPU, data.expression)
    letters = np.array(list("ACGTN"))
    windows = ["".join(row) for row in letters[samples.codes.numpy()]]
    assert all(window.endswith(sequence) for window, sequence in zip(windows, data.sequences.to_strings(), strict=True))
    batch = recipe.training_batch(samples, torch.arange(100), example_task(), torch.Generator())
    items = plain.Promoters(windows, data.expression)
    for number in range(100):
        item = items[number]
        assert torch.equal(batch["x"][number], item["x"])
        torch.testing.assert_close(batch["y_probs"][number], item["y_probs"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("model", DREAM)
def test_the_loss_of_every_step_is_that_of_the_plain_network(model: str) -> None:
    """Published size, fp32 to rounding, bf16 to 1 %; what is left of dropout differs in its draws only."""
    data = promoters(200)
    losses = {}
    for name, precision in {"plain": None, "fp32": torch.float32, "bf16": torch.bfloat16}.items():
        recipe, network, samples = built(configuration(f"experiment={model}"), data, CPU)
        module: nn.Module = plain.like(plain.network(model), network) if precision is None else network
        for layer in module.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
        task, generator = example_task(), torch.Generator()
        batches = [recipe.training_batch(samples, torch.arange(i, i + 4), task, generator) for i in range(2)]
        if precision is None:
            optimizer = torch.optim.AdamW(module.parameters(), lr=4e-5, weight_decay=0.01)
            scheduler = torch.optim.lr_scheduler.OneCycleLR(
                optimizer, 0.001, total_steps=100_000, div_factor=25, pct_start=0.3
            )
            losses[name] = torch.stack([plain.step(module.train(), optimizer, scheduler, batch) for batch in batches])
        else:
            step = training_step(network, recipe, precision)
            losses[name] = torch.stack([step(batch) for batch in batches])
    torch.testing.assert_close(losses["fp32"], losses["plain"], rtol=2e-5, atol=0)
    torch.testing.assert_close(losses["bf16"], losses["plain"], rtol=1e-2, atol=0)


@pytest.mark.parametrize(
    ("setting", "device", "steps", "expected"),
    [
        (True, "cpu", 1, True),
        (False, "cuda", 10**6, False),
        ("auto", "cpu", 10**6, False),
        ("auto", "cuda", 10**6, True),
        ("auto", "cuda", 900, False),
    ],
)
def test_what_is_compiled(setting: Any, device: str, steps: int, expected: bool) -> None:
    assert compiles(setting, torch.device(device), steps) is expected


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ on a CPU")
def test_a_compiled_network_gives_the_same_loss_and_gradients() -> None:
    config = demo("autosome", "conv", "proformer", "soft_bins")
    config["core"]["blocks"] = 0  # a block more is half a minute more
    recipe = build_recipe(config)
    torch.manual_seed(0)
    network = build(recipe, config, example_task()).train()
    samples = recipe.load(Sequences.from_strings(random_strings(8, 60)), CPU, np.arange(8.0))
    batch = recipe.training_batch(samples, torch.arange(8), example_task(), torch.Generator())

    def loss_and_gradients(network: Network) -> list[Tensor]:
        loss, _ = backward(network, recipe, batch, None, torch.float32, 0)
        gradients = [parameter.grad.clone() for parameter in network.parameters()]  # type: ignore[union-attr]
        network.zero_grad()
        return [loss, *gradients]

    eager = loss_and_gradients(network)
    network.compile(dynamic=False)
    for got, expected in zip(loss_and_gradients(network), eager, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_the_benchmark_runs_and_keeps_what_it_had(tmp_path: Path) -> None:
    output = tmp_path / "speed.json"
    output.write_text('{"sections": {"other": {"figures": []}}}')
    command = [sys.executable, str(SPEED), "input", "--quick", "--device", "cpu", "-o", str(output)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "one item at a time" in printed
    sections = json.loads(output.read_text())["sections"]
    assert sorted(sections) == ["input", "other"]
    figures = {figure["name"]: figure for figure in sections["input"]["figures"]}
    ours = figures["input, autosome, one CPU core"]
    assert ours["value"] > ours["compared"] > 0 and ours["limit"] > 0
