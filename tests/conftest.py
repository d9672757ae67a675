import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf, open_dict
from safetensors.torch import save_file

from prixfixe.common.paths import conf_folder
from prixfixe.contract import TargetSpec
from prixfixe.menu.check import example_task
from prixfixe.networks.network import build
from prixfixe.runs.folder import SLOTS, RunFolder
from prixfixe.runs.targets import save_targets
from prixfixe.simulation import simulate
from prixfixe.tasks.bins import Bins
from prixfixe.training.build import build_recipe, build_task

for _number in (
    signal.SIGINT,
    signal.SIGHUP,
):  # tests that run in the background ignore these, and would hand that down
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler)

PUBLISHED_PARTS = (
    *("autosome", "bhi", "unlockdna"),
    *("conv", "parallel_conv", "kmer"),
    *("efficientnet", "bilstm", "proformer"),
    *("soft_bins", "mlp", "expression_heads"),
)
ONE_OF_EACH = [  # every part of the published grid once
    ("autosome", "conv", "efficientnet", "soft_bins"),
    ("bhi", "parallel_conv", "bilstm", "mlp"),
    ("unlockdna", "kmer", "proformer", "expression_heads"),
]
COMPLEMENT = str.maketrans("ACGTN", "TGCAN")
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real measurements; tests that need it skip without it."""
    folder = Path(os.environ.get("PRIXFIXE_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "yeast" / "random_promoters.txt").exists():
        pytest.skip(f"no real data at {folder}: set PRIXFIXE_REAL_DATA to the folder that holds yeast/")
    return folder


def compose(*overrides: str) -> dict[str, Any]:
    """The configuration of one combination as plain values, as `prixfixe train OVERRIDES` would resolve it."""
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        config = hydra_compose("train", [*overrides, "hydra.mode=RUN"])
    choices = {slot: OmegaConf.select(config, f"{slot}._target_") for slot in SLOTS}
    with open_dict(config):
        config.choices = choices
    return {str(key): value for key, value in OmegaConf.to_container(config, resolve=True).items()}


def demo(recipe: str, first: str, core: str, final: str, *overrides: str) -> dict[str, Any]:
    """A combination at demo size."""
    return compose(
        "experiment=demo", f"recipe={recipe}", f"first={first}", f"core={core}", f"final={final}", *overrides
    )


def table_dataset(path: Path, **settings: Any) -> dict[str, Any]:
    """A table as a configuration has it, a fifth of it to validate on."""
    return {
        "_target_": "prixfixe.data.datasets.Table",
        "path": str(path),
        "validation": None,
        "validation_fraction": 0.2,
        "split_seed": 0,
        "sequence": None,
        "expression": None,
        "fold": None,
        "folds": None,
        **settings,
    }


def untrained_run(
    path: Path, config: dict[str, Any], tasks: tuple[str, ...] = ("expression",), *, seed: int = 0, **facts: Any
) -> Path:
    """A run folder with random weights, as training would leave it. facts: of its `TargetSpec`."""
    numbers = len(tasks)
    spec = TargetSpec(tasks, (8.0,) * numbers, (3.0,) * numbers, Bins(), **facts)
    expression = str(config["task"]["_target_"]).endswith("Expression")
    task = example_task(spec) if expression else build_task(config).with_spec(replace(spec, bins=None, mean=(), std=()))
    torch.manual_seed(seed)
    network = build(build_recipe(config), config, task)
    folder = RunFolder(path)
    folder.path.mkdir(parents=True)
    folder.config_file.write_text(yaml.safe_dump(config))
    save_targets(folder, task)
    save_file(network.state_dict(), folder.weights_file)
    return path


@pytest.fixture
def promoters(tmp_path: Path) -> Path:
    """A small table of simulated promoters, with a header."""
    measurements = simulate(120, seed=3).measurements
    path = tmp_path / "promoters.tsv"
    rows = zip(measurements.sequences.to_strings(), measurements.expression, strict=True)
    path.write_text("sequence\texpression\n" + "".join(f"{sequence}\t{value}\n" for sequence, value in rows))
    return path


def reverse_complement(sequence: str) -> str:
    return sequence.translate(COMPLEMENT)[::-1]


def random_strings(count: int, length: int = 80, seed: int = 0) -> list[str]:
    rows = np.random.default_rng(seed).choice(list("ACGT"), (count, length))
    return ["".join(row) for row in rows]
