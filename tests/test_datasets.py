"""Datasets as a run reads them: folds, tasks, ranges, identity."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import demo, random_strings, reverse_complement

import prixfixe
from prixfixe.common.errors import InputError
from prixfixe.data.datasets import Table
from prixfixe.data.splits import split
from prixfixe.data.tables import read_measurements
from prixfixe.simulation import simulate
from prixfixe.simulation.assay import Simulated
from prixfixe.tasks.expression import bins_of, expression_range
from prixfixe.training.experiment import run


def table(path: Path, **values: Any) -> Table:
    defaults: dict[str, Any] = {
        "validation": None,
        "validation_fraction": 0.1,
        "split_seed": 0,
        "sequence": None,
        "expression": None,
    }
    return Table(path=str(path), **{**defaults, "fold": None, "folds": None, **values})


def columns(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t")


def test_a_fold_column_is_honoured(promoters: Path) -> None:
    frame = columns(promoters).assign(fold=lambda f: np.arange(len(f)) % 4)
    frame.to_csv(promoters, sep="\t", index=False)
    split = table(promoters, fold=2).read()
    assert split.validation.sequences.to_strings() == frame.sequence[frame.fold == 2].tolist()
    assert len(split.train) == 90
    with pytest.raises(InputError, match="folds are: 0, 1, 2, 3"):
        table(promoters, fold=7).read()


def test_folds_are_made_where_there_is_no_column(promoters: Path) -> None:
    with pytest.raises(InputError, match=r"no fold column: .*dataset\.fold_column=NAME, or make folds"):
        table(promoters, fold=0).read()
    held_out = [table(promoters, fold=k, folds=5).read().validation.sequences.to_strings() for k in range(5)]
    assert sorted(sequence for fold in held_out for sequence in fold) == sorted(columns(promoters).sequence)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"folds": 5}, "dataset.folds=5 needs .* dataset.fold=N, 0 to 4"),
        (
            {"validation": "other.tsv", "fold": 1},
            "dataset.validation=other.tsv and dataset.fold both .* leave one of them out",
        ),
        ({"validation": "other.tsv", "folds": 5}, "dataset.validation=other.tsv and dataset.folds both"),
    ],
    ids=["folds-alone", "validation-and-fold", "validation-and-folds"],
)
def test_options_that_would_be_ignored_are_refused(values: dict[str, Any], message: str, promoters: Path) -> None:
    with pytest.raises(InputError, match=message):
        table(promoters, **values)


def test_folds_that_are_asked_for_are_made_over_a_fold_column_which_is_named(promoters: Path) -> None:
    columns(promoters).assign(fold=lambda f: np.arange(len(f)) % 4).to_csv(promoters, sep="\t", index=False)
    split = table(promoters, fold=4, folds=5).read()
    assert len(split.validation) == 24
    (warning,) = split.warnings
    assert "has a column fold (0, 1, 2, 3), which is not used: dataset.fold=0, without dataset.folds=5, " in warning


def test_sequences_of_the_held_out_fold_in_training_are_warned_of(promoters: Path) -> None:
    frame = columns(promoters).assign(fold=lambda f: np.arange(len(f)) % 4)
    frame.to_csv(promoters, sep="\t", index=False)
    assert table(promoters, fold=2).read().warnings == ()
    twins = frame[frame.fold == 2].head(2).assign(fold=1)
    twins.loc[twins.index[0], "sequence"] = reverse_complement(twins.sequence.iloc[0])
    pd.concat([frame, twins]).to_csv(promoters, sep="\t", index=False)
    (warning,) = table(promoters, fold=2).read().warnings
    assert warning.startswith("2 of the 30 validation sequences stand in training as well")
    drawn = [table(promoters, validation_fraction=fraction).read().warnings for fraction in (0.1, 0.5)]
    assert drawn[0] == drawn[1]
    assert [warning.count("has a column fold (0, 1, 2, 3), which is not used") for warning in drawn[0]] == [1]


def test_a_set_column_is_named_and_its_test_rows_are_never_trained_on(promoters: Path) -> None:
    frame = columns(promoters).assign(set=lambda f: np.array(["Train", "Val", "Test", "Train"])[np.arange(len(f)) % 4])
    frame.to_csv(promoters, sep="\t", index=False)
    (warning,) = table(promoters).read().warnings
    assert "has a column set (Test, Train, Val), which is not used: dataset.fold=Val validates on one" in warning
    split = table(promoters, fold="val").read()
    assert split.validation.sequences.to_strings() == frame.sequence[frame.set == "Val"].tolist()
    assert split.train.sequences.to_strings() == frame.sequence[frame.set == "Train"].tolist()
    assert split.test is None
    (warning,) = split.warnings
    assert "30 rows of" in warning and "in fold test left out of training: dataset.test_fold=test" in warning
    tested = table(promoters, fold="val", test_fold="test").read()
    assert tested.warnings == () and tested.content != split.content
    assert tested.test is not None
    assert tested.test.sequences.to_strings() == frame.sequence[frame.set == "Test"].tolist()
    frame.loc[5, "set"] = ""
    frame.to_csv(promoters, sep="\t", index=False)
    assert len(table(promoters).read().train) == 108  # a gap is no error where no fold is asked for
    with pytest.raises(InputError, match=r":[0-9]+: the fold is empty"):
        table(promoters, fold="val").read()


def test_a_test_part_chooses_nothing(promoters: Path, tmp_path: Path) -> None:
    held_out = tmp_path / "held_out.tsv"
    frame = columns(promoters)
    frame.iloc[:40].to_csv(held_out, sep="\t", index=False)
    frame.iloc[40:].assign(fold=lambda f: np.arange(len(f)) % 4).to_csv(promoters, sep="\t", index=False)
    split = table(promoters, fold=1, test=str(held_out)).read()
    assert split.test is not None and len(split.test) == 40
    assert len(split.train) == 60
    by_fold = table(promoters, test_fold=3).read()
    assert by_fold.test is not None and len(by_fold.test) == 20
    assert len(by_fold.train) + len(by_fold.validation) == 60
    with pytest.raises(InputError, match="both say what to test on"):
        table(promoters, test_fold=3, test="x.tsv")
    with pytest.raises(InputError, match=r"dataset.fold=1 and dataset.test_fold=1 are the same"):
        table(promoters, fold=1, test_fold=1)
    seen = table(promoters, test=str(promoters)).read()
    assert any("of the 80 test sequences stand in training as well" in warning for warning in seen.warnings)


def test_the_best_epoch_is_scored_on_the_test_part_once(promoters: Path, tmp_path: Path) -> None:
    columns(promoters).assign(fold=lambda f: np.arange(len(f)) % 4).to_csv(promoters, sep="\t", index=False)
    node = {"_target_": "prixfixe.data.datasets.Table", "path": str(promoters), "validation": None}
    node |= {"validation_fraction": 0.1, "split_seed": 0, "sequence": None, "expression": None, "folds": None}
    config = {**demo("bhi", "conv", "efficientnet", "mlp"), "dataset": {**node, "fold": 1, "test_fold": 3}}
    config["training"]["epochs"] = 3
    metrics = run(config, tmp_path / "run", show_progress=False)
    assert metrics["test"]["n"] == 30 and metrics["validation_near_duplicates"] == 0
    frame = columns(promoters)
    tested = frame[frame.fold == 3]
    predicted = prixfixe.load(tmp_path / "run").predict(tested.sequence.tolist())
    expected = np.corrcoef(predicted, tested.expression)[0, 1]
    assert metrics["test"]["pearson_r"] == pytest.approx(expected, abs=1e-5)


def test_overlapping_windows_and_near_duplicates_are_known(tmp_path: Path) -> None:
    strings = random_strings(60, 100)
    strings[1::2] = [one[30:] + other[:30] for one, other in zip(strings[::2], strings[1::2], strict=True)]
    text = "".join(f"chr1\t{1000 * (row // 2) + 30 * (row % 2)}\t{s}\t{row}\n" for row, s in enumerate(strings))
    rows = [line.split("\t") for line in text.splitlines()]
    path = tmp_path / "windows.tsv"
    path.write_text(
        "chrom\tstart\tend\tsequence\texpression\n"
        + "".join(f"{chrom}\t{start}\t{int(start) + 100}\t{s}\t{value}\n" for chrom, start, s, value in rows)
    )
    split = table(path, validation_fraction=0.2).read()
    assert split.warnings == () and split.near_duplicates == 0
    assert len(split.validation) == 12
    path.write_text("sequence\texpression\n" + "".join(f"{s}\t{value}\n" for _, _, s, value in rows))
    split = table(path, validation_fraction=0.2).read()
    (warning,) = split.warnings
    assert split.near_duplicates is not None and split.near_duplicates > 0.5
    assert "of 12 validation sequences" in warning and "dataset.folds=10 dataset.fold=0" in warning
    assert table(path, folds=10, fold=0).read().near_duplicates == 0


def test_too_few_sequences_to_validate_on(promoters: Path, tmp_path: Path) -> None:
    columns(promoters).assign(fold=lambda f: np.minimum(np.arange(len(f)), 2)).to_csv(promoters, sep="\t", index=False)
    with pytest.raises(InputError, match=r"dataset.fold=0 of .*: too few sequences to validate on \(1\); at least 3"):
        table(promoters, fold=0).read()
    few = tmp_path / "few.tsv"
    for count in (2, 3):
        few.write_text(
            "sequence\texpression\n" + "".join(f"{string}\t{row}\n" for row, string in enumerate(random_strings(count)))
        )
        if count == 2:
            with pytest.raises(InputError, match=r"few.tsv: too few sequences to validate on \(2\)"):
                table(promoters, validation=str(few)).read()
    assert len(table(promoters, validation=str(few)).read().validation) == 3
    assert len(table(promoters, validation_fraction=0.001).read().validation) == 3
    assert len(Simulated(size=20, seed=0, validation_fraction=0.01).read().validation) == 3


def test_several_expression_columns_are_several_tasks(promoters: Path, tmp_path: Path) -> None:
    columns(promoters).assign(doubled=lambda f: 2 * f.expression + 1).to_csv(promoters, sep="\t", index=False)
    node = {
        "_target_": "prixfixe.data.datasets.Table",
        "path": str(promoters),
        "validation": None,
        "validation_fraction": 0.1,
        "split_seed": 0,
    }
    node |= {"sequence": None, "expression": ["expression", "doubled"], "fold": None, "folds": None}
    for final in ("soft_bins", "mlp", "expression_heads"):
        metrics = run(
            {**demo("bhi", "conv", "efficientnet", final), "dataset": node}, tmp_path / final, show_progress=False
        )
        assert np.isfinite(metrics["kl"])
        assert prixfixe.load(tmp_path / final).predict(["ACGT" * 27] * 3).shape == (3, 2)


def test_content_and_not_the_path_makes_the_identity(promoters: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.tsv"
    copy.write_bytes(promoters.read_bytes())
    assert table(promoters).read().content == table(copy).read().content
    copy.write_bytes(promoters.read_bytes() + b"ACGTACGTAC\t3\n")
    assert table(promoters).read().content != table(copy).read().content


def test_the_range_of_the_bins() -> None:
    assert expression_range(np.array([0.5, 16.0]), None, (0, 17)) == (0.0, 17.0)
    assert expression_range(np.array([-2.0, 3.0]), None, (0, 17)) == (-2.0, 3.0)
    assert expression_range(np.array([-2.0, 3.0]), (-5, 5), (0, 17)) == (-5.0, 5.0)
    with pytest.raises(InputError, match="lower one"):
        expression_range(np.array([0.0, 1.0]), (3, 3), (0, 17))


def test_the_simulated_assay_is_labelled_and_split() -> None:
    split = Simulated(size=200, seed=1, validation_fraction=0.1).read()
    assert split.simulated
    assert (len(split.train), len(split.validation)) == (180, 20)
    everything = set(simulate(200, 1).measurements.sequences.to_strings())
    assert everything == {*split.train.sequences.to_strings(), *split.validation.sequences.to_strings()}


def test_a_share_of_the_training_rows_leaves_the_validation_rows_alone(promoters: Path) -> None:
    whole = table(promoters).read()
    rows = whole.train.sequences.to_strings()
    assert table(promoters, training_fraction=1.0).read().train.sequences.to_strings() == rows
    drawn = {}
    for share in (0.5, 0.1, 0.001):
        split = table(promoters, training_fraction=share).read()
        assert split.validation.sequences.to_strings() == whole.validation.sequences.to_strings()
        drawn[share] = split.train.sequences.to_strings()
        assert len(drawn[share]) == max(1, round(share * len(rows)))
        assert sorted(drawn[share], key=rows.index) == drawn[share], "in their order"
    assert set(drawn[0.001]) < set(drawn[0.1]) < set(drawn[0.5]) < set(rows)
    again = table(promoters, training_fraction=0.5).read()
    assert again.train.sequences.to_strings() == drawn[0.5]
    assert table(promoters, training_fraction=0.5, split_seed=1).read().train.sequences.to_strings() != drawn[0.5]
    for share in (0.0, -0.1, 1.5, float("nan")):
        with pytest.raises(InputError, match=r"dataset\.training_fraction=.*above 0, up to 1"):
            table(promoters, training_fraction=share)


def test_a_share_of_the_simulated_training_rows() -> None:
    whole = Simulated(size=200, seed=1, validation_fraction=0.1).read()
    part = Simulated(size=200, seed=1, validation_fraction=0.1, training_fraction=0.1).read()
    assert len(part.train) == 18 and set(part.train.sequences.to_strings()) < set(whole.train.sequences.to_strings())
    assert part.validation.sequences.to_strings() == whole.validation.sequences.to_strings()


def test_real_promoters_train(real_data: Path, tmp_path: Path) -> None:
    node = {
        "_target_": "prixfixe.data.datasets.Table",
        "path": str(real_data / "yeast" / "random_promoters.txt"),
        "validation": None,
    }
    node |= {
        "validation_fraction": 0.1,
        "split_seed": 0,
        "sequence": None,
        "expression": None,
        "fold": None,
        "folds": None,
    }
    metrics = run(
        {**demo("bhi", "conv", "efficientnet", "soft_bins"), "dataset": node}, tmp_path / "run", show_progress=False
    )
    assert metrics["n"] == 637
    assert metrics["pearson_r"] > 0.3


def sparse(path: Path, measured: list[int]) -> Path:
    """Two tasks, the second of which is measured in some rows only; five folds."""
    frame = columns(path).rename(columns={"expression": "a"}).assign(fold=lambda f: np.arange(len(f)) % 5)
    frame["b"] = frame.a.where(np.isin(np.arange(len(frame)), measured))
    frame.to_csv(path, sep="\t", index=False)
    return path


def test_a_task_measured_in_too_few_held_out_rows_is_named(promoters: Path) -> None:
    path = sparse(promoters, [0, *range(1, 120, 5)])
    split = table(path, fold=0, expression=["a", "b"]).read()
    assert "b is measured in 1 of the 24 validation sequences, too few to score" in " ".join(split.warnings)
    assert not any("too few" in warning for warning in table(path, fold=1, expression=["a", "b"]).read().warnings)
    columns(path).assign(a=lambda f: f.a.where(f.fold != 0)).to_csv(path, sep="\t", index=False)
    with pytest.raises(InputError, match="too few sequences to validate"):
        table(path, fold=0, expression=["a", "b"]).read()


def test_a_task_that_is_the_same_in_every_row_is_named(promoters: Path) -> None:
    split = table(sparse(promoters, [7]), expression=["a", "b"], fold=0).read()
    with pytest.raises(InputError, match=r"b is .* wherever it was measured in training \(1 sequence\)"):
        bins_of({"number": 18, "shift": 0.5, "sd": 0.5, "range": None}, split.train, (0, 17))


def test_advice_on_a_test_set_that_stands_in_training_makes_a_test_fold(promoters: Path) -> None:
    said = " ".join(table(promoters, test=str(promoters)).read().warnings)
    assert "dataset.folds=10 dataset.fold=0 dataset.test_fold=1 instead of dataset.test, similar sequences" in said


def test_a_fold_column_with_one_fold_is_named_without_untrue_advice(promoters: Path) -> None:
    columns(promoters).assign(set="Train").to_csv(promoters, sep="\t", index=False)
    (said,) = table(promoters).read().warnings
    assert "a column set (Train), which is not used: where it holds several folds, dataset.fold=NAME" in said


def test_a_draw_is_made_once_and_kept(promoters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = [table(promoters, split_seed=seed).read() for seed in (0, 1)]
    drawn = [split(read_measurements(promoters), seed=seed) for seed in (0, 1)]
    monkeypatch.setattr("prixfixe.data.splits.draw", None)
    for before, seed, (train, validation) in zip(first, (0, 1), drawn, strict=True):
        again = table(promoters, split_seed=seed).read()
        whole = read_measurements(promoters).sequences
        assert again.train.sequences.to_strings() == whole[train].to_strings() == before.train.sequences.to_strings()
        assert again.validation.sequences.to_strings() == whole[validation].to_strings()
        assert again.content == before.content
