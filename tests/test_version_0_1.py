"""What version 0.1 has left: two runs of its demo (tests/v01_runs, simulated), and its users' import lines.

The runs were trained by version 0.1.0 and are kept as it wrote them. `validation.npz` holds what it predicted itself.
"""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_command_line import prixfixe_command

import prixfixe
from prixfixe.runs.folder import RunFolder
from prixfixe.runs.targets import load_targets
from prixfixe.simulation.assay import Simulated

SCALAR, BINS = (f"autosome+conv+efficientnet+{final}" for final in ("expression_heads", "soft_bins"))
SEQUENCES = ["ACGT" * 20, "TGCATTTTTTTCACATC" + "GATTACA" * 11 + "GGTTACGGCTGTT"]
PREDICTED = {SCALAR: [11.50410557, 10.12937546], BINS: [11.06356049, 8.92492294]}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return Path(shutil.copytree(Path(__file__).parent / "v01_runs", tmp_path / "runs" / "demo"))


@pytest.mark.parametrize("name", [SCALAR, BINS])
def test_a_run_predicts_what_it_predicted(name: str, runs: Path) -> None:
    model = prixfixe.load(runs / name, device="cpu")
    np.testing.assert_allclose(model.predict(SEQUENCES), PREDICTED[name], rtol=1e-5)
    held_out = Simulated(size=6500, seed=0, validation_fraction=0.1).read().validation
    with np.load(runs / name / "validation.npz") as kept:
        np.testing.assert_array_equal(kept["measured"], held_out.expression)
        np.testing.assert_allclose(model.predict_sequences(held_out.sequences), kept["predicted"], rtol=1e-5)
    assert model.task.name == "expression" and load_targets(RunFolder(runs / name)).residual_sd is None


@pytest.mark.parametrize("name", [SCALAR, BINS])
def test_the_command_predicts(name: str, runs: Path, tmp_path: Path) -> None:
    (tmp_path / "sequences.txt").write_text("\n".join(SEQUENCES) + "\n")
    told = prixfixe_command("predict", str(runs / name), "sequences.txt", "--device", "cpu", cwd=tmp_path)
    rows = [line.split("\t") for line in told.stdout.splitlines()]
    assert rows[0] == ["name", "sequence", "prediction"]
    assert [float(row[2]) for row in rows[1:]] == pytest.approx(PREDICTED[name], rel=1e-4)


def test_results_leave_the_kl_of_a_scalar_prediction_blank(runs: Path, tmp_path: Path) -> None:
    """Version 0.1 gave a scalar prediction half a bin for its deviation, which compares with nothing."""
    told = prixfixe_command("results", str(runs), "--format", "csv", cwd=tmp_path)
    rows = {Path(row["run"]).name: row for row in csv.DictReader(io.StringIO(told.stdout))}
    assert rows.keys() == {SCALAR, BINS}
    assert {row["state"] for row in rows.values()} == {"done"}
    assert rows[SCALAR]["kl"] == "" and float(rows[BINS]["kl"]) == pytest.approx(1.262822620248234)
    assert float(rows[SCALAR]["pearson_r"]) == pytest.approx(0.3851145726179685)
    assert float(rows[BINS]["mse"]) == pytest.approx(3.9139691520135593)
    assert [rows[SCALAR][slot] for slot in ("recipe", "first", "core", "final")] == SCALAR.split("+")
    shown = prixfixe_command("results", str(runs), cwd=tmp_path).stdout
    assert "2 of 2 combinations done" in shown and "1.263" in shown and "9.106" not in shown


def test_a_run_is_evaluated_and_reported(runs: Path, tmp_path: Path) -> None:
    held_out = Simulated(size=200, seed=1, validation_fraction=0.5).read().validation
    rows = zip(held_out.sequences.to_strings(), held_out.expression, strict=True)
    (tmp_path / "table.tsv").write_text("sequence\texpression\n" + "".join(f"{s}\t{e}\n" for s, e in rows))
    for name in (SCALAR, BINS):
        told = prixfixe_command("evaluate", str(runs / name), "table.tsv", "--bootstrap", "0", cwd=tmp_path)
        measured = prixfixe.load(runs / name, device="cpu").predict_sequences(held_out.sequences)
        expected = np.corrcoef(measured, held_out.expression)[0, 1]
        assert f"{expected:.3f}" in told.stdout
    prixfixe_command("report", str(runs), "-o", "report.html", "--samples", "20", cwd=tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "2 of 2" in page and "0.619" in page and "9.106" not in page


CORE = '''\
from torch import Tensor

from prixfixe.contract import Block, InputSpec
from prixfixe.layers import Conv1d


class Mine(Block):
    """One convolution."""

    def __init__(self, inputs: InputSpec, *, channels: int) -> None:
        super().__init__()
        self.out_channels = channels
        self.conv = Conv1d(inputs.channels, channels, 7, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)
'''
RECIPE = '''\
import torch
from torch import Tensor

from prixfixe.contract import Batch, InputSpec
from prixfixe.recipe import Recipe, Samples, one_hot, place, strands


class Mine(Recipe):
    """Both strands as samples of their own, filled up with N."""

    views = 2
    samples_per_sequence = 2

    def __init__(self, *, length: int) -> None:
        self.inputs = InputSpec(4, length)

    def window(self, codes: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        placed = place(codes, lengths, torch.zeros_like(lengths), self.inputs.length, right="ACGT")
        return placed, torch.full_like(lengths, self.inputs.length)

    def encode(self, samples: Samples, rows: Tensor, reverse: Tensor, generator: torch.Generator | None) -> Batch:
        return {"x": one_hot(strands(samples.codes[rows], reverse), 4)}
'''
BLOCKS = {  # slot: file, values, the module that is gone, its name today
    "core": (CORE, "channels: 8", "prixfixe.layers", "prixfixe.networks.layers"),
    "recipe": (RECIPE, "length: 110", "prixfixe.recipe", "prixfixe.data.recipe"),
}


@pytest.mark.parametrize("slot", BLOCKS)
def test_a_users_block_is_told_its_new_import_lines_and_needs_no_other_change(slot: str, tmp_path: Path) -> None:
    text, values, gone, today = BLOCKS[slot]
    (tmp_path / "conf" / slot).mkdir(parents=True)
    (tmp_path / "blocks" / slot).mkdir(parents=True)
    (tmp_path / "conf" / slot / "mine.yaml").write_text(f"_target_: blocks.{slot}.mine.Mine\n{values}\n")
    (tmp_path / "blocks" / slot / "mine.py").write_text(text)
    others = {"recipe": "bhi", "first": "conv", "core": "bilstm", "final": "mlp"} | {slot: "mine"}
    choices = [f"{slot}={name}" for slot, name in others.items()]
    words = ("train", "experiment=demo", "hydra.mode=RUN", *choices, "dataset.size=60", "training.device=cpu")
    refused = prixfixe_command(*words, cwd=tmp_path, check=2)
    assert (
        f"blocks.{slot}.mine.Mine imports from {gone}, a module of version 0.1: change its import lines to "
        f"`from prixfixe.contract import ...` ({gone} is {today} now)"
    ) in refused.stderr
    assert not (tmp_path / "runs").exists()
    (tmp_path / "blocks" / slot / "mine.py").write_text(
        text.replace(f"from {gone} import", "from prixfixe.contract import")
    )
    assert "Pearson r" in prixfixe_command(*words, cwd=tmp_path).stdout
