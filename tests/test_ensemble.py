"""Several runs as one model; and the construct around what a model is given."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import demo, random_strings, table_dataset, untrained_run

import prixfixe
from prixfixe.cli import main
from prixfixe.common.errors import InputError
from prixfixe.data.flanks import Construct, add_flanks, checked_flanks, construct
from prixfixe.data.sequences import Sequences
from prixfixe.inference.ensemble import Agreement, spread

STRINGS = random_strings(50, 60)
SMALL = ("first.channels=8", "core.widths=[8]")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of different recipes, and so of different lengths."""
    folder = tmp_path_factory.mktemp("sweep")
    found = []
    for seed, recipe in enumerate(("autosome", "bhi", "unlockdna")):
        config = demo(recipe, "conv", "efficientnet", "soft_bins", *SMALL)
        found.append(untrained_run(folder / recipe, config, seed=seed))
        (folder / recipe / "status.json").write_text(json.dumps({"state": "done"}))
    return found


def test_the_mean_of_all_and_its_spread(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    each = np.stack([prixfixe.load(run, device="cpu").predict(STRINGS) for run in runs])
    model = prixfixe.load(runs, device="cpu")
    np.testing.assert_allclose(model.predict(STRINGS), each.mean(axis=0))
    np.testing.assert_allclose(model.predict_members(STRINGS), each)
    sweep = prixfixe.load(runs[0].parent, device="cpu")
    np.testing.assert_array_equal(sweep.predict(STRINGS), model.predict(STRINGS))
    (tmp_path / "s.txt").write_text("\n".join(STRINGS))
    assert (
        main(["predict", *map(str, runs), str(tmp_path / "s.txt"), "--device=cpu", "-o", str(tmp_path / "p.csv")]) == 0
    )
    table = pd.read_csv(tmp_path / "p.csv")
    assert list(table.columns) == ["name", "sequence", "prediction", "spread"]
    np.testing.assert_allclose(table.prediction, each.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(table.spread, each.std(axis=0, ddof=1), rtol=1e-5)
    r = np.corrcoef(each)[np.triu_indices(3, 1)].mean()
    assert f"3 members: Pearson r of two members {r:.3f} on average" in capsys.readouterr().err


def test_agreement_is_the_same_in_any_chunks() -> None:
    generator = np.random.default_rng(0)
    base = generator.normal(1e4, 1, (1, 200, 2))  # far from 0, where sums of squares lose their digits
    predictions = base + generator.normal(0, 0.5, (4, 200, 2))
    agreement = Agreement()
    for part in np.array_split(predictions, [3, 50, 51], axis=1):
        agreement.add(part)
    for task in range(2):
        r = np.corrcoef(predictions[:, :, task])[np.triu_indices(4, 1)].mean()
        assert agreement.pearson_r()[task] == pytest.approx(r, abs=1e-9)
    np.testing.assert_allclose(agreement.spread(), spread(predictions).mean(axis=0))
    assert spread(predictions[:1]).max() == 0


def test_what_is_no_ensemble(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    other = untrained_run(tmp_path / "other", demo("bhi", "conv", "efficientnet", "mlp", *SMALL), ("Dev",))
    with pytest.raises(InputError, match=r"predicts expression .* predicts? Dev|an ensemble's runs predict the same"):
        prixfixe.load([runs[0], other])
    with pytest.raises(InputError, match="named twice"):
        prixfixe.load([runs[0], f"{runs[0]}/"])
    with pytest.raises(InputError, match="no run is named"):
        prixfixe.load([])
    sweep = tmp_path / "sweep"
    for run in runs[:2]:
        shutil.copytree(run, sweep / run.name)
    (sweep / "bhi" / "status.json").write_text(json.dumps({"state": "failed", "reason": "x"}))
    assert prixfixe.load(sweep).members[0].name.endswith("autosome")
    assert "1 of 2 runs are done and used" in capsys.readouterr().err
    (sweep / "autosome" / "status.json").write_text(json.dumps({"state": "running"}))
    with pytest.raises(InputError, match="none of its 2 runs is done yet"):
        prixfixe.load(sweep)


def test_flanks_are_put_around_every_sequence(tmp_path: Path) -> None:
    strings = ["", "A", "ACGTN", "GG"]
    flanked = add_flanks(Sequences.from_strings(strings), "TTT", "CA")
    assert flanked.to_strings() == [f"TTT{string}CA" for string in strings]
    assert add_flanks(flanked, "", "G").to_strings() == [f"TTT{string}CAG" for string in strings]
    assert checked_flanks("acg,") == ("ACG", "") and checked_flanks(None) == ("", "")
    for wrong in ("ACG", "A,B", ["A", 3]):
        with pytest.raises(InputError, match="LEFT,RIGHT"):
            checked_flanks(wrong)


def test_a_run_of_inserts_is_that_of_whole_sequences(tmp_path: Path) -> None:
    from prixfixe.training.experiment import run

    left, right = "TGCATTTTTTTCACATC", "GGTTACGGCTGTT"
    strings = random_strings(80, 60)
    values = np.random.default_rng(0).normal(8, 2, 80)
    outcomes = {}
    for name, (a, b) in {"inserts": ("", ""), "whole": (left, right)}.items():
        table = tmp_path / f"{name}.tsv"
        cells = enumerate(zip(strings, values, strict=True))
        rows = [f"{a}{string}{b}\t{value}\t{row % 4}\n" for row, (string, value) in cells]
        table.write_text("sequence\texpression\tfold\n" + "".join(rows))
        config = demo("bhi", "conv", "efficientnet", "soft_bins", *SMALL, "training.epochs=1", "training.batch_size=32")
        flanks = [left, right] if name == "inserts" else None
        config["dataset"] = table_dataset(table, flanks=flanks, fold=0)
        run(config, tmp_path / f"run_{name}", show_progress=False)
        outcomes[name] = prixfixe.load(tmp_path / f"run_{name}", device="cpu")
    inserts, whole = outcomes["inserts"], outcomes["whole"]
    assert inserts.flanks == (left, right) and whole.flanks == ("", "")
    assert inserts.longest == whole.longest - 30
    np.testing.assert_allclose(
        inserts.predict(strings[:5]), whole.predict([f"{left}{string}{right}" for string in strings[:5]]), rtol=1e-6
    )
    for model in (inserts, whole):
        assert model.construct is not None
        assert model.construct.left.startswith(left) and model.construct.right.endswith(right)
        assert abs(model.construct.insert - 60) <= 2
    for wrong in (["ACGT"], ["A", "X"]):
        with pytest.raises(InputError, match="LEFT,RIGHT"):
            prixfixe.training.build.build_dataset({"dataset": table_dataset(tmp_path / "inserts.tsv", flanks=wrong)})


def test_the_construct_of_sequences() -> None:
    left, right = "ACGGTCATTGCAA", "TTGACCGTACG"
    found = construct(Sequences.from_strings([f"{left}{string}{right}" for string in random_strings(300, 50)]))
    assert found.left.startswith(left) and found.right.endswith(right)
    assert abs(found.insert - 50) <= 2
    np.testing.assert_allclose(found.composition, 0.25, atol=0.02)
    bare = construct(Sequences.from_strings(["AACC" * 10, "AATT" * 12]))
    assert (bare.left, bare.right, bare.insert) == ("", "", 44)
    assert isinstance(bare, Construct) and bare.composition[2] < 1e-6


def test_evaluate_scores_the_mean(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from scipy.stats import pearsonr

    model = prixfixe.load(runs, device="cpu")
    measured = model.predict(STRINGS) + np.random.default_rng(0).normal(0, 1, len(STRINGS))
    table = tmp_path / "t.tsv"
    pd.DataFrame({"sequence": STRINGS, "expression": measured}).to_csv(table, sep="\t", index=False)
    r = pearsonr(model.predict(STRINGS), measured).statistic
    common = [str(table), "--format=json", "--bootstrap=0"]
    for named in ([str(runs[0].parent)], list(map(str, runs))):
        assert main(["evaluate", *named, *common, "--ensemble"]) == 0
        content = json.loads(capsys.readouterr().out)
        assert content["tasks"][0]["pearson_r"]["value"] == pytest.approx(r, abs=1e-6)
        assert content["model"] == "an ensemble of 3 runs"
        assert not any((run / "evaluation.json").exists() for run in runs)
    assert main(["evaluate", *map(str, runs[:2]), *common]) == 0
    each = json.loads(capsys.readouterr().out)
    assert [one["run"] for one in each] == ["autosome", "bhi"]
    for run in runs[:2]:
        (run / "evaluation.json").unlink()
        (run / "test.npz").unlink()
    assert main(["evaluate", str(table), str(runs[0]), str(table)]) == 2
    assert "is a table of predictions, which is scored by itself" in capsys.readouterr().err


def test_coverage_of_intervals() -> None:
    from prixfixe.tasks.coverage import LEVELS, added_deviation, coverage

    generator = np.random.default_rng(0)
    spread = generator.uniform(0.2, 1.0, 40_000)
    measured = generator.normal(0, np.sqrt(spread**2 + 0.7**2))
    mean = np.zeros(40_000)
    assert added_deviation(measured, mean, spread) == pytest.approx(0.7, abs=0.02)
    np.testing.assert_allclose(coverage(measured, mean, np.sqrt(spread**2 + 0.49)), LEVELS, atol=0.01)
    measured[::2] = np.nan
    np.testing.assert_allclose(coverage(measured, mean, np.sqrt(spread**2 + 0.49)), LEVELS, atol=0.01)
    assert (coverage(measured, mean, spread) < LEVELS).all()
    assert added_deviation(measured, mean, spread + 9) == 0
