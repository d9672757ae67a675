"""What users are told of their data and of their blocks' errors, before time is spent on either."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import demo, random_strings
from test_command_line import prixfixe_command
from test_fit import table

from prixfixe.common.errors import ContractError, InputError
from prixfixe.contract import Block, InputSpec
from prixfixe.networks.network import in_one_line
from prixfixe.runs.folder import RunFolder
from prixfixe.training.build import build_dataset
from prixfixe.training.experiment import remarks

SMALL = ("experiment=demo", "first=conv", "core=efficientnet", "final=soft_bins", "dataset=table")


def write(path: Path, lengths: list[int], expression: list[float]) -> Path:
    strings = [random_strings(1, length, seed=number)[0] for number, length in enumerate(lengths)]
    path.write_text("".join(f"{string}\t{value}\n" for string, value in zip(strings, expression, strict=True)))
    return path


@pytest.mark.parametrize(
    ("recipe", "longest", "left_out"),
    [("autosome", 150, False), ("bhi", 110, False), ("unlockdna", 130, True)],
)
def test_what_is_longer_than_a_recipe_takes_is_said(recipe: str, longest: int, left_out: bool, tmp_path: Path) -> None:
    fits = write(tmp_path / "fits.txt", [longest] * 50, [2.75 * (i % 7) for i in range(50)])
    config = table(demo(recipe, "conv", "efficientnet", "mlp"), fits)
    assert remarks(config, build_dataset(config).read()) == []
    longer = write(tmp_path / "longer.txt", [longest] * 40 + [longest + 1] * 60, [2.75 * (i % 7) for i in range(100)])
    config = table(demo(recipe, "conv", "efficientnet", "mlp"), longer)
    split = build_dataset(config).read()
    in_training, in_validation = (
        int((part.sequences.lengths > longest).sum()) for part in (split.train, split.validation)
    )
    *first, cut = remarks(config, split)
    assert cut.startswith(
        f"{in_validation} of {len(split.validation)} validation sequences are longer than the {longest} nt that recipe "
    )
    assert [remark.partition(":")[0] for remark in first] == (
        [f"{in_training} of the {len(split.train)} training sequences are left out"] if left_out else []
    )


def test_a_sweep_says_it_once(tmp_path: Path) -> None:
    path = write(tmp_path / "long.txt", [160] * 40, [2.75 * (i % 7) for i in range(40)])
    sweep = prixfixe_command(
        "train", "-m", *SMALL, "recipe=autosome,bhi", "seed=0,1", f"dataset.path={path}", cwd=tmp_path
    )
    assert sweep.stderr.count("warning: ") == 2
    assert sweep.stderr.count("nt that recipe Autosome takes") == sweep.stderr.count("nt that recipe BHI takes") == 1
    single = prixfixe_command(
        "train", *SMALL, "recipe=bhi", "seed=2", "hydra.mode=RUN", f"dataset.path={path}", cwd=tmp_path
    )
    assert single.stderr.count("warning: 4 of 4 validation sequences are longer than the 110 nt") == 1
    run = next((tmp_path / "runs").rglob("metrics.json")).parent
    predicted = prixfixe_command("predict", str(run), str(path), "-o", "p.tsv", cwd=tmp_path)
    assert "warning: 40 of 40 sequences are longer than the " in predicted.stderr
    assert "40 predictions in p.tsv" in predicted.stderr
    assert (
        "warning: 40 of 40 sequences are longer than the "
        in prixfixe_command("evaluate", str(run), str(path), cwd=tmp_path).stderr
    )


def test_nothing_to_learn_is_refused_before_a_sweep_starts(tmp_path: Path) -> None:
    path = write(tmp_path / "constant.txt", [80] * 40, [3.0] * 40)
    refused = prixfixe_command("train", "-m", *SMALL, "recipe=bhi", f"dataset.path={path}", cwd=tmp_path, check=2)
    assert refused.stderr.count("there is nothing to learn") == 1
    assert not list(tmp_path.glob("runs/*/*+*"))


BROKEN = """
from prixfixe.contract import Block


class Broken(Block):
    def __init__(self, inputs, *, channels):
        super().__init__()
        self.out_channels = channels

    def forward(self, x):
        return self.convolution(x)
"""


def test_an_error_of_a_block_says_what_and_where(tmp_path: Path) -> None:
    (tmp_path / "conf" / "core").mkdir(parents=True)
    (tmp_path / "blocks" / "core").mkdir(parents=True)
    (tmp_path / "conf" / "core" / "broken.yaml").write_text("_target_: blocks.core.broken.Broken\nchannels: 8\n")
    (tmp_path / "blocks" / "core" / "broken.py").write_text(BROKEN)
    words = ("experiment=demo", "recipe=bhi", "first=conv", "core=broken", "final=mlp", "dataset.size=40")
    failed = prixfixe_command("train", "-m", *words, cwd=tmp_path, check=1)
    reason = "core block Broken does not take what first block Conv gives, (batch, 32, 110): "
    assert (
        reason + "'Broken' object has no attribute 'convolution' (AttributeError, broken.py line 11)" in failed.stderr
    )
    run = RunFolder(next(tmp_path.glob("runs/demo/*+*")))
    trace = run.error_file.read_text()
    assert "broken.py" in trace and "return self.convolution(x)" in trace
    (tmp_path / "blocks" / "core" / "broken.py").write_text(BROKEN.replace("self.convolution(x)", "x[:, :8]"))
    prixfixe_command("train", "-m", *words, cwd=tmp_path)
    assert not run.error_file.exists()


def test_an_error_without_a_line_of_a_block_names_none() -> None:
    assert in_one_line(ValueError("no")) == "no (ValueError)"


class Silent(Block):
    def __init__(self, inputs: InputSpec) -> None:
        super().__init__()

    def forward(self, x):  # type: ignore[no-untyped-def]
        return x


def test_a_block_without_out_channels_is_told_so() -> None:
    from prixfixe.menu.check import example_task
    from prixfixe.networks.network import build
    from prixfixe.training.build import build_recipe

    config = demo("bhi", "conv", "efficientnet", "mlp")
    config["core"] = {"_target_": f"{__name__}.Silent", "max_lr": None}
    with pytest.raises(
        ContractError, match=r"core block Silent does not set self\.out_channels; it gives \(batch, 32, 110\)"
    ):
        build(build_recipe(config), config, example_task())


def test_standard_output_can_be_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "p.txt", [80] * 40, [2.75 * (i % 7) for i in range(40)])
    prixfixe_command(
        "train", *SMALL, "recipe=bhi", "hydra.mode=RUN", f"dataset.path={path}", "hydra.run.dir=run", cwd=tmp_path
    )
    predicted = prixfixe_command("predict", "run", str(path), "-o", "-", cwd=tmp_path)
    assert len(predicted.stdout.splitlines()) == 41 and not (tmp_path / "-").exists()
    assert prixfixe_command("results", "run", "--format", "csv", "-o", "-", cwd=tmp_path).stdout.count("\n") == 2


def test_the_version_and_a_model_name_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    import prixfixe
    from prixfixe.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"prixfixe {prixfixe.__version__}\n"


def test_settings_that_only_one_recipe_minds_cost_only_its_combinations(tmp_path: Path) -> None:
    path = write(tmp_path / "short.txt", [20] * 40, [2.75 * (i % 7) for i in range(40)])  # unlockdna cuts off 30
    sweep = prixfixe_command(
        "train", "-m", *SMALL, "recipe=unlockdna,bhi", f"dataset.path={path}", cwd=tmp_path, check=1
    )
    assert "1 of 2 combinations are not done" in sweep.stderr
    config = table(demo("unlockdna", "conv", "efficientnet", "mlp"), path)
    with pytest.raises(InputError, match="can take none of the"):
        remarks(config, build_dataset(config).read())
