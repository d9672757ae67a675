"""Two sweeps side by side: differences beyond the noise are called so, others are not."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fabricated_runs import CHOICES, correlated, make_grid
from scipy.stats import ttest_ind

from prixfixe.analysis.against import compare, new_parts, slot_ranking, together
from prixfixe.analysis.results import Results, collect, combination
from prixfixe.cli import main
from prixfixe.tasks.scores import KL, PEARSON

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks" / "statistics"))

from sides import null_changes

FEW = {
    "recipe": ("autosome", "bhi"),
    "first": ("conv",),
    "core": ("bilstm", "proformer"),
    "final": ("mlp", "soft_bins"),
}


def test_a_change_beyond_the_noise_is_told_from_one_within(tmp_path: Path) -> None:
    old = collect([make_grid(tmp_path / "old", choices=FEW, n=3000, noise=0.0, planted=lambda c: 0.6)])
    new = collect(
        [
            make_grid(
                tmp_path / "new",
                choices=FEW,
                n=3000,
                noise=0.0,
                planted=lambda c: 0.7 if c["core"] == "bilstm" else 0.601,
                model_seed=1,
            )
        ]
    )
    rows = {combination(row): row for row in compare(new, old, PEARSON)}
    assert len(rows) == 8
    for row in rows.values():
        assert row["noise_from"] == "sequences"
        assert row["difference"] == pytest.approx(row["new"] - row["old"])
        assert row["change"] == ("one seed" if row["core"] == "bilstm" else "within noise"), "never better on one seed"
        assert 0.01 < row["noise"] < 0.1
    assert next(iter(rows.values()))["change"] == "one seed", "the largest improvement first"
    assert {row["change"] for row in compare(old, new, PEARSON)} == {"one seed", "within noise"}


def test_with_seeds_on_both_sides_a_change_is_better_or_worse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prixfixe.analysis.ranks.RANKED_AT_MOST", 0)  # by Pearson r only
    level = {"bilstm": 0.7, "proformer": 0.601}
    settings: dict[str, Any] = {"choices": FEW, "n": 1000, "noise": 0.001}
    old = collect([make_grid(tmp_path / "old", **settings, seeds=(0, 1, 2), planted=lambda c: 0.6)])
    new = collect(
        [make_grid(tmp_path / "new", **settings, seeds=(0, 1), planted=lambda c: level[c["core"]], model_seed=1)]
    )
    for row in compare(new, old, PEARSON):
        assert row["noise_from"] == "sequences and seeds"
        assert row["change"] == ("better" if row["core"] == "bilstm" else "within noise")
    assert {row["change"] for row in compare(old, new, PEARSON)} == {"worse", "within noise"}
    # two seeds on one side alone do not tell how far the other would move
    one = Results([row for row in new.rows if row["seed"] == 0], [])
    assert {row["change"] for row in compare(one, old, PEARSON)} == {"one seed", "within noise"}
    assert {row["noise_from"] for row in compare(one, old, PEARSON)} == {"sequences"}


@pytest.mark.parametrize("seeds", [1, 2])
def test_null_changes_are_seldom_called_changes(seeds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole measurement is benchmarks/statistics. The noise of the sequences alone: a third would be called so."""
    monkeypatch.setattr("prixfixe.analysis.ranks.RANKED_AT_MOST", 0)  # by Pearson r only
    called = [c for i in range(4) for c in null_changes(np.random.default_rng(i), seeds, n=200)]
    assert len(called) == 80
    changed = sum(change in ("better", "worse") for change in called)
    assert changed == 0 if seeds == 1 else changed <= 12


def test_the_command_says_what_one_seed_cannot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = make_grid(tmp_path / "old", choices=FEW, n=2000, noise=0.0, planted=lambda c: 0.6)
    new = make_grid(tmp_path / "new", choices=FEW, n=2000, noise=0.0, planted=lambda c: 0.75, model_seed=1)
    assert main(["results", str(new), "--against", str(old)]) == 0
    out = capsys.readouterr().out
    assert "\n8 one seed.\n" in out
    assert "what training again would change is not known, and nothing is called better or worse" in out
    assert "one in twenty" not in out


def test_the_noise_of_sequences_is_the_spread_over_data_sets(tmp_path: Path) -> None:
    """Two models of the same r, many times over: about 95 of 100 differences stay below the noise."""
    choices = {**FEW, "core": ("bilstm",), "final": ("mlp",)}
    old = collect([make_grid(tmp_path / "old", choices=choices, n=500, noise=0.0, planted=lambda c: 0.6)])
    new = collect([make_grid(tmp_path / "new", choices=choices, n=500, noise=0.0, planted=lambda c: 0.6, model_seed=1)])
    noise = compare(new, old, PEARSON)[0]["noise"]
    generator = np.random.default_rng(0)
    differences = []
    for _ in range(300):
        truth = generator.normal(size=5000)  # of which 500 are measured
        some = [np.corrcoef(truth[:500], correlated(truth, 0.6, generator)[:500])[0, 1] for _ in range(2)]
        differences.append(some[1] - some[0])
    assert noise == pytest.approx(1.96 * np.std(differences), rel=0.3)


def test_seeds_give_noise_where_predictions_do_not(tmp_path: Path) -> None:
    old = collect([make_grid(tmp_path / "old", choices=FEW, n=50, seeds=(0, 1, 2), noise=0.02, predictions=False)])
    new = collect(
        [make_grid(tmp_path / "new", choices=FEW, n=50, seeds=(0, 1, 2), noise=0.02, predictions=False, seed=1)]
    )
    for row in compare(new, old, PEARSON):
        values = [
            [run["pearson_r"] for run in side.done if combination(run) == combination(row)] for side in (new, old)
        ]
        assert row["noise_from"] == "seeds"
        assert (row["change"] != "within noise") == (ttest_ind(*values, equal_var=False).pvalue < 0.05)


def test_both_sources_add_up(tmp_path: Path) -> None:
    sweep = collect([make_grid(tmp_path / "both", choices=FEW, n=200, seeds=(0, 1), noise=0.02)])
    rows = compare(sweep, sweep, PEARSON)
    assert {row["noise_from"] for row in rows} == {"sequences and seeds"}
    assert {row["change"] for row in rows} == {"within noise"}


@pytest.mark.parametrize("case", ["another validation set", "another score"])
def test_unknown_noise_is_said(case: str, tmp_path: Path) -> None:
    old = collect([make_grid(tmp_path / "old", choices=FEW, n=60)])
    new = collect([make_grid(tmp_path / "new", choices=FEW, n=60, seed=1 if case == "another validation set" else 0)])
    for row in compare(new, old, KL if case == "another score" else PEARSON):
        assert (row["change"], row["noise"], row["noise_from"]) == ("unknown", None, None)


def test_what_only_one_side_has(tmp_path: Path) -> None:
    old = collect([make_grid(tmp_path / "old", choices=FEW, n=60, missing=["bhi+conv+bilstm+mlp"])])
    new = collect([make_grid(tmp_path / "new", choices=FEW, n=60, failed={"bhi+conv+proformer+mlp": "killed"})])
    changes = {combination(row): row["change"] for row in compare(new, old, PEARSON)}
    assert changes["bhi+conv+bilstm+mlp"] == "only new"
    assert changes["bhi+conv+proformer+mlp"] == "only old"
    assert len(changes) == 8


def test_a_new_block_gets_its_place_in_its_slot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cores = {"efficientnet": 0.62, "bilstm": 0.66, "proformer": 0.58, "resnet": 0.64}
    old = make_grid(tmp_path / "old", n=40, noise=0.002, planted=lambda c: cores[c["core"]], predictions=False)
    # run again beside a published core, so that one combination stands on both sides
    choices = {**CHOICES, "recipe": ("bhi",), "core": ("bilstm", "resnet")}
    new = make_grid(
        tmp_path / "new", n=40, choices=choices, noise=0.002, planted=lambda c: cores[c["core"]], predictions=False
    )
    sides = collect([new]), collect([old])
    assert new_parts(*sides) == {"core": ["resnet"]}
    both = together(*sides)
    assert len(both.rows) == 81 + 9
    ranking = slot_ranking(both, "core", PEARSON)
    assert [row["part"] for row in ranking] == ["bilstm", "resnet", "efficientnet", "proformer"]
    assert [(row["contexts"], row["best_in"]) for row in ranking] == [(9, 9), (9, 0), (9, 0), (9, 0)]
    assert [row["average_rank"] for row in ranking] == [1, 2, 3, 4]
    assert [row["part"] for row in slot_ranking(both, "core", KL)] == [row["part"] for row in ranking]
    assert main(["results", str(new), "--against", str(old)]) == 0
    out = capsys.readouterr().out
    assert "New in core" in out
    assert "resnet is 2 of 4, over 9 combinations of the other slots." in out
    assert "9 only new" in out and "72 only old" in out
