"""Test folds beside validation folds: what runs keep of them, one row a model, ensembles, and the noise ceiling."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import compose, demo, random_strings, table_dataset
from fabricated_runs import make_folds, make_runs
from test_tasks_in_results import FEW, binary_values

import prixfixe
from prixfixe.analysis.folds import average
from prixfixe.analysis.results import averaged, collect
from prixfixe.cli import main
from prixfixe.common.errors import InputError
from prixfixe.contract import TargetSpec
from prixfixe.data.datasets import Split
from prixfixe.data.measurements import Measurements
from prixfixe.data.sequences import Sequences
from prixfixe.data.splits import strand_hash
from prixfixe.runs.folder import RunFolder
from prixfixe.runs.reader import read_test_part, read_training_sample
from prixfixe.tasks import metrics
from prixfixe.tasks.binary import Binary
from prixfixe.tasks.bins import Bins
from prixfixe.tasks.ceiling import FEWEST_REPEATED, noise_ceiling, row_keys
from prixfixe.tasks.expression import Expression
from prixfixe.tasks.grouped import GroupedExpression
from prixfixe.tasks.profile import Profile
from prixfixe.tasks.scores import BINARY
from prixfixe.training import kept
from prixfixe.training.build import build_dataset
from prixfixe.training.experiment import run
from prixfixe.training.kept import kept_rows, residual_sd_of_mean, sample_of, save_test_predictions

BINS = {"number": 18, "shift": 0.5, "sd": 0.5, "range": None}
CHROMOSOMES = ("chr2L", "chr2R", "chr3L", "chr3R", "chrX")
MODELS = {"efficientnet": 0.6, "bilstm": 0.5}


def starrseq(test_fold: str, fold: str, *overrides: str) -> dict[str, Any]:
    config = compose(
        *("experiment=starrseq_small", "dataset.size=400", "dataset.block=null", "first=conv", "first.channels=8"),
        *("core.widths=[8]", "training.epochs=1", "training.batch_size=64", f"dataset.test_fold={test_fold}"),
        *(f"dataset.fold={fold}", *overrides),
    )
    parts = {"recipe": "plain", "first": "conv", "core": "efficientnet", "final": "task_heads"}
    config["choices"] = {**parts, "task": "expression", "dataset": "simulated_starrseq"}
    return config


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two test folds with two models each, trained."""
    folder = tmp_path_factory.mktemp("runs") / "sweep"
    for test_fold in ("chr2L", "chr3R"):
        for fold in ("chr2R", "chrX"):
            name = f"plain+conv+efficientnet+task_heads+t{test_fold}f{fold}"
            run(starrseq(test_fold, fold), folder / name, show_progress=False)
    return folder


def output_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert main([*map(str, arguments)]) == 0
    return capsys.readouterr().out


def written(rows: Measurements, path: Path) -> Path:
    columns = dict(zip(rows.tasks, rows.expression.T, strict=True)) | {
        "is_reverse": rows.columns["is_reverse"].astype(int)
    }
    pd.DataFrame({"sequence": rows.sequences.to_strings(), **columns}).to_csv(path, sep="\t", index=False)
    return path


def split_of(path: Path) -> Split:
    return build_dataset(RunFolder(path).config()).read()


# what a run keeps


def test_a_run_keeps_what_it_predicts_of_its_test_part(sweep: Path) -> None:
    path = sorted(sweep.iterdir())[0]
    arrays, test = read_test_part(path / "predictions_test.npz"), split_of(path).test
    assert test is not None
    np.testing.assert_array_equal(arrays["measured"], test.expression)
    np.testing.assert_array_equal(arrays["rows"], strand_hash(test.sequences))
    model = prixfixe.load(path, device="cpu")
    np.testing.assert_allclose(
        arrays["predicted"], model.predict_sequences(test.sequences, columns=test.columns), rtol=1e-5, atol=1e-6
    )
    scores, kept_scores = metrics.scores(arrays["measured"], arrays["predicted"]), RunFolder(path).metrics()["test"]
    assert scores["pearson_r"] == pytest.approx(kept_scores["pearson_r"], abs=1e-6)
    assert not [file for file in path.iterdir() if file.name.startswith(".")], "written whole, or not at all"


def test_a_run_keeps_a_sample_of_its_training_rows(sweep: Path, tmp_path: Path) -> None:
    path = sorted(sweep.iterdir())[0]
    sample, train = read_training_sample(path / "training_sample.npz"), split_of(path).train
    assert sorted(sample["rows"]) == sorted(strand_hash(train.sequences)) and sample["below"] == 2**64 - 1
    predicted = prixfixe.load(path, device="cpu").predict_sequences(train.sequences, columns=train.columns)
    np.testing.assert_allclose(sample["predicted"], predicted, rtol=1e-4, atol=1e-5)
    sd = np.sqrt(np.square(sample["predicted"] - sample["measured"]).mean(axis=0))
    np.testing.assert_allclose(residual_sd_of_mean([sample, sample]), sd, rtol=1e-6)
    single = json.loads((path / "targets.json").read_text())["residual_sd"]
    np.testing.assert_allclose(single, sd, rtol=1e-4)  # of all training rows, too, as there are few
    copy = RunFolder(shutil.copytree(path, tmp_path / "copy"))
    copy.clear()
    assert not [*copy.path.glob("*.npz")], "a run that is begun anew leaves nothing of the old one"


def test_samples_of_overlapping_training_sets_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "SAMPLE_ROWS", 100)
    hashes = np.random.default_rng(0).integers(0, 2**64, 1000, dtype=np.uint64)
    rows, found, below = sample_of(hashes)
    assert len(rows) == 100 and (found == hashes[rows]).all() and (found < below).all()
    assert (np.delete(hashes, rows) >= below).all()
    others = sample_of(hashes[200:])[1]
    assert np.isin(found[rows >= 200], others).all()


def test_the_deviation_of_a_mean_is_over_those_that_were_trained_on_a_row() -> None:
    everything = np.uint64(2**64 - 1)

    def sample(rows: list[int], predicted: list[float], below: Any = everything) -> dict[str, Any]:
        measured = np.array([float(row) for row in rows])
        return {"rows": np.array(rows, np.uint64), "measured": measured, "predicted": np.array(predicted),
                "below": below}  # fmt: skip

    one, other = sample([1, 2], [2.0, 2.0]), sample([2, 3], [4.0, 6.0])
    assert residual_sd_of_mean([one, other]) == pytest.approx((np.sqrt((1 + 1 + 9) / 3),))
    assert residual_sd_of_mean([one, sample([2, 3], [4.0, 6.0], np.uint64(3))]) == pytest.approx((1.0,))
    assert residual_sd_of_mean([one, {"rows": one["rows"], "below": everything}]) is None
    assert residual_sd_of_mean([one, {}]) is None


@pytest.mark.parametrize("several", [False, True])
def test_averages_over_bins_are_scored_as_an_ensemble_is(tmp_path: Path, several: bool) -> None:
    generator, tasks = np.random.default_rng(0), ("a", "b") if several else ("a",)
    ends = ((-4.0, -4.0), (4.0, 4.0)) if several else (-4.0, 4.0)
    spec = TargetSpec(tasks, (0.0,) * len(tasks), (1.0,) * len(tasks), Bins(low=ends[0], high=ends[1]))
    task = Expression(select="pearson_r", bins=BINS, sorted_into=None).with_spec(spec)
    shape = (30, 2) if several else (30,)
    rows = Measurements(Sequences.from_strings(random_strings(30, 20)), generator.normal(0, 1, shape), tasks)
    members = []
    for number in range(3):
        logs = generator.normal(0, 1, (*shape, 18))
        logs -= np.logaddexp.reduce(logs, axis=-1, keepdims=True)
        members.append({"expression": generator.normal(0, 1, shape), "log_probs": logs})
        folder = RunFolder(tmp_path / str(number))
        folder.path.mkdir()
        save_test_predictions(folder, "test", task, rows, members[-1])
    read = [kept_rows(read_test_part(tmp_path / str(number) / "predictions_test.npz"), task) for number in range(3)]
    found = task.score_kept(read[0][0], task.ensemble([own for _, own in read]))
    expected = task.score(rows, task.ensemble(members))
    assert found == pytest.approx(expected, abs=1e-5)


def test_what_other_tasks_keep(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    strings = Sequences.from_strings(random_strings(12, 20))
    labels = Measurements(strings, np.tile([0.0, 1.0], 6), ("label",))
    binary = Binary(select="auroc").with_spec(TargetSpec(("label",), (0.5,), (0.5,)))
    groups = {"gene": np.repeat(["x", "y"], 6)}
    grouped = GroupedExpression(select="r2", group="gene", bins=BINS, sorted_into=None)
    grouped = grouped.with_spec(TargetSpec(("e",), (0.0,), (1.0,), Bins(low=-4.0, high=4.0)))
    measured = Measurements(strings, generator.normal(0, 1, 12), ("e",), columns=groups)
    profile = Profile(select="loss", count_weight=None)
    profile = profile.with_spec(
        TargetSpec(("profile",), (1.0,), (1.0,), constants={"count_weight": 1.0, "positions": 8})
    )
    counts = generator.poisson(3, (12, 8)).astype(float)
    peaks = Measurements(strings, np.empty((12, 0)), (), columns={"profile": counts})
    logs = np.log(np.full((12, 8), 1 / 8))
    for task, rows, outputs in (
        (binary, labels, {"probability": generator.random(12)}),
        (grouped, measured, {"expression": generator.normal(0, 1, 12)}),
        (profile, peaks, {"log_counts": generator.normal(3, 1, 12), "profile": logs}),
    ):
        folder = RunFolder(tmp_path / task.name)
        folder.path.mkdir()
        save_test_predictions(folder, "people", task, rows, outputs)
        found = task.score_kept(*kept_rows(read_test_part(folder.test_part_file("people")), task))
        expected = task.score(rows, outputs)
        assert found == pytest.approx({name: expected[name] for name in found}, abs=1e-5)
        assert found.keys() == expected.keys() - {"loss", "profile_jsd"} | ({"n"} & found.keys())


# one row a model


def test_one_row_a_model(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = averaged(collect([sweep])).rows
    expected, agreements = [], []
    for test_fold in ("chr2L", "chr3R"):
        arrays = [read_test_part(path / "predictions_test.npz") for path in sweep.glob(f"*+t{test_fold}f*")]
        mean = np.mean([one["predicted"] for one in arrays], axis=0)
        expected.append(metrics.scores(arrays[0]["measured"], mean)["pearson_r"])
        each = [np.corrcoef(arrays[0]["predicted"][:, t], arrays[1]["predicted"][:, t])[0, 1] for t in (0, 1)]
        agreements.append(np.mean(each))
    assert row["test_pearson_r"] == pytest.approx(np.mean(expected), abs=1e-9)
    assert row["test_pearson_r_sd"] == pytest.approx(np.std(expected, ddof=1), abs=1e-9)
    assert row["agreement"] == pytest.approx(np.mean(agreements), abs=1e-9)
    assert (row["test_folds"], row["models"], row["test_n"]) == ("2", "2", 160)
    out = output_of(capsys, "results", sweep)
    assert "4 of 4 runs of 1 combination done. SIMULATED" in out
    assert f"{np.mean(expected):.3f} ± {np.std(expected, ddof=1):.3f}" in out and "Pearson r (test)" in out
    assert output_of(capsys, "results", sweep, "--seeds").count("task_heads") == 4


def test_evaluate_scores_the_same_and_says_what_it_knows(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    members = sorted(sweep.glob("*+tchr2Lf*"))
    split = split_of(members[0])
    table = written(split.tests["test"], tmp_path / "test.tsv")
    asked = [table, "--ensemble", "--same-scale", "--format=json", "--bootstrap=0"]
    content = json.loads(output_of(capsys, "evaluate", *members, *asked))
    rows = {row["test_fold"]: row for row in averaged(collect([sweep]), by_test_fold=True).rows}
    for task in content["tasks"]:
        assert task["pearson_r"]["value"] == pytest.approx(rows["chr2L"][f"test_pearson_r_{task['name']}"], abs=1e-5)
        assert task["kl"] == pytest.approx(rows["chr2L"][f"test_kl_{task['name']}"], abs=1e-4)
    assert content["members"] == 2
    assert np.mean([*content["agreement"].values()]) == pytest.approx(rows["chr2L"]["agreement"], abs=1e-4)
    assert main(["evaluate", *map(str, members), *map(str, asked)]) == 0
    said = capsys.readouterr().err
    assert "2 members: Dev_log2_enrichment: Pearson r of two members" in said and "trained on" not in said
    assert main(["evaluate", str(sweep), *map(str, asked)]) == 0  # of which two were trained on this fold
    assert "80 of the 80 sequences in" in capsys.readouterr().err
    for run_folder, says in (
        (members[0], False),
        (next(path for path in sweep.iterdir() if "+tchr2L" not in path.name), True),
    ):
        assert main(["evaluate", str(run_folder), *map(str, [asked[0], *asked[2:]])]) == 0
        assert ("were trained on by" in capsys.readouterr().err) == says
    other = written(split.validation, tmp_path / "validation.tsv")
    assert main(["evaluate", *map(str, members), str(other), *map(str, asked[1:])]) == 0
    assert "80 of the 80 sequences" in capsys.readouterr().err, "one member's validation rows another was trained on"
    old = [shutil.copytree(path, tmp_path / path.name) for path in members]
    for path in old:
        (path / "training_sample.npz").unlink()
    assert main(["evaluate", *map(str, old), *map(str, asked)]) == 0
    said = capsys.readouterr().err
    assert "has no KL: not every run keeps predictions of training rows" in said
    assert "is not known of 2 of 2 members" in said


def test_five_chromosomes_in_turn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_folds(tmp_path / "s", models=MODELS, test_folds=CHROMOSOMES, folds=range(4), tasks=("Dev", "Hk"))
    rows = averaged(collect([folder])).rows
    assert [(row["core"], row["test_folds"], row["models"]) for row in rows] == [
        ("bilstm", "5", "4"), ("efficientnet", "5", "4"),
    ]  # fmt: skip
    single = [row["test_pearson_r"] for row in collect([folder]).rows if row["core"] == "efficientnet"]
    assert rows[1]["test_pearson_r"] > max(0.5, np.mean(single)), "an average is better than its members"
    assert rows[0]["agreement"] > rows[1]["agreement"]
    out = output_of(capsys, "results", folder, "--columns", "core,test_folds,models,test_pearson_r_Dev,agreement")
    assert "r of models" in out and out.count("±") >= 2
    ranks = output_of(capsys, "results", folder, "--ranks")
    assert "Average ranks on the 5 test folds" in ranks and "of 300 sequences of the 5 test folds" in ranks
    assert "left out" not in ranks
    effects = output_of(capsys, "results", folder, "--effects")
    assert "of 2 finished combinations" in effects and "with variants" not in effects and "20 folds" in effects


def test_while_half_of_it_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def gone(core: str, test_fold: int, fold: int) -> bool:
        return test_fold > 3 or (test_fold == 3 and fold > 1) or (core == "bilstm" and test_fold == 2)

    folder = make_folds(tmp_path / "m", models=MODELS, test_folds=range(6), folds=range(6), missing=gone)
    out = output_of(capsys, "results", folder)
    table = {line.split()[3]: line for line in out.splitlines()[3:5]}
    assert "3 of 6  2 to 5" in table["bilstm"] and "4 of 6  2 to 5" in table["efficientnet"]
    assert "missing: 18 runs of plain+parallel_conv+bilstm+task_heads: t3 (f2, f4, f5); all of t2, t4, t5" in out
    assert "beware: these rows rest on different test folds" in out and "--where test_fold=0,1,3 " in out
    assert "dataset.test_fold=3 dataset.fold=2,4,5" in out, "what runs just these"
    assert len(out.splitlines()) < 25
    shared = output_of(capsys, "results", folder, "--where", "test_fold=0,1,3")
    assert "beware" not in shared and shared.count("  3  2 to 5") == 2
    assert "left out: test fold 2: not of all models" in output_of(capsys, "results", folder, "--ranks")
    assert output_of(capsys, "results", folder, "--against", folder).count("within noise") >= 7


def test_what_programs_get(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_folds(tmp_path / "m", models=MODELS, test_folds=range(3), folds=range(3), seeds=(0, 1))
    runs = list(csv.DictReader(io.StringIO(output_of(capsys, "results", folder, "--format=csv"))))
    folds = list(csv.DictReader(io.StringIO(output_of(capsys, "results", folder, "--format=csv", "--folds"))))
    assert len(runs) == 24 and len(folds) == 6
    assert {row["models"] for row in folds} == {"4"}
    (first, *_), merged = folds, {row["core"]: row for row in averaged(collect([folder])).rows}
    own = [float(row["test_pearson_r"]) for row in folds if row["core"] == first["core"]]
    assert merged[first["core"]]["test_pearson_r"] == pytest.approx(np.mean(own))
    for form, word in (("md", "| 1 | plain |"), ("latex", r"$\pm$")):
        assert word in output_of(capsys, "results", folder, "--format", form)
    assert main(["results", str(folder), "--folds", "-o", str(tmp_path / "f.parquet")]) == 0
    assert len(pd.read_parquet(tmp_path / "f.parquet")) == 6
    for wrong in (["--seeds"], ["--ranks"]):
        assert main(["results", str(folder), "--folds", *wrong]) == 2
    assert "--folds is for the comparison" in capsys.readouterr().err
    values = {core: row["agreement"] for core, row in merged.items()}
    between = f"agreement>{np.mean([*values.values()])}"
    better = output_of(capsys, "results", folder, "--where", between)
    assert "bilstm" in better and "efficientnet" not in better, "numbers are those of the model's row"
    assert "efficientnet" in output_of(capsys, "results", folder, "--where", "models=4", "--sort", "models")


def test_runs_that_keep_nothing_are_as_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_folds(tmp_path / "old", models=MODELS, test_folds=range(3), folds=range(3), kept=False)
    out = output_of(capsys, "results", folder)
    assert "test scores being means over single runs" in out and out.count("  plain  ") == 6
    assert main(["results", str(folder), "--ranks"]) == 2
    new = make_folds(tmp_path / "new", models=MODELS, test_folds=range(3), folds=range(3), sample=False)
    (new / "plain+parallel_conv+bilstm+task_heads+t0f1" / "predictions_test.npz").unlink()
    out = output_of(capsys, "results", new)
    assert "left out of the averages: 1 run of plain+parallel_conv+bilstm+task_heads t0, which keeps no test" in out
    assert "no KL of averaged predictions: not every run keeps" in out and "1 to 2" in out and "KL (test)" not in out


def test_seeds_alone_are_averaged_as_ever(tmp_path: Path) -> None:
    for seed in (0, 1):
        make_runs(tmp_path / "s", "binary", BINARY, "auroc", binary_values, choices=FEW, seeds=(seed,),
                  dataset={"fold": 1, "test_fold": 2})  # fmt: skip
    row = averaged(collect([tmp_path / "s"])).rows[0]
    runs = [
        one for one in collect([tmp_path / "s"]).rows if one["core"] == row["core"] and one["first"] == row["first"]
    ]
    assert row["test_auroc"] == pytest.approx(np.mean([one["test_auroc"] for one in runs]))
    assert row["test_auroc_sd"] is not None and "models" not in row


def test_other_rows_and_damage_are_left_out_and_said(tmp_path: Path) -> None:
    folder = make_folds(tmp_path / "s", models={"bilstm": 0.5}, test_folds=(0,), folds=(1, 2, 3, 4))
    paths = sorted(folder.glob("*+t0f*"))
    arrays = {name: array.copy() for name, array in np.load(paths[0] / "predictions_test.npz").items()}
    np.savez(paths[0] / "predictions_test.npz", **{**arrays, "rows": arrays["rows"][::-1].copy()})
    (paths[1] / "predictions_test.npz").write_bytes(b"no archive")
    results = averaged(collect([folder]))
    assert results.rows[0]["models"] == "2"
    assert any("+t0f1 is tested on other rows than most" in line for line in results.said)
    assert any("predictions_test.npz is damaged" in line for line in results.said)
    config = paths[3] / "config.yaml"
    config.write_text(config.read_text().replace("prixfixe.tasks.expression.Expression", "somebody.Task"))
    with pytest.raises(InputError, match=r"somebody"):
        average([{"run": str(paths[3])}], "test")
    config.write_text(config.read_text().replace("somebody.Task", "prixfixe.tasks.expression.Expression"))
    short = {"output_log_probs": np.zeros((60, 3))}  # not as many as there are bins
    np.savez(paths[3] / "predictions_test.npz", **arrays, **short)
    with pytest.raises(InputError, match=r"predictions_test\.npz is damaged"):
        average([{"run": str(paths[3])}], "test")
    np.savez(paths[2] / "predictions_test.npz", measured=arrays["measured"], predicted=arrays["predicted"])
    with pytest.raises(InputError, match="no hashes of its rows"):
        average([{"run": str(paths[2])}], "test")


def test_bins_that_differ_are_not_averaged(tmp_path: Path) -> None:
    folder = make_folds(tmp_path / "s", models={"bilstm": 0.5}, test_folds=(0,), folds=(1, 2))
    paths = sorted(folder.glob("*+t0f*"))
    for path in paths:
        arrays = dict(np.load(path / "predictions_test.npz"))
        logs = np.log(np.full((60, 18), 1 / 18))
        np.savez(path / "predictions_test.npz", **arrays, output_log_probs=logs)
    assert averaged(collect([folder])).rows[0]["test_kl"] is not None
    file = paths[0] / "targets.json"
    file.write_text(file.read_text().replace('"high": 4.0', '"high": 4.5'))
    results = averaged(collect([folder]))
    assert results.rows[0]["test_kl"] is None and results.rows[0]["test_pearson_r"] is not None
    assert any("no KL of averaged predictions: bins differ" in line for line in results.said)


# the noise ceiling


def replicates(seed: int, repeated: int, times: int, single: int, noise: float) -> tuple[np.ndarray, ...]:
    """Keys, measurements, and the true function."""
    generator = np.random.default_rng(seed)
    truth = generator.normal(5, 1, repeated + single)
    keys = np.concatenate([np.repeat(np.arange(repeated), times), np.arange(repeated, repeated + single)])
    return keys.astype(np.uint64), truth[keys] + generator.normal(0, noise, len(keys)), truth[keys]


@pytest.mark.parametrize(("repeated", "times", "single", "noise"), [(30, 2, 300, 0.5), (100, 3, 0, 1.0)])
def test_the_ceiling_is_right_within_its_interval(repeated: int, times: int, single: int, noise: float) -> None:
    true, found, reached = 1 / np.sqrt(1 + noise**2), [], []
    for seed in range(40):
        keys, measured, truth = replicates(seed, repeated, times, single, noise)
        ceiling = noise_ceiling(keys, measured)
        assert ceiling is not None and (ceiling.rows, ceiling.sequences) == (repeated * times, repeated)
        found.append((ceiling.value, ceiling.low <= true <= ceiling.high))
        reached.append(metrics.pearson_r(measured, truth))
    values, inside = np.array(found).T
    assert inside.mean() >= 0.85  # 95 % less what chance takes of 40
    assert values.mean() == pytest.approx(true, abs=0.02)
    assert np.mean(reached) == pytest.approx(true, abs=0.02), "the true function reaches it"


def test_where_there_is_no_ceiling() -> None:
    keys, measured, _ = replicates(0, FEWEST_REPEATED, 2, 50, 0.5)
    assert noise_ceiling(keys, measured) is not None
    assert noise_ceiling(keys, np.where(keys == 3, np.nan, measured)) is None, "one fewer"
    assert noise_ceiling(keys, np.full(len(keys), np.nan)) is None
    assert noise_ceiling(keys, np.ones(len(keys))) is None
    pairs = np.repeat(np.arange(500), 2).astype(np.uint64)
    noise = noise_ceiling(pairs, np.random.default_rng(0).normal(0, 1, 1000))
    assert noise is not None and noise.low == 0.0 and noise.value < 0.4
    flags = np.arange(len(keys)) % 2
    told = row_keys(keys, {"is_reverse": flags})
    assert told is not None and len(np.unique(told)) == len(keys), "what a network tells apart is not repeated"
    assert row_keys(keys, {"track": np.zeros((len(keys), 3))}) is None


def test_the_ceiling_stands_beside_r(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator, strings = np.random.default_rng(0), random_strings(200, 60)
    values = generator.normal(8, 2, 200)
    lines = [f"{string}\t{value + generator.normal(0, 1)}\t{row % 3}" for row, (string, value) in
             enumerate(zip(strings, values, strict=True)) for _ in range(2)]  # fmt: skip
    table = tmp_path / "t.tsv"
    table.write_text("sequence\texpression\tfold\n" + "\n".join(lines) + "\n")
    config = demo("bhi", "conv", "efficientnet", "mlp", "first.channels=8", "core.widths=[8]", "training.epochs=1")
    config["dataset"] = table_dataset(table, fold=0, test_fold=1)
    config["choices"] = {"recipe": "bhi", "first": "conv", "core": "efficientnet", "final": "mlp"}
    run(config, tmp_path / "s" / "bhi+conv+efficientnet+mlp+t1f0", show_progress=False)
    ceilings = RunFolder(tmp_path / "s" / "bhi+conv+efficientnet+mlp+t1f0").metrics()["noise_ceiling"]
    for part, sequences in (("validation", 67), ("test", 67)):
        ceiling = ceilings[part]["expression"]
        assert ceiling["low"] <= 2 / np.sqrt(5) <= ceiling["high"]
        assert (ceiling["sequences"], ceiling["rows"]) == (sequences, 2 * sequences)
    out = output_of(capsys, "results", tmp_path / "s")
    value = f"{ceilings['validation']['expression']['value']:.3f}"
    header, line = out.splitlines()[2:4]
    assert header.index("Pearson r") < header.index("ceiling of r") < header.index("Spearman rho") and value in line
    assert "ceiling of r (test)" in out and "by rows that repeat a sequence (134); 95 % interval" in out
    predictions = tmp_path / "p.tsv"
    rows = "".join(f"{string}\t{value}\n" for string, value in zip(strings, values, strict=True))
    predictions.write_text("sequence\tprediction\n" + rows)
    content = json.loads(output_of(capsys, "evaluate", predictions, table, "--expression=expression", "--format=json"))
    task = content["tasks"][0]
    low, high = task["noise_ceiling"]["interval"]
    assert low < task["pearson_r"]["value"] < high and task["noise_ceiling"]["rows"] == 400
    shown = output_of(capsys, "evaluate", predictions, table, "--expression=expression")
    assert "ceiling of r" in shown and "by 400 rows that repeat a sequence" in shown


def test_ceilings_of_several_tasks_and_folds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_folds(tmp_path / "s", models={"bilstm": 0.5}, test_folds=(0, 1), folds=(2, 3), tasks=("Dev", "Hk"))
    for number, path in enumerate(sorted(folder.glob("*+t*"))):
        facts = {"low": 0.8, "high": 0.95, "rows": 60 + number, "sequences": 30}
        ceilings = {"Dev": {**facts, "value": 0.9}, "Hk": {**facts, "value": 0.86}}
        content = json.loads((path / "metrics.json").read_text())
        (path / "metrics.json").write_text(json.dumps({**content, "noise_ceiling": {"test": ceilings}}))
    (row,) = averaged(collect([folder])).rows
    assert row["test_noise_ceiling"] == pytest.approx(0.88) and row["test_noise_ceiling_Hk"] == pytest.approx(0.86)
    out = output_of(capsys, "results", folder)
    assert "ceiling of r (test)" in out and "(62 a fold)" in out and "0.800 to 0.950" in out
    (path / "metrics.json").write_text((path / "metrics.json").read_text().replace("0.86", "1.86"))
    assert "noise_ceiling.test.Hk.value is 1.86" in output_of(capsys, "results", folder)
