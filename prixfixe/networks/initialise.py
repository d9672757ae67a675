"""Initial weights that several blocks share."""

import math

from torch import nn


def autosome_(module: nn.Module) -> None:
    """Penzar et al. 2023 (LegNet): convolutions normal with variance 2 / (kernel size * output channels), dense layers
    normal with deviation 0.001, biases 0. In place; use as `block.apply(autosome_)`."""
    if isinstance(module, nn.Conv1d):
        nn.init.normal_(module.weight, std=math.sqrt(2 / (module.kernel_size[0] * module.out_channels)))
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.001)
    if isinstance(module, (nn.Conv1d, nn.Linear)) and module.bias is not None:
        nn.init.zeros_(module.bias)


def keras_(module: nn.Module) -> None:
    """Keras's defaults: weights of convolutions and dense layers uniform (Glorot & Bengio 2010), biases 0. In place;
    use as `block.apply(keras_)`."""
    if isinstance(module, (nn.Conv1d, nn.Linear)):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
