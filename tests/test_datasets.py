"""Datasets as a run reads them: folds, tasks, ranges, identity."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import demo

import prixfixe
from prixfixe.datasets import Simulated, Table, expression_range
from prixfixe.errors import InputError
from prixfixe.experiment import run
from prixfixe.simulation import simulate


def table(path: Path, **values: Any) -> Table:
    defaults: dict[str, Any] = {"validation": None, "validation_fraction": 0.1, "split_seed": 0, "sequence": None, "expression": None}
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


def test_several_expression_columns_are_several_tasks(promoters: Path, tmp_path: Path) -> None:
    columns(promoters).assign(doubled=lambda f: 2 * f.expression + 1).to_csv(promoters, sep="\t", index=False)
    node = {"_target_": "prixfixe.datasets.Table", "path": str(promoters), "validation": None, "validation_fraction": 0.1, "split_seed": 0}
    node |= {"sequence": None, "expression": ["expression", "doubled"], "fold": None, "folds": None}
    for final in ("soft_bins", "mlp", "expression_heads"):
        metrics = run({**demo("bhi", "conv", "efficientnet", final), "dataset": node}, tmp_path / final, show_progress=False)
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
    node = {"_target_": "prixfixe.datasets.Table", "path": str(real_data / "yeast" / "random_promoters.txt"), "validation": None}
    node |= {"validation_fraction": 0.1, "split_seed": 0, "sequence": None, "expression": None, "fold": None, "folds": None}
    metrics = run({**demo("bhi", "conv", "efficientnet", "soft_bins"), "dataset": node}, tmp_path / "run", show_progress=False)
    assert metrics["n"] == 637
    assert metrics["pearson_r"] > 0.3
