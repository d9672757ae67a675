"""The network: published sizes, what a build refuses, expression heads, learning rates."""

from typing import ClassVar

import pytest
import torch
from conftest import compose, demo
from torch import Tensor, nn

from blocks.final.expression_heads import ExpressionHeads
from blocks.final.mlp import MLP
from prixfixe.common.errors import ContractError, InputError
from prixfixe.contract import Block, InputSpec, Prediction, TargetSpec
from prixfixe.menu.check import example, example_rows, example_task, loaded
from prixfixe.networks.mask_filling import MaskFilling
from prixfixe.networks.network import build, learning_rate_groups
from prixfixe.networks.parts import OWN
from prixfixe.training.build import build_recipe

PUBLISHED = {"dream_cnn": 1_933_970, "dream_rnn": 4_130_578, "dream_attn": 4_539_410}  # Rafi et al. 2024


@pytest.mark.parametrize("experiment", PUBLISHED)
def test_published_sizes(experiment: str) -> None:
    config = compose(f"experiment={experiment}")
    assert build(build_recipe(config), config, example_task()).parameter_count() == PUBLISHED[experiment]


def test_proformer_as_published() -> None:
    config = compose("experiment=proformer")
    parameters = build(build_recipe(config), config, example_task()).parameter_count()
    assert round(parameters / 1e6, 1) == 47.4  # Kwak et al. 2024


class Halving(Block):
    """Halves the length."""

    def __init__(self, inputs: InputSpec) -> None:
        super().__init__()
        self.out_channels = inputs.channels
        self.pool = nn.AvgPool1d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x)


class OneLengthOnly(Block):
    """Takes 300 positions and nothing else."""

    def __init__(self, inputs: InputSpec) -> None:
        super().__init__()
        self.out_channels = 8
        self.weight = nn.Parameter(torch.zeros(300))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :8] * self.weight


class Liar(Halving):
    """States other channels than it gives."""

    def __init__(self, inputs: InputSpec) -> None:
        super().__init__(inputs)
        self.out_channels = 7


class NeedsProfile(Halving):
    """Needs a key that no published recipe gives."""

    requires = ("profile",)


class Witness(Halving):
    """Says what it was given."""

    devices: ClassVar[list[str]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.devices.append(x.device.type)
        return super().forward(x)


class LooksAtNumbers(Witness):
    """Does what depends on a number, and meta tensors have none."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 if x.abs().max().item() > 0 else 2)


@pytest.mark.parametrize(("block", "devices"), [(Witness, ["meta"]), (LooksAtNumbers, ["meta", "cpu"])])
def test_nothing_is_computed_to_infer_shapes(
    block: type[Witness], devices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Witness, "devices", [])
    config = demo("autosome", "conv", "efficientnet", "soft_bins")
    config["core"] = {"_target_": f"test_network.{block.__name__}"}
    network = build(build_recipe(config), config, example_task())
    assert block.devices == devices
    assert {tensor.device.type for tensor in network.state_dict().values()} == {"cpu"}


def test_mismatch_names_both_blocks_and_their_shapes() -> None:
    config = demo("autosome", "conv", "efficientnet", "soft_bins")
    config["core"] = {"_target_": "test_network.OneLengthOnly"}
    with pytest.raises(ContractError, match=r"core block OneLengthOnly .*first block Conv .*\(batch, 32, 150\)"):
        build(build_recipe(config), config, example_task())


def test_stated_channels_must_be_true() -> None:
    config = demo("autosome", "conv", "efficientnet", "soft_bins")
    config["core"] = {"_target_": "test_network.Liar"}
    with pytest.raises(ContractError, match=r"states out_channels=7 but gives \(batch, 32, 75\)"):
        build(build_recipe(config), config, example_task())


def test_expression_heads_need_a_core_that_keeps_the_length() -> None:
    config = demo("autosome", "conv", "efficientnet", "expression_heads")
    config["core"] = {"_target_": "test_network.Halving"}
    with pytest.raises(
        ContractError, match=r"ExpressionHeads reads 4 expression heads back .* Halving turns 154 positions into 77"
    ):
        build(build_recipe(config), config, example_task())


def test_a_key_that_the_recipe_lacks_is_a_build_time_error() -> None:
    config = demo("autosome", "conv", "efficientnet", "soft_bins")
    config["core"] = {"_target_": "test_network.NeedsProfile"}
    gives = "recipe Autosome gives x, y, y_probs, and the dataset has the columns none"
    with pytest.raises(ContractError, match=f"NeedsProfile needs profile in the batch; {gives}"):
        build(build_recipe(config), config, example_task())


class NeedsMeasurement(Halving):
    requires = ("y",)


class ReadsInput(Halving):
    """Asks for what the recipe gives, beside what the first layers make of it."""

    requires = ("x",)

    def __init__(self, inputs: InputSpec) -> None:
        super().__init__(inputs)
        self.direct = nn.Conv1d(4, inputs.channels, 1)

    def forward(self, features: Tensor, x: Tensor) -> Tensor:
        return super().forward(features + self.direct(x))


def test_a_block_cannot_have_what_is_measured() -> None:
    config = demo("bhi", "conv", "efficientnet", "mlp")
    config["core"] = {"_target_": "test_network.NeedsMeasurement"}
    with pytest.raises(ContractError, match="NeedsMeasurement needs y, which is measured and not there at prediction"):
        build(build_recipe(config), config, example_task())
    config["core"] = {"_target_": "test_network.ReadsInput"}
    recipe = build_recipe(config)
    assert torch.isfinite(build(recipe, config, example_task())(example(recipe)[1]).expression).all()


class Manager(MLP):
    """Has a hyperparameter that is called heads and is none of the network's business."""

    def __init__(self, inputs: InputSpec, targets: TargetSpec, *, heads: int) -> None:
        super().__init__(inputs, targets, hidden=heads, normalise=True)


class Reader(ExpressionHeads):
    """Says how many by another name."""

    expression_heads = "positions"

    def __init__(self, inputs: InputSpec, targets: TargetSpec, *, positions: int) -> None:
        super().__init__(inputs, targets, heads=positions, dropout=0.1)


def test_a_block_asks_for_expression_heads_by_saying_so() -> None:
    config = demo("bhi", "conv", "efficientnet", "mlp")
    config["final"] = {"_target_": "test_network.Manager", "heads": 3}
    assert build(build_recipe(config), config, example_task()).heads is None
    config["final"] = {"_target_": "test_network.Reader", "positions": 3}
    heads = build(build_recipe(config), config, example_task()).heads
    assert heads is not None and heads.shape[1] == 3
    config["final"]["positions"] = 10**9
    with pytest.raises(InputError, match=r"final\.positions=1000000000: a number of positions, 0 to 65,536"):
        build(build_recipe(config), config, example_task())


class ReadsTokens(Halving):
    """Takes keys of the recipe's own as the types that they are."""

    requires = ("tokens", "mask")

    def __init__(self, inputs: InputSpec) -> None:
        super().__init__(inputs)
        self.embedding = nn.Embedding(6, inputs.channels)

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        known = self.embedding(tokens.int()).transpose(1, 2).masked_fill(mask[:, None], 0)
        return super().forward(x + known)


def test_a_block_is_tried_with_keys_of_their_own_type() -> None:
    config = demo("unlockdna", "conv", "efficientnet", "mlp")
    config["core"] = {"_target_": "test_network.ReadsTokens"}
    recipe = build_recipe(config)
    _, batch = example(recipe)
    for key, spec in recipe.keys.items():
        assert (batch[key].shape[1:], batch[key].dtype) == (spec.shape, spec.dtype), key
    assert torch.isfinite(build(recipe, config, example_task())(batch).expression).all()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("hidden", "abc", "takes int, at least 1"),
        ("hidden", 1.5, "takes int, at least 1"),
        ("kernel_sizes", [9, "x"], "takes list"),
        ("hiden", 3, "takes no such value; it takes hidden, channels"),
    ],
)
def test_hyperparameters_are_checked(key: str, value: object, message: str) -> None:
    config = demo("autosome", "conv", "bilstm", "soft_bins")
    config["core"][key] = value
    with pytest.raises(InputError, match=message):
        build(build_recipe(config), config, example_task())


def test_only_blocks_are_built() -> None:
    config = demo("autosome", "conv", "bilstm", "soft_bins")
    config["core"] = {"_target_": "os.system", "command": "true"}
    with pytest.raises(InputError, match=r"os.system is of Python's own library"):
        build(build_recipe(config), config, example_task())


def test_mask_filling_is_the_mean_cross_entropy_over_masked_positions() -> None:
    torch.manual_seed(0)
    head = MaskFilling(InputSpec(8, 20), positions=20, weight=0.5)
    output, tokens, mask = torch.randn(3, 4, 20), torch.randint(4, (3, 20), dtype=torch.uint8), torch.rand(3, 20) < 0.3
    probabilities = output.double().softmax(1).gather(1, tokens.long()[:, None])[:, 0]
    expected = -0.5 * probabilities[mask].log().mean()
    torch.testing.assert_close(
        head.loss(output, {"tokens": tokens, "mask": mask}).double(), expected, atol=1e-6, rtol=0
    )


def test_mask_filling_works_with_a_core_that_changes_the_length() -> None:
    config = demo("unlockdna", "conv", "efficientnet", "soft_bins")
    config["core"] = {"_target_": "test_network.Halving"}
    recipe = build_recipe(config)
    network = build(recipe, config, example_task())
    _, batch = example(recipe)
    prediction = network(batch)
    assert prediction.auxiliary["mask_filling"].shape == (6, 4, 200)
    assert torch.isfinite(network.loss(prediction, batch))


def test_auxiliary_heads_are_silent_at_scoring() -> None:
    config = demo("unlockdna", "conv", "efficientnet", "mlp")
    recipe = build_recipe(config)
    network = build(recipe, config, example_task()).eval()
    assert network(example(recipe)[1]).auxiliary == {}


def test_learning_rate_is_per_block() -> None:
    config = demo("autosome", "conv", "proformer", "expression_heads")
    network = build(build_recipe(config), config, example_task())
    rates = {group["name"]: group["max_lr"] for group in learning_rate_groups(network, config)}
    assert rates == {"first": None, "core": 0.001, "final": None, "heads": None}
    grouped = sum(p.numel() for group in learning_rate_groups(network, config) for p in group["params"])
    assert grouped == network.parameter_count()


@pytest.mark.parametrize("final", ["soft_bins", "mlp", "expression_heads"])
def test_several_tasks(final: str) -> None:
    config = demo("bhi", "conv", "efficientnet", final)
    recipe = build_recipe(config)
    two = TargetSpec(("developmental", "housekeeping"), (1.0, 2.0), (1.0, 3.0), example_task().spec.bins)
    network = build(recipe, config, example_task(two))
    _, batch = example(recipe)
    y = torch.stack([batch["y"], batch["y"]], dim=1)
    batch = {**batch, "y": y, "y_probs": two.bins.probabilities(y)}
    prediction: Prediction = network(batch)
    assert prediction.expression.shape == (12, 2)
    assert torch.isfinite(network.loss(prediction, batch))


class Halved(Block):
    """Half as many positions, and of a key every other one."""

    def __init__(self, inputs: InputSpec, *, step: int = 2) -> None:
        super().__init__()
        self.out_channels, self.step = inputs.channels, step

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, ::2]

    def map_key(self, name: str, value: Tensor) -> Tensor:
        return value[:, :: self.step]


class Beside(Block):
    """A key of one value a position beside the channels."""

    requires = ("mask",)

    def __init__(self, inputs: InputSpec) -> None:
        super().__init__()
        self.out_channels = inputs.channels + 1

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return torch.cat([x, mask[:, None].to(x)], dim=1)


@pytest.mark.parametrize("kind, says", [("Halved", None), ("Halving", "does not map it"), ("Halved:1", "makes")])
def test_a_key_with_a_length_axis_is_mapped_for_the_blocks_behind(kind: str, says: str | None) -> None:
    name, _, step = kind.partition(":")
    first = {"_target_": f"test_network.{name}"} | ({"step": int(step)} if step else {})
    parts = compose("recipe=plain", "recipe.length=20", "recipe.mask_share=0.5", "final=mlp")
    parts |= {"first": first, "core": {"_target_": "test_network.Beside"}}
    recipe = build_recipe(parts)
    task, rows = example_rows(parts, recipe)
    if says is not None:
        with pytest.raises(ContractError, match=f"core block Beside needs mask, .* first block {name} .*{says}"):
            build(recipe, parts, task, origin=OWN)
        return
    network = build(recipe, parts, task, origin=OWN)
    _, batch = loaded(recipe, task, rows, network)
    beside = network.core(network.first(batch["x"]), batch["mask"][:, ::2])
    assert torch.equal(network(batch).expression, network.final(beside).expression)
