"""Datasets as a run reads them: folds, tasks, ranges, identity."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import demo, random_strings, reverse_complement

import prixfixe
from prixfixe.datasets import Simulated, Table, expression_range
from prixfixe.errors import InputError
from prixfixe.experiment import run
from prixfixe.simulation import simulate


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
    with pytest.raises(InputError, match="no fold column"):
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


def test_folds_are_not_made_over_a_fold_column(promoters: Path) -> None:
    columns(promoters).assign(fold=lambda f: np.arange(len(f)) % 4).to_csv(promoters, sep="\t", index=False)
    with pytest.raises(InputError, match=r"has folds of its own: leave dataset.folds=5 out"):
        table(promoters, fold=1, folds=5).read()


def test_sequences_of_the_held_out_fold_in_training_are_warned_of(promoters: Path) -> None:
    frame = columns(promoters).assign(fold=lambda f: np.arange(len(f)) % 4)
    frame.to_csv(promoters, sep="\t", index=False)
    assert table(promoters, fold=2).read().warnings == ()
    twins = frame[frame.fold == 2].head(2).assign(fold=1)
    twins.loc[twins.index[0], "sequence"] = reverse_complement(twins.sequence.iloc[0])
    pd.concat([frame, twins]).to_csv(promoters, sep="\t", index=False)
    (warning,) = table(promoters, fold=2).read().warnings
    assert warning.startswith("2 of the 30 validation sequences stand in training as well")
    for unasked in (table(promoters), table(promoters, validation_fraction=0.5)):
        (remark,) = unasked.read().warnings
        assert remark.startswith("column 'fold' (0, 1, 2, ...) looks like folds and is not used; dataset.fold=NAME")


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
        "_target_": "prixfixe.datasets.Table",
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
    assert expression_range(np.array([0.5, 16.0]), None) == (0.0, 17.0)
    assert expression_range(np.array([-2.0, 3.0]), None) == (-2.0, 3.0)
    assert expression_range(np.array([-2.0, 3.0]), (-5, 5)) == (-5.0, 5.0)
    with pytest.raises(InputError, match="lower one"):
        expression_range(np.array([0.0, 1.0]), (3, 3))


def test_the_simulated_assay_is_labelled_and_split() -> None:
    split = Simulated(size=200, seed=1, validation_fraction=0.1).read()
    assert split.simulated
    assert (len(split.train), len(split.validation)) == (180, 20)
    everything = set(simulate(200, 1).measurements.sequences.to_strings())
    assert everything == {*split.train.sequences.to_strings(), *split.validation.sequences.to_strings()}


def test_real_promoters_train(real_data: Path, tmp_path: Path) -> None:
    node = {
        "_target_": "prixfixe.datasets.Table",
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
