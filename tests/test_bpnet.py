"""BPNet's body and heads: their sizes, and what they compute beside a plain restatement in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import compose
from scipy.stats import multinomial
from torch import Tensor, nn

from blocks.core.bpnet import BPNet
from blocks.final.profile_counts import ProfileCounts
from prixfixe.common.errors import ContractError
from prixfixe.contract import InputSpec, Prediction, TargetSpec
from prixfixe.networks.network import Network, build
from prixfixe.training.build import build_recipe, build_task


def targets(positions: int, weight: float = 1.0, margin: int = 0) -> TargetSpec:
    width = float(positions + 2 * margin)
    constants = {"count_weight": weight, "positions": float(positions), "width": width}
    return TargetSpec(("profile",), constants=constants)


def network(*overrides: str, positions: int = 1000, **parts_of: Any) -> Network:
    parts = ("task=profile", "recipe=plain", "recipe.length=2114", "first=identity", "core=bpnet")
    config = compose(*parts, "final=profile_counts", f"task.positions={positions}", *overrides)
    config |= parts_of
    return build(build_recipe(config), config, build_task(config).with_spec(targets(positions)))


BIAS = ("core.channels=128", "core.layers=4")
DREAM = ("first=parallel_conv", "first.channels=320")


@pytest.mark.parametrize(
    ("overrides", "parameters", "positions", "crop"),
    [((), 6_377_986, 1074, 0), (BIAS, 217_730, 2034, 480), ((*DREAM, "core=efficientnet"), None, 2114, 520)],
)
def test_sizes_and_lengths_are_those_of_the_paper(
    overrides: tuple[str, ...], parameters: int | None, positions: int, crop: int
) -> None:
    """2,114 -> 2,094 -> 1,074 -> 1,000; the features of a bias model and of a DREAM core are longer."""
    found = network(*overrides)
    assert parameters is None or found.parameter_count() == parameters
    assert found.final.crop == crop
    features = found.core(found.first(torch.zeros(1, 4, 2114)))
    assert features.shape[2] == positions
    assert found.final(features)["profile"].shape == (1, 1000)


@pytest.mark.parametrize("core", ["efficientnet", "bilstm", "proformer"])
def test_the_heads_stand_behind_every_core(core: str) -> None:
    demo = compose("experiment=demo", f"core={core}")["core"]
    found = network("first=conv", "first.channels=8", "recipe.length=200", positions=100, core=demo)
    assert found({"x": torch.randn(2, 4, 200)})["profile"].shape == (2, 100)


def plain_bpnet(x: Tensor, weights: dict[str, Tensor], layers: int, positions: int) -> tuple[Tensor, Tensor]:
    """Padded, and the middle taken at the end: what no padding has touched is the same."""
    half = weights["core.first.weight"].shape[2] // 2
    x = F.relu(F.conv1d(x, weights["core.first.weight"], weights["core.first.bias"], padding=half))
    lost = half
    for layer in range(layers):
        d = 2 ** (layer + 1)
        name = f"core.dilated.{layer}"
        x = x + F.relu(F.conv1d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=d, dilation=d))
        lost += d
    kernel = weights["final.profile.weight"].shape[2] // 2
    profile = F.conv1d(x, weights["final.profile.weight"], weights["final.profile.bias"], padding=kernel)[:, 0]
    start = (profile.shape[1] - positions) // 2
    pooled = x[:, :, lost : x.shape[2] - lost].mean(dim=2)
    counts = pooled @ weights["final.counts.weight"].T + weights["final.counts.bias"]
    return profile[:, start : start + positions], counts[:, 0]


@pytest.mark.parametrize(("layers", "positions"), [(8, 1000), (4, 1000), (4, 200)])
def test_a_forward_pass_equals_a_plain_restatement(layers: int, positions: int) -> None:
    torch.manual_seed(0)
    found = network("core.channels=6", f"core.layers={layers}", positions=positions).double()
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.normal_(std=0.3)
    x = F.one_hot(torch.randint(4, (3, 2114)), 4).mT.double()
    profile, counts = plain_bpnet(x, found.state_dict(), layers, positions)
    prediction = found({"x": x})
    torch.testing.assert_close(prediction["profile"], profile, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(prediction["log_counts"], counts, rtol=1e-12, atol=1e-12)


class Fixed(nn.Module):
    """A bias model that gives what it was made with."""

    def __init__(self, profile: Tensor, log_counts: Tensor) -> None:
        super().__init__()
        self.profile, self.log_counts = profile, log_counts

    def forward(self, batch: dict[str, Tensor]) -> Prediction:
        return Prediction(profile=self.profile, log_counts=self.log_counts)


def test_the_loss_is_that_of_a_multinomial_and_of_log_counts() -> None:
    random = np.random.default_rng(0)
    counts = random.poisson(3.0, size=(5, 20))
    counts[2] = 0
    logits, log_counts = random.normal(size=(5, 20)), random.normal(3, 1, size=5)
    head = ProfileCounts(InputSpec(4, 24), targets(20, 7.5), kernel_size=5, bias=None).double()
    prediction = Prediction(profile=torch.tensor(logits), log_counts=torch.tensor(log_counts))
    batch = {"counts": torch.tensor(counts).float()}
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    likelihood = np.array([multinomial.logpmf(c, c.sum(), p) for c, p in zip(counts, probs, strict=True)])
    expected = (7.5 * (log_counts - np.log1p(counts.sum(axis=1))) ** 2 - likelihood).mean()
    assert float(head.loss(prediction, batch)) == pytest.approx(expected, rel=1e-10)
    assert head.size(batch) == 5


def test_a_bias_model_adds_logits_and_counts() -> None:
    """Of the counts themselves, not of their logarithms."""
    torch.manual_seed(1)
    profile, log_counts = torch.randn(3, 10).double(), torch.randn(3).double()
    head = ProfileCounts(InputSpec(4, 14), targets(10), kernel_size=5, bias=Fixed(profile, log_counts)).double()
    head.offset.fill_(0.7)
    alone = ProfileCounts(InputSpec(4, 14), targets(10), kernel_size=5, bias=None).double()
    alone.load_state_dict({name: value for name, value in head.state_dict().items() if name != "offset"})
    features = torch.randn(3, 4, 14).double()
    own, both = alone(features), head(features, x=features)
    torch.testing.assert_close(both["profile_without_bias"], own["profile"])
    torch.testing.assert_close(both["log_counts_without_bias"], own["log_counts"])
    torch.testing.assert_close(both["profile"], own["profile"] + profile)
    torch.testing.assert_close(both["log_counts"].exp(), own["log_counts"].exp() + (log_counts + 0.7).exp())
    assert (alone.requires, head.requires) == ((), ("x", "is_peak"))


def test_weights_start_as_keras_has_them() -> None:
    torch.manual_seed(0)
    core = BPNet(InputSpec(4, 400), channels=64, layers=2, first_kernel_size=21, kernel_size=3)
    head = ProfileCounts(InputSpec(64, 90), targets(16), kernel_size=75, bias=None)
    for layer, fans in ((core.first, 21 * 68), (core.dilated[1], 3 * 128), (head.profile, 75 * 65), (head.counts, 65)):
        limit = np.sqrt(6 / fans)
        assert 0.9 * limit < layer.weight.abs().max().item() <= limit
        assert not layer.bias.any()


def test_a_key_with_a_length_axis_is_cropped_as_the_features_are() -> None:
    core = BPNet(InputSpec(4, 60), channels=2, layers=2, first_kernel_size=5, kernel_size=3)
    length = core(torch.zeros(2, 4, 60)).shape[2]
    key = torch.arange(60).expand(2, 60)
    mapped = core.map_key("tokens", key)
    assert mapped.shape == (2, length)
    assert mapped[0, 0] == 59 - mapped[0, -1] == core.cropped


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (
            ["core.layers=9"],
            r"gives 1000 positions .* in the middle of the 0 that its kernel of 75 leaves of the core's",
        ),
        (["core.layers=10"], "2114 positions are too few: it takes 4113 to give one"),
        (["core.layers=30"], r"dilated by 2\^30"),
        (["core.kernel_size=4"], "must be odd"),
        (["final.kernel_size=74"], "must be odd"),
        (["recipe.length=2113"], "or an even number fewer"),
    ],
)
def test_what_does_not_fit_is_named_before_anything_is_computed(overrides: list[str], says: str) -> None:
    with pytest.raises(ContractError, match=says):
        network("core.channels=4", *overrides)


def test_experiments_are_the_published_ones() -> None:
    pytest.importorskip("prixfixe.data.atac")
    paths = [f"dataset.{key}=x" for key in ("genome", "bigwig", "peaks", "folds")]
    found: dict[str, Any] = {
        name: compose(f"experiment={name}", *paths) for name in ("chrombpnet", "atac_bias", "atac")
    }
    for name, parameters in (("chrombpnet", 6_377_986), ("atac_bias", 217_730), ("atac", None)):
        config = found[name]
        built = build(build_recipe(config), config, build_task(config).with_spec(targets(1000, margin=500)))
        assert parameters is None or built.parameter_count() == parameters
        assert config["training"]["batch_size"] == 64
    rates = [found[name]["optim"]["optimizer"].get("lr") for name in ("chrombpnet", "atac_bias")]
    assert rates == [0.001, 0.001] and found["atac"]["optim"]["schedule"]["max_lr"] == 0.0005
