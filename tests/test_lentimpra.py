"""lentiMPRA: its tables in three published forms, orientations that share a fold, adapters, the twin, and 90 runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import compose, random_strings, reverse_complement
from planned import planned

from prixfixe.cli import main
from prixfixe.common.errors import InputError
from prixfixe.common.simulated import is_simulated
from prixfixe.contract import Measurements, TargetSpec
from prixfixe.data.datasets import Split
from prixfixe.data.lentimpra import ADAPTERS
from prixfixe.data.splits import groups, told_of, torn_rows
from prixfixe.networks.network import build
from prixfixe.simulation.lentimpra import NOISE, NOISE_OF_MEAN, REPLICATES, simulate_inserts, true_activity
from prixfixe.tasks.bins import Bins
from prixfixe.training.build import build_dataset, build_recipe, build_task
from prixfixe.training.experiment import run

LEFT, RIGHT = ADAPTERS
FLANKS = f"dataset.flanks=[{LEFT},{RIGHT}]"
SMALL = ("first.channels=8", "core.widths=[8]", "final.channels=8", "training.device=cpu", "training.epochs=1")


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRIXFIXE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def library(rows: int = 200, seed: int = 0) -> pd.DataFrame:
    """Inserts in both orientations, of which some were not measured, in folds 0 to 9 that part no pair."""
    generator = np.random.default_rng(seed)
    count = rows // 2
    inserts = random_strings(count, 200, seed=seed)
    fold = generator.integers(0, 10, size=count)
    forward = pd.DataFrame({"element": inserts, "fold": fold, "number": range(count), "reverse": False})
    reverse = forward.assign(element=[reverse_complement(insert) for insert in inserts], reverse=True)
    table = pd.concat([forward, reverse], ignore_index=True).sample(frac=0.9, random_state=seed)
    return table.assign(mean_value=generator.normal(size=len(table)).round(3)).reset_index(drop=True)


def dream(table: pd.DataFrame, mark: str = "_Reversed:") -> pd.DataFrame:
    """As the DREAM benchmarks have it: seq_id seq mean_value fold, with the adapters."""
    ids = [f"seq{n}{mark if r else '_F'}" for n, r in zip(table.number, table.reverse, strict=True)]
    return pd.DataFrame(
        {"seq_id": ids, "seq": LEFT + table.element + RIGHT, "mean_value": table.mean_value, "fold": table.fold}
    )


def legnet(table: pd.DataFrame) -> pd.DataFrame:
    """As LegNet reads it, by position: folds from 1 on, and rows that repeat others, with a rev of 1."""
    own = dream(table).assign(fold=table.fold + 1, rev=0)
    repeated = own.assign(seq=own.seq.map(reverse_complement), rev=1)
    mixed = pd.concat([own, repeated], ignore_index=True)
    mixed.columns = pd.Index(["name", "dna", "log2", "part", "turned"])
    return mixed


def mnist(table: pd.DataFrame) -> pd.DataFrame:
    """As MPRA-MNIST has it: inserts alone, with their coordinates."""
    start = 1000 * table.number
    ids = [f"seq{n}_{'R' if r else 'F'}" for n, r in zip(table.number, table.reverse, strict=True)]
    strand = np.where(table.reverse, "-", "+")
    facts = {"seq_id": ids, "chromosome": "10", "start": start, "end": start + 200, "strand": strand}
    measured = {
        "seq": table.element,
        "expression": table.mean_value,
        "averaged_expression": 0.5,
        "fold": table.fold + 1,
    }
    return pd.DataFrame({**facts, **measured})


def write(path: Path, table: pd.DataFrame) -> Path:
    table.to_csv(path, sep="\t", index=False)
    return path


def split_of(path: Path, *overrides: str) -> Split:
    return build_dataset(compose("dataset=lentimpra", f"dataset.path={path}", *overrides)).read()


def rows_of(part: Measurements | None) -> dict[str, tuple[float, bool]]:
    """What is known of each sequence of a part."""
    assert part is not None
    assert set(part.columns) == {"is_reverse"}
    assert part.columns["is_reverse"].dtype == bool
    values = zip(part.expression.tolist(), part.columns["is_reverse"].tolist(), strict=True)
    return dict(zip(part.sequences.to_strings(), values, strict=True))


def test_the_three_published_forms_are_the_same_data(cached: Path) -> None:
    table = library()
    whole = {LEFT + i + RIGHT: (v, r) for i, v, r in zip(table.element, table.mean_value, table.reverse, strict=True)}
    held_out = {one: set((LEFT + table.element + RIGHT)[table.fold == one]) for one in (3, 7)}
    forms = {
        "dream": (dream(table), ("dataset.fold=3", "dataset.test_fold=7")),
        "hepg2": (dream(table, "_Reversed_0"), ("dataset.fold=3", "dataset.test_fold=7")),
        "zenodo": (dream(table, "_R"), ("dataset.fold=3", "dataset.test_fold=7")),
        "legnet": (legnet(table), ("dataset.fold=4", "dataset.test_fold=8")),
        "mnist": (mnist(table), ("dataset.fold=4", "dataset.test_fold=8", FLANKS)),
    }
    for name, (form, settings) in forms.items():
        split = split_of(write(cached / f"{name}.tsv", form), *settings)
        parts = [rows_of(part) for part in (split.train, split.validation, split.test)]
        assert parts[0] | parts[1] | parts[2] == whole, name
        assert (set(parts[1]), set(parts[2])) == (held_out[3], held_out[7]), name
        assert sum(map(len, parts)) == len(whole) == 180
        said = [warning for warning in split.warnings if "rev is not 0" in warning]
        assert len(said) == (name == "legnet")
        assert not any("by its id" in warning for warning in split.warnings), name
        assert not any("adapters" in w or "another fold" in w or "stand in training" in w for w in split.warnings), name
    averaged = split_of(cached / "mnist.tsv", FLANKS, "dataset.expression=averaged_expression")
    assert set(averaged.train.expression) == {0.5}


def test_a_table_that_is_none_is_refused(cached: Path) -> None:
    table = dream(library())
    table.to_csv(path := cached / "table.tsv", sep="\t", index=False, header=False)
    with pytest.raises(InputError, match=r"table.tsv has no header: lentiMPRA tables begin with the names"):
        split_of(path)
    with pytest.raises(InputError, match="no column is named sequence or seq"):
        split_of(write(cached / "three.tsv", table[["seq_id", "seq", "fold"]].set_axis(["a", "b", "c"], axis=1)))


def test_columns_in_another_order_than_legnets_are_refused(cached: Path) -> None:
    table = legnet(library())
    with pytest.raises(InputError, match=r"no row is left: rev is 0 in none of 360 rows; .*swapped\?"):
        split_of(write(cached / "all.tsv", table.assign(turned=1)))
    swapped = table[["name", "dna", "log2", "turned", "part"]]
    with pytest.raises(InputError, match=r"no row is left.* fold and rev, in this order: are columns 4 and 5 swapped"):
        split_of(write(cached / "swapped.tsv", swapped), "dataset.fold=0", "dataset.test_fold=1")
    with pytest.raises(InputError, match=r"named.tsv: column 4 is named rev, and LegNet's columns are .*put the folds"):
        split_of(write(cached / "named.tsv", swapped.rename(columns={"turned": "rev", "part": "fold"})))


def test_rows_left_out_by_their_rev_are_the_only_remark_on_reversed_inserts(cached: Path) -> None:
    table = legnet(library()).assign(name="insert")
    said = split_of(write(cached / "table.tsv", table)).warnings
    assert [w for w in said if w.endswith("left out, as LegNet's own loader does: their rev is not 0")]
    assert not any("by its id" in w for w in said)
    unturned = split_of(write(cached / "unturned.tsv", table[table.turned == 0])).warnings
    assert any("by its id" in w for w in unturned)


def test_ids_that_do_not_say_what_is_reversed_are_told_of(cached: Path) -> None:
    table = dream(library(), "_other")
    split = split_of(write(cached / "table.tsv", table))
    assert not split.train.columns["is_reverse"].any()
    assert [w for w in split.warnings if "is a reversed insert by its id" in w]
    assert not any("by its id" in w for w in split_of(write(cached / "sound.tsv", dream(library()))).warnings)


def test_adapters_are_looked_for(cached: Path) -> None:
    table = library()
    bare = write(cached / "mnist.tsv", mnist(table))
    said = [warning for warning in split_of(bare).warnings if "lack the adapters" in warning]
    assert said == [
        f"180 of 180 rows of {bare} lack the adapters {LEFT} and {RIGHT}; 'dataset.flanks=[{LEFT},{RIGHT}]' puts them "
        "around inserts"
    ]
    some = dream(table)
    some.loc[:4, "seq"] = some.seq[:5].str.replace(RIGHT, "A" * 15)
    [said_of_some] = [w for w in split_of(write(cached / "some.tsv", some)).warnings if "lack the adapters" in w]
    assert said_of_some.startswith("5 of 180 rows")
    assert "dataset.flanks" not in said_of_some
    with pytest.raises(InputError, match=r"180 of 180 rows .* carry the adapters .* leave out dataset.flanks"):
        split_of(write(cached / "dream.tsv", dream(table)), FLANKS)


def test_folds_that_tear_orientations_are_counted(cached: Path) -> None:
    table = dream(library())
    pairs = table[table.seq_id.str.match(r"seq\d+_F")].head(6)
    table.loc[pairs.index, "fold"] = (pairs.fold + 1) % 10
    inserts = table.seq.str[15:-15]
    mirrored = {reverse_complement(insert) for insert in inserts}
    torn = [insert for insert in inserts[pairs.index] if insert in mirrored]
    assert 0 < len(torn) <= 6
    path = write(cached / "torn.tsv", table)
    said = [w for w in split_of(path, "dataset.fold=0", "dataset.test_fold=1").warnings if "are in another fold" in w]
    assert [int(warning.split()[0]) for warning in said] == [2 * len(torn)]
    dealt = [split_of(path, "dataset.folds=5", f"dataset.fold={fold}") for fold in range(2)]
    assert not any("are in another fold" in warning for split in dealt for warning in split.warnings)
    for split in (*dealt, split_of(path)):  # neither dealt nor drawn are orientations parted
        assert not told_of(split.train, split.validation).any()


def test_windows_that_overlap_are_torn_as_well() -> None:
    rows = simulate_inserts(100, seed=0)
    fold = np.arange(100) // 10
    assert not torn_rows(Measurements(rows.sequences, rows.expression, fold=fold)).any()
    starts = np.arange(100) * 300
    starts[50:52] = starts[48:50] + 100  # another fold's
    regions = np.stack([np.zeros(100, dtype=np.int64), starts, starts + 200], axis=1)
    torn = torn_rows(Measurements(rows.sequences, rows.expression, fold=fold, regions=regions))
    assert np.flatnonzero(torn).tolist() == [48, 49, 50, 51]


# 90 runs


def test_ten_test_folds_and_nine_validation_folds_are_ninety_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = planned(monkeypatch, "experiment=lentimpra_folds", "dataset.path=FILE")
    held_out = [(config["dataset"]["test_fold"], config["dataset"]["fold"]) for config in jobs.values()]
    assert len(jobs) == 90
    assert set(held_out) == {(test, fold) for test in range(10) for fold in range(10) if test != fold}
    assert (
        "10 of 100 combinations are none: their dataset.fold and dataset.test_fold are equal" in capsys.readouterr().err
    )


def test_settings_that_must_differ_may_be_any(monkeypatch: pytest.MonkeyPatch) -> None:
    swept = (
        "experiment=demo",
        "recipe=bhi",
        "first=conv",
        "core=efficientnet",
        "final=mlp",
        "seed=0,1",
        "dataset.seed=0,1",
    )
    named = "variant='${dataset.seed}'"
    assert len(planned(monkeypatch, *swept, named)) == 4
    unlike = planned(monkeypatch, *swept, named, "hydra.sweeper.differ=[[seed,dataset.seed]]")
    assert [(config["seed"], config["dataset"]["seed"]) for config in unlike.values()] == [(0, 1), (1, 0)]


@pytest.mark.parametrize(
    ("differ", "message"),
    [
        ("[[dataset.fold,dataset.folly]]", "there is no setting dataset.folly"),
        ("[dataset.fold]", "lists of settings, as in"),
        ("[[dataset.fold]]", "lists of settings, as in"),
        ("[[dataset.fold,dataset.test_fold]]", "this sweep has no combinations"),
    ],
)
def test_what_is_no_pair_of_settings_is_refused(
    differ: str, message: str, cached: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(cached)
    swept = ("train", "-m", "experiment=lentimpra_folds", "dataset.path=FILE", "dataset.test_fold=0", "dataset.fold=0")
    assert main([*swept, f"hydra.sweeper.differ={differ}"]) == 2
    assert message in capsys.readouterr().err
    assert not (cached / "runs").exists()


def test_dream_cnn_has_its_published_size() -> None:
    config = compose("experiment=lentimpra_folds", "dataset.path=FILE", "dataset.test_fold=1", "dataset.fold=0")
    task = build_task(config).with_spec(TargetSpec(("mean_value",), (0.0,), (1.0,), Bins()))
    assert build(build_recipe(config), config, task).parameter_count() == 1_945_857


# the simulated twin


def test_the_twin_is_simulated_and_its_truth_and_its_noise_are_known() -> None:
    rows, again = simulate_inserts(4000, seed=1), simulate_inserts(4000, seed=1)
    assert rows.sequences.to_strings() == again.sequences.to_strings()
    np.testing.assert_array_equal(rows.expression, again.expression)
    strings = rows.sequences.to_strings()
    assert {(len(s), s[:15], s[-15:]) for s in strings} == {(230, LEFT, RIGHT)}
    assert strings[1][15:-15] == reverse_complement(strings[0][15:-15])
    assert rows.columns["is_reverse"].tolist() == [False, True] * 2000
    assert (rows.fold[::2] == rows.fold[1::2]).all()
    assert np.bincount(rows.fold).tolist() == [400] * 10
    truth, replicates = true_activity(rows.sequences), rows.columns["replicates"]
    assert replicates.shape == (4000, REPLICATES)
    np.testing.assert_allclose(replicates.mean(axis=1), rows.expression, atol=1e-5)
    assert np.std(replicates - truth[:, None]) == pytest.approx(NOISE, rel=0.03)
    assert np.std(rows.expression - truth) == pytest.approx(NOISE_OF_MEAN, rel=0.05)
    # what replicates say of the ceiling is what it is: r with the truth is the root of the mean's reliability
    r = np.corrcoef(replicates.T)[np.triu_indices(REPLICATES, 1)].mean()
    ceiling = np.sqrt(REPLICATES * r / (1 + (REPLICATES - 1) * r))
    assert np.corrcoef(truth, rows.expression)[0, 1] == pytest.approx(ceiling, abs=0.01)
    assert len(np.unique(groups(rows))) == 2000


def test_the_twin_is_trained_on_by_its_own_folds(cached: Path) -> None:
    chosen = ("experiment=lentimpra_folds", "dataset=simulated_lentimpra", "dataset.size=400")
    settings: dict[str, Any] = compose(*chosen, *SMALL, "dataset.test_fold=2", "dataset.fold=9")
    assert is_simulated(settings)
    split = build_dataset(settings).read()
    assert split.test is not None
    assert (set(split.validation.fold), set(split.test.fold)) == ({9}, {2})
    assert not any("stand in training" in warning for warning in split.warnings)
    metrics = run(settings, cached / "run", show_progress=False)
    assert metrics["simulated"] is True
    assert metrics["test"]["n"] == 40


def test_what_a_run_of_the_twin_needs_of_a_table_is_said(cached: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ("experiment=lentimpra_folds", "dataset=simulated_lentimpra", "dataset.size=400")
    run(compose(*chosen, *SMALL, "dataset.test_fold=2", "dataset.fold=9"), cached / "run", show_progress=False)
    table = dream(library(40))[["seq", "mean_value"]]
    path = write(cached / "table.tsv", table)
    assert main(["evaluate", str(cached / "run"), str(path), "--bootstrap", "0"]) == 2
    said = capsys.readouterr().err
    assert (
        "has no column is_reverse, which the run needs: add is_reverse to the table (0 or 1 where it is a flag)" in said
    )
    write(path, table.assign(is_reverse=[0, 1] * (len(table) // 2)))
    assert main(["evaluate", str(cached / "run"), str(path), "--bootstrap", "0"]) == 0


# the real sample


@pytest.fixture
def real(real_data: Path) -> Path:
    path = real_data / "human" / "lentimpra_train.tsv"
    if not path.exists():
        pytest.skip(f"no {path}")
    return path


def test_which_rows_of_the_real_sample_training_tells_of(real: Path, cached: Path) -> None:
    val = real.with_name("lentimpra_val.tsv")
    split = split_of(real, f"dataset.validation={val}")
    told = told_of(split.train, split.validation)
    assert (told.shape, told.sum()) == ((1000,), 27)
    inserts = [{s[15:-15] for s in part.sequences.to_strings()} for part in (split.train, split.validation)]
    mirrored = {reverse_complement(insert) for insert in inserts[0]} | inserts[0]
    assert [s[15:-15] in mirrored for s in split.validation.sequences.to_strings()] == told.tolist()
    assert not any("adapters" in warning for warning in split.warnings)
    reverse = pd.read_csv(val, sep="\t").seq_id.str.contains("_Reversed:").to_numpy()
    np.testing.assert_array_equal(split.validation.columns["is_reverse"], reverse)


def test_the_folds_of_the_real_sample_part_no_pair(real: Path, cached: Path) -> None:
    both = pd.concat([pd.read_csv(real.with_name(f"lentimpra_{name}.tsv"), sep="\t") for name in ("train", "val")])
    split = split_of(write(cached / "both.tsv", both), "dataset.fold=1", "dataset.test_fold=0")
    assert split.test is not None
    assert len(split.train) + len(split.validation) + len(split.test) == 2000
    assert not any("another fold" in w or "stand in training" in w for w in split.warnings)
