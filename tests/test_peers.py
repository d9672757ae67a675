"""DeepSTARR, MPRAnn and MPRALegNet: their sizes, their layers against plain torch in float64, and their training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import compose, demo
from torch import Tensor, nn

from prixfixe.cli import main
from prixfixe.common.errors import ContractError, InputError
from prixfixe.contract import InputSpec, TargetSpec
from prixfixe.menu.check import example_task, violations
from prixfixe.networks.network import Network, build
from prixfixe.networks.parts import factory
from prixfixe.tasks.bins import Bins
from prixfixe.training.build import build_optimizer, build_recipe, build_task
from prixfixe.training.experiment import run

SMALLER = ("first.kernel_size=5", "core.kernel_size=3")  # MPRALegNet's models/example.cfg
RNN, ATTENTION = ("core=bilstm",), ("first=conv", "core=proformer")


def task_of(count: int) -> Any:
    names = ("dev", "hk")[:count]
    if count == 1:
        return example_task(TargetSpec(names, (1.5,), (2.0,), Bins()))
    return example_task(TargetSpec(names, (1.5, -0.5), (2.0, 0.5), Bins(low=(0.0, 0.0), high=(9.0, 9.0))))


def network_of(experiment: str, tasks: int, *overrides: str) -> Network:
    torch.manual_seed(0)
    config = compose(f"experiment={experiment}", "dataset=simulated", *overrides)
    return build(build_recipe(config), config, task_of(tasks))


@pytest.mark.parametrize(
    ("experiment", "tasks", "overrides", "parameters"),
    [
        ("deepstarr", 2, (), 622_722),
        ("mprann", 1, (), 3_957_751),
        ("mpralegnet", 1, (), 1_322_465),
        ("mpralegnet", 1, SMALLER, 857_825),
        ("starrseq", 2, (), 1_962_754),
        ("starrseq", 2, RNN, 4_285_826),
        ("starrseq", 2, ATTENTION, 4_690_434),
        ("lentimpra", 1, (), 1_945_857),
        ("lentimpra", 1, RNN, 4_203_393),
        ("lentimpra", 1, ATTENTION, 4_619_521),
    ],
    ids=str,
)
def test_published_sizes(experiment: str, tasks: int, overrides: tuple[str, ...], parameters: int) -> None:
    network = network_of(experiment, tasks, *overrides)
    assert network.parameter_count() == parameters
    flags = experiment in ("starrseq", "lentimpra")
    length = 249 if tasks == 2 else 230
    network.eval()
    x = torch.zeros(2, 4 + flags, length)
    assert network({"x": x}).expression.shape == ((2, 2) if tasks == 2 else (2,))


@pytest.mark.parametrize(
    ("experiment", "lengths"),
    [
        ("deepstarr", [249, 124, 124, 62, 62, 31, 31, 15]),
        ("mprann", [224, 217, 108, 106, 105]),
        ("mpralegnet", [230, 115, 115, 57, 57, 28, 28, 14, 14]),
    ],
)
def test_lengths_between_the_layers(experiment: str, lengths: list[int]) -> None:
    network = network_of(experiment, 1).eval()
    seen: list[int] = []
    for module in network.core.modules():
        dense = isinstance(module, nn.Conv1d) and module.groups == 1 and (module.kernel_size[0] > 1)
        if dense or isinstance(module, nn.MaxPool1d) or module is getattr(network.core, "mapper", None):
            module.register_forward_hook(lambda _, __, output: seen.append(output.shape[2]))
    network({"x": torch.zeros(2, 4, 249 if experiment == "deepstarr" else 230)})
    assert seen == lengths


# the published layers, written down again in plain torch


class Softmax(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        powers = (x - x.amax(dim=1, keepdim=True)).exp()
        return powers / powers.sum(dim=1, keepdim=True)


class Flatten(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 1).reshape(len(x), -1)  # positions outside, as Keras


class Beside(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([super().forward(x), x], dim=1)


class Gated(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x * super().forward(x.mean(dim=2)).unsqueeze(2)


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=2)


def keras_norm(width: int) -> nn.BatchNorm1d:
    return nn.BatchNorm1d(width, eps=0.001, momentum=0.01)


def plain_deepstarr() -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, width, size in ((4, 256, 7), (256, 60, 3), (60, 60, 5), (60, 120, 3)):
        layers += [nn.Conv1d(before, width, size, padding=size // 2), keras_norm(width), nn.ReLU(), nn.MaxPool1d(2)]
    layers.append(Flatten())
    for before in (1800, 256):
        layers += [nn.Linear(before, 256), keras_norm(256), nn.ReLU(), nn.Dropout(0.4)]
    return nn.Sequential(*layers, nn.Linear(256, 2))


def plain_mprann() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv1d(4, 250, 7), nn.ReLU(), keras_norm(250)),
        *(nn.Conv1d(250, 250, 8), Softmax(), keras_norm(250), nn.MaxPool1d(2), nn.Dropout(0.1)),
        *(nn.Conv1d(250, 250, 3), Softmax(), keras_norm(250)),
        *(nn.Conv1d(250, 100, 2), Softmax(), keras_norm(100), nn.Dropout(0.1)),
        Flatten(),
        *(nn.Linear(105 * 100, 300), nn.Sigmoid(), nn.Dropout(0.3)),
        *(nn.Linear(300, 200), nn.Sigmoid(), nn.Linear(200, 1)),
    )


def plain_mpralegnet() -> nn.Sequential:
    def step(before: int, width: int, size: int, groups: int = 1) -> list[nn.Module]:
        convolution = nn.Conv1d(before, width, size, padding="same", groups=groups, bias=False)
        return [convolution, nn.BatchNorm1d(width), nn.SiLU()]

    layers = step(4, 64, 11)
    for p, s in ((64, 80), (80, 96), (96, 112), (112, 128)):
        gate = Gated(nn.Linear(4 * p, p), nn.SiLU(), nn.Linear(p, 4 * p), nn.Sigmoid())
        bottleneck = Beside(*step(p, 4 * p, 1), *step(4 * p, 4 * p, 9, groups=4 * p), gate, *step(4 * p, p, 1))
        layers += [bottleneck, *step(2 * p, s, 9), nn.MaxPool1d(2)]
    layers += [nn.BatchNorm1d(128), nn.Conv1d(128, 256, 1), Mean()]
    return nn.Sequential(*layers, nn.Linear(256, 256), nn.BatchNorm1d(256), nn.SiLU(), nn.Linear(256, 1))


PLAIN = {
    "deepstarr": (plain_deepstarr, 2, 249),
    "mprann": (plain_mprann, 1, 230),
    "mpralegnet": (plain_mpralegnet, 1, 230),
}


@pytest.mark.parametrize("name", PLAIN)
def test_the_same_weights_give_the_numbers_of_the_published_layers(name: str) -> None:
    """In float64: in eval mode with statistics that are no defaults; in training, without dropout, gradients and the
    statistics that a step leaves behind, too."""
    make, tasks, length = PLAIN[name]
    network, plain = network_of(name, tasks).double(), make().double()
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 4, (6, length), generator=generator)
    x = nn.functional.one_hot(codes, 4).transpose(1, 2).double()
    y = torch.randn(6, tasks, generator=generator, dtype=torch.float64)
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    kept = [(norm, norm.momentum) for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # the statistics of these sequences, so that predictions differ
    network({"x": x})
    for norm, momentum in kept:
        norm.momentum = momentum
    for key, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not key.startswith(("final.mean", "final.std")):
            tensor.mul_(1 + 0.2 * torch.rand(tensor.shape, generator=generator, dtype=torch.float64))
            tensor.add_(0.01 * torch.rand(tensor.shape, generator=generator, dtype=torch.float64) * (tensor.ndim == 1))
    shares = [module.p for module in network.modules() if isinstance(module, nn.Dropout) and module.p]
    assert shares == [module.p for module in plain.modules() if isinstance(module, nn.Dropout)]
    mine = {k: v for k, v in network.state_dict().items() if k not in ("final.mean", "final.std")}
    assert len(mine) == len(plain.state_dict())
    plain.load_state_dict(dict(zip(plain.state_dict(), mine.values(), strict=True)))
    mean, std = network.final.mean, network.final.std

    network.eval(), plain.eval()
    expression = network({"x": x}).expression.reshape(6, tasks)
    torch.testing.assert_close(expression, plain(x) * std + mean, rtol=1e-9, atol=1e-9)
    assert expression.std(dim=0).min() > 1e-4

    network.train(), plain.train()
    for module in (*network.modules(), *plain.modules()):
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    given = y if tasks == 2 else y[:, 0]
    network.loss(network({"x": x}), {"x": x, "y": given}).backward()
    nn.functional.mse_loss(plain(x), (y - mean) / std).backward()
    for one, other in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-6, atol=1e-9)
    moved = [v for k, v in network.state_dict().items() if "running" in k]
    for one, other in zip(moved, [v for k, v in plain.state_dict().items() if "running" in k], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["deepstarr", "mprann"])
def test_weights_begin_as_keras_begins(name: str) -> None:
    network = network_of(name, 1)
    for module in network.modules():
        if isinstance(module, (nn.Conv1d, nn.Linear)):
            receptive = math.prod(module.weight.shape[2:])
            bound = math.sqrt(6 / (receptive * sum(module.weight.shape[:2])))
            assert 0.9 * bound < module.weight.abs().max() <= bound
            assert module.bias is not None
            assert not module.bias.any()


# beside other parts

SMALL = {"kmer": ["first.channels=8", "first.k=4"], "identity": []}
NARROW = "core.widths=[8,8,8,8]"
CORES = {"deepstarr": [NARROW], "mprann": [NARROW], "mpralegnet": [NARROW, "core.pool_sizes=[2,2,2,2]"]}
FINALS = ("soft_bins", "mlp", "expression_heads", "dense_heads", "task_heads")


@pytest.mark.parametrize("core", CORES)
def test_a_peers_core_stands_behind_any_first_and_under_any_final_block(core: str) -> None:
    firsts = ("identity", "conv", "parallel_conv", "kmer")
    for number, final in enumerate(FINALS):
        first = firsts[number % len(firsts)]
        heads = ["final.heads=0"] if final == "expression_heads" else []
        sizes = SMALL.get(first, ["first.channels=8"])
        config = demo("autosome", first, core, final, *sizes, *CORES[core], *heads)
        assert list(violations(config)) == [], (first, core, final)
    with pytest.raises(ContractError, match="needs a core that keeps the length"):
        config = demo("autosome", "conv", core, "expression_heads", *CORES[core])
        build(build_recipe(config), config, example_task())


@pytest.mark.parametrize(("core", "shortest"), [("deepstarr", 16), ("mprann", 21), ("mpralegnet", 16)])
def test_too_short_an_input_is_refused_and_it_says_what_is_needed(core: str, shortest: int) -> None:
    class_name = {"deepstarr": "DeepSTARR", "mprann": "MPRAnn", "mpralegnet": "MPRALegNet"}[core]
    config = compose("recipe=plain", f"core={core}", "first=identity", "final=task_heads", *CORES[core])

    def built(length: int) -> Network:
        config["recipe"]["length"] = length
        return build(build_recipe(config), config, example_task())

    with pytest.raises(ContractError, match=rf"core block {class_name} .*needs {shortest} positions, but is given"):
        built(shortest - 1)
    assert built(shortest).eval()({"x": torch.zeros(1, 4, shortest)}).expression.shape == (1,)


def test_an_input_that_is_too_short_is_one_message(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["experiment=mprann", "dataset=simulated", "recipe.length=20", f"hydra.run.dir={tmp_path / 'run'}"]
    assert main(["train", *arguments]) == 2
    assert "MPRAnn" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_channels_are_handed_on_and_tokens_are_not() -> None:
    make = factory({"_target_": "blocks.first.identity.Identity"}, nn.Module, where="first", given=1)
    x = torch.randn(2, 5, 7)
    assert make(InputSpec(5, 7))(x) is x
    with pytest.raises(ContractError, match="tokens"):
        make(InputSpec(0, 7))


def test_lists_that_do_not_belong_together_are_refused() -> None:
    for experiment, override in (
        ("deepstarr", "core.widths=[8,8]"),
        ("mprann", "core.kernel_sizes=[3,3]"),
        ("mpralegnet", "core.pool_sizes=[2]"),
        ("deepstarr", "final.dropout=[0.1]"),
    ):
        with pytest.raises(InputError, match="give"):
            network_of(experiment, 1, override)


# several tasks, some not measured


def test_what_was_not_measured_changes_nothing() -> None:
    network = network_of("deepstarr", 2).double().eval()
    x = torch.rand(5, 4, 249, dtype=torch.float64)
    y = torch.randn(5, 2, dtype=torch.float64)
    y[1:4, 1] = math.nan
    final: Any = network.final
    network.loss(network({"x": x}), {"x": x, "y": y}).backward()
    grads = [p.grad.clone() for p in network.parameters()]
    assert all(grad.isfinite().all() for grad in grads)
    network.zero_grad()
    apart = final.standardised(network({"x": x}).expression) - final.standardised(y)
    apart[~y.isnan()].square().mean().backward()
    for parameter, grad in zip(network.parameters(), grads, strict=True):
        torch.testing.assert_close(grad, parameter.grad, rtol=1e-8, atol=1e-12)
    network.zero_grad()
    nothing = network.loss(network({"x": x}), {"x": x, "y": torch.full_like(y, math.nan)})
    nothing.backward()
    assert nothing == 0
    assert not any(p.grad.any() for p in network.parameters())


# training


@pytest.mark.parametrize(
    ("experiment", "optimizer", "first_rate", "highest", "batch", "epochs", "patience", "select", "clip"),
    [
        ("deepstarr", torch.optim.Adam, 0.002, 0.002, 128, 100, 10, "mse", None),
        ("mprann", torch.optim.Adam, 0.001, 0.001, 32, 100, 10, "mse", None),
        ("mpralegnet", torch.optim.AdamW, 0.01 / 25, 0.01, 1024, 25, None, "pearson_r", 1.0),
        ("starrseq", torch.optim.AdamW, 0.005 / 25, 0.005, 32, 80, None, "pearson_r", None),
        ("lentimpra", torch.optim.AdamW, 0.005 / 25, 0.005, 32, 80, None, "pearson_r", None),
    ],
)
def test_each_is_trained_as_published(
    experiment: str,
    optimizer: type,
    first_rate: float,
    highest: float,
    batch: int,
    epochs: int,
    patience: int | None,
    select: str,
    clip: float | None,
) -> None:
    config = compose(f"experiment={experiment}", "dataset=simulated")
    training = config["training"]
    assert (training["batch_size"], training["epochs"], training["patience"]) == (batch, epochs, patience)
    assert config["optim"]["clip_norm"] == clip
    task = build_task(config)
    assert task.select.name == select
    network = build(build_recipe(config), config, example_task())
    made, schedule = build_optimizer(network, config, steps=100)
    assert type(made) is optimizer
    assert made.param_groups[0]["weight_decay"] == {"mpralegnet": 0.1, "starrseq": 0.01, "lentimpra": 0.01}.get(
        experiment, 0
    )
    rates = []
    for _ in range(100):
        rates.append(made.param_groups[0]["lr"])
        made.step()
        schedule.step()
    assert rates[0] == pytest.approx(first_rate)
    assert max(rates) == pytest.approx(highest, rel=1e-3)
    if optimizer is torch.optim.Adam:
        assert set(rates) == {highest}
        assert made.defaults["eps"] == 1e-7


def test_attention_has_its_own_rate() -> None:
    for optim, highest in (("onecycle", 0.005), ("constant", 0.004)):
        rate = ["optim.optimizer.lr=0.004"] if optim == "constant" else []
        config = compose("experiment=starrseq", *ATTENTION, "dataset=simulated", f"optim={optim}", *rate)
        network = build(build_recipe(config), config, example_task())
        made, schedule = build_optimizer(network, config, steps=10)
        seen = []
        for _ in range(10):
            seen.append({group["name"]: group["lr"] for group in made.param_groups})
            made.step()
            schedule.step()
        assert max(rates["core"] for rates in seen) == pytest.approx(0.001)
        assert max(rates["final"] for rates in seen) == pytest.approx(highest)


def test_patience_ends_a_run_and_the_best_weights_are_kept(tmp_path: Path) -> None:
    config = compose(
        *("experiment=deepstarr", "dataset=simulated_starrseq", "dataset.size=160", "core.widths=[8,8,8,8]"),
        *("final.widths=[8,8]", "final.dropout=[0,0]", "optim.optimizer.lr=0.05", "training.batch_size=16"),
        *("training.patience=2", "training.epochs=60", "training.device=cpu"),
    )
    metrics = run(config, tmp_path / "run", show_progress=False)
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    best = history["mse"].idxmin()
    assert metrics["best_epoch"] == history["epoch"][best]
    assert metrics["mse"] == pytest.approx(history["mse"][best])
    assert len(history) == best + 1 + 2 < 60
    assert history["learning_rate"].nunique() == 1


# the real samples


@pytest.mark.parametrize(
    ("experiment", "folder", "name"),
    [("starrseq", "drosophila", "starrseq"), ("mprann", "human", "lentimpra"), ("lentimpra", "human", "lentimpra")],
)
def test_the_real_samples_are_trained_on(
    experiment: str, folder: str, name: str, real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIXFIXE_CACHE", str(tmp_path / "cache"))
    for part in ("train", "val"):
        path = real_data / folder / f"{name}_{part}.tsv"
        if not path.exists():
            pytest.skip(f"no {path}")
        few = "".join(path.read_text().splitlines(keepends=True)[:151])
        (tmp_path / f"{part}.tsv").write_text(few)
    human = ["dataset=table", "dataset.sequence=seq", "dataset.expression=mean_value"]
    human += ["+dataset.columns.is_reverse={column: seq_id, contains: _Reversed}"]
    small = ["core.widths=[8,8,8,8]"] if experiment == "mprann" else ["first.channels=8", "core.widths=[8]"]
    paths = [f"dataset.path={tmp_path / 'train.tsv'}", f"dataset.validation={tmp_path / 'val.tsv'}"]
    training = ["training.epochs=1", "training.device=cpu", "training.batch_size=50"]
    columns = human if folder == "human" else []
    config = compose(f"experiment={experiment}", *columns, *small, *paths, *training)
    metrics = run(config, tmp_path / "run", show_progress=False)
    assert metrics["n"] in (150, 300)
    assert metrics["left_out"] == 0
    assert metrics["simulated"] is False
