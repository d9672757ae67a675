"""`hydra/launcher=ray` on a Ray of this machine alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_command_line import prixfixe_command

from prixfixe.runs.folder import RunFolder

pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")

# Of three jobs one ends without a word when it is first tried, one fails, one does neither.
MORTAL = """
import os
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from torch import nn

from prixfixe.contract import Block


class Mortal(Block):
    def __init__(self, inputs):
        super().__init__()
        self.out_channels = inputs.channels
        self.scale = nn.Conv1d(inputs.channels, inputs.channels, 1)

    def forward(self, x):
        if self.training:
            final = HydraConfig.get().runtime.choices.final
            if final == "mlp" and not Path("died").exists():
                Path("died").touch()
                os.kill(os.getpid(), 9)
            if final == "expression_heads":
                raise ArithmeticError("it broke")
        return self.scale(x)
"""


def test_a_sweep_through_ray(tmp_path: Path) -> None:
    (tmp_path / "conf" / "core").mkdir(parents=True)
    (tmp_path / "blocks" / "core").mkdir(parents=True)
    (tmp_path / "conf" / "core" / "mortal.yaml").write_text("_target_: blocks.core.mortal.Mortal\n")
    (tmp_path / "blocks" / "core" / "mortal.py").write_text(MORTAL)
    sweep = "train -m experiment=demo recipe=bhi first=conv core=mortal dataset.size=200"
    sweep += " hydra/launcher=ray hydra.launcher.address=null"
    done = prixfixe_command(
        *sweep.split(), "hydra.launcher.num_cpus=1", "hydra.launcher.num_gpus=0", cwd=tmp_path, check=1
    )
    assert "1 of 3 combinations are not done" in done.stderr
    assert "bhi+conv+mortal+expression_heads: ArithmeticError: it broke" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "died").exists()
    states = {
        path.name.rpartition("+")[2]: RunFolder(path).status()["state"]
        for path in (tmp_path / "runs" / "demo").glob("bhi+*")
    }
    assert states == {"soft_bins": "done", "mlp": "done", "expression_heads": "failed"}


def test_no_cluster_is_said_in_one_message(tmp_path: Path) -> None:
    sweep = "train -m experiment=demo recipe=bhi first=conv core=efficientnet dataset.size=100 hydra/launcher=ray"
    refused = prixfixe_command(*sweep.split(), cwd=tmp_path, check=2)
    assert refused.stderr.splitlines()[-1].startswith("prixfixe: hydra.launcher.address=auto: ")
