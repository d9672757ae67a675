"""The published models as experiments: sizes, optimisers, schedules, and a setting for everything that a paper
ablates."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, compose, random_strings
from pytest import MonkeyPatch
from torch.optim.optimizer import register_optimizer_step_post_hook

from blocks.core.efficientnet import SqueezeExcitation
from prixfixe.data.measurements import Measurements
from prixfixe.data.sequences import Sequences
from prixfixe.menu.check import example_task
from prixfixe.networks.network import Network, build
from prixfixe.tasks.expression import bins_of
from prixfixe.training import fit
from prixfixe.training.build import build_optimizer, build_recipe
from prixfixe.training.experiment import run
from prixfixe.training.scoring import predict

# trainable parameters of the published PyTorch code's own modules; Proformer's published TensorFlow model has
# 47,425,543, and ours 31 expression heads more that are learned one by one, two nucleotides fewer to name, and no
# weight that only ever multiplies zeros
SIZES = {
    "legnet": 1_852_846,
    "bhi_original": 6_875_137,
    "proformer": 47_425_543 + 31 * 512 - 2 * 513 - 512,
    "unlockdna_original": 47_425_543 + 31 * 512 - 2 * 513 - 512,
}


def network_of(*overrides: str) -> Network:
    config = compose(*overrides)
    return build(build_recipe(config), config, example_task())


@pytest.mark.parametrize("experiment", list(SIZES))
def test_the_original_solutions_have_their_published_sizes(experiment: str) -> None:
    assert network_of(f"experiment={experiment}").parameter_count() == SIZES[experiment]


@pytest.mark.parametrize(
    ("experiment", "epochs", "batch_size"),
    [
        ("dream_cnn", 80, 1024),
        ("dream_rnn", 80, 1024),
        ("dream_attn", 80, 1024),
        ("legnet", 6, 1024),
        ("bhi_original", 15, 512),
        ("unlockdna_original", 20, 512),
        ("proformer", 20, 512),
    ],
)
def test_published_training_lengths(experiment: str, epochs: int, batch_size: int) -> None:
    training = compose(f"experiment={experiment}")["training"]
    assert (training["epochs"], training["batch_size"]) == (epochs, batch_size)


def test_legnets_six_passes_are_its_80_rounds_of_1000_batches() -> None:
    samples, batch = 2 * 6_739_258, 1024
    assert 6 * samples / batch == pytest.approx(80 * 1000, rel=0.02)


def rates(experiment: str, steps: int) -> tuple[torch.optim.Optimizer, dict[str, list[float]]]:
    """The optimiser, and each block's learning rate at every step."""
    config = compose(f"experiment={experiment}", *SMALL.get(experiment, []))
    optimizer, scheduler = build_optimizer(build(build_recipe(config), config, example_task()), config, steps)
    seen: dict[str, list[float]] = {group["name"]: [] for group in optimizer.param_groups}
    for _ in range(steps):
        for group in optimizer.param_groups:
            seen[group["name"]].append(group["lr"])
        optimizer.step()
        scheduler.step()
    return optimizer, seen


SMALL = {"unlockdna_original": ["core.blocks=1", "core.heads=1"], "proformer": ["core.blocks=1", "core.heads=1"]}


@pytest.mark.parametrize("experiment", ["dream_cnn", "dream_rnn", "dream_attn", "legnet"])
def test_one_cycle_as_published(experiment: str) -> None:
    optimizer, seen = rates(experiment, 100)
    assert type(optimizer) is torch.optim.AdamW
    for block, rate in seen.items():
        highest = 0.001 if (experiment, block) == ("dream_attn", "core") else 0.005
        reference = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=highest / 25, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            reference, max_lr=highest, div_factor=25.0, steps_per_epoch=20, epochs=5, pct_start=0.3, three_phase=False
        )
        expected = []
        for _ in rate:
            expected.append(reference.param_groups[0]["lr"])
            reference.step()
            schedule.step()
        assert rate == pytest.approx(expected), block
        assert optimizer.param_groups[0]["weight_decay"] == 0.01


def test_bhis_optimiser_as_published() -> None:
    optimizer, seen = rates("bhi_original", 50)
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.defaults["weight_decay"] == 0.01
    for rate in seen.values():
        expected = 0.0015 * (1 + torch.cos(torch.arange(50) * torch.pi / 50)) / 2
        assert rate == pytest.approx(expected.tolist(), rel=1e-4)


@pytest.mark.parametrize("experiment", ["proformer", "unlockdna_original"])
def test_proformers_optimiser_as_published(experiment: str) -> None:
    optimizer, seen = rates(experiment, 30)
    assert type(optimizer) is torch.optim.Adam
    assert (*optimizer.defaults["betas"], optimizer.defaults["eps"]) == (0.9, 0.98, 1e-9)
    optim = compose(f"experiment={experiment}")["optim"]
    assert (optim["clip_norm"], optim["clip_value"]) == (1.0, 0.5)
    for rate in seen.values():
        assert rate == pytest.approx([512**-0.5 * step * 12500**-1.5 for step in range(1, 31)])


def test_initial_weights_are_the_published_ones() -> None:
    torch.manual_seed(0)
    legnet = network_of("experiment=legnet")
    for name, module in legnet.named_modules():
        if isinstance(module, torch.nn.Conv1d) and module.weight.numel() > 5_000:
            expected = math.sqrt(2 / (module.kernel_size[0] * module.out_channels))
            assert module.weight.std().item() == pytest.approx(expected, rel=0.05), name
        if isinstance(module, torch.nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.001, rel=0.05), name
            assert not module.bias.any()
    attention = network_of("experiment=dream_attn", "core.blocks=1")
    for name, module in [
        *network_of("experiment=bhi_original").named_modules(),
        *attention.core.blocks.named_modules(),
    ]:
        if isinstance(module, torch.nn.Conv1d | torch.nn.Linear) and not name.endswith(
            "to_qkv"
        ):  # torch's: uniform, up to 1 / sqrt(inputs)
            assert module.weight.abs().max().item() == pytest.approx(module.weight[0].numel() ** -0.5, rel=0.05), name


# every setting that a paper ablates, and what it must do to the published model's size

CNN = list(zip([256, 128, 128, 64, 64, 64], [128, 128, 64, 64, 64, 64], strict=True))  # LegNet's stages
BLOCK = 47_286_272 // 4  # parameters of one of Proformer's blocks


def dense(channels: int, bottleneck: int) -> int:
    """Parameters of squeeze and excitation with two dense layers, as the package has it."""
    return 2 * channels * bottleneck + bottleneck + channels


def bilinear(channels: int, bottleneck: int) -> int:
    """The same of LegNet's submission: dense, dense, a low-rank bilinear layer to half as many, dense."""
    half = bottleneck // 2
    rank = round(bottleneck**2 * half * 0.5 / (2 * bottleneck + half))
    low_rank = rank * (1 + 2 * bottleneck + half) + half
    return (channels + 1) * bottleneck + (bottleneck + 1) * bottleneck + low_rank + (bottleneck + half + 1) * channels


@pytest.mark.parametrize(
    ("experiment", "override", "difference"),
    [
        ("legnet", "first.kernel_size=9", 2 * 6 * 256),
        ("legnet", "core.kernel_size=9", sum(2 * 4 * s * 2 + 2 * 2 * p * s for p, s in CNN)),
        ("legnet", "core.group_width=1", -sum(4 * s * 7 for _, s in CNN)),
        (
            "legnet",
            "core.squeeze_excitation=true",
            -sum(bilinear(4 * s, p // 4) - dense(4 * s, p // 4) for p, s in CNN),
        ),
        ("legnet", "core.squeeze_excitation=false", -sum(bilinear(4 * s, p // 4) for p, s in CNN)),
        ("legnet", "core.residual=add", -sum(p * s * 7 for p, s in CNN)),
        ("legnet", "recipe.is_singleton=false", -256 * 7),
        ("legnet", "recipe.is_reverse=false", -256 * 7),
        ("bhi_original", "first.kernel_sizes=[7,15]", -2 * 4 * 256),
        ("bhi_original", "core.kernel_sizes=[9,13]", -2 * 640 * 160),
        ("proformer", "first.k=8", -2 * 6 * 512),
        ("proformer", "first.stride=2", -100 * 512),
        ("proformer", "core.blocks=2", -2 * BLOCK),
        ("proformer", "core.heads=4", -4 * 4 * (4 * 512 * 512 + 3 * 512)),
        ("proformer", "final.heads=8", -24 * 512),
        ("proformer", "final.glu=true", 513),
        ("proformer", "recipe.mask_share=0", -4 * 513),
    ],
)
def test_what_a_paper_ablates_is_a_setting(experiment: str, override: str, difference: int) -> None:
    published = SIZES[experiment]
    assert network_of(f"experiment={experiment}", override).parameter_count() - published == difference


def test_legnet_gates_its_channels_by_products_of_features_as_submitted() -> None:
    torch.manual_seed(0)
    network = network_of("experiment=legnet")
    squeezed = [module for module in network.core.modules() if isinstance(module, SqueezeExcitation)]
    assert [layer.gate[0].in_features for layer in squeezed] == [4 * width for _, width in CNN]
    layer = squeezed[0]
    narrow, mixed, products, wide = (layer.gate[place] for place in (0, 2, 3, 5))
    assert products.scale.numel() == 410, "of 64 x 64 x 32 weights half as many, as outer products"
    full = torch.einsum("r,ir,jr,or->oij", products.scale, products.left, products.right, products.out)
    assert full.std().item() == pytest.approx(0.00075, rel=0.1)
    assert products.bias.abs().max() > 0.8, "uniform from -1 to 1"
    with torch.no_grad():  # so that the products weigh something beside the features themselves
        for weights in (narrow.weight, mixed.weight, wide.weight):
            weights.normal_(0, 0.2)
        for factor in (products.left, products.right, products.out):
            factor.mul_(20)
    full = torch.einsum("r,ir,jr,or->oij", products.scale, products.left, products.right, products.out)
    x = torch.randn(3, 512, 20)
    features = mixed.weight @ F.silu(narrow.weight @ x.mean(2).T + narrow.bias[:, None]) + mixed.bias[:, None]
    pairs = torch.einsum("oij,ib,jb->ob", full, features, features) + products.bias[:, None]
    gate = torch.sigmoid(wide.weight @ F.silu(torch.cat([features, pairs])) + wide.bias[:, None])
    torch.testing.assert_close(layer(x), x * gate.T[:, :, None], atol=1e-4, rtol=1e-4)


def test_a_quarter_in_an_integer_tensor_is_zero_so_the_published_encoder_gives_n_nothing() -> None:
    codes = F.one_hot(torch.tensor([0, 4, 3]), num_classes=5)  # as the published predictor and LegNet's submission
    codes[codes[:, 4] == 1] = 0.25
    assert codes[1].tolist() == [0, 0, 0, 0, 0]
    recipe = build_recipe(compose("experiment=dream_cnn"))
    samples = recipe.load(Sequences.from_strings(["ACNT" * 20]), torch.device("cpu"), np.ones(1))
    [views] = recipe.scoring_batches(samples, 1)
    for view in views:
        assert view["x"][0, :4].sum(0).sort().values[:20].tolist() == [0.0] * 20 and view["x"][0, :4].sum() == 150 - 20


def test_bhis_first_layers_have_256_channels_a_kernel_in_its_own_solution_and_160_in_the_dream_weights() -> None:
    for experiment, channels in (("bhi_original", 256), ("dream_cnn", 160), ("dream_rnn", 160)):
        convolutions = network_of(f"experiment={experiment}").first.convs.convs
        assert [(conv.kernel_size, conv.out_channels) for conv in convolutions] == [((9,), channels), ((15,), channels)]


def test_four_nucleotides_are_named_and_not_n_or_m() -> None:
    assert network_of("experiment=proformer").auxiliary["mask_filling"].nucleotide.out_channels == 4


def test_a_sequence_is_scored_once_with_both_strands_averaged() -> None:
    config = compose("experiment=dream_cnn", "first.channels=8", "core.widths=[8]")
    recipe = build_recipe(config)
    network = build(recipe, config, example_task()).eval()
    samples = recipe.load(Sequences.from_strings(random_strings(7, 110)), torch.device("cpu"))
    [views] = recipe.scoring_batches(samples, 10)
    strands = torch.stack([network(view).expression for view in views])
    expression = predict(network, recipe, example_task(), samples, batch_size=3)["expression"]
    assert strands.shape == (2, 7) and expression.shape == (7,)
    np.testing.assert_allclose(expression, strands.mean(0).detach().numpy(), rtol=1e-5)


def test_adam_steps_once_a_batch_and_not_again_on_gradients_that_are_zero(tmp_path: Path) -> None:
    def after(zeros: bool) -> float:
        """One batch as the published package has it: a step, gradients taken away, and the step of its schedule."""
        weight = torch.nn.Parameter(torch.zeros(1))
        adam = torch.optim.Adam([weight], lr=0.1)
        weight.grad = torch.ones(1)
        adam.step()
        adam.zero_grad(set_to_none=not zeros)
        adam.step()
        return weight.item()

    assert after(zeros=False) == pytest.approx(-0.1), "from torch 2.0 on nothing is left to step on"
    assert after(zeros=True) < -0.16, "under torch 1.13, which the published environment pins, the weights move twice"
    steps = []
    small = ("first.channels=8", "core.blocks=1", "core.heads=1", "core.head_width=4", "training.batch_size=64")
    config = compose("experiment=unlockdna_original", *small, "training.epochs=1", "dataset.size=200")
    counting = register_optimizer_step_post_hook(lambda *_: steps.append(1))
    try:
        run(config, tmp_path / "run", show_progress=False)
    finally:
        counting.remove()
    assert len(steps) == math.ceil(180 / 64)


def test_the_norm_of_all_gradients_is_clipped_and_then_each_value(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(fit, "clip_grad_norm_", lambda parameters, limit: calls.append((len([*parameters]), limit)))
    monkeypatch.setattr(fit, "clip_grad_value_", lambda parameters, limit: calls.append((len([*parameters]), limit)))
    small = ("first.channels=8", "core.blocks=1", "core.heads=1", "core.head_width=4", "training.batch_size=64")
    config = compose("experiment=unlockdna_original", *small, "training.epochs=1", "dataset.size=60")
    run(config, tmp_path / "run", show_progress=False)
    everything = len([*build(build_recipe(config), config, example_task()).parameters()])
    assert calls == [(everything, 1.0), (everything, 0.5)]


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_the_mask_share_is_a_setting(share: float) -> None:
    recipe = build_recipe(compose("experiment=proformer", f"recipe.mask_share={share}"))
    samples = recipe.load(Sequences.from_strings(random_strings(64, 110)), torch.device("cpu"), np.ones(64))
    batch = recipe.training_batch(samples, torch.arange(64), example_task(), torch.Generator().manual_seed(0))
    nucleotides = (batch["tokens"] < 4).sum()
    assert float(batch["mask"].sum() / nucleotides) == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize(("shift", "sd"), [(0.5, 0.5), (0.0, 0.5), (0.5, 1.5)])
def test_width_and_shift_of_the_bins_are_settings(shift: float, sd: float) -> None:
    train = Measurements(Sequences.from_strings(["A", "C"]), torch.tensor([0.0, 17.0]).numpy(), ("expression",))
    bins = bins_of(compose(f"bins.shift={shift}", f"bins.sd={sd}")["bins"], train, (0, 17))
    normal = torch.distributions.Normal(6.3 + shift, sd)
    cuts = torch.tensor([-torch.inf, *range(1, 18), torch.inf])
    torch.testing.assert_close(bins.probabilities(torch.tensor(6.3)), normal.cdf(cuts).diff(), atol=1e-6, rtol=1e-4)


def test_the_page_of_fidelity_names_tests_that_exist() -> None:
    page = (ROOT / "docs" / "fidelity.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(named) > 15
    defined: Any = {
        line.split("(")[0].removeprefix("def ")
        for file in Path(__file__).parent.glob("test_*.py")
        for line in file.read_text().splitlines()
    }
    assert named - defined == set()
