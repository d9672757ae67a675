"""MPRALegNet's stages: LegNet for reporter assays (Agarwal et al. 2023; autosome-ru/human_legnet)."""

from __future__ import annotations

import math

from torch import Tensor, nn

from prixfixe.contract import BatchNorm1d, Block, ContractError, Conv1d, Count, InputSpec, autosome_, concatenate


class MPRALegNet(Block):
    """(B, C, L) -> (B, 2 * widths[-1], L / product of pool_sizes), rounded down at every stage.

    A stage of input width p and output width s:
    1. pointwise convolution p -> expansion * p, batch norm, SiLU;
    2. depthwise convolution, batch norm, SiLU;
    3. squeeze and excitation, with a bottleneck of p;
    4. pointwise convolution back to p, batch norm, SiLU;
    5. concatenated with the stage's input, 2 p channels;
    6. convolution to s, batch norm, SiLU, and the maximum over the stage's pool size.
    No convolution of a stage has a bias. Behind the last one: batch norm, pointwise convolution to twice the channels.
    The published stem is the first block `conv`, its head the final block `dense_heads` (experiment=mpralegnet).
    """

    def __init__(
        self,
        inputs: InputSpec,
        *,
        widths: list[Count],
        kernel_size: Count,
        pool_sizes: list[Count],
        expansion: Count,
    ) -> None:
        if not widths or len(widths) != len(pool_sizes):
            raise ValueError(f"{len(widths)} widths and {len(pool_sizes)} pool_sizes: give one of each a stage")
        if inputs.length < (shortest := math.prod(pool_sizes)):
            raise ContractError(
                f"core block MPRALegNet takes the maximum over {' x '.join(map(str, pool_sizes))} positions and needs "
                f"{shortest} positions, but is given {inputs.length}: choose a longer input or smaller pool_sizes"
            )
        super().__init__()
        self.out_channels = 2 * widths[-1]
        stages: list[nn.Module] = []
        for before, width, pool in zip([inputs.channels, *widths], widths, pool_sizes, strict=False):
            stages += [
                InvertedBottleneck(before, kernel_size, expansion),
                *norm_silu(Conv1d(2 * before, width, kernel_size, padding="same", bias=False)),
                nn.MaxPool1d(pool),
            ]
        self.stages = nn.Sequential(*stages)
        self.mapper = nn.Sequential(BatchNorm1d(widths[-1]), Conv1d(widths[-1], self.out_channels, 1))
        self.apply(autosome_)

    def forward(self, x: Tensor) -> Tensor:
        return self.mapper(self.stages(x))


class InvertedBottleneck(nn.Module):
    """(B, C, L) -> (B, 2 C, L): steps 1 to 5 of a stage."""

    def __init__(self, channels: int, kernel_size: int, expansion: int) -> None:
        super().__init__()
        inner = expansion * channels
        self.layers = nn.Sequential(
            *norm_silu(Conv1d(channels, inner, 1, bias=False)),
            *norm_silu(Conv1d(inner, inner, kernel_size, padding="same", groups=inner, bias=False)),
            SqueezeExcitation(inner, channels),
            *norm_silu(Conv1d(inner, channels, 1, bias=False)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return concatenate([self.layers(x), x])


class SqueezeExcitation(nn.Module):
    """Scales every channel by a gate computed from the mean over positions."""

    def __init__(self, channels: int, bottleneck: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.Linear(channels, bottleneck), nn.SiLU(), nn.Linear(bottleneck, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x.mean(dim=2))[:, :, None]


def norm_silu(convolution: Conv1d) -> list[nn.Module]:
    """A convolution with batch norm and SiLU behind it."""
    return [convolution, BatchNorm1d(convolution.out_channels), nn.SiLU()]
