"""MPRAnn's convolutions (Agarwal et al. 2023; layers as in the authors' repository, visze/sequence_cnn_models)."""

from __future__ import annotations

from torch import Tensor, nn

from prixfixe.contract import (
    KERAS_BATCH_NORM,
    BatchNorm1d,
    Block,
    ContractError,
    Conv1d,
    Count,
    Dropout,
    InputSpec,
    Share,
    keras_,
)


class MPRAnn(Block):
    """(B, C, L) -> (B, widths[3], L'): four convolutions without padding, batch norm behind each activation.

    1. Convolution, ReLU, batch norm. 2. Convolution, softmax over channels, batch norm, maximum over `pool` positions,
    dropout. 3. Convolution, softmax over channels, batch norm. 4. The same, and dropout. 230 nt become 224, 217, 108,
    106 and 105 positions.
    Batch norm has Keras's momentum and epsilon, the weights begin as Keras's.

    Deviation: a second maximum over one position, which changes nothing, is left out.
    """

    def __init__(
        self, inputs: InputSpec, *, widths: list[Count], kernel_sizes: list[Count], pool: Count, dropout: Share
    ) -> None:
        if len(widths) != 4 or len(kernel_sizes) != 4:
            raise ValueError(f"{len(widths)} widths and {len(kernel_sizes)} kernel_sizes: give four of each")
        first, second, third, fourth = kernel_sizes
        shortest = pool * (fourth + third - 1) + second + first - 2
        if inputs.length < shortest:
            raise ContractError(
                f"core block MPRAnn pads nothing and needs {shortest} positions, but is given {inputs.length}: choose "
                "a longer input or smaller kernel_sizes"
            )
        super().__init__()
        self.out_channels = widths[3]
        before = [inputs.channels, *widths]

        def step(place: int, activation: nn.Module) -> list[nn.Module]:
            convolution = Conv1d(before[place], widths[place], kernel_sizes[place])
            return [convolution, activation, BatchNorm1d(widths[place], **KERAS_BATCH_NORM)]

        self.layers = nn.Sequential(
            *step(0, nn.ReLU()),
            *step(1, ChannelSoftmax()),
            nn.MaxPool1d(pool),
            Dropout(dropout),
            *step(2, ChannelSoftmax()),
            *step(3, ChannelSoftmax()),
            Dropout(dropout),
        )
        self.apply(keras_)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ChannelSoftmax(nn.Module):
    """(B, C, L) -> (B, C, L): softmax over the channels of each position."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).softmax(dim=2).transpose(1, 2)  # channels lie side by side in memory
