"""The first lines of a new block: one Python file and one YAML that keep the contract as they are."""

from __future__ import annotations

import keyword
from pathlib import Path

from prixfixe.common.errors import InputError
from prixfixe.common.files import write_text
from prixfixe.common.paths import conf_folder
from prixfixe.runs.folder import SLOTS

HEAD = '''"""{title}: what it is, who made it, the paper."""

from __future__ import annotations

'''

FIRST_OR_CORE = (
    HEAD
    + '''from torch import Tensor, nn

from prixfixe.contract import Block, InputSpec


class {cls}(Block):
    """(B, C, L) -> (B, channels, L): one convolution with ReLU, to be replaced."""

    def __init__(self, inputs: InputSpec, *, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.out_channels = channels
        self.conv = nn.Conv1d(inputs.channels, channels, kernel_size, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).relu()
'''
)

FINAL = (
    HEAD
    + '''import torch.nn.functional as F
from torch import Tensor, nn

from prixfixe.contract import Batch, InputSpec, Prediction, ScalarFinalBlock, TargetSpec, mean_over_measured


class {cls}(ScalarFinalBlock):
    """(B, C, L) -> expression: the mean over positions and one dense unit a task; MSE loss. To be replaced."""

    def __init__(self, inputs: InputSpec, targets: TargetSpec, *, dropout: float) -> None:
        super().__init__(targets)
        self.dense = nn.Sequential(nn.Dropout(dropout), nn.Linear(inputs.channels, len(targets.tasks)))

    def forward(self, features: Tensor) -> Prediction:
        return self.to_units(self.dense(features.mean(dim=2)))

    def loss(self, prediction: Prediction, batch: Batch) -> Tensor:
        expression, measured = self.standardised(prediction.expression), self.standardised(batch["y"])
        return mean_over_measured(F.mse_loss, expression, measured)
'''
)

RECIPE = (
    HEAD
    + '''import torch
from torch import Tensor

from prixfixe.contract import Batch, InputSpec, Recipe, Samples, one_hot, place


class {cls}(Recipe):
    """The plus strand, cut or filled with N at the right to `length` positions. To be replaced."""

    def __init__(self, *, length: int) -> None:
        self.inputs = InputSpec(4, length)

    def window(self, codes: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        width = self.inputs.length
        return place(codes, lengths, torch.zeros_like(lengths), width), lengths.clamp(max=width)

    def encode(self, samples: Samples, rows: Tensor, reverse: Tensor, generator: torch.Generator | None) -> Batch:
        return {{"x": one_hot(samples.codes.index_select(0, rows), 4)}}
'''
)

TEMPLATES = {
    "recipe": (RECIPE, "length: 110\n"),
    "first": (FIRST_OR_CORE, "channels: 64\nkernel_size: 7\n"),
    "core": (FIRST_OR_CORE, "channels: 64\nkernel_size: 7\n"),
    "final": (FINAL, "dropout: 0.1\n"),
}


def write(slot: str, name: str, folder: Path) -> list[Path]:
    """Writes blocks/SLOT/NAME.py and conf/SLOT/NAME.yaml below `folder`; raises InputError where one is there
    already."""
    if slot not in SLOTS:
        raise InputError(f"no slot is called {slot}; choose {', '.join(SLOTS)}")
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower():
        raise InputError(
            f"{name} cannot be the name of a Python file; use lower case letters, digits and _, as in resnet_small"
        )
    code, values = TEMPLATES[slot]
    cls = "".join(word.capitalize() for word in name.split("_"))
    target = f"blocks.{slot}.{name}.{cls}"
    files = {
        folder / "blocks" / slot / f"{name}.py": code.format(cls=cls, title=name),
        folder / "conf" / slot / f"{name}.yaml": f"_target_: {target}\n{values}",
    }
    for file in files:
        if file.exists():
            raise InputError(f"{file} is there already; choose another name")
    if (conf_folder() / slot / f"{name}.yaml").exists():
        raise InputError(f"the framework has a {slot} called {name}, which yours cannot replace: choose another")
    for file, text in files.items():
        write_text(file, text)
    return list(files)
