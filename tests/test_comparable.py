"""What keeps runs from being comparable is said beneath their table, and nothing is said where they are."""

import inspect
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fabricated_runs import make_grid

from prixfixe.analysis.comparable import SPLIT, remarks, unlike_data, unlike_seeds
from prixfixe.analysis.results import collect
from prixfixe.cli import main
from prixfixe.data.datasets import Table

BHI = "bhi+conv+bilstm+mlp"
ONE = {"recipe": ("bhi",), "first": ("conv",), "core": ("bilstm",), "final": ("mlp",)}
TWO = {**ONE, "core": ("bilstm", "proformer")}
PATH = "  path: {}\n  validation: {}\n  fold: {}\n"

Edit = Callable[[str], str]


def edit(run: Path, change: Edit) -> None:
    (run / "config.yaml").write_text(change((run / "config.yaml").read_text()))


def on(path: str, validation: str = "null", fold: str = "null") -> Edit:
    """Another place of the data, another table to validate on, another fold."""
    return lambda text: text.replace("  size: 6500\n", PATH.format(path, validation, fold)).replace(
        "  validation: null\nsweep", "sweep"
    )


def sweep_on(folder: Path, change: Edit, *, seed: int = 0, **settings: object) -> Path:
    """A sweep on a table; another seed holds other measurements out."""
    sweep = make_grid(folder, choices=TWO, n=30, seed=seed, simulated=False, **settings)  # type: ignore[arg-type]
    for run in sweep.glob("*/"):
        edit(run, change)
    return sweep


def said(*folders: Path) -> list[str]:
    return remarks(collect(folders).rows)


def test_seeds_that_differ_in_more_than_the_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_grid(tmp_path / "demo", choices=ONE, seeds=(0, 1), n=30)
    assert said(sweep) == []
    edit(sweep / BHI, lambda text: text.replace("epochs: 4", "epochs: 10"))
    line = f"beware: the seeds of {BHI} differ in training.epochs (4, 10) as well"
    assert said(sweep) == [line]
    for arguments in ([], ["--seeds"], ["--format", "md"], ["--effects"], ["--pareto"], ["--format", "latex"]):
        assert main(["results", str(sweep), *arguments]) == 0
        assert capsys.readouterr().out.count(line) == 1
    assert main(["results", str(sweep), "--format", "csv"]) == 0
    assert "beware" not in capsys.readouterr().out
    assert main(["report", str(sweep), "-o", str(tmp_path / "report.html"), "--samples", "0"]) == 0
    assert f"Beware{line.removeprefix('beware')}." in (tmp_path / "report.html").read_text()


def test_what_decides_no_number_does_not_count(tmp_path: Path) -> None:
    sweep = make_grid(tmp_path / "demo", choices=ONE, seeds=(0, 1), n=30)
    other = {
        "device: auto": "device: cuda",
        "micro_batch: null": "micro_batch: 8",
        "checkpoint_minutes: 10.0": "checkpoint_minutes: 1.0",
    }
    for old, new in {**other, "sweep: demo": "sweep: other"}.items():
        edit(sweep / BHI, lambda text, old=old, new=new: text.replace(old, new))  # type: ignore[misc]
    assert said(sweep) == []


def test_combinations_and_sweeps_that_are_not_averaged_may_differ(tmp_path: Path) -> None:
    sweep = make_grid(tmp_path / "a", choices=TWO, n=30)
    edit(sweep / BHI, lambda text: text.replace("epochs: 4", "epochs: 10"))
    other = make_grid(tmp_path / "b", choices=TWO, n=30)
    assert said(sweep, other) == []


def test_failed_runs_are_not_averaged_and_do_not_count(tmp_path: Path) -> None:
    sweep = make_grid(tmp_path / "demo", choices=ONE, seeds=(0, 1, 2), n=30, failed={f"{BHI}+seed2": "killed"})
    edit(sweep / f"{BHI}+seed2", lambda text: text.replace("epochs: 4", "epochs: 10"))
    assert said(sweep) == []


def test_many_rows_and_many_settings_take_one_line(tmp_path: Path) -> None:
    choices = {**TWO, "first": ("conv", "kmer", "parallel_conv")}
    sweep = make_grid(tmp_path / "demo", choices=choices, seeds=(0, 1), n=30)
    changes = {
        "epochs: 4": "epochs: 5",
        "batch_size: 1024": "batch_size: 8",
        "shift: 0.5": "shift: 0.1",
        "warm_up: 0.3": "warm_up: 0.1",
    }
    for run in sweep.glob("*+seed1/"):
        edit(run, lambda text: [text := text.replace(old, new) for old, new in changes.items()][-1])
    (line,) = said(sweep)
    assert (
        line.startswith("beware: the seeds of bhi+")
        and " and 3 more differ in optim.schedule.warm_up (0.1, 0.3), " in line
    )
    assert line.endswith(" and 1 more as well")


def test_other_data_are_named_by_their_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fly, human = sweep_on(tmp_path / "fly", on("fly.tsv")), sweep_on(tmp_path / "human", on("human.tsv"), seed=1)
    settings = "dataset.path (fly.tsv, human.tsv)"
    different = f"beware: these runs are scored on different data, as they differ in {settings}"
    line = f"{different}: their scores cannot be compared"
    assert said(fly, human) == [line]
    assert said(fly) == said(human) == []
    assert main(["results", str(fly), "--against", str(human)]) == 2
    assert line in capsys.readouterr().err
    assert main(["results", str(fly), str(human)]) == 0
    out = capsys.readouterr().out
    for path in ("fly.tsv", "human.tsv"):
        assert f"Task expression, dataset table (dataset.path={path}): 2 of 2 combinations done." in out
    assert remarks(collect([fly, human]).rows, score="pearson_score") == [], "those are of the test set"
    assert unlike_data(collect([fly, human]).rows, expected=["dataset.path"]) is None
    for run in human.glob("*/"):
        (run / "validation.npz").unlink()
    (line,) = said(fly, human)
    assert line.startswith(
        "beware: these runs differ in dataset.path (fly.tsv, human.tsv): where they are scored on different data, "
    )


def test_a_copy_elsewhere_is_the_same_data(tmp_path: Path) -> None:
    assert (
        said(sweep_on(tmp_path / "a", on("a.tsv")), sweep_on(tmp_path / "b", on("/copies/a.tsv"), model_seed=1)) == []
    )
    seeds = make_grid(tmp_path / "seeds", choices=ONE, seeds=(0, 1), n=30)
    edit(seeds / BHI, on("a.tsv"))
    edit(seeds / f"{BHI}+seed1", on("/copies/a.tsv"))
    assert said(seeds) == []


def test_folds_of_one_table_are_no_other_data_even_in_two_places(tmp_path: Path) -> None:
    folds = [sweep_on(tmp_path / f"fold{fold}", on("a.tsv", fold=str(fold)), seed=fold) for fold in range(3)]
    assert said(*folds) == []
    copy = [sweep_on(tmp_path / f"copy{fold}", on("b.tsv", fold=str(fold)), seed=fold) for fold in range(2)]
    assert said(*folds, *copy) == []
    other = sweep_on(tmp_path / "other", on("c.tsv", fold="0"), seed=9)
    assert [line.partition(":")[0] for line in said(*folds, other)] == ["beware"]


def test_other_training_data_for_the_same_held_out_ones(tmp_path: Path) -> None:
    half = sweep_on(tmp_path / "half", on("half.tsv", "test.tsv"))
    assert said(half, sweep_on(tmp_path / "full", on("full.tsv", "test.tsv"))) == [], "their scores can be compared"
    seeds = make_grid(tmp_path / "seeds", choices=ONE, seeds=(0, 1), n=30)
    edit(seeds / BHI, on("half.tsv", "test.tsv"))
    edit(seeds / f"{BHI}+seed1", on("full.tsv", "test.tsv"))
    assert said(seeds) == [f"beware: the seeds of {BHI} differ in dataset.path (full.tsv, half.tsv) as well"]


def test_data_that_have_changed_under_the_same_settings(tmp_path: Path) -> None:
    before, after = sweep_on(tmp_path / "before", on("a.tsv")), sweep_on(tmp_path / "after", on("a.tsv"), seed=1)
    (line,) = said(before, after)
    assert "though their dataset settings are the same (the data have changed, " in line


def test_damage_is_passed_over(tmp_path: Path) -> None:
    sweep = make_grid(tmp_path / "demo", choices=ONE, seeds=(0, 1), n=30)
    (sweep / BHI / "validation.npz").write_text("PK")
    rows = collect([sweep]).rows
    (sweep / BHI / "config.yaml").write_bytes(b"\xff")
    assert remarks(rows) == []
    (sweep / BHI / "config.yaml").unlink()
    assert unlike_seeds(rows) == []


def test_a_real_file_of_predictions_tells_its_measurements(tmp_path: Path) -> None:
    """np.savez, as training writes it: equal arrays have equal checksums, whatever stands beside them."""
    sweep = make_grid(tmp_path / "demo", choices=TWO, n=30)
    rows = collect([sweep]).rows
    assert unlike_data(rows) is None
    run = Path(rows[0]["run"])
    arrays = dict(np.load(run / "validation.npz"))
    np.savez(run / "validation.npz", predicted=arrays["predicted"] + 1, measured=arrays["measured"])
    assert unlike_data(rows) is None
    np.savez(run / "validation.npz", predicted=arrays["predicted"], measured=arrays["measured"][::-1])
    assert unlike_data(rows) is not None


def test_the_settings_of_a_split_are_those_of_the_dataset() -> None:
    known = {f"dataset.{name}" for name in inspect.signature(Table).parameters}
    assert set(SPLIT) < known
    assert known - set(SPLIT) == {
        f"dataset.{name}"
        for name in (
            "path",
            "validation",
            "test",
            "sequence",
            "expression",
            "columns",
            "block",
            "fold_column",
            "flanks",
            "activity",
        )
    }


def test_near_duplicates_between_validation_and_training_are_said(tmp_path: Path) -> None:
    sweep = make_grid(tmp_path / "designed", choices=TWO, n=30)
    for run, share in zip(sorted(sweep.glob("*/")), (0.04, 0.06), strict=True):
        assert said(sweep) == []  # not counted yet (version 0.1), or few
        file = run / "metrics.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "validation_near_duplicates": share}))
    (line,) = said(sweep)
    assert line.startswith(
        "beware: 4 % to 6 % of the validation sequences share a long stretch with a training sequence"
    )
    assert "dataset.folds" not in line, "these data have no such setting"
    for run in sweep.glob("*/"):
        edit(run, lambda text: text.replace("  size: 6500", "  folds: null\n  size: 6500"))
    assert "dataset.folds=10 dataset.fold=0" in said(sweep)[0]
    assert remarks(collect([sweep]).rows, score="pearson_score") == []


def test_scores_on_a_test_part_are_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_grid(tmp_path / "tested", choices=ONE, n=30)
    file = sweep / BHI / "metrics.json"
    tested = {"pearson_r": 0.4321, "spearman_rho": 0.4, "kl": 1.5, "mse": 2.0, "n": 12}
    file.write_text(json.dumps({**json.loads(file.read_text()), "test": tested}))
    (row,) = collect([sweep]).rows
    assert (row["test_pearson_r"], row["test_n"]) == (0.4321, 12)
    assert main(["results", str(sweep)]) == 0
    table = capsys.readouterr().out
    assert "Pearson r (test)" in table and "0.432" in table
