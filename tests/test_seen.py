"""Rows that are scored must not have been trained on by the run whose weights another one starts from."""

from pathlib import Path
from typing import Any

import pytest
from conftest import demo

from prixfixe.common.errors import InputError
from prixfixe.simulation.assay import Simulated
from prixfixe.training.experiment import run
from prixfixe.training.seen import check_unseen, started_from


def small(*overrides: str) -> dict[str, Any]:
    size = ("dataset.size=120", "first.channels=8", "core.widths=[8]", "training.epochs=1")
    return demo("bhi", "conv", "efficientnet", "soft_bins", *size, *overrides)


def test_rows_that_were_trained_on_are_refused_unless_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(small(), tmp_path / "before", show_progress=False)
    starting = f"core.train.weights={tmp_path / 'before'}"
    run(small(starting), tmp_path / "same_split", show_progress=False)
    other = ("dataset.validation_fraction=0.3", starting)
    with pytest.raises(InputError, match=r"\d+ of the 36 validation sequences were trained on by .*allow_seen=true"):
        run(small(*other), tmp_path / "other_split", show_progress=False)
    assert not (tmp_path / "other_split").exists()
    run(small(*other, "training.allow_seen=true"), tmp_path / "other_split", show_progress=True)
    assert "of the 36 validation sequences were trained on by" in capsys.readouterr().err


def test_the_sources_of_a_source_count(tmp_path: Path) -> None:
    run(small(), tmp_path / "first", show_progress=False)
    run(small(f"core.train.weights={tmp_path / 'first'}"), tmp_path / "second", show_progress=False)
    config = small(f"first.train.weights={tmp_path / 'second' / 'weights.safetensors'}")
    assert [folder.name for folder in started_from(config)] == ["second", "first"]


def test_what_a_source_was_trained_on_may_not_be_known(tmp_path: Path) -> None:
    run(small(), tmp_path / "before", show_progress=False)
    config = small(f"core.train.weights={tmp_path / 'before'}")
    split = Simulated(size=120, seed=0, validation_fraction=0.1).read()
    assert check_unseen(config, split, allowed=False) == []
    file = tmp_path / "before" / "config.yaml"
    file.write_text(file.read_text().replace("size: 120", "size: 140"))
    (said,) = check_unseen(config, split, allowed=False)
    assert "have changed since" in said
