"""DeepSTARR's convolutions (de Almeida et al. 2022)."""

from __future__ import annotations

from torch import Tensor, nn

from prixfixe.contract import KERAS_BATCH_NORM, BatchNorm1d, Block, ContractError, Conv1d, Count, InputSpec, keras_


class DeepSTARR(Block):
    """(B, C, L) -> (B, widths[-1], L / pool ** len(widths)), rounded down at every step.

    A step, one for each of `widths`: convolution that keeps the length, batch norm, ReLU, maximum over `pool`
    positions. 249 nt become 124, 62, 31 and 15 positions.
    Batch norm has Keras's momentum and epsilon, the weights begin as Keras's.
    """

    def __init__(self, inputs: InputSpec, *, widths: list[Count], kernel_sizes: list[Count], pool: Count) -> None:
        if not widths or len(widths) != len(kernel_sizes):
            raise ValueError(f"{len(widths)} widths and {len(kernel_sizes)} kernel_sizes: give one of each a step")
        if inputs.length < (shortest := pool ** len(widths)):
            raise ContractError(
                f"core block DeepSTARR takes the maximum over {pool} positions {len(widths)} times and needs "
                f"{shortest} positions, but is given {inputs.length}: choose a longer input or fewer widths"
            )
        super().__init__()
        self.out_channels = widths[-1]
        layers: list[nn.Module] = []
        for before, width, size in zip([inputs.channels, *widths], widths, kernel_sizes, strict=False):
            layers += [
                Conv1d(before, width, size, padding="same"),
                BatchNorm1d(width, **KERAS_BATCH_NORM),
                nn.ReLU(),
                nn.MaxPool1d(pool),
            ]
        self.layers = nn.Sequential(*layers)
        self.apply(keras_)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
