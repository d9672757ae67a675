"""The body of BPNet (Avsec et al. 2021) as ChromBPNet has it (Pampari et al. 2023)."""

from __future__ import annotations

from torch import Tensor, nn

from prixfixe.contract import Block, Conv1d, Count, InputSpec


class BPNet(Block):
    """(B, C, L) -> (B, channels, L - first_kernel_size + 1 - 2 * (kernel_size - 1) * (2^layers - 1)).

    1. A wide convolution, ReLU.
    2. `layers` residual convolutions, ReLU, the i-th of dilation 2^i; their input is cropped at both ends to what they
       give, and added.
    No convolution is padded, so that every position of the output has seen sequence alone: 2,114 -> 1,074 positions
    with 8 layers, and 2,034 with the 4 of a bias model. Weights start as Keras has them: Glorot uniform, biases 0.
    """

    def __init__(
        self, inputs: InputSpec, *, channels: Count, layers: Count, first_kernel_size: Count, kernel_size: Count
    ) -> None:
        super().__init__()
        if first_kernel_size % 2 == 0 or kernel_size % 2 == 0:
            raise ValueError("first_kernel_size and kernel_size must be odd, so that both ends are cropped alike")
        if layers > 20:
            raise ValueError(f"layers={layers}: the last one would be dilated by 2^{layers}; at most 20")
        self.out_channels = channels
        self.first = Conv1d(inputs.channels, channels, first_kernel_size)
        dilated = [Conv1d(channels, channels, kernel_size, dilation=2**i) for i in range(1, layers + 1)]
        self.dilated = nn.ModuleList(dilated)
        self.relus = nn.ModuleList(nn.ReLU() for _ in range(layers + 1))  # one each, as DeepLIFT needs them
        self.cropped = first_kernel_size // 2 + (kernel_size // 2) * (2 ** (layers + 1) - 2)  # at either end
        if inputs.length <= 2 * self.cropped:
            raise ValueError(
                f"{inputs.length} positions are too few: it takes {2 * self.cropped + 1} to give one; fewer layers, or "
                "longer windows"
            )
        self.apply(glorot_)

    def map_key(self, name: str, value: Tensor) -> Tensor:
        return value[..., self.cropped : value.shape[-1] - self.cropped]

    def forward(self, x: Tensor) -> Tensor:
        first_relu, *relus = self.relus
        x = first_relu(self.first(x))
        for conv, relu in zip(self.dilated, relus, strict=True):
            y = relu(conv(x))
            crop = (x.shape[2] - y.shape[2]) // 2
            x = x[:, :, crop : crop + y.shape[2]] + y
        return x


def glorot_(module: nn.Module) -> None:
    """Keras's initial weights of a convolution: Glorot uniform, biases 0. In place."""
    if isinstance(module, nn.Conv1d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
