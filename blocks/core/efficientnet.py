"""Autosome.org's core layers (Penzar et al. 2023, LegNet)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from prixfixe.contract import Block, InputSpec
from prixfixe.initialise import autosome_
from prixfixe.layers import BatchNorm1d, Conv1d, GroupedConv, concatenate


class EfficientNet(Block):
    """(B, C, L) -> (B, widths[-1], L): stages in the manner of EfficientNetV2, one a width.

    A stage of input width p and output width s:
    1. pointwise convolution p -> expansion * s, batch norm, SiLU;
    2. grouped convolution, `group_width` channels a group, batch norm, SiLU;
    3. squeeze and excitation through p / se_reduction (left out where `squeeze_excitation` is false);
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
        widths: list[int],
        kernel_size: int,
        expansion: int,
        group_width: int,
        squeeze_excitation: bool,
        se_reduction: int,
        residual: Literal["concatenate", "add"],
    ) -> None:
        super().__init__()
        self.out_channels = widths[-1]
        stages: list[nn.Module] = []
        for before, width in zip([inputs.channels, *widths[:-1]], widths, strict=True):
            inner = expansion * width
            stages += [
                Residual(
                    *norm_silu(conv(before, inner, 1)),
                    *norm_silu(GroupedConv(inner, kernel_size, group_width)),
                    *(
                        [SqueezeExcitation(inner, before // se_reduction, normalise=inputs.heads > 0)]
                        if squeeze_excitation
                        else []
                    ),
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

    def __init__(self, channels: int, bottleneck: int, *, normalise: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels) if normalise else nn.Identity()
        self.gate = nn.Sequential(
            nn.Linear(channels, bottleneck), nn.SiLU(), nn.Linear(bottleneck, channels), nn.Sigmoid()
        )

    def reset_parameters(self) -> None:
        """Gives the dense layers torch's initial weights."""
        for layer in self.gate:
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.norm(x.mean(dim=2)))[:, :, None]
