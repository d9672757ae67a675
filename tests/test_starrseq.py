"""Two tasks on fly enhancers: held out by blocks of the genome and by chromosome; a task that is measured in part."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import compose, random_strings, reverse_complement
from planned import planned

import prixfixe
from prixfixe.cli import main
from prixfixe.common.errors import InputError
from prixfixe.common.paths import conf_folder
from prixfixe.common.simulated import is_simulated
from prixfixe.contract import Batch, Measurements, Sequences, TargetSpec
from prixfixe.data.datasets import Split
from prixfixe.data.splits import blocks, groups, told_of
from prixfixe.networks.network import build
from prixfixe.runs.folder import identity
from prixfixe.simulation.enhancers import TASKS, simulate_enhancers, true_activity
from prixfixe.tasks.bins import Bins
from prixfixe.training.build import build_dataset, build_recipe, build_task
from prixfixe.training.experiment import run
from prixfixe.training.gradients import backward

SMALL = ("first.channels=8", "core.widths=[8]", "final.channels=8", "training.device=cpu", "training.epochs=1")
BLOCK = 1_000_000


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRIXFIXE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def write(path: Path, rows: int = 240, seed: int = 0) -> Path:
    """A table as the real one: windows of both strands on three chromosomes, some at the borders of blocks."""
    generator = np.random.default_rng(seed)
    strings = random_strings(rows // 2, 249, seed=seed)
    chromosome = generator.choice(["chr2L", "chr2R", "chrX"], size=rows // 2)
    start = generator.integers(0, 8 * BLOCK, size=rows // 2)
    near = generator.random(rows // 2) < 0.2
    start[near] = generator.integers(1, 8, size=int(near.sum())) * BLOCK - generator.integers(
        1, 400, size=int(near.sum())
    )
    both = pd.DataFrame({"seqnames": chromosome, "start": start, "end": start + 248, "Sequence": strings})
    other = both.assign(Sequence=list(map(reverse_complement, strings)))
    table = pd.concat([both.assign(strand="+"), other.assign(strand="-")])
    table["ID"] = [
        f"{c}_{s}_{e}_{t}_peak" for c, s, e, t in zip(table.seqnames, table.start, table.end, table.strand, strict=True)
    ]
    table["set"] = generator.choice(["Train", "Val", "Test"], size=rows, p=[0.8, 0.1, 0.1])
    table["Dev_log2_enrichment"] = generator.normal(size=rows).round(4)
    table["Hk_log2_enrichment"] = generator.normal(2, 3, size=rows).round(4)
    columns = ["seqnames", "start", "end", "ID", "set", "Sequence", *TASKS]
    table.sample(frac=1, random_state=seed)[columns].to_csv(path, sep="\t", index=False)
    return path


def split_of(path: Path, *overrides: str) -> Split:
    return build_dataset(compose("dataset=starrseq", f"dataset.path={path}", *overrides)).read()


def places(part: Measurements, path: Path) -> pd.DataFrame:
    """The rows of a part as they stand in the file."""
    table = pd.read_csv(path, sep="\t").drop_duplicates("Sequence").set_index("Sequence")
    return table.loc[part.sequences.to_strings()]


def overlapping(one: pd.DataFrame, other: pd.DataFrame) -> int:
    """How many rows of the one overlap a row of the other, counted pair by pair."""
    found = 0
    for row in one.itertuples():
        found += bool(((other.seqnames == row.seqnames) & (other.start <= row.end) & (other.end >= row.start)).any())
    return found


def test_blocks_of_a_megabase_share_no_window(cached: Path) -> None:
    path = write(cached / "starrseq.tsv")
    split = split_of(path)
    train, validation = places(split.train, path), places(split.validation, path)
    assert len(train) + len(validation) == 240
    assert 0.05 < len(validation) / 240 < 0.2
    assert overlapping(validation, train) == 0
    inside = [part[part.start % BLOCK > 2000] for part in (train, validation)]  # of no window that crosses a border
    one, other = (set(zip(part.seqnames, part.start // BLOCK, strict=True)) for part in inside)
    assert len(one) > 10
    assert len(other) > 1
    assert not one & other
    assert not any("stand in training as well" in warning for warning in split.warnings)


def test_a_group_is_in_the_block_where_it_begins() -> None:
    strings = random_strings(6, 60)
    strings[5] = reverse_complement(strings[0])  # elsewhere, and the same: it follows the first
    starts = np.array([10, 990, 1030, 1500, 1700, 2500])
    regions = np.stack([np.zeros(6, dtype=np.int64), starts, starts + 60], axis=1)
    rows = Measurements(Sequences.from_strings(strings), np.zeros(6), regions=regions)
    block = blocks(rows, groups(rows), 1000)
    same = [[int(one == other) for other in block] for one in block]
    assert same == [
        [1, 1, 1, 0, 0, 1],
        [1, 1, 1, 0, 0, 1],
        [1, 1, 1, 0, 0, 1],  # begins in the second block, and overlaps one of the first
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 1, 1, 0],
        [1, 1, 1, 0, 0, 1],
    ]
    with pytest.raises(InputError, match=r"dataset\.block=1000 needs to know where the sequences lie"):
        blocks(Measurements(rows.sequences, rows.expression), groups(rows), 1000)


@pytest.mark.parametrize(
    ("held_out", "tested"), [(["chr2R"], []), (["chr2L", "chr2R"], []), (["chr2R"], ["chrX"])], ids=str
)
def test_no_window_of_a_chromosome_that_is_held_out_is_trained_on(
    held_out: list[str], tested: list[str], cached: Path
) -> None:
    path = write(cached / "starrseq.tsv")
    overrides = [f"dataset.fold=[{','.join(held_out)}]", *(f"dataset.test_fold={name}" for name in tested)]
    split = split_of(path, "dataset.fold_column=seqnames", *overrides)
    assert set(places(split.validation, path).seqnames) == set(held_out)
    assert set(places(split.train, path).seqnames) == {"chr2L", "chr2R", "chrX"} - {*held_out, *tested}
    if tested:
        assert split.test is not None
        assert set(places(split.test, path).seqnames) == set(tested)
    with pytest.raises(InputError, match="fold chr4 has no rows; the table's folds are: chr2L, chr2R, chrX"):
        split_of(path, "dataset.fold_column=seqnames", "dataset.fold=[chr2L,chr4]")
    with pytest.raises(InputError, match="are the same"):
        split_of(path, "dataset.fold_column=seqnames", "dataset.fold=[chr2L,chrX]", "dataset.test_fold=chrX")


def test_the_leak_of_a_split_of_the_data_is_counted(cached: Path) -> None:
    path = write(cached / "starrseq.tsv")
    split = split_of(path, "dataset.fold=Val")
    table = pd.read_csv(path, sep="\t")
    assert len(split.validation) == (table.set == "Val").sum()
    assert len(split.train) == (table.set == "Train").sum()  # Test is neither
    leak = overlapping(places(split.validation, path), places(split.train, path))
    assert leak > 0
    assert any(
        warning.startswith(f"{leak} of the {len(split.validation)} validation sequences stand in training")
        for warning in split.warnings
    )


def test_folds_of_blocks(cached: Path) -> None:
    path = write(cached / "starrseq.tsv")
    parts = [places(split_of(path, "dataset.folds=5", f"dataset.fold={fold}").validation, path) for fold in range(5)]
    assert sum(map(len, parts)) == 240
    assert max(map(len, parts)) < 80
    for fold, part in enumerate(parts):
        others = pd.concat([other for number, other in enumerate(parts) if number != fold])
        assert overlapping(part, others) == 0


# a test chromosome beside folds of the rest


RAFI = ("dataset.fold_column=seqnames", "dataset.folds=4", "dataset.test_fold=chrX")


def test_the_rest_of_a_test_chromosome_is_dealt_into_folds(cached: Path) -> None:
    path = write(cached / "starrseq.tsv")
    rows = pd.read_csv(path, sep="\t").seqnames.value_counts()
    validated = []
    for fold in range(4):
        split = split_of(path, *RAFI, f"dataset.fold={fold}")
        train, validation = places(split.train, path), places(split.validation, path)
        assert split.test is not None
        test = places(split.test, path)
        assert set(test.seqnames) == {"chrX"}
        assert len(test) == rows["chrX"]
        assert len(train) + len(validation) == 240 - rows["chrX"]
        assert overlapping(validation, train) == overlapping(test, train) == 0
        assert "chrX" not in set(train.seqnames) | set(validation.seqnames)
        assert len(validation) > 10
        assert not any("stand in training" in warning for warning in split.warnings)
        validated.append(validation)
    assert len(pd.concat(validated).drop_duplicates()) == 240 - rows["chrX"]
    again = split_of(path, *RAFI, "dataset.fold=0").validation
    assert sorted(again.sequences.to_strings()) == sorted(validated[0].index)


def test_what_stands_on_a_test_chromosome_and_in_training_is_counted(cached: Path) -> None:
    path = write(cached / "starrseq.tsv")
    table = pd.read_csv(path, sep="\t")
    repeats = table[table.seqnames == "chrX"].head(7).assign(seqnames="chr2L", start=90_000_000, end=90_000_248)
    pd.concat([table, repeats]).to_csv(path, sep="\t", index=False)
    both = table.Sequence.isin([*repeats.Sequence, *map(reverse_complement, repeats.Sequence)]).sum()
    counted = []
    for fold in range(4):
        split = split_of(path, *RAFI, f"dataset.fold={fold}")
        assert split.test is not None
        said = [warning for warning in split.warnings if "test sequences stand in training" in warning]
        counted.append(int(told_of(split.train, split.test).sum()))
        assert len(said) == (counted[-1] > 0)  # [] in the fold whose validation rows they are
        assert all(int(warning.split()[0]) >= both for warning in said)
    assert sorted(counted) == [0, both, both, both]


def test_folds_beside_a_column_need_a_test_fold_of_it_and_may_have_its_names(cached: Path) -> None:
    path = write(cached / "starrseq.tsv")
    with pytest.raises(InputError, match=r"both say what the folds are.* test on one of seqnames"):
        split_of(path, "dataset.fold_column=seqnames", "dataset.folds=4", "dataset.fold=0")
    with pytest.raises(InputError, match="fold chr4 has no rows; the table's folds are: chr2L, chr2R, chrX"):
        split_of(path, *RAFI, "dataset.fold=0", "dataset.test_fold=chr4")
    table = pd.read_csv(path, sep="\t")
    table.seqnames = table.seqnames.map({"chr2L": 0, "chr2R": 1, "chrX": 2})
    table.to_csv(path, sep="\t", index=False)
    split = split_of(path, *RAFI[:2], "dataset.test_fold=1", "dataset.fold=1")  # unlike in meaning
    assert split.test is not None
    assert set(places(split.test, path).seqnames) == {1}


def test_five_chromosomes_in_ten_folds_are_one_multirun_of_fifty(monkeypatch: pytest.MonkeyPatch) -> None:
    swept = yaml.safe_load((conf_folder() / "experiment/starrseq_folds.yaml").read_text())["hydra"]["sweeper"]["params"]
    assert swept == {"dataset.test_fold": "chr2L,chr2R,chr3L,chr3R,chrX", "dataset.fold": "range(10)"}
    jobs = planned(monkeypatch, "experiment=starrseq_folds", "dataset=simulated_starrseq", "dataset.fold=0,9")
    assert len(jobs) == 10
    assert "plain+parallel_conv+efficientnet+task_heads+tchr3Rf9" in jobs
    config = compose("experiment=starrseq_folds", "dataset.path=FILE", "dataset.test_fold=chrX", "dataset.fold=0")
    network = build(build_recipe(config), config, build_task(config).with_spec(two_tasks()))
    assert network.parameter_count() == 1_962_754  # DREAM-CNN with heads of each task


def two_tasks() -> TargetSpec:
    return TargetSpec(TASKS, (0.0, 0.0), (1.0, 1.0), Bins())


# the published pair


def write_pair(folder: Path, table: pd.DataFrame, name: str = "Train") -> Path:
    """The same rows as FASTA, its IDs as headers, and the table of measurements that is published beside it."""
    path = folder / f"Sequences_{name}.fa"
    path.write_text("".join(f">{id}\n{s}\n" for id, s in zip(table.ID, table.Sequence, strict=True)))
    activity = table[[*TASKS]].assign(Dev_log2_enrichment_scaled=0.5, Hk_log2_enrichment_scaled=0.5)
    activity.to_csv(folder / f"Sequences_activity_{name}.txt", sep="\t", index=False)
    return path


def test_the_pair_is_read_as_the_table_is(cached: Path) -> None:
    table = write(cached / "starrseq.tsv")
    pair = write_pair(cached, pd.read_csv(table, sep="\t"))
    one, other = split_of(table), split_of(pair)
    for mine, its in ((one.train, other.train), (one.validation, other.validation)):
        assert mine.sequences.to_strings() == its.sequences.to_strings()
        assert mine.tasks == its.tasks == TASKS
        np.testing.assert_array_equal(mine.expression, its.expression)
        np.testing.assert_array_equal(mine.regions, its.regions)
        np.testing.assert_array_equal(mine.columns["is_reverse"], its.columns["is_reverse"])
    assert 0.4 < other.train.columns["is_reverse"].mean() < 0.6
    assert not told_of(other.train, other.validation).any()  # both strands of a window stand on one side
    rafi = split_of(pair, *RAFI, "dataset.fold=1")  # the chromosome is that of the header
    assert rafi.test is not None
    assert set(places(rafi.test, table).seqnames) == {"chrX"}


def test_the_split_of_deepstarr_is_three_pairs_or_a_column(cached: Path) -> None:
    path = write(cached / "starrseq.tsv")
    table = pd.read_csv(path, sep="\t")
    train, val, test = (write_pair(cached, table[table.set == name], name) for name in ("Train", "Val", "Test"))
    pairs = split_of(train, f"dataset.validation={val}", f"dataset.test={test}")
    column = split_of(path, "dataset.fold=Val", "dataset.test_fold=Test")
    for one, other in ((pairs.train, column.train), (pairs.validation, column.validation), (pairs.test, column.test)):
        assert one is not None
        assert other is not None
        assert one.sequences.to_strings() == other.sequences.to_strings()
    leak = overlapping(places(pairs.validation, path), places(pairs.train, path))  # that of the files, and said
    assert any(warning.startswith(f"{leak} of the") for warning in pairs.warnings)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.iloc[:-3], "has 240 sequences, and .*Sequences_activity_Train.txt 237 rows"),
        (lambda t: pd.concat([t, t.head(2)]), "has 240 sequences, and .*Sequences_activity_Train.txt 242 rows"),
        (lambda t: t.assign(ID=np.roll(t.ID, 1)), r"activity_Train.txt:2: the id is 'chr.*that of the same record"),
        (lambda t: t.assign(Sequence=np.roll(t.Sequence, 1)), r"activity_Train.txt:2: the sequence is '[ACGT]+"),
        (lambda t: t.assign(Dev_log2_enrichment="high"), r"activity_Train.txt:2: the Dev_log2_enrichment 'high'"),
        (lambda t: t.drop(columns="Hk_log2_enrichment"), "there is no column 'Hk_log2_enrichment'"),
    ],
)
def test_a_pair_that_does_not_fit_is_one_error(
    damage: Callable[[pd.DataFrame], pd.DataFrame], message: str, cached: Path
) -> None:
    table = pd.read_csv(write(cached / "starrseq.tsv"), sep="\t")
    path = write_pair(cached, table)
    damage(table).to_csv(cached / "Sequences_activity_Train.txt", sep="\t", index=False)
    with pytest.raises(InputError, match=message) as error:
        split_of(path)
    assert len(str(error.value)) < 600


def test_the_activity_may_be_named_and_must_be_there(cached: Path) -> None:
    table = pd.read_csv(write(cached / "starrseq.tsv"), sep="\t")
    path, val = write_pair(cached, table), write_pair(cached, table.head(60), "Val")
    for name in ("Train", "Val"):
        (cached / f"Sequences_activity_{name}.txt").rename(cached / f"Sequences_{name}.activity.tsv")
    with pytest.raises(
        InputError, match=r"put the one that measures it row by row beside it as Sequences_activity_Tra"
    ):
        split_of(path)
    alone = split_of(path, f"dataset.activity={cached}/Sequences_Train.activity.tsv")
    assert len(alone.train) + len(alone.validation) == 240
    both = split_of(path, f"dataset.validation={val}", "'dataset.activity=*.activity.tsv'".strip("'"))
    assert (len(both.train), len(both.validation)) == (240, 60)
    with pytest.raises(InputError, match=r"is one table, and there are several FASTA: write \*"):
        split_of(path, f"dataset.validation={val}", "dataset.activity=a.tsv")
    with pytest.raises(InputError, match=r"is no FASTA.* leave out dataset\.activity"):
        split_of(cached / "starrseq.tsv", "dataset.activity=a.tsv")


def test_a_run_is_the_same_whether_or_not_activity_can_be_named() -> None:
    config = compose("dataset=starrseq", "dataset.path=FILE")
    before = {**config, "dataset": {key: value for key, value in config["dataset"].items() if key != "activity"}}
    assert config["dataset"]["activity"] is None
    assert identity(config, "content") == identity(before, "content")
    assert identity(config, "content") != identity(config, "content activity=other")


def test_headers_that_say_nothing_are_told_of(cached: Path) -> None:
    table = pd.read_csv(write(cached / "starrseq.tsv"), sep="\t")
    path = write_pair(cached, table.assign(ID=[f"window{row}" for row in range(len(table))]))
    said = split_of(path, "dataset.block=null").warnings
    assert any("do not say where its sequences lie" in warning for warning in said)
    with pytest.raises(InputError, match=r"dataset\.block=1000000 needs to know where .* FASTA.*: dataset\.block=null"):
        split_of(path)
    some = write_pair(cached, table.assign(ID=[*table.ID[:230], *(f"window{row}" for row in range(10))]))
    assert any(warning.startswith("10 of 240 headers of") for warning in split_of(some).warnings)


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_a_compressed_pair_is_found(ending: str, pack: Callable[[bytes], bytes], cached: Path) -> None:
    pair = write_pair(cached, pd.read_csv(write(cached / "starrseq.tsv"), sep="\t"))
    plain = split_of(pair).train.sequences.to_strings()
    for path in (pair, cached / "Sequences_activity_Train.txt"):
        path.with_name(path.name + ending).write_bytes(pack(path.read_bytes()))
        path.unlink()
    assert split_of(cached / f"Sequences_Train.fa{ending}").train.sequences.to_strings() == plain


def test_a_header_that_does_not_span_its_sequence_is_refused(cached: Path) -> None:
    table = pd.read_csv(write(cached / "starrseq.tsv"), sep="\t")
    path = write_pair(cached, table.assign(ID=["chr2L_5587_5935_+_peak", *table.ID[1:]]))
    with pytest.raises(InputError, match=r"header 'chr2L_5587_5935_\+_peak' says 349 nt, and its sequence has 249: "):
        split_of(path)
    own = table[["seqnames", "start", "end", *TASKS]]  # the table's columns say where sequences lie, then
    own.to_csv(cached / "Sequences_activity_Train.txt", sep="\t", index=False)
    assert len(split_of(path).train) > 180
    split_of(write_pair(cached, table.assign(ID=["chr2L_5587_5836_+_bed", *table.ID[1:]])))


def test_a_header_says_the_strand_to_predict(cached: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.read_csv(write(cached / "starrseq.tsv"), sep="\t")
    pair = write_pair(cached, table)
    run(config("dataset=starrseq", f"dataset.path={pair}"), cached / "run", show_progress=False)
    assert main(["predict", str(cached / "run"), str(pair), "-o", str(cached / "fasta.tsv")]) == 0
    assert main(["predict", str(cached / "run"), str(cached / "starrseq.tsv"), "-o", str(cached / "table.tsv")]) == 0
    one, other = (pd.read_csv(cached / f"{name}.tsv", sep="\t") for name in ("fasta", "table"))
    pd.testing.assert_frame_equal(one, other)
    for name, message in (
        ("window", "it has no columns, and is_reverse is needed"),
        (table.ID[0], "does not say where"),
    ):
        ids = [name, *(f"window{row}" for row in range(1, 240))]
        path = write_pair(cached, table.assign(ID=ids), "Plain")  # a strand is not made up
        assert main(["predict", str(cached / "run"), str(path), "-o", str(cached / "plain.tsv")]) == 2
        assert message in capsys.readouterr().err
        assert not (cached / "plain.tsv").exists()
    (cached / "seqs.txt").write_text("\n".join(random_strings(5, 249)) + "\n")
    assert main(["predict", str(cached / "run"), str(cached / "seqs.txt")]) == 2
    said = capsys.readouterr().err
    assert "has no header, and the run needs the column is_reverse, read from the column ID: add a header" in said


# two tasks


def config(*overrides: str, **table: Any) -> dict[str, Any]:
    return compose("experiment=starrseq_small", *SMALL, *overrides)


def test_each_task_has_its_own_scores_and_bins_and_predict_reads_the_strand(cached: Path) -> None:
    path = write(cached / "starrseq.tsv")
    settings = config(
        "dataset=starrseq", f"dataset.path={path}", "dataset.test_fold=2", "dataset.folds=4", "dataset.fold=0"
    )
    metrics = run(settings, cached / "run", show_progress=False)
    assert list(metrics["tasks"]) == list(metrics["test_tasks"]) == list(TASKS)
    for scores in (*metrics["tasks"].values(), *metrics["test_tasks"].values()):
        assert {"kl", "pearson_r", "spearman_rho", "mse", "n"} == scores.keys()
    assert metrics["pearson_r"] == pytest.approx(np.mean([own["pearson_r"] for own in metrics["tasks"].values()]))
    split = build_dataset(settings).read()
    bins = build_task(settings).fitted(split.train).spec.bins
    assert bins is not None
    np.testing.assert_allclose(bins.low, split.train.expression.min(axis=0))
    np.testing.assert_allclose(bins.high, split.train.expression.max(axis=0))
    model = prixfixe.load(cached / "run", device="cpu")
    strings = split.validation.sequences.to_strings()
    minus = places(split.validation, path).ID.str.contains("_-_").to_numpy()
    np.testing.assert_array_equal(split.validation.columns["is_reverse"], minus)
    predicted = model.predict(strings, columns={"is_reverse": minus})
    kept = np.load(cached / "run" / "validation.npz")
    np.testing.assert_allclose(predicted, kept["predicted"], rtol=1e-4, atol=1e-5)
    assert not np.allclose(model.predict(strings, columns={"is_reverse": ~minus}), predicted, rtol=1e-3)


def test_a_value_that_is_removed_is_neither_trained_nor_scored(cached: Path) -> None:
    """In float64: without half of one task's values the gradient is that of a loss which masks them, however many parts
    a step has; and the scores are those of the rows that are left."""
    data = pd.read_csv(write(cached / "whole.tsv"), sep="\t")
    removed = np.random.default_rng(0).random(len(data)) < 0.5
    data.loc[removed, TASKS[1]] = np.nan
    path = cached / "half.tsv"
    data.to_csv(path, sep="\t", index=False)
    settings = config("dataset=starrseq", f"dataset.path={path}")
    split = build_dataset(settings).read()
    measured = ~np.isnan(split.train.expression)
    assert measured[:, 0].all()
    assert 0.3 < measured[:, 1].mean() < 0.7
    recipe, task = build_recipe(settings), build_task(settings).fitted(split.train)
    torch.manual_seed(0)
    network = build(recipe, settings, task).double().eval()
    strand = {"is_reverse": split.train.columns["is_reverse"]}
    samples = recipe.load(split.train.sequences, torch.device("cpu"), split.train.expression, columns=strand)
    batch = recipe.training_batch(samples, torch.arange(32), task, torch.Generator(), network.columns)
    batch = {key: value.double() if value.is_floating_point() else value for key, value in batch.items()}
    there = ~batch["y"].isnan()
    assert not there.all()

    def gradient(of: Batch, parts: int | None) -> list[torch.Tensor]:
        network.zero_grad()
        backward(network, recipe, of, parts, torch.float32, 0)
        return [p.grad.clone() for p in network.parameters()]

    network.zero_grad()
    final: Any = network.final
    guess = final.standardised(network(batch).expression)
    truth = final.standardised(torch.where(there, batch["y"], 0.0))
    ((guess - truth).square() * there).sum().div(there.sum()).backward()
    masked = [p.grad.clone() for p in network.parameters()]
    for parts in (None, 16, 5, 1):
        for one, other in zip(masked, gradient(batch, parts), strict=True):
            torch.testing.assert_close(other, one, rtol=1e-6, atol=1e-10)

    metrics = run(settings, cached / "run", show_progress=False)
    held_out = split.validation.expression
    own = ~np.isnan(held_out[:, 1])
    assert metrics["tasks"][TASKS[1]]["n"] == own.sum() < len(held_out) == metrics["tasks"][TASKS[0]]["n"]
    predicted = np.load(cached / "run" / "validation.npz")["predicted"]
    for place, task_name in enumerate(TASKS):
        rows = ~np.isnan(held_out[:, place])
        r = np.corrcoef(held_out[rows, place], predicted[rows, place])[0, 1]
        assert metrics["tasks"][task_name]["pearson_r"] == pytest.approx(r, rel=1e-6)


# the simulated twin


def test_the_twin_is_simulated_and_its_truth_is_its_motifs() -> None:
    rows = simulate_enhancers(800, seed=1)
    again = simulate_enhancers(800, seed=1)
    assert rows.sequences.to_strings() == again.sequences.to_strings()
    np.testing.assert_array_equal(rows.expression, again.expression)
    truth = true_activity(rows.sequences)
    assert 0.4 < np.std(rows.expression - truth) < 0.6
    np.testing.assert_allclose(truth, true_activity(rows.sequences.reverse_complement()))
    strings = rows.sequences.to_strings()
    assert strings[1] == reverse_complement(strings[0])
    assert strings[0][100:] == strings[2][:-100]  # 100 nt further on
    assert (np.diff(rows.regions[:, 1:], axis=1) == 249).all()
    assert rows.columns["is_reverse"].tolist() == [False, True] * 400
    bare = "TTTTTTTTTT" * 10
    base, dref, gata, ets, ap1, two = true_activity(
        Sequences.from_strings(
            [bare, *(bare + site + bare for site in ("TATCGATA", "CTTATCA", "CCGGAAGT", "TGAGTCA", "CCGGAAGTCCGGAAGT"))]
        )
    )
    np.testing.assert_allclose(dref - base, [0, 2.0])
    np.testing.assert_allclose(gata - base, [1.6, 0])  # on the other strand
    np.testing.assert_allclose(ets - base, [1.2, 1.2])
    np.testing.assert_allclose(ap1 - base, [1.8, -0.6])
    np.testing.assert_allclose(two - base, [1.8, 1.8])


def test_a_chromosome_of_the_twin_is_tested_beside_folds_of_the_rest(cached: Path) -> None:
    chosen = ("dataset.test_fold=chrX", "dataset.folds=10", "dataset.fold=3")
    split = build_dataset(compose("dataset=simulated_starrseq", *chosen, "+dataset.fold_column=seqnames")).read()
    assert split.test is not None
    assert set(split.test.fold) == {"chrX"}
    assert len(split.test) == 800
    assert 100 < len(split.validation) < 600
    assert not told_of(split.train, split.validation).any()


def test_the_twin_is_split_as_the_real_table_is(cached: Path) -> None:
    settings = compose("dataset=simulated_starrseq", "dataset.size=2000")
    assert is_simulated(settings)
    split = build_dataset(settings).read()
    assert split.simulated
    assert len(split.train) + len(split.validation) == 2000
    assert 150 < len(split.validation) < 260
    assert not any("stand in training" in warning for warning in split.warnings)
    chromosomes = compose(
        "dataset=simulated_starrseq", "dataset.size=2000", "dataset.fold=[chr2R]", "dataset.test_fold=chrX"
    )
    split = build_dataset(chromosomes).read()
    assert set(split.validation.fold) == {"chr2R"}
    assert split.test is not None
    assert set(split.test.fold) == {"chrX"}
    assert set(split.train.fold) == {"chr2L", "chr3L", "chr3R"}
    metrics = run(config("dataset.size=400", "training.epochs=1"), cached / "run", show_progress=False)
    assert metrics["simulated"] is True
    assert list(metrics["tasks"]) == list(TASKS)


# the real sample


@pytest.fixture
def real(real_data: Path) -> Path:
    path = real_data / "drosophila" / "starrseq_train.tsv"
    if not path.exists():
        pytest.skip(f"no {path}")
    return path


def test_the_real_sample_is_held_out_by_blocks(real: Path, cached: Path) -> None:
    split = split_of(real)
    train, validation = places(split.train, real), places(split.validation, real)
    assert len(train) + len(validation) == 1000
    assert 60 < len(validation) < 140
    assert overlapping(validation, train) == 0
    assert split.train.tasks == TASKS
    reverse = places(split.train, real).ID.str.contains("_-_").to_numpy()
    np.testing.assert_array_equal(split.train.columns["is_reverse"], reverse)
    assert 0.4 < reverse.mean() < 0.6
    both = split_of(real, f"dataset.validation={real.with_name('starrseq_val.tsv')}")
    assert (len(both.train), len(both.validation)) == (1000, 1000)
    leak = overlapping(places(both.validation, real.with_name("starrseq_val.tsv")), places(both.train, real))
    said = [warning for warning in both.warnings if "stand in training" in warning]
    assert said
    assert int(said[0].split()[0]) >= leak > 0


def test_which_rows_of_the_real_sample_training_tells_of(real: Path, cached: Path) -> None:
    val = real.with_name("starrseq_val.tsv")
    split = split_of(real, f"dataset.validation={val}")
    told = told_of(split.train, split.validation)
    assert (told.dtype, told.shape, told.sum()) == (np.dtype(bool), (1000,), 60)
    one, other = places(split.validation, val), places(split.train, real)
    by_hand = [overlapping(one.iloc[[row]], other) for row in range(len(one))]
    assert ((np.array(by_hand) > 0) <= told).all()


def test_the_real_sample_as_a_pair_and_by_a_test_chromosome(real: Path, cached: Path) -> None:
    table = pd.read_csv(real, sep="\t")
    pair = write_pair(cached, table)
    for fold in (0, 9):
        chosen = (
            "dataset.fold_column=seqnames",
            "dataset.folds=10",
            "dataset.test_fold=chrXHet",
            f"dataset.fold={fold}",
        )
        one, other = split_of(real, *chosen), split_of(pair, *chosen)
        assert one.test is not None
        assert other.test is not None
        assert len(one.test) == len(other.test) == (table.seqnames == "chrXHet").sum()
        assert one.validation.sequences.to_strings() == other.validation.sequences.to_strings()
        assert not told_of(one.train, one.validation).any()


def test_several_folds_are_held_out_by_the_command_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["first.channels=8", "core.widths=[8]", "final.channels=8", "training.epochs=1", "training.batch_size=64"]
    split = ["dataset.size=400", "dataset.fold=[chr2R,chr3L]", "dataset.test_fold=[chr2L]", "sweep=lists"]
    assert main(["train", "experiment=starrseq_small", *small, *split]) == 0
    [run_folder] = (tmp_path / "runs" / "lists").iterdir()
    assert run_folder.name.endswith("+tchr2Lfchr2R-chr3L")
    assert json.loads((run_folder / "metrics.json").read_text())["test"]["n"] > 0
