from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from conftest import demo

from prixfixe.analysis import evaluation as module
from prixfixe.analysis.evaluation import evaluate, evaluate_table, read_predictions
from prixfixe.analysis.evaluation_views import format_table
from prixfixe.analysis.results import collect
from prixfixe.commands import evaluate as command
from prixfixe.common.errors import InputError
from prixfixe.common.files import write_text
from prixfixe.data.sequences import Sequences
from prixfixe.data.testset import TestSet, read_test_table
from prixfixe.dream.testset import PUBLISHED_FILES, SUBSETS, WEIGHTS, read_test_set
from prixfixe.simulation import simulate
from prixfixe.tasks.scores import EXPRESSION
from prixfixe.training.experiment import run as train

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks" / "statistics"))

from testsets import null_test_set, weighted_widths

PAIRS = ("SNVs", "motif_perturbation", "motif_tiling")
N = 400


def random_test_set(seed: int = 0) -> TestSet:
    generator = np.random.default_rng(seed)
    subsets = {"all": np.arange(N)}
    for name in SUBSETS:
        subsets[name] = generator.integers(0, N, (150, 2)) if name in PAIRS else generator.permutation(N)[:80]
    sequences = Sequences.from_padded(generator.integers(0, 4, (N, 40), dtype=np.uint8), np.full(N, 40, dtype=np.int32))
    return TestSet(sequences, generator.normal(size=N).round(1), subsets, weights=WEIGHTS)  # rounded: equal values


def noisy(test_set: TestSet, seed: int = 1) -> np.ndarray:
    return (test_set.expression + np.random.default_rng(seed).normal(size=len(test_set))).round(1)


def write_folder(folder: Path, test_set: TestSet, names: tuple[str, ...] = SUBSETS) -> Path:
    write_table(folder / "test_sequences.tsv", test_set, test_set.expression)
    for name in names:
        rows = test_set.subsets[name]
        columns = ["pos"] if rows.ndim == 1 else ["alt_pos", "ref_pos"]
        pd.DataFrame(rows, columns=columns).to_csv(folder / f"{name}.csv", index=False)
    return folder


def write_table(path: Path, test_set: TestSet, values: np.ndarray, name: str = "expression") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame({"sequence": test_set.sequences.to_strings(), name: values})
    frame.to_csv(path, sep="\t" if ".tsv" in path.name else ",", index=False)
    return path


def write_published(folder: Path, test_set: TestSet, shown: dict[str, list[str]]) -> Path:
    """The published layout: other columns beside, repeated rows, an index without a name."""
    lines = [f"{s}\t{e}" for s, e in zip(test_set.sequences.to_strings(), test_set.expression, strict=True)]
    write_text(folder / "filtered_test_data_with_MAUDE_expression.txt", "\n".join(lines) + "\n")
    for name, (ids, leaderboard) in PUBLISHED_FILES.items():
        rows = test_set.subsets[name]
        frame = pd.DataFrame(rows, columns=["pos"] if rows.ndim == 1 else ["alt_pos", "ref_pos"])
        frame.insert(0, "tag", "a,b")
        frame["exp"] = ""
        frame = pd.concat([frame, frame.iloc[:3]])
        write_text(folder / "test_subset_ids" / ids, frame.to_csv())
        write_text(folder / "public_leaderboard_ids" / leaderboard, json.dumps(dict.fromkeys(shown[name], 0.5)))
    return folder


# Reading test sets


def test_reads_both_layouts_alike(tmp_path: Path) -> None:
    expected = random_test_set()
    shown = {name: ["1,2"] if name in PAIRS else ["0"] for name in SUBSETS}
    for folder in (write_folder(tmp_path / "own", expected), write_published(tmp_path / "published", expected, shown)):
        found = read_test_set(folder)
        assert found.sequences.to_strings() == expected.sequences.to_strings()
        np.testing.assert_array_equal(found.expression, expected.expression)
        assert list(found.subsets) == ["all", *SUBSETS]
        for name, rows in expected.subsets.items():
            np.testing.assert_array_equal(found.subsets[name], np.unique(rows, axis=0))


def test_leaderboard_is_left_out_as_published(tmp_path: Path) -> None:
    test_set = random_test_set()
    snvs = test_set.subsets["SNVs"]
    pair, other = (int(snvs[0, 0]), int(snvs[0, 1])), (int(snvs[1, 0]), int(snvs[1, 1]))
    # the first SNV pair is shown, as a tiling pair; of the second one the reverse
    shown = {name: ["5,6"] if name in PAIRS else [str(test_set.subsets[name][0])] for name in SUBSETS}
    shown["motif_tiling"] = [f"{pair[0]},{pair[1]}", f"{other[1]},{other[0]}"]
    folder = write_published(tmp_path, test_set, shown)
    found = read_test_set(folder, without_leaderboard=True)

    rows = {int(row) for keys in shown.values() for key in keys for row in key.split(",")}
    pairs = {tuple(int(row) for row in key.split(",")) for name in PAIRS for key in shown[name]}
    for name, ids in read_test_set(folder).subsets.items():
        if name in PAIRS:
            expected = [row for row in ids.tolist() if tuple(row) not in pairs]
        else:
            expected = [row for row in ids.tolist() if row not in rows]
        assert found.subsets[name].tolist() == expected
    assert list(pair) not in found.subsets["SNVs"].tolist()
    assert list(other) in found.subsets["SNVs"].tolist()
    assert len(found) == N  # predictions are for every sequence


def test_leaderboard_needs_its_files(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "own", random_test_set())
    with pytest.raises(InputError, match="only the published layout"):
        read_test_set(folder, without_leaderboard=True)
    shown = {name: ["1,2"] if name in PAIRS else ["0"] for name in SUBSETS}
    folder = write_published(tmp_path / "published", random_test_set(), shown)
    ids = folder / "public_leaderboard_ids"
    for content, message in (("{", "not JSON"), ("[1]", "JSON object"), ('{"a": 1}', "'a'"), ('{"400": 1}', "400")):
        (ids / "low_exp_indices.json").write_text(content)
        with pytest.raises(InputError, match=message):
            read_test_set(folder, without_leaderboard=True)
    shutil.rmtree(ids)
    with pytest.raises(InputError, match="missing"):
        read_test_set(folder, without_leaderboard=True)
    read_test_set(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("high.csv", "pos\n3\n400\n", r"high\.csv:3: row 400 .* 0 to 399"),
        ("high.csv", "pos\n-1\n", r"high\.csv:2: row -1"),
        ("high.csv", "pos\n1\nx\n", r"high\.csv:3: 'x' is no row number"),
        ("high.csv", "pos\n1.5\n", r"high\.csv:2: '1\.5'"),
        ("high.csv", "row\n1\n", r"high\.csv:1: needs a column pos, .* found row"),
        ("SNVs.csv", "alt_pos\n1\n", r"SNVs\.csv:1: needs a column"),
        ("SNVs.csv", "alt_pos,ref_pos\n1,2\n1\n", r"SNVs\.csv:3: 1 columns where 2 were expected"),
        ("SNVs.csv", "", r"SNVs\.csv is empty"),
        ("SNVs.csv", "alt_pos,ref_pos\n", r"SNVs\.csv: no rows"),
        ("SNVs.csv", "alt_pos,ref_pos\n\xff\n", r"SNVs\.csv:2: byte 0xFF is no UTF-8"),
    ],
)
def test_bad_subsets_are_named_with_their_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    folder = write_folder(tmp_path, random_test_set())
    (folder / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=message):
        read_test_set(folder)


def test_folders_that_are_no_test_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs test_sequences\.tsv or filtered"):
        read_test_set(tmp_path)
    write_table(tmp_path / "high.csv", random_test_set(), np.zeros(N))
    with pytest.raises(InputError, match=r"needs test_sequences\.tsv or filtered"):
        read_test_set(tmp_path)
    (tmp_path / "test_sequences.tsv").write_text("promoter\tlevel\nACGT\t1\n")
    with pytest.raises(
        InputError, match=r"no column is named sequence or seq\. Rename one; the columns are: promoter, level"
    ):
        read_test_set(tmp_path)


def test_a_test_set_of_sequences_alone_is_scored_as_a_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test_set = random_test_set()
    folder = write_folder(tmp_path / "test", test_set, names=())
    assert list(read_test_set(folder).subsets) == ["all"]
    table = write_table(tmp_path / "p.tsv", test_set, noisy(test_set), "prediction")
    assert call(table, folder, "--bootstrap", 0) == 0
    printed = capsys.readouterr().out
    r = scipy.stats.pearsonr(test_set.expression, noisy(test_set)).statistic
    assert f"Pearson score   {r**2:.4f}" in printed
    assert f"Not in this test set: {', '.join(SUBSETS)}; the weights are renormalised" in printed


# Scores


def test_scores_agree_with_scipy() -> None:
    test_set = random_test_set()
    predicted = noisy(test_set)
    found = evaluate(test_set, predicted, bootstrap=0, same_scale=True)
    pearson = spearman = 0.0
    assert [subset.name for subset in found.subsets] == list(WEIGHTS)
    for subset in found.subsets:
        rows = test_set.subsets[subset.name]
        truth, guess = test_set.expression, predicted
        if subset.name in PAIRS:
            truth, guess = truth[rows[:, 0]] - truth[rows[:, 1]], guess[rows[:, 0]] - guess[rows[:, 1]]
        else:
            truth, guess = truth[rows], guess[rows]
        r, rho = scipy.stats.pearsonr(truth, guess).statistic, scipy.stats.spearmanr(truth, guess).statistic
        assert subset.pearson_r.value == pytest.approx(r, abs=1e-12)
        assert subset.r_squared == pytest.approx(r**2, abs=1e-12)
        assert subset.spearman_rho.value == pytest.approx(rho, abs=1e-12)
        assert subset.mse == pytest.approx(((truth - guess) ** 2).mean(), abs=1e-12)
        assert (subset.n, subset.pairs) == (len(rows), subset.name in PAIRS)
        assert subset.pearson_r.interval is None
        pearson, spearman = pearson + WEIGHTS[subset.name] * r**2, spearman + WEIGHTS[subset.name] * rho
    assert found.pearson_score.value == pytest.approx(pearson / 4.65, abs=1e-12)
    assert found.spearman_score.value == pytest.approx(spearman / 4.65, abs=1e-12)
    assert found.absent == ()


def test_absent_subsets_are_named_and_weights_renormalised() -> None:
    full = random_test_set()
    test_set = TestSet(
        full.sequences, full.expression, {name: full.subsets[name] for name in ("all", "SNVs")}, weights=WEIGHTS
    )
    found = evaluate(test_set, noisy(test_set), bootstrap=0)
    every, snvs = found.subsets
    assert found.absent == tuple(name for name in WEIGHTS if name not in ("all", "SNVs"))
    assert found.pearson_score.value == pytest.approx((every.r_squared + 1.25 * snvs.r_squared) / 2.25)
    assert found.spearman_score.value == pytest.approx(
        (every.spearman_rho.value + 1.25 * snvs.spearman_rho.value) / 2.25
    )
    assert every.mse is None  # on another scale unless said otherwise


def test_constant_predictions_have_no_score() -> None:
    test_set = random_test_set()
    found = evaluate(test_set, np.full(N, 0.1), bootstrap=20)
    assert np.isnan(found.pearson_score.value)
    content = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert content["pearson_score"] == {"value": None, "interval": None}


@pytest.mark.parametrize("predictions", [np.zeros(N - 1), np.full(N, np.nan), np.zeros((1, 2, N))])
def test_predictions_must_fit(predictions: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"one prediction for each|finite"):
        evaluate(random_test_set(), predictions)


# Bootstrap


def test_bootstrap_samples_agree_with_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every correlation of every sample, recomputed from the families drawn."""
    test_set = random_test_set()
    test_set.subsets["native"] = test_set.subsets["native"][:12]  # of which some samples have none
    predicted = noisy(test_set)
    monkeypatch.setattr(module, "SAMPLED_AT_ONCE", 400)  # several blocks
    samples = 30
    found = module._bootstrap_correlations(test_set.expression, predicted, test_set.subsets, samples, seed=3, share=0.1)
    family = module.families(test_set.subsets, N)
    known = np.unique(np.concatenate([module.family_of_items(family, rows) for rows in test_set.subsets.values()]))
    total = sum(map(len, test_set.subsets.values()))
    generator, block, drawn = np.random.default_rng(3), round(400 / (0.1 * total)), []
    for start in range(0, samples, block):
        drawn.extend(
            generator.integers(0, len(known), (min(block, samples - start), round(0.1 * len(known))), dtype=np.int32)
        )
    lengths = set()
    for sample, families in enumerate(drawn):
        for column, rows in enumerate(test_set.subsets.values()):
            mine = module.family_of_items(family, rows)
            chosen = np.concatenate([np.flatnonzero(mine == known[one]) for one in families])
            truth = module.subset_values(test_set.expression, rows)[chosen]
            guess = module.subset_values(predicted, rows)[chosen]
            lengths.add(len(chosen))
            if len(chosen) < 2 or np.ptp(truth) == 0 or np.ptp(guess) == 0:
                assert np.isnan(found[sample, column]).all()
                continue
            r, rho = scipy.stats.pearsonr(truth, guess).statistic, scipy.stats.spearmanr(truth, guess).statistic
            np.testing.assert_allclose(found[sample, column], [r, rho], rtol=0, atol=1e-9)
    assert 0 in lengths and max(lengths) > 30


def tied(pairs: list[tuple[int, int]], n: int) -> list[list[int]]:
    family = module.families({"all": np.arange(n), "SNVs": np.array(pairs)}, n)
    return sorted(np.flatnonzero(family == one).tolist() for one in np.unique(family))


def test_rows_that_pairs_tie_are_drawn_together() -> None:
    assert [some for some in tied([(1, 0), (2, 0), (8, 9), (9, 8)], 400) if len(some) > 1] == [[0, 1, 2], [8, 9]]
    # a background with more variants than a hundredth of the rows would decide a sample alone
    assert all(len(some) == 1 for some in tied([(row, 0) for row in range(1, 6)], 400))


def test_no_interval_of_a_few_drawn_rows() -> None:
    n = 2000
    generator = np.random.default_rng(0)
    subsets = {"all": np.arange(n), "high": np.arange(190), "low": np.arange(200, 400)}
    subsets["SNVs"] = np.stack([np.arange(400, 590), np.arange(600, 790)], axis=1)
    sequences = Sequences.from_padded(np.zeros((n, 1), dtype=np.uint8), np.ones(n, dtype=np.int32))
    truth = generator.normal(size=n)
    predicted = truth + generator.normal(size=n)
    found = evaluate(TestSet(sequences, truth, subsets, weights=WEIGHTS), predicted, bootstrap=200)
    intervals = {subset.name: subset.pearson_r.interval for subset in found.subsets}
    assert [name for name, limits in intervals.items() if limits is None] == ["high", "SNVs"], "of 19 rows or pairs"
    assert all(subset.spearman_rho.interval is None for subset in found.subsets if intervals[subset.name] is None)
    assert found.pearson_score.interval is found.spearman_score.interval is None, "of which they are a part"
    assert "none where a sample has fewer than 20" in format_table(found)
    del subsets["high"], subsets["SNVs"]
    found = evaluate(TestSet(sequences, truth, subsets, weights=WEIGHTS), predicted, bootstrap=200)
    assert None not in (found.pearson_score.interval, found.spearman_score.interval)
    few = TestSet(
        Sequences.from_padded(np.zeros((19, 1), np.uint8), np.ones(19, np.int32)),
        truth[:19],
        {"all": np.arange(19)},
        tasks=("y",),
    )
    assert evaluate_table(few, predicted[:19]).tasks[0].interval("pearson_r") is None


@pytest.mark.parametrize("noise", [0.0, 0.3, 1e9])
def test_a_weighted_score_lies_within_its_interval(noise: float) -> None:
    """Without any correlation, r^2 of a few rows is never as small as that of all."""
    test_set = null_test_set(np.random.default_rng(0), 4000)
    predicted = test_set.expression + noise * np.random.default_rng(1).normal(size=4000)
    found = evaluate(test_set, predicted, bootstrap=500)
    for score in (found.pearson_score, found.spearman_score):
        assert score.interval is not None
        assert score.interval[0] - 1e-9 <= score.value <= score.interval[1] + 1e-9


def test_weighted_intervals_are_as_wide_as_the_spread_over_test_sets() -> None:
    """The whole measurement is benchmarks/statistics; subsets drawn on their own would make 0.8 of it."""
    generator = np.random.default_rng(2)
    found = weighted_widths(generator, test_sets=4, fresh=150, bootstrap=300)
    assert 0.85 < found["pearson_score"] < 1.2 and 0.85 < found["spearman_score"] < 1.2


def test_bootstrap_spreads_as_a_tenth_of_the_data_should() -> None:
    generator = np.random.default_rng(0)
    n, r = 4000, 0.6
    truth = generator.normal(size=n)
    predicted = r * truth + np.sqrt(1 - r**2) * generator.normal(size=n)
    sequences = Sequences.from_padded(np.zeros((n, 1), dtype=np.uint8), np.ones(n, dtype=np.int32))
    test_set = TestSet(sequences, truth, {"all": np.arange(n), "high": np.arange(n)}, weights=WEIGHTS)
    subset = evaluate(test_set, predicted, bootstrap=2000).subsets[0]
    assert subset.pearson_r.interval is not None
    low, high = subset.pearson_r.interval
    assert low < subset.pearson_r.value < high
    # Fisher: the standard error of atanh r over 400 rows is 1/sqrt(397)
    assert np.arctanh(high) - np.arctanh(low) == pytest.approx(2 * 1.96 / np.sqrt(397), rel=0.15)


def test_a_seed_decides_the_samples() -> None:
    test_set = null_test_set(np.random.default_rng(0), 4000)
    first, again, other = (
        evaluate(test_set, noisy(test_set), bootstrap=100, seed=seed).pearson_score for seed in (5, 5, 6)
    )
    assert first == again
    assert first.interval != other.interval


# Tables of predictions


def test_predictions_are_matched_by_sequence(tmp_path: Path) -> None:
    test_set = random_test_set()
    predicted = noisy(test_set)
    frame = pd.DataFrame({"id": np.arange(N), "sequence": test_set.sequences.to_strings(), "prediction": predicted})
    frame["expression"] = 0.0  # the measured one, perhaps; not to be taken for a prediction
    frame = pd.concat([frame, frame.iloc[:5]]).sample(frac=1, random_state=0)
    frame.loc[len(frame)] = {"id": 0, "sequence": "ACGT", "prediction": 3.0, "expression": 0.0}
    frame.to_csv(tmp_path / "p.csv.gz", index=False)
    np.testing.assert_array_equal(read_predictions(tmp_path / "p.csv.gz", test_set), predicted)

    frame["sequence"] = frame["sequence"].str.lower()
    frame = frame.rename(columns={"prediction": "my_model"})
    frame.to_csv(tmp_path / "p.tsv", index=False, sep="\t")
    np.testing.assert_array_equal(read_predictions(tmp_path / "p.tsv", test_set, column="my_model"), predicted)
    with pytest.raises(InputError, match="--column; the columns are id, sequence, my_model, expression"):
        read_predictions(tmp_path / "p.tsv", test_set)
    with pytest.raises(InputError, match="nothing"):
        read_predictions(tmp_path / "p.tsv", test_set, column="nothing")

    frame[["sequence", "my_model"]].to_csv(tmp_path / "bare.txt", index=False, header=False, sep="\t")
    np.testing.assert_array_equal(read_predictions(tmp_path / "bare.txt", test_set), predicted)


def test_predictions_that_cannot_be_matched(tmp_path: Path) -> None:
    test_set = random_test_set()
    table = write_table(tmp_path / "p.tsv", test_set, noisy(test_set), "prediction")
    lines = table.read_text().splitlines()

    table.write_text("\n".join([lines[0], *lines[4:]]))
    with pytest.raises(InputError, match=f"for 3 of the test set's 400 .* row 0 .*{lines[1].split()[0]}"):
        read_predictions(table, test_set)
    table.write_text("\n".join([*lines, lines[7].split()[0] + "\t99"]))
    with pytest.raises(InputError, match=r"data row 401: predicts 99\.0 for [ACGT]+, an earlier row"):
        read_predictions(table, test_set)
    table.write_text("\n".join(line.split()[1] for line in lines))
    with pytest.raises(InputError, match="matched to the test set by sequence"):
        read_predictions(table, test_set)
    with pytest.raises(InputError, match="there is no such file"):
        read_predictions(tmp_path / "nothing.tsv", test_set)


@pytest.mark.parametrize("kind", ["mark", "semicolon", "spaces", "parquet"])
def test_predictions_are_read_as_measurements_are(kind: str, tmp_path: Path) -> None:
    test_set = random_test_set()
    predicted = noisy(test_set)
    frame = pd.DataFrame(
        {"id": np.arange(N), "sequence": test_set.sequences.to_strings(), "prediction": predicted, "measured": 0.0}
    )
    path = tmp_path / "p"
    if kind == "parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(
            path,
            index=False,
            sep={"mark": "\t", "semicolon": ";", "spaces": " "}[kind],
            encoding="utf-8-sig" if kind == "mark" else None,
        )
    np.testing.assert_array_equal(read_predictions(path, test_set), predicted)
    np.testing.assert_array_equal(read_predictions(path, test_set, column="measured"), np.zeros(N))
    with pytest.raises(
        InputError, match="Choose one with --column NAME; the columns are: id, sequence, prediction, measured"
    ):
        read_predictions(path, test_set, column="nothing")


# The command


def call(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    return command.run(parser.parse_args([str(argument) for argument in arguments]))


def test_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test_set = random_test_set()
    folder = write_folder(tmp_path / "test", test_set, names=("high", "SNVs"))
    table = write_table(tmp_path / "p.tsv", test_set, noisy(test_set), "prediction")
    expected = evaluate(read_test_set(folder), noisy(test_set), bootstrap=50)

    assert call(table, folder, "--bootstrap", 50) == 0
    printed = capsys.readouterr().out
    assert f"Pearson score   {expected.pearson_score.value:.4f}" in printed
    assert "150 pairs" in printed
    assert "Not in this test set: low, native, random, challenging, motif_perturbation, motif_tiling" in printed
    assert "MSE" not in printed

    assert call(table, folder, "--bootstrap", 50, "-o", tmp_path / "out.json", "--same-scale") == 0
    assert capsys.readouterr().out == ""
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["spearman_score"]["value"] == expected.spearman_score.value
    assert content["spearman_score"]["interval"] is expected.spearman_score.interval is None, "of 8 rows of high"
    assert content["subsets"][0]["pearson_r"]["interval"] == list(expected.subsets[0].pearson_r.interval or ())
    assert content["subsets"][0]["mse"] > 0

    assert call(table, folder, "--bootstrap", 0, "--format", "csv") == 0
    print_out = capsys.readouterr().out
    (tmp_path / "out.csv").write_text(print_out)
    rows = pd.read_csv(tmp_path / "out.csv").set_index(["subset", "score"])
    assert rows.loc[("SNVs", "pearson_r"), "value"] == expected.subsets[2].pearson_r.value
    assert rows.loc[("weighted", "pearson_score"), "value"] == expected.pearson_score.value
    assert ("low", np.nan) in rows.index


def predicts_letter(position: int) -> SimpleNamespace:
    """What stands in for a model of expression: it predicts the code of one letter."""

    def predict(sequences: Sequences, columns: object) -> np.ndarray:
        return np.asarray(sequences.padded()[:, position], dtype=np.float64)

    return SimpleNamespace(
        longest=10**6,
        remark="",
        task=SimpleNamespace(scores=EXPRESSION),
        tasks=("expression",),
        predict_sequences=predict,
    )


def test_command_scores_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_folder(tmp_path / "test", random_test_set())
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(InputError, match="no run folder"):
        call(run, folder)
    (run / "config.yaml").write_text("")
    monkeypatch.setattr("prixfixe.load", lambda path, **_: predicts_letter(0), raising=False)
    assert call(run, folder, "--bootstrap", 10, "--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((run / "evaluation.json").read_text())
    kept = np.load(run / "test.npz", allow_pickle=False)
    test_set = read_test_set(folder)
    np.testing.assert_array_equal(kept["measured"], test_set.expression)
    np.testing.assert_array_equal(kept["predicted"], test_set.sequences.padded()[:, 0])
    assert str(kept["test_set"]) == test_set.fingerprint()
    np.testing.assert_array_equal(kept["subset_SNVs"], test_set.subsets["SNVs"])


def test_command_scores_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_folder(tmp_path / "test", random_test_set())
    sweep = tmp_path / "sweep"
    for name, state in (("a", "done"), ("b", "done"), ("c", "failed")):
        (sweep / name).mkdir(parents=True)
        (sweep / name / "config.yaml").write_text("")
        (sweep / name / "status.json").write_text(json.dumps({"state": state}))
    monkeypatch.setattr("prixfixe.load", lambda path, **_: predicts_letter(int(path.name == "b")), raising=False)
    assert call(sweep, folder, "--bootstrap", 0) == 0
    output = capsys.readouterr()
    assert output.err.count("Pearson score") == 2
    names = [line.split()[0] for line in output.out.splitlines()[1:]]
    scores = [json.loads((sweep / name / "evaluation.json").read_text())["pearson_score"]["value"] for name in names]
    assert sorted(names) == ["a", "b"]
    assert scores == sorted(scores, reverse=True)
    assert not (sweep / "c" / "test.npz").exists()


def test_command_refuses_what_is_not_there(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, random_test_set())
    with pytest.raises(InputError, match="no such run folder, sweep or table"):
        call(tmp_path / "nothing", folder)
    with pytest.raises(InputError, match="--bootstrap -1: 0 for none, or how many samples"):
        call(tmp_path, folder, "--bootstrap", -1)


def test_a_sweep_passes_over_runs_that_cannot_be_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(path: Path, **_: object) -> SimpleNamespace:
        if path.name == "b":
            raise InputError(f"{path / 'weights.safetensors'} is damaged\x1b[2J")
        return predicts_letter(0)

    folder = write_folder(tmp_path / "test", random_test_set())
    sweep = tmp_path / "sweep"
    for name in "abc":
        (sweep / name).mkdir(parents=True)
        (sweep / name / "status.json").write_text('{"state": "done"}' if name != "c" else "{")
    monkeypatch.setattr("prixfixe.load", load, raising=False)
    assert call(sweep, folder, "--bootstrap", 0) == 1
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["a"]
    assert f"b: passed over: {sweep / 'b' / 'weights.safetensors'} is damaged\\x1b[2J\n" in err
    assert f"c: passed over: {sweep / 'c' / 'status.json'} is damaged" in err
    (sweep / "a" / "status.json").unlink()
    with pytest.raises(InputError, match=r"status.json is damaged.*and 1 more run"):
        call(sweep, folder, "--bootstrap", 0)


# Plain tables


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 promoters with two tasks and an id, of which none is named as an expression is."""
    measured = simulate(60, seed=8).measurements
    frame = pd.DataFrame({"id": np.arange(60), "seq": measured.sequences.to_strings(), "dev": measured.expression})
    frame["hk"] = (20 - frame["dev"] + np.random.default_rng(0).normal(size=60)).round(2)
    path = tmp_path_factory.mktemp("tables") / "promoters.tsv"
    frame.to_csv(path, sep="\t", index=False)
    return path


def trained(table: Path, folder: Path, final: str, expression: str) -> Path:
    """A run that was trained on the table and validated on all of it, too, so that its metrics.json tells what must
    come out."""
    columns = (
        "dataset=table",
        f"dataset.path={table}",
        f"dataset.validation={table}",
        f"dataset.expression={expression}",
    )
    train(demo("bhi", "conv", "efficientnet", final, *columns, "training.epochs=1"), folder, show_progress=False)
    return folder


@pytest.fixture(scope="module")
def two_tasks(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(table, tmp_path_factory.mktemp("sweep") / "two", "soft_bins", "[dev,hk]")


def test_a_table_is_scored_on_all_rows(table: Path) -> None:
    test_set = read_test_table(table, expression=["dev", "hk"])
    predicted = test_set.expression + np.random.default_rng(3).normal(0, 3, test_set.expression.shape)
    found = evaluate_table(test_set, predicted, same_scale=True, kl=[0.5, 0.25], bootstrap=2000)
    assert [(task.name, task.column, task.n, task.value("kl")) for task in found.tasks] == [
        ("dev", "dev", 60, 0.5),
        ("hk", "hk", 60, 0.25),
    ]
    for task, truth, guess in zip(found.tasks, test_set.expression.T, predicted.T, strict=True):
        exact = scipy.stats.pearsonr(truth, guess)
        assert task.value("pearson_r") == pytest.approx(exact.statistic, abs=1e-12)
        assert task.value("r_squared") == pytest.approx(exact.statistic**2, abs=1e-12)
        assert task.value("spearman_rho") == pytest.approx(scipy.stats.spearmanr(truth, guess).statistic, abs=1e-12)
        assert task.value("mse") == pytest.approx(np.square(truth - guess).mean())
        # samples of all rows, so that the interval is that of scipy's own bootstrap, not of a tenth of the rows
        theirs = scipy.stats.bootstrap(
            (truth, guess),
            lambda a, b: scipy.stats.pearsonr(a, b).statistic,
            paired=True,
            vectorized=False,
            n_resamples=2000,
            method="percentile",
            rng=np.random.default_rng(1),
        ).confidence_interval
        assert task.interval("pearson_r") == pytest.approx((theirs.low, theirs.high), abs=0.03)

    bare = evaluate_table(test_set, predicted, bootstrap=0)
    assert bare.tasks[0].value("mse") is None
    assert bare.tasks[0].interval("pearson_r") is None
    with pytest.raises(ValueError, match=r"shape \(60, 2\), got \(60,\)"):
        evaluate_table(test_set, predicted[:, 0])
    with pytest.raises(ValueError, match="finite"):
        evaluate_table(test_set, np.full((60, 2), np.inf))


def test_constant_predictions_of_a_table_have_no_correlation(table: Path) -> None:
    test_set = read_test_table(table, expression=["hk"])
    found = evaluate_table(test_set, np.full(60, 0.1), bootstrap=20, kl=[np.inf])
    (task,) = json.loads(json.dumps(found.to_dict(), allow_nan=False))["tasks"]
    assert task["pearson_r"] == {"value": None, "interval": None}
    assert task["kl"] is None


def test_predictions_are_scored_on_a_table(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test_set = read_test_table(table, expression=["dev"])
    predicted = noisy(test_set)
    predictions = write_table(tmp_path / "p.tsv", test_set, predicted, "prediction")
    r = scipy.stats.pearsonr(test_set.expression, predicted).statistic

    assert call(predictions, table, "--expression", "dev") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("60 sequences\n")
    assert f"dev   {r:.4f}  [" in printed
    assert "1,000 bootstrap samples" in printed
    for word in ("score", "weight", "subset", "Not in this test set", "MSE"):
        assert word not in printed

    assert (
        call(predictions, table, "--expression", "dev", "--same-scale", "-o", tmp_path / "out.csv", "--bootstrap", 0)
        == 0
    )
    rows = pd.read_csv(tmp_path / "out.csv").set_index(["task", "score"])
    assert rows.loc[("dev", "pearson_r"), "value"] == pytest.approx(r, abs=1e-12)
    assert rows.loc[("dev", "mse"), "value"] == pytest.approx(np.square(test_set.expression - predicted).mean())
    assert set(rows.index.get_level_values("score")) == {
        "pearson_r",
        "r_squared",
        "spearman_rho",
        "mse",
    }  # bins are a run's
    assert set(rows["n"]) == {60}


@pytest.mark.parametrize("kind", ["bare", "csv.gz", "parquet"])
def test_a_test_table_is_read_as_training_reads_it(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test_set = random_test_set()
    frame = pd.DataFrame({"sequence": test_set.sequences.to_strings(), "expression": test_set.expression})
    path = tmp_path / f"measured.{kind}"
    if kind == "parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False, header=kind != "bare", sep="\t" if kind == "bare" else ",")
    predictions = write_table(tmp_path / "p.tsv", test_set, noisy(test_set), "prediction")
    assert call(predictions, path, "--bootstrap", 0, "--format", "json") == 0
    (task,) = json.loads(capsys.readouterr().out)["tasks"]
    assert (task["name"], task["n"]) == ("expression", N)
    assert task["pearson_r"]["value"] == evaluate(test_set, noisy(test_set), bootstrap=0).subsets[0].pearson_r.value


def test_columns_of_a_test_table(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.read_csv(table, sep="\t").rename(columns={"seq": "promoter"})
    frame.to_csv(tmp_path / "other.csv", index=False)
    predictions = write_table(
        tmp_path / "p.tsv", read_test_table(table, expression=["dev"]), frame["hk"].to_numpy(), "prediction"
    )
    assert (
        call(predictions, tmp_path / "other.csv", "--sequence", "promoter", "--expression", "hk", "--format", "csv")
        == 0
    )
    assert "hk,pearson_r,1.0" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"Choose one with --sequence NAME; the columns are: id, promoter, dev, hk"):
        call(predictions, tmp_path / "other.csv", "--expression", "hk")
    with pytest.raises(InputError, match=r"2 columns hold numbers. Choose one with --expression NAME"):
        call(predictions, table)
    with pytest.raises(
        InputError, match=r"a table of predictions holds one task, and 2 columns of expression are given \(dev, hk\)"
    ):
        call(predictions, table, "--expression", "dev", "--expression", "hk")


def test_options_that_do_not_go_with_a_test_set(table: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "test", random_test_set())
    predictions = write_table(tmp_path / "p.tsv", random_test_set(), np.zeros(N), "prediction")
    with pytest.raises(InputError, match=r"plain table: leave them out, since .*test is a folder"):
        call(predictions, folder, "--expression", "dev")
    with pytest.raises(InputError, match="leave out --without-leaderboard"):
        call(predictions, table, "--without-leaderboard")
    with pytest.raises(InputError, match="no such test set; give a table"):
        call(predictions, tmp_path / "nothing.tsv")


def test_simulated_tables_are_labelled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test_set = random_test_set()
    path = write_table(tmp_path / "assay" / "train.tsv", test_set, test_set.expression)
    (tmp_path / "assay" / "about.json").write_text("{}")
    assert call(write_table(tmp_path / "p.tsv", test_set, noisy(test_set), "prediction"), path, "--bootstrap", 0) == 0
    assert capsys.readouterr().out.startswith("SIMULATED assay")


def test_each_task_of_a_run_is_scored(table: Path, two_tasks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(two_tasks, table, "--same-scale", "--bootstrap", 10, "--format", "json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content == json.loads((two_tasks / "evaluation.json").read_text())
    assert content.keys() == {"model", "test_set", "simulated", "task", "scores", "tasks", "bootstrap_samples"}
    tasks, metrics = content["tasks"], json.loads((two_tasks / "metrics.json").read_text())
    assert [task["name"] for task in tasks] == ["dev", "hk"]
    for score in ("pearson_r", "spearman_rho"):
        assert np.mean([task[score]["value"] for task in tasks]) == pytest.approx(metrics[score], abs=1e-6)
    for score in ("mse", "kl"):
        assert np.mean([task[score] for task in tasks]) == pytest.approx(metrics[score], rel=1e-5)

    kept = np.load(two_tasks / "test.npz", allow_pickle=False)
    test_set = read_test_table(table, expression=["dev", "hk"])
    assert kept.keys() == {"measured", "predicted", "test_set"}
    np.testing.assert_array_equal(kept["measured"], test_set.expression)
    for task, measured, predicted in zip(tasks, kept["measured"].T, kept["predicted"].T, strict=True):
        assert task["pearson_r"]["value"] == pytest.approx(
            scipy.stats.pearsonr(measured, predicted).statistic, abs=1e-12
        )
    assert str(kept["test_set"]) == test_set.fingerprint()

    assert call(two_tasks.parent, table, "--bootstrap", 0) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["run", "task"], ["two", "dev"], ["two", "hk"]]


def test_columns_are_matched_to_tasks(
    table: Path, two_tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def values(path: Path, *options: str) -> dict[str, float]:
        columns = [word for name in options for word in ("--expression", name)]
        assert call(two_tasks, path, *columns, "--bootstrap", 0, "--format", "json") == 0
        return {task["name"]: task["pearson_r"]["value"] for task in json.loads(capsys.readouterr().out)["tasks"]}

    expected = values(table)
    assert values(table, "hk", "dev") == expected  # by name, in whichever order
    renamed = pd.read_csv(table, sep="\t").rename(columns={"dev": "a", "hk": "b"})
    renamed.to_csv(tmp_path / "renamed.tsv", sep="\t", index=False)
    assert values(tmp_path / "renamed.tsv", "a", "b") == expected
    assert call(two_tasks, tmp_path / "renamed.tsv", "--expression", "a", "--expression", "b", "--bootstrap", 0) == 0
    assert "dev (a)" in capsys.readouterr().out

    both = r"two: the run predicts 2 tasks \(dev, hk\), and "
    with pytest.raises(InputError, match=both + r"1 column of expression is given \(dev\)"):
        values(table, "dev")
    with pytest.raises(InputError, match=both + r".* has the columns id, seq, a, b: say which"):
        values(tmp_path / "renamed.tsv")
    with pytest.raises(
        InputError, match=r"hk is the name of another task; .* in the order of the run's tasks, dev, hk"
    ):
        values(table, "hk", "id")
    renamed[["seq", "a", "b"]].to_csv(tmp_path / "bare.txt", sep="\t", index=False, header=False)
    with pytest.raises(InputError, match=both + r".*bare.txt has no header"):
        values(tmp_path / "bare.txt")
    with pytest.raises(InputError, match=both + "the folder of a test set measures one"):
        call(two_tasks, write_folder(tmp_path / "test", random_test_set()))


def test_a_run_of_one_task_finds_its_own_column(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = trained(table, tmp_path / "one", "mlp", "hk")
    metrics = json.loads((one / "metrics.json").read_text())
    assert call(one, table, "--bootstrap", 0, "--same-scale", "--format", "json") == 0
    (task,) = json.loads(capsys.readouterr().out)["tasks"]
    assert (task["name"], task["n"]) == ("hk", 60)
    assert task["kl"] == pytest.approx(
        metrics["kl"], rel=1e-5
    )  # of a scalar prediction, made into bins as the measurements are
    assert task["pearson_r"]["value"] == pytest.approx(metrics["pearson_r"], abs=1e-6)
    with pytest.raises(InputError, match=r"predicts 1 task \(hk\), and 2 columns of expression are given \(dev, hk\)"):
        call(one, table, "--expression", "dev", "--expression", "hk")
    assert call(one, table, "--bootstrap", 0, "--expression", "dev", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["tasks"][0]["name"] == "dev"


def test_results_of_runs_that_were_evaluated_on_a_table(table: Path, two_tasks: Path, tmp_path: Path) -> None:
    one = trained(table, tmp_path / "one", "mlp", "hk")
    for path in (one, two_tasks):
        assert call(path, table, "--bootstrap", 0) == 0
    found = collect([one, two_tasks])
    assert not found.damaged
    rows = {Path(row["run"]).name: row for row in found.rows}
    r = json.loads((one / "evaluation.json").read_text())["tasks"][0]["pearson_r"]["value"]
    assert rows["one"]["r_all"] == r
    assert rows["two"]["r_all"] is None  # of no task alone
    assert "pearson_score" not in rows["one"]


def test_metrics_keep_the_scores_of_each_task(table: Path, two_tasks: Path, tmp_path: Path) -> None:
    metrics = json.loads((two_tasks / "metrics.json").read_text())
    kept = np.load(two_tasks / "validation.npz", allow_pickle=False)
    assert list(metrics["tasks"]) == ["dev", "hk"]
    for column, scores in enumerate(metrics["tasks"].values()):
        measured, predicted = kept["measured"][:, column], kept["predicted"][:, column]
        assert scores["pearson_r"] == pytest.approx(scipy.stats.pearsonr(measured, predicted).statistic, abs=1e-12)
        assert list(scores) == ["kl", "pearson_r", "spearman_rho", "mse", "n"]
        assert scores["n"] == len(measured) == metrics["n"]
    for score in ("kl", "pearson_r", "spearman_rho", "mse"):
        assert np.mean([scores[score] for scores in metrics["tasks"].values()]) == pytest.approx(metrics[score])
    assert "tasks" not in pd.read_csv(two_tasks / "history.csv").columns
    assert "tasks" not in json.loads((trained(table, tmp_path / "one", "mlp", "hk") / "metrics.json").read_text())


def test_real_leaderboard(real_data: Path, tmp_path: Path) -> None:
    test_set = read_test_set(real_data / "yeast" / "leaderboard")
    assert {name: len(rows) for name, rows in test_set.subsets.items()} == {
        "all": 1072,
        "high": 55,
        "low": 49,
        "native": 114,
        "random": 367,
        "challenging": 99,
        "motif_perturbation": 227,
        "motif_tiling": 162,
    }
    perfect = evaluate(test_set, 3 + 2 * test_set.expression, bootstrap=100)
    assert perfect.absent == ("SNVs",)
    assert perfect.pearson_score.value == pytest.approx(1)
    # differences of equal size are ties, which rounding in 3 + 2 e may break or make
    assert perfect.spearman_score.value == pytest.approx(1, abs=1e-3)
    table = write_table(tmp_path / "p.tsv", test_set, test_set.expression, "prediction")
    np.testing.assert_allclose(read_predictions(table, test_set), test_set.expression, rtol=1e-9)


def test_kl_of_a_scalar_prediction_is_that_of_training_and_blank_for_version_0_1(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(table, tmp_path / "run", "mlp", "[dev,hk]")
    assert call(run, table, "--same-scale", "--bootstrap", 0, "--format", "json") == 0
    kl = [task["kl"] for task in json.loads(capsys.readouterr().out)["tasks"]]
    assert np.mean(kl) == pytest.approx(json.loads((run / "metrics.json").read_text())["kl"], rel=1e-4)
    targets = json.loads((run / "targets.json").read_text())
    low, high = targets["bins"]["low"], targets["bins"]["high"]
    bins = {**targets["bins"], "low": min(low), "high": max(high)}  # as version 0.1 had it: one range for all
    old = {key: value for key, value in targets.items() if key != "residual_sd"} | {"bins": bins}
    (run / "targets.json").write_text(json.dumps(old))
    assert call(run, table, "--same-scale", "--bootstrap", 0) == 0
    printed = capsys.readouterr()
    assert "has no KL: it predicts expression alone" in printed.err
    assert [line.split()[-1] for line in printed.out.splitlines()[-2:]] == ["-", "-"]
    assert [task["kl"] for task in json.loads((run / "evaluation.json").read_text())["tasks"]] == [None, None]
