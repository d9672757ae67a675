"""The commands as a user types them, each in a process of its own where it trains."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import PUBLISHED_PARTS

import prixfixe
from prixfixe.cli import main
from prixfixe.runs.folder import RunFolder

SMALL = ("first.channels=8", "core.widths=[8]", "training.epochs=1", "training.batch_size=32")


def prixfixe_command(*arguments: str, cwd: Path, check: int | None = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "prixfixe", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert check is None or done.returncode == check, done.stderr
    return done


@pytest.fixture
def trained(promoters: Path, tmp_path: Path) -> Path:
    prixfixe_command(
        "train",
        "recipe=autosome",
        "first=conv",
        "core=efficientnet",
        "final=soft_bins",
        "dataset=table",
        f"dataset.path={promoters}",
        *SMALL,
        cwd=tmp_path,
    )
    return tmp_path / "runs" / "single" / "autosome+conv+efficientnet+soft_bins"


def test_train_predict_and_results(trained: Path, promoters: Path, tmp_path: Path) -> None:
    assert {"config.yaml", "status.json", "history.csv", "metrics.json", "weights.safetensors"} <= {
        file.name for file in trained.iterdir()
    }
    sequences = [line.split("\t")[0] for line in promoters.read_text().splitlines()[1:]]
    expected = prixfixe.load(trained, device="cpu").predict(sequences)

    from_table = prixfixe_command("predict", str(trained), str(promoters), cwd=tmp_path).stdout
    rows = list(csv.DictReader(io.StringIO(from_table), delimiter="\t"))
    assert [row["sequence"] for row in rows] == sequences
    np.testing.assert_allclose([float(row["prediction"]) for row in rows], expected, rtol=1e-4)

    fasta = tmp_path / "promoters.fa"
    fasta.write_text("".join(f">p{i} a promoter\n{s[:60]}\n{s[60:].lower()}\n" for i, s in enumerate(sequences)))
    prixfixe_command("predict", str(trained), str(fasta), "-o", "out.tsv", cwd=tmp_path)
    rows = list(csv.DictReader((tmp_path / "out.tsv").open(), delimiter="\t"))
    assert rows[7]["name"] == "p7"
    np.testing.assert_allclose([float(row["prediction"]) for row in rows], expected, rtol=1e-4)

    table = list(
        csv.DictReader(io.StringIO(prixfixe_command("results", "runs/single", "--format", "csv", cwd=tmp_path).stdout))
    )
    assert len(table) == 1
    assert (table[0]["recipe"], table[0]["first"], table[0]["core"], table[0]["final"]) == (
        "autosome",
        "conv",
        "efficientnet",
        "soft_bins",
    )
    assert {"kl", "pearson_r", "spearman_rho", "mse", "n", "parameters", "samples_per_second"} <= table[0].keys()


def test_a_sweep_goes_on_after_a_failure_and_runs_only_what_is_open(promoters: Path, tmp_path: Path) -> None:
    (tmp_path / "conf" / "core").mkdir(parents=True)
    (tmp_path / "blocks" / "core").mkdir(parents=True)
    (tmp_path / "conf" / "core" / "fragile.yaml").write_text("_target_: blocks.core.fragile.Fragile\nlives: 0\n")
    (tmp_path / "blocks" / "core" / "fragile.py").write_text(
        "from pathlib import Path\nimport os\nfrom torch import nn\nfrom prixfixe.contract import Block\n\n"
        "class Fragile(Block):\n"
        "    def __init__(self, inputs, *, lives: int):\n"
        "        super().__init__()\n"
        "        self.out_channels = inputs.channels\n"
        "        self.scale = nn.Conv1d(inputs.channels, inputs.channels, 1)\n"
        "    def forward(self, x):\n"
        "        if self.training and not Path('mended').exists():\n"
        "            raise ArithmeticError('it broke')\n"
        "        return self.scale(x)\n"
    )
    sweep = (
        "train",
        "-m",
        "experiment=grid81",
        "sweep=mixed",
        "recipe=bhi",
        "first=conv",
        "core=efficientnet,fragile",
        "final=soft_bins,mlp",
        "dataset=table",
        f"dataset.path={promoters}",
        "first.channels=8",
        "training.epochs=1",
        "training.batch_size=32",
    )
    failed = prixfixe_command(*sweep, cwd=tmp_path, check=1)
    assert failed.stderr.count("KL") == 2
    assert "2 of 4 combinations are not done" in failed.stderr
    assert "bhi+conv+fragile+mlp: ArithmeticError: it broke" in failed.stderr
    assert "Traceback" not in failed.stderr
    status = RunFolder(tmp_path / "runs" / "mixed" / "bhi+conv+fragile+mlp").status()
    assert (status["state"], status["reason"]) == ("failed", "ArithmeticError: it broke")
    shown = prixfixe_command("results", "runs/mixed", cwd=tmp_path).stdout
    assert "2 of 4 combinations done" in shown
    assert "failed: bhi+conv+fragile+mlp: ArithmeticError: it broke" in shown

    (tmp_path / "mended").touch()
    again = prixfixe_command(*sweep, cwd=tmp_path)
    assert "2 done already, 2 to run" in again.stderr
    assert "4 of 4 combinations done" in prixfixe_command("results", "runs/mixed", cwd=tmp_path).stdout

    other = prixfixe_command(*sweep, "training.epochs=2", cwd=tmp_path, check=2)
    assert "holds a run of another configuration (training.epochs: 1 there, 2 here)" in other.stderr


def test_a_killed_job_costs_only_itself(tmp_path: Path) -> None:
    prixfixe_command("blocks", "--new", "core", "mortal", cwd=tmp_path)
    file = tmp_path / "blocks" / "core" / "mortal.py"
    deadly = "import os\n\n        if self.training:\n            os.kill(os.getpid(), 9)\n        return self.conv"
    file.write_text(file.read_text().replace("return self.conv", deadly))
    sweep = (
        "train",
        "-m",
        "experiment=demo",
        "recipe=bhi",
        "first=conv",
        "core=mortal,efficientnet",
        "final=mlp",
        "dataset.size=200",
    )
    done = prixfixe_command(*sweep, cwd=tmp_path, check=1)
    assert "bhi+conv+mortal+mlp: its process was killed by signal 9" in done.stderr
    assert RunFolder(tmp_path / "runs" / "demo" / "bhi+conv+mortal+mlp").status()["state"] == "failed"
    assert RunFolder(tmp_path / "runs" / "demo" / "bhi+conv+efficientnet+mlp").status()["state"] == "done"


def test_planned_combinations_that_never_ran_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sweep.json").write_text(json.dumps({"jobs": {"bhi+conv+bilstm+mlp": ["recipe=bhi"]}}))
    assert main(["results", str(tmp_path)]) == 0
    assert "missing: bhi+conv+bilstm+mlp" in capsys.readouterr().out


def test_a_damaged_folder_is_named_and_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "bhi+conv+bilstm+mlp"
    run.mkdir()
    (run / "status.json").write_text('{"state": "do')
    assert main(["results", str(tmp_path)]) == 0
    assert "damaged:" in capsys.readouterr().out


TABLE = "dataset=table"
REFUSED = {
    "misspelt choice": (["core=bilstmm"], ["bilstm", "efficientnet", "proformer"]),
    "misspelt group": (["coer=bilstm"], ["no such setting: coer; did you mean core"]),
    "misspelt setting": (["training.epoch=3"], ["no such setting: training.epoch", "training.epochs"]),
    "misspelt setting of the launcher": (
        ["-m", "hydra.launcher.retires=3"],
        ["no such setting: hydra.launcher.retires", "hydra.launcher.retries"],
    ),
    "setting of another launcher": (
        ["-m", "hydra/launcher=slurm", "hydra.launcher.jobs_per_gpu=3"],
        ["no such setting: hydra.launcher.jobs_per_gpu", "hydra.launcher.gpus_per_node"],
    ),
    "another block's setting": (["core=bilstm", "core.widths=[8]"], ["no such setting: core.widths", "core.hidden"]),
    "wrong type": (["core=bilstm", "core.hidden=abc"], ["core.hidden='abc'", "takes int"]),
    "no path": ([TABLE], ["dataset.path has no value"]),
    "missing file": ([TABLE, "dataset.path=nowhere.tsv"], ["nowhere.tsv", "there is no such file"]),
    "bad letter": ([TABLE, "dataset.path=bad_letter.tsv"], ["bad_letter.tsv", "12"]),
    "no number": ([TABLE, "dataset.path=bad_number.tsv"], ["bad_number.tsv", "12"]),
    "empty file": ([TABLE, "dataset.path=empty.tsv"], ["empty.tsv"]),
    "too few rows": ([TABLE, "dataset.path=few.tsv"], ["too few"]),
    "one expression": ([TABLE, "dataset.path=constant.tsv"], ["nothing to learn"]),
    "validation of another format": ([TABLE, "dataset.path=good.tsv", "dataset.validation=words.txt"], ["words.txt"]),
    "unfit sequences": (
        [TABLE, "dataset.path=good.tsv", "recipe=unlockdna", "recipe.width=10"],
        ["can take none of the", "recipe"],
    ),
    "device": (["training.device=gpu"], ["training.device='gpu'"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_with_one_message(case: str, promoters: Path, tmp_path: Path) -> None:
    lines = promoters.read_text().splitlines()
    sequence, _ = lines[11].split("\t")
    files = {
        "good.tsv": lines,
        "bad_letter.tsv": [*lines[:11], f"{sequence[:5]}X{sequence[6:]}\t11", *lines[12:]],
        "bad_number.tsv": [*lines[:11], f"{sequence}\televen", *lines[12:]],
        "empty.tsv": [],
        "few.tsv": lines[:4],
        "constant.tsv": [lines[0], *(line.split("\t")[0] + "\t11" for line in lines[1:])],
        "words.txt": ["once upon a time", "there was a promoter"],
    }
    for name, content in files.items():
        (tmp_path / name).write_text("".join(line + "\n" for line in content))
    overrides, expected = REFUSED[case]
    done = prixfixe_command("train", *overrides, cwd=tmp_path, check=2)
    assert done.stderr.startswith("prixfixe: ")
    assert "Traceback" not in done.stderr
    for words in expected:
        assert words in done.stderr
    assert not list(tmp_path.glob("runs/*/*/*")), "nothing is written for a run that never began"


def test_a_shared_validation_file_is_warned_of(promoters: Path, tmp_path: Path) -> None:
    done = prixfixe_command(
        "train",
        "recipe=bhi",
        TABLE,
        f"dataset.path={promoters}",
        f"dataset.validation={promoters}",
        *SMALL,
        cwd=tmp_path,
    )
    assert "120 of the 120 validation sequences stand in training as well" in done.stderr


def test_debug_shows_the_stack_trace(tmp_path: Path) -> None:
    assert "Traceback" in prixfixe_command("train", "core=bilstmm", "--debug", cwd=tmp_path, check=1).stderr


@pytest.mark.parametrize(
    "command", [[], ["train"], ["results"], ["predict"], ["evaluate"], ["blocks"], ["data"], ["data", "check"]]
)
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])
    assert stopped.value.code == 0
    assert "usage: prixfixe" in capsys.readouterr().out


def test_help_does_not_import_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from prixfixe.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'pandas', 'hydra'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path).stdout.endswith(
        "[]\n"
    )


@pytest.mark.parametrize("slot", ["recipe", "first", "core", "final"])
def test_a_new_block_keeps_the_contract_as_it_is(slot: str, tmp_path: Path) -> None:
    prixfixe_command("blocks", "--new", slot, "fresh_idea", cwd=tmp_path)
    assert "keeps the contract" in prixfixe_command("blocks", "--check", f"{slot}/fresh_idea", cwd=tmp_path).stdout
    again = prixfixe_command("blocks", "--new", slot, "fresh_idea", cwd=tmp_path, check=2)
    assert "is there already" in again.stderr


def test_a_broken_block_is_told_what_it_breaks(tmp_path: Path) -> None:
    prixfixe_command("blocks", "--new", "core", "broken", cwd=tmp_path)
    file = tmp_path / "blocks" / "core" / "broken.py"
    file.write_text(file.read_text().replace("self.out_channels = channels", "self.out_channels = channels + 1"))
    assert (
        "states out_channels=65 but gives (batch, 64"
        in prixfixe_command("blocks", "--check", "broken", cwd=tmp_path, check=1).stdout
    )
    file.write_text(
        file.read_text()
        .replace("channels + 1", "channels")
        .replace("super().__init__()", "super().__init__(); self.dead = nn.Linear(2, 2)")
    )
    assert (
        "core.dead.weight (2, 2) gets no gradient"
        in prixfixe_command("blocks", "--check", "broken", cwd=tmp_path, check=1).stdout
    )


def test_the_menu_lists_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["blocks"]) == 0
    out = capsys.readouterr().out
    for name in PUBLISHED_PARTS:
        assert name in out
    assert "3,937,600" in out
