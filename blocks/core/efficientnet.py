"""Autosome.org's core layers (Penzar et al. 2023, LegNet)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from prixfixe.contract import BatchNorm1d, Block, Conv1d, Count, GroupedConv, InputSpec, autosome_, concatenate


class EfficientNet(Block):
    """(B, C, L) -> (B, widths[-1], L): stages in the manner of EfficientNetV2, one a width.

    A stage of input width p and output width s:
    1. pointwise convolution p -> expansion * s, batch norm, SiLU;
    2. grouped convolution, `group_width` channels a group, batch norm, SiLU;
    3. squeeze and excitation through p / se_reduction (left out where `squeeze_excitation` is false; with `bilinear`
       products of pairs of the squeezed features stand beside them, as LegNet was submitted to the challenge);
    4. pointwise convolution back to p, batch norm, SiLU;
    5. joined with the stage's input: concatenated (2 p channels), or added (p channels);
    6. convolution to s, batch norm, SiLU.
    No convolution has a bias.

    Deviation: where expression heads stand in front (a pairing that was never published), the heads see most of the
    sequence through squeeze and excitation only, whose input varies by a few per cent between sequences. It is then
    batch-normed first, and its dense layers start with torch's weights, since gates that all start at 1/2 hardly
    listen.
    """

    def __init__(
        self,
        inputs: InputSpec,
        *,
        widths: list[Count],
        kernel_size: Count,
        expansion: Count,
        group_width: Count,
        squeeze_excitation: bool | Literal["bilinear"],
        se_reduction: Count,
        residual: Literal["concatenate", "add"],
    ) -> None:
        if not widths:
            raise ValueError("widths has no stage: give at least one")
        super().__init__()
        self.out_channels = widths[-1]
        stages: list[nn.Module] = []

        def squeezed(channels: int, bottleneck: int) -> list[nn.Module]:
            bilinear = squeeze_excitation == "bilinear"
            return [SqueezeExcitation(channels, bottleneck, bilinear=bilinear, normalise=inputs.heads > 0)]

        for before, width in zip([inputs.channels, *widths[:-1]], widths, strict=True):
            inner = expansion * width
            stages += [
                Residual(
                    *norm_silu(conv(before, inner, 1)),
                    *norm_silu(GroupedConv(inner, kernel_size, group_width)),
                    *(squeezed(inner, before // se_reduction) if squeeze_excitation else []),
                    *norm_silu(conv(inner, before, 1)),
                    concatenate=residual == "concatenate",
                ),
                *norm_silu(conv(2 * before if residual == "concatenate" else before, width, kernel_size)),
            ]
        self.stages = nn.Sequential(*stages)
        self.apply(autosome_)
        if inputs.heads:
            for module in self.modules():
                if isinstance(module, SqueezeExcitation):
                    module.reset_parameters()

    @property
    def adapters(self) -> tuple[str, ...]:
        """The pointwise convolutions."""
        convolutions = {name: module for name, module in self.named_modules() if isinstance(module, Conv1d)}
        return tuple(name for name, module in convolutions.items() if module.kernel_size == (1,))

    def forward(self, x: Tensor) -> Tensor:
        return self.stages(x)


def conv(channels: int, width: int, kernel_size: int) -> Conv1d:
    return Conv1d(channels, width, kernel_size, padding="same", bias=False)


def norm_silu(convolution: Conv1d) -> list[nn.Module]:
    """A convolution with batch norm and SiLU behind it."""
    return [convolution, BatchNorm1d(convolution.out_channels), nn.SiLU()]


class Residual(nn.Sequential):
    """Layers whose output is concatenated with, or added to, their input."""

    def __init__(self, *layers: nn.Module, concatenate: bool) -> None:
        super().__init__(*layers)
        self.concatenate = concatenate

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return concatenate([x, y]) if self.concatenate else x + y


class SqueezeExcitation(nn.Module):
    """Scales every channel by a gate computed from the mean over positions, batch-normed where `normalise` says so."""

    def __init__(self, channels: int, bottleneck: int, *, bilinear: bool, normalise: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels) if normalise else nn.Identity()
        self.gate = (bilinear_gate if bilinear else gate)(channels, bottleneck)

    def reset_parameters(self) -> None:
        """Gives the dense layers torch's initial weights."""
        for layer in self.gate:
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.norm(x.mean(dim=2)))[:, :, None]


def gate(channels: int, bottleneck: int) -> nn.Sequential:
    """(B, channels) -> (B, channels) between 0 and 1: two dense layers, as the DREAM models have it."""
    return nn.Sequential(nn.Linear(channels, bottleneck), nn.SiLU(), nn.Linear(bottleneck, channels), nn.Sigmoid())


def bilinear_gate(channels: int, bottleneck: int) -> nn.Sequential:
    """The same with half as many bilinear features beside those of the bottleneck (LegNet's submission)."""
    products = WithProducts(bottleneck, bottleneck // 2)
    return nn.Sequential(
        nn.Linear(channels, bottleneck),
        nn.SiLU(),
        nn.Linear(bottleneck, bottleneck),
        products,
        nn.SiLU(),
        nn.Linear(bottleneck + bottleneck // 2, channels),
        nn.Sigmoid(),
    )


class WithProducts(nn.Module):
    """(B, n) -> (B, n + features): x, and behind it sums over all pairs of its entries, each pair with a weight.

    Feature o is bias_o + sum over i, j of W_oij x_i x_j. W is a sum of `rank` outer products (CP decomposition), as
    many as hold half the values that W has.
    """

    def __init__(self, n: int, features: int) -> None:
        super().__init__()
        if features < 1:
            raise ValueError(f"a bottleneck of {n} has no room for bilinear features; se_reduction is too large")
        rank = round(n * n * features / 2 / (2 * n + features))
        spread = (0.00075 / rank**0.5) ** (1 / 3)  # of the factors, so that W has the deviation 0.00075
        self.scale = nn.Parameter(torch.ones(rank))
        self.left = nn.Parameter(torch.randn(n, rank) * spread)
        self.right = nn.Parameter(torch.randn(n, rank) * spread)
        self.out = nn.Parameter(torch.randn(features, rank) * spread)
        self.bias = nn.Parameter(torch.empty(features).uniform_(-1, 1))

    def forward(self, x: Tensor) -> Tensor:
        products = (x @ self.left) * (x @ self.right) * self.scale  # (B, rank)
        return torch.cat([x, products @ self.out.T + self.bias], dim=1)
