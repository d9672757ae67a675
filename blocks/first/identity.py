"""No first layers: for cores that begin with convolutions of their own."""

from __future__ import annotations

from torch import Tensor

from prixfixe.contract import Block, ContractError, InputSpec


class Identity(Block):
    """(B, C, L) -> (B, C, L): the recipe's channels as they are, without parameters."""

    def __init__(self, inputs: InputSpec) -> None:
        super().__init__()
        if not inputs.channels:
            raise ContractError("first block Identity hands channels on, and this recipe gives tokens: choose another")
        self.out_channels = inputs.channels

    def forward(self, x: Tensor) -> Tensor:
        return x
