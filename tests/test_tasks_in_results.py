"""Tables, analyses and the report of runs of several tasks and data: each by itself, by the scores that it declares."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fabricated_runs import make_grid, make_runs
from sklearn.metrics import roc_auc_score

from prixfixe.analysis.ranks import AUROC, VALIDATION, Predictions, bootstrap_scores
from prixfixe.analysis.results import averaged, collect
from prixfixe.cli import main
from prixfixe.report import write_report
from prixfixe.tasks.scores import BINARY, MASKED, Score

FEW = {"recipe": ("plain",), "first": ("conv", "kmer"), "core": ("bilstm", "proformer"), "final": ("binary",)}
YEAST = {"recipe": ("bhi",), "first": ("conv",), "core": ("bilstm", "proformer"), "final": ("mlp", "soft_bins")}
OWN = (Score("gap", "mean gap", higher_is_better=False, digits=1), Score("hits", "hits"))
LABELS = np.tile([0.0, 1.0], 40)


def binary_values(parts: Mapping[str, str], seed: int) -> dict[str, Any]:
    base = 0.7 + 0.1 * (parts["core"] == "bilstm") + 0.01 * seed
    values = {score.name: 1 - base if not score.higher_is_better else base for score in BINARY}
    return {
        **values,
        "tasks": {"hek": values, "k562 (1)": {**values, "auroc": base - 0.1}},
        "test": {"auroc": base - 0.2},
    }


def probabilities(auroc: float) -> dict[str, np.ndarray]:
    noise = np.random.default_rng(round(1000 * auroc)).normal(0, 0.4 - auroc / 3, len(LABELS))
    return {"measured": LABELS, "predicted": np.clip(LABELS / 2 + 0.25 + noise, 0, 1)}


def masked_values(parts: Mapping[str, str], seed: int) -> dict[str, Any]:
    entropy = 1.2 if parts["core"] == "bilstm" else 1.1
    return {"cross_entropy": entropy, "accuracy": 0.4, "perplexity": 3.0, "nucleotide_cross_entropy": entropy}


@pytest.fixture
def mixed(tmp_path: Path) -> list[Path]:
    """Sweeps of expression, of labels, of masked nucleotides, and of a task of somebody's own."""
    own = make_runs(
        tmp_path / "own",
        "mine",
        OWN,
        "gap",
        lambda p, s: {"gap": 9.0 + (p["first"] == "conv"), "hits": 0.5},
        choices=FEW,
    )
    return [
        make_grid(tmp_path / "yeast", choices=YEAST, n=40),
        make_runs(tmp_path / "labels", "binary", BINARY, "auroc", binary_values, choices=FEW, seeds=(0, 1),
                  predictions=probabilities),
        make_runs(tmp_path / "masked", "masked", MASKED, "cross_entropy", masked_values, choices=FEW,
                  dataset={"path": "genome.fa"}),
        own,
    ]  # fmt: skip


def output_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["results", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_each_task_has_a_table_of_its_own_scores(mixed: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    out = output_of(capsys, *mixed)
    blocks = out.split("\nTask ")
    assert [block.removeprefix("Task ").partition(",")[0] for block in blocks] == [
        "binary",
        "expression",
        "masked",
        "mine",
    ]
    binary, expression, masked, own = blocks
    assert "AUROC" in binary and "Pearson" not in binary and "0.805 ± 0.007" in binary
    assert "Pearson r" in expression and "AUROC" not in expression
    assert "AUROC, average precision" in binary and "chosen by AUROC" in binary
    assert "cross-entropy" in masked and masked.index("proformer") < masked.index("bilstm"), "the lowest first"
    assert "mean gap" in own and "9.0" in own and "10.0" in own and own.index("kmer") < own.index("conv")
    assert "chosen by mean gap" in own


def test_programs_get_all_of_it_in_one_table(mixed: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(output_of(capsys, *mixed, "--format", "csv"))))
    assert len(rows) == 4 + 8 + 4 + 4
    assert {row["task"]: row["dataset"] for row in rows} == {
        "binary": "table", "expression": "simulated", "masked": "table", "mine": "table",
    }  # fmt: skip
    first = next(row for row in rows if row["task"] == "binary")
    assert float(first["auroc_k562 (1)"]) == pytest.approx(float(first["auroc"]) - 0.1)
    assert float(first["test_auroc"]) == pytest.approx(float(first["auroc"]) - 0.2)
    assert first["gap"] == first["pearson_r"] == ""
    assert {row["data"] for row in rows if row["task"] == "masked"} == {"dataset.path=genome.fa"}


def test_columns_filters_and_order_know_every_score(mixed: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    out = output_of(capsys, *mixed, "--where", "task=binary", "--columns", "first,core,scores,tasks,tests")
    assert "AUROC of k562 (1)" in out and "AUROC (test)" in out
    assert "Task " not in out, "one table needs no name"
    assert output_of(capsys, *mixed, "--where", "gap<9.5").count("mean gap") >= 1
    with_own = output_of(capsys, *mixed, "--columns", "core,gap,auroc", "--where", "task=mine,binary")
    assert "mean gap" in with_own.split("\nTask ")[1] and "AUROC" not in with_own.split("\nTask ")[1].split("\n\n")[1]
    cores = [line.split()[3] for line in output_of(capsys, mixed[2], "--sort", "cross_entropy").splitlines()[3:7]]
    assert cores == ["proformer", "proformer", "bilstm", "bilstm"]


def test_analyses_are_of_each_task_by_itself(mixed: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    out = output_of(capsys, *mixed, "--effects", "--pareto", "--ranks")
    assert "Task binary, dataset table (dataset.path=own.tsv): AUROC of a part minus AUROC of another" in out
    assert "Task mine, dataset table (dataset.path=own.tsv): mean gap against cost" in out
    assert "ranked by AUROC" in out and "ranked by Pearson r and Spearman rho" in out
    assert "ranks are by pearson_r and spearman_rho or auroc; these runs have gap, hits" in out
    assert output_of(capsys, mixed[1], "--against", mixed[1]).count("within noise") >= 4
    assert main(["results", str(mixed[1]), "--against", str(mixed[3])]) == 2
    assert "have no task and data in common: task binary" in capsys.readouterr().err
    assert main(["results", *map(str, mixed), "--effects", "--format", "csv"]) == 2
    assert "choose with --where" in capsys.readouterr().err
    assert main(["results", *map(str, mixed), "--effects", "--score", "auprc"]) == 2
    assert "--score auprc is none of auroc, " in capsys.readouterr().err


def test_the_same_combinations_on_other_data_are_not_averaged(tmp_path: Path) -> None:
    runs = [
        make_runs(tmp_path / name, "binary", BINARY, "auroc", binary_values, choices=FEW, seeds=(seed,), dataset=data)
        for seed, (name, data) in enumerate((("a", {"path": "a.tsv"}), ("b", {"path": "b.tsv"})))
    ]
    groups = averaged(collect(runs)).groups()
    assert [[row["seeds"] for row in group.rows] for group in groups] == [[1] * 4, [1] * 4]
    assert [group.rows[0]["data"] for group in groups] == ["dataset.path=a.tsv", "dataset.path=b.tsv"]
    part = {"path": "a.tsv", "training_fraction": 0.5}
    half = make_runs(tmp_path / "c", "binary", BINARY, "auroc", binary_values, choices=FEW, dataset=part)
    assert len(collect([runs[0], half]).groups()) == 1, "how much is trained on is no other data"


def test_folds_are_in_names_and_averaged_like_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for fold in (0, 1, 2):
        folds = {"fold": fold, "test_fold": 3}
        make_runs(tmp_path / "cv", "binary", BINARY, "auroc", binary_values, choices=FEW, seeds=(0, 1), dataset=folds)
    assert (tmp_path / "cv" / "plain+conv+bilstm+binary+t3f1+seed1").is_dir()
    results = collect([tmp_path / "cv"])
    assert {(row["fold"], row["test_fold"]) for row in results.rows} == {(fold, 3) for fold in (0, 1, 2)}
    assert [(row["seeds"], row["folds"]) for row in averaged(results).rows] == [(2, 3)] * 4
    out = output_of(capsys, tmp_path / "cv")
    assert "24 of 24 runs of 4 combinations done" in out and "0.805 ± 0.005" in out
    assert output_of(capsys, tmp_path / "cv", "--seeds").count("bilstm") == 12


def test_auroc_of_a_bootstrap_sample_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(3)
    labels = np.stack([np.tile([0.0, 1.0], 100), np.tile([1.0, 0.0, np.nan, 1.0], 50)], axis=1)
    guesses = [np.round(generator.random((200, 2)), 1) for _ in range(2)]  # with ties
    kept = Predictions(["a", "b"], labels, guesses, {"all": np.arange(200)}, VALIDATION, [], scores=AUROC)
    found = bootstrap_scores(kept, 30, 1.0, seed=5)
    assert found.shape == (30, 2, 1)
    [state] = np.random.default_rng(5).spawn(1)
    drawn = state.integers(0, 200, (30, 200), dtype=np.int32)
    for sample, run in ((0, 0), (17, 1)):
        rows, each = drawn[sample], []
        for task in (0, 1):
            known = rows[~np.isnan(labels[rows, task])]
            each.append(roc_auc_score(labels[known, task], guesses[run][known, task]))
        assert found[sample, run, 0] == pytest.approx(np.mean(each), abs=1e-9)


def test_the_report_has_a_part_for_each_task(mixed: list[Path], tmp_path: Path) -> None:
    files = write_report(mixed, tmp_path / "report.html", samples=20, figures=tmp_path / "figures", formats=("png",))
    page = files[0].read_text()
    for place in ("runs", "runs-2", "runs-3", "runs-4", "heat-auroc", "heat-pearson_r-2", "heat-gap-4"):
        assert f'id="{place}"' in page
    assert page.count('class="group"') == 4
    ids = [part.partition('"')[0] for part in page.split(' id="')[1:]]
    assert len(set(ids)) == len(ids)
    assert (tmp_path / "figures" / "grid_auroc.png").exists() and (tmp_path / "figures" / "grid_gap-4.png").exists()
