"""Any column of a table, from the file to the part that asks for it, in training and at prediction; and the tasks that
live on columns: profiles, and expression within groups."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from conftest import compose, random_strings, reverse_complement, table_dataset
from scipy.spatial.distance import jensenshannon
from scipy.stats import multinomial, pearsonr, spearmanr
from sklearn.metrics import r2_score
from torch import Tensor, nn

import prixfixe
from prixfixe.cli import main
from prixfixe.common.errors import ContractError, InputError
from prixfixe.contract import (
    Batch,
    FinalBlock,
    GroupedRecipe,
    InputSpec,
    Measurements,
    Prediction,
    Samples,
    ScalarFinalBlock,
    Sequences,
    TargetSpec,
    one_hot,
)
from prixfixe.data.columns import Mapped, column_sources
from prixfixe.data.datasets import Table
from prixfixe.data.prepared import prepare
from prixfixe.data.tables import read_measurements
from prixfixe.networks.network import build
from prixfixe.tasks.grouped import GroupedExpression
from prixfixe.tasks.profile import Profile
from prixfixe.training import keeper
from prixfixe.training.build import build_recipe, build_task
from prixfixe.training.experiment import run
from prixfixe.training.gradients import backward
from prixfixe.training.processes import Processes

HERE = __name__
ROWS, LENGTH, POSITIONS = 60, 40, 1000


class Noted(ScalarFinalBlock):
    """Pools, and reads a number, several numbers and a protein; the class notes what it was given."""

    requires = ("gc", "lives", "protein")
    given: list[Batch] = []  # noqa: RUF012

    def __init__(self, inputs: InputSpec, targets: TargetSpec) -> None:
        super().__init__(targets)
        self.embedding = nn.Embedding(21, 4)
        self.dense = nn.Linear(inputs.channels + 1 + 2 + 4, len(targets.tasks))

    def forward(self, features: Tensor, gc: Tensor, lives: Tensor, protein: Tensor) -> Prediction:
        if features.device.type != "meta":
            Noted.given.append({"gc": gc, "lives": lives, "protein": protein})
        second = self.embedding(protein.int()).mean(dim=1)
        return self.to_units(self.dense(torch.cat([features.mean(dim=2), gc[:, None], lives, second], dim=1)))

    def loss(self, prediction: Prediction, batch: Batch) -> Tensor:
        return F.mse_loss(self.standardised(prediction.expression), self.standardised(batch["y"]))


class OfGene(ScalarFinalBlock):
    """Pools, and adds what it has learned of a row's gene; the class notes what it was given."""

    requires = ("gene", "gc")
    given: ClassVar[list[tuple[Tensor, Tensor]]] = []

    def __init__(self, inputs: InputSpec, targets: TargetSpec) -> None:
        super().__init__(targets)
        self.embed = nn.Embedding(len(targets.columns["gene"].names), 1)
        self.dense = nn.Linear(inputs.channels, 1)

    def forward(self, features: Tensor, *, gene: Tensor, gc: Tensor) -> Prediction:
        if not gene.is_meta:
            self.given.append((gc, gene))
        return self.to_units(self.dense(features.mean(-1)) + self.embed(gene))

    def loss(self, prediction: Prediction, batch: Batch) -> Tensor:
        return F.mse_loss(self.standardised(prediction.expression), self.standardised(batch["y"]))


class ProfileAndCount(FinalBlock):
    """(B, C, L) -> logits of 1,000 positions, and the log of their sum."""

    def __init__(self, inputs: InputSpec, targets: TargetSpec) -> None:
        super().__init__()
        self.weight = targets.constants["count_weight"]
        self.profile = nn.Linear(inputs.channels * inputs.length, int(targets.constants["positions"]))
        self.count = nn.Linear(inputs.channels, 1)

    def forward(self, features: Tensor) -> Prediction:
        return Prediction(
            profile=self.profile(features.flatten(1)), log_counts=self.count(features.mean(dim=2)).squeeze(-1)
        )

    def loss(self, prediction: Prediction, batch: Batch) -> Tensor:
        counts = batch["counts"]
        total = counts.sum(dim=1)
        ways = torch.lgamma(total + 1) - torch.lgamma(counts + 1).sum(dim=1)
        likelihood = -ways - (counts * prediction["profile"].log_softmax(-1)).sum(dim=1)
        return (likelihood + self.weight * (prediction["log_counts"] - total.log1p()).square()).mean()


class People(GroupedRecipe):
    """One-hot DNA; four rows of one group stand together."""

    unit = 4

    def __init__(self, *, length: int) -> None:
        self.inputs = InputSpec(4, length)

    def encode(self, samples: Samples, rows: Tensor, reverse: Tensor, generator: torch.Generator | None) -> Batch:
        return {"x": one_hot(samples.codes[rows], 4)}


class Differences(ScalarFinalBlock):
    """The mean squared error of the differences of all pairs within four rows."""

    def __init__(self, inputs: InputSpec, targets: TargetSpec) -> None:
        super().__init__(targets)
        self.dense = nn.Linear(inputs.channels, 1)

    def forward(self, features: Tensor) -> Prediction:
        return self.to_units(self.dense(features.mean(dim=2)))

    def pairs(self, values: Tensor) -> Tensor:
        """(B,) -> (units, 4, 4)."""
        values = values[: len(values) // 4 * 4].reshape(-1, 4)
        return values[:, :, None] - values[:, None, :]

    def size(self, batch: Batch) -> int:
        return len(batch["y"]) // 4 * 16

    def loss(self, prediction: Prediction, batch: Batch) -> Tensor:
        guess, truth = (self.standardised(values).squeeze(1) for values in (prediction.expression, batch["y"]))
        return (self.pairs(guess) - self.pairs(truth)).square().mean()


def proteins(count: int) -> list[str]:
    generator = np.random.default_rng(1)
    return [
        "".join(generator.choice(list("ACDEFGHIKLMNPQRSTVWY"), size=generator.integers(3, 9))) for _ in range(count)
    ]


def frame(rows: int = ROWS) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "sequence": random_strings(rows, LENGTH, seed=3),
            "expression": generator.normal(size=rows).round(4),
            "gc": generator.normal(size=rows).round(4),
            "h1": generator.normal(size=rows).round(4),
            "h2": generator.normal(size=rows).round(4),
            "gene": [f"gene{row % 5}" for row in range(rows)],
            "protein": proteins(rows),
            "name": [f"w{row}_{'-' if row % 3 else '+'}_x" for row in range(rows)],
        }
    )


COLUMNS: dict[str, Any] = {
    "gc": "number",
    "lives": ["h1", "h2"],
    "gene": "group",
    "protein": "protein",
    "is_reverse": {"column": "name", "contains": "_-_"},
    "profile": "*.npy",
}


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRIXFIXE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def write(path: Path, data: pd.DataFrame) -> Path:
    data.to_csv(path, sep="\t", index=False)
    profile = np.random.default_rng(4).poisson(0.5, size=(len(data), POSITIONS)).astype(np.int32)
    profile[:, 0] = np.arange(len(data))  # says which row it is of
    np.save(path.with_suffix(".npy"), profile)
    return path


def dataset(path: Path, **columns: Any) -> dict[str, Any]:
    return table_dataset(path, expression="expression", columns=columns or COLUMNS)


def config(path: Path, *overrides: str, final: str, task: str = "expression", **training: Any) -> dict[str, Any]:
    small = ("first=conv", "first.channels=8", "core=efficientnet", "core.widths=[8]")
    composed = compose(f"task={task}", "recipe=plain", f"recipe.length={LENGTH}", *small, *overrides)
    settings = {"device": "cpu", "epochs": 2, "batch_size": 8, **training}
    composed["training"] |= settings
    return {**composed, "dataset": dataset(path), "final": {"_target_": f"{HERE}.{final}"}}


# from the file


@pytest.mark.parametrize("kind", ["tsv", "parquet"])
def test_columns_are_those_of_their_rows_whatever_is_left_out(kind: str, cached: Path) -> None:
    data = frame()
    data.loc[[3, 10], "expression"] = np.nan
    data.loc[3, "gc"] = np.nan  # of a row that is left out: not missed
    path = write(cached / "table.tsv", data)
    if kind == "parquet":
        path = cached / "table.parquet"
        data.to_parquet(path)
    kept = np.setdiff1d(np.arange(ROWS), [3, 10])
    fresh = read_measurements(path, expression="expression", columns=column_sources(COLUMNS))
    for found in (fresh, *(prepare(path, {"expression": "expression", "columns": COLUMNS})[0] for _ in range(2))):
        columns = found.columns
        np.testing.assert_array_equal(columns["gc"], data.gc[kept].to_numpy(np.float32))
        np.testing.assert_array_equal(columns["lives"], data.loc[kept, ["h1", "h2"]].to_numpy(np.float32))
        assert columns["gene"].tolist() == data.gene[kept].tolist()
        assert columns["protein"].to_strings() == data.protein[kept].tolist()
        assert columns["is_reverse"].tolist() == data.name[kept].str.contains("_-_").tolist()
        assert isinstance(columns["profile"], Mapped)
        assert isinstance(columns["profile"].array, np.memmap)
        assert columns["profile"].shape == (58, POSITIONS)
        np.testing.assert_array_equal(columns["profile"][:][:, 0], kept)
        some = found[np.array([20, 5])]
        np.testing.assert_array_equal(some.columns["profile"][:][:, 0], kept[[20, 5]])
        assert some.columns["protein"].to_strings() == data.protein[kept[[20, 5]]].tolist()


def test_what_an_array_holds_is_part_of_the_data(cached: Path) -> None:
    path = write(cached / "table.tsv", frame())
    options = {"expression": "expression", "columns": COLUMNS}
    before = prepare(path, options)[1]
    np.save(path.with_suffix(".npy"), np.ones((ROWS, 3)))
    found, after = prepare(path, options)
    assert after != before
    assert found.columns["profile"].shape == (ROWS, 3)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("gc", "", r"table\.tsv:6: the column gc is empty: dataset.columns needs it"),
        ("gc", "NA", r"table\.tsv:6: the column gc is NA"),
        ("h2", "high", r"table\.tsv:6: the column h2 is 'high', no finite number"),
        ("h2", "inf", "the column h2 is 'inf', no finite number"),
        ("gc", "1e300", "the column gc is '1e300', no finite number that float32 holds"),
        ("gene", "", r"table\.tsv:6: the column gene is empty"),
        ("protein", "ACB", r"table\.tsv:6: position 3 of the column protein is 'B', no amino acid"),
        ("protein", "", r"table\.tsv:6: the column protein is empty"),
    ],
)
def test_a_cell_that_cannot_be_used_is_named(column: str, value: str, message: str, cached: Path) -> None:
    data = frame().astype(object)
    data.loc[4, column] = value
    path = write(cached / "table.tsv", data)
    with pytest.raises(InputError, match=message):
        prepare(path, {"expression": "expression", "columns": COLUMNS})


def test_columns_and_files_that_are_not_there_are_named(cached: Path) -> None:
    path = write(cached / "table.tsv", frame())

    def read(**columns: Any) -> Measurements:
        return prepare(path, {"expression": "expression", "columns": columns})[0]

    with pytest.raises(InputError, match=r"table\.tsv has no columns tata, h9, which dataset\.columns asks for"):
        read(tata="number", lives=["h1", "h9"])
    with pytest.raises(InputError, match="there is no such file"):
        read(profile="missing.npy")
    np.save(cached / "short.npy", np.ones((59, 2)))
    with pytest.raises(InputError, match=r"short\.npy has 59 rows, and .*table\.tsv 60"):
        read(profile=str(cached / "short.npy"))
    np.save(cached / "words.npy", np.array(["a"] * ROWS))
    with pytest.raises(InputError, match=r"words\.npy holds no rows of numbers"):
        read(profile=str(cached / "words.npy"))
    (cached / "none.npy").write_text("no array")
    with pytest.raises(InputError, match=r"none\.npy is no array"):
        read(profile=str(cached / "none.npy"))
    for columns in ({"x": "number"}, {"a b": "number"}, {"gc": "numeric"}, {"gc": []}, {"gc": {"column": "h1"}}):
        with pytest.raises(InputError, match=r"dataset\.columns\."):
            column_sources(columns)
    assert read(motif={"column": "gc", "kind": "number"}).columns["motif"].dtype == np.float32


# to the part that asks for it


def rows_of(split_part: Measurements) -> dict[str, np.ndarray]:
    return {name: np.asarray(split_part.columns[name]) for name in ("gc", "lives")}


def test_a_block_is_given_exactly_its_rows_and_predict_takes_the_same_columns(
    cached: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = frame()
    path = write(cached / "table.tsv", data)
    settings = config(path, final="Noted")
    split = Table(**{key: value for key, value in settings["dataset"].items() if key != "_target_"}).read()
    Noted.given.clear()
    run(settings, cached / "run", show_progress=False)
    of_number = {np.float32(value): row for row, value in enumerate(data.gc)}
    seen = set()
    for keys in Noted.given:
        if not keys["gc"].any():
            continue  # a dry run with zeros
        rows = [of_number[value] for value in keys["gc"].numpy()]
        np.testing.assert_array_equal(keys["lives"], data.loc[rows, ["h1", "h2"]].to_numpy(np.float32))
        width = split.train.columns["protein"].longest
        assert keys["protein"].shape[1] == width  # of the training rows, in every part
        wanted = Sequences.from_strings(
            [p[:width] for p in data.protein[rows]], split.train.columns["protein"].alphabet
        )
        np.testing.assert_array_equal(keys["protein"], wanted.padded(width))
        seen |= set(rows)
    assert seen == set(range(ROWS))

    model = prixfixe.load(cached / "run", device="cpu")
    given = {"gc": data.gc.to_numpy(), "lives": data[["h1", "h2"]].to_numpy(), "protein": data.protein.tolist()}
    whole = model.predict(data.sequence.tolist(), columns=given)
    some = model.predict(data.sequence.tolist()[7:9], columns={name: value[7:9] for name, value in given.items()})
    np.testing.assert_allclose(some, whole[7:9], rtol=1e-5)
    with pytest.raises(InputError, match=r"needs the columns gc, lives, protein .*: gc, protein are missing"):
        model.predict(data.sequence.tolist(), columns={"lives": given["lives"]})
    with pytest.raises(InputError, match=r"column lives has the shape \(60,\)"):
        model.predict(data.sequence.tolist(), columns={**given, "lives": data.h1.to_numpy()})
    with pytest.raises(InputError, match="column gc is not finite for sequence 3"):
        model.predict(data.sequence.tolist(), columns={**given, "gc": np.where(np.arange(ROWS) == 2, np.nan, data.gc)})
    with pytest.raises(InputError, match="column protein: sequence 1, position 1"):
        model.predict(data.sequence.tolist(), columns={**given, "protein": ["*"] * ROWS})

    monkeypatch.setattr("prixfixe.inference.predictor.ROWS", 16)
    monkeypatch.setattr("prixfixe.inference.predictor.BATCHES", 1)
    data.drop(columns="expression").to_csv(cached / "new.tsv", sep="\t", index=False)
    assert main(["predict", str(cached / "run"), str(cached / "new.tsv"), "--device", "cpu", "--batch-size", "16"]) == 0
    written = list(csv.DictReader(capsys.readouterr().out.splitlines(), delimiter="\t"))
    np.testing.assert_allclose([float(row["prediction"]) for row in written], whole, rtol=1e-4, atol=1e-6)
    command = ["evaluate", str(cached / "run"), str(cached / "table.tsv"), "--bootstrap", "0", "--format", "json"]
    for option in ([], ["--same-scale"]):
        assert main([*command, *option]) == 0
        (scores,) = json.loads(capsys.readouterr().out)["tasks"]
        assert scores["pearson_r"]["value"] == pytest.approx(pearsonr(data.expression, whole)[0], abs=1e-4)
    data.drop(columns=["gc", "h2"]).to_csv(cached / "less.tsv", sep="\t", index=False)
    assert main(["predict", str(cached / "run"), str(cached / "less.tsv"), "--device", "cpu"]) == 2
    assert "has no columns gc, h2" in capsys.readouterr().err
    assert main(["evaluate", str(cached / "run"), str(cached / "less.tsv"), "--bootstrap", "0"]) == 2
    assert "gc" in capsys.readouterr().err
    (cached / "new.fa").write_text(">a\nACGT\n")
    assert main(["predict", str(cached / "run"), str(cached / "new.fa"), "--device", "cpu"]) == 2
    assert "gc, lives, protein" in capsys.readouterr().err


def test_a_group_has_one_number_in_every_part_of_the_data(cached: Path) -> None:
    """Those of the training rows; of words, of which a part of the data may lack some, and at prediction."""
    data = frame()
    path = write(cached / "table.tsv", data)
    OfGene.given.clear()
    run(config(path, final="OfGene"), cached / "run", show_progress=False)
    gene_of = {np.float32(gc): gene for gc, gene in zip(data.gc, data.gene, strict=True)}
    numbers: dict[str, set[int]] = {}
    for gc, genes in OfGene.given:
        for value, number in zip(gc.numpy(), genes.tolist(), strict=True):
            numbers.setdefault(gene_of.get(value, "of a dry run"), set()).add(number)
    numbers.pop("of a dry run", None)
    assert numbers == {f"gene{number}": {number} for number in range(5)}
    model = prixfixe.load(cached / "run", device="cpu")
    sequences, gc = data.sequence.tolist(), data.gc.to_numpy()
    whole = model.predict(sequences, columns={"gc": gc, "gene": data.gene.to_numpy()})
    some = np.flatnonzero(data.gene == "gene3")
    alone = model.predict(
        [sequences[row] for row in some], columns={"gc": gc[some], "gene": data.gene.to_numpy()[some]}
    )
    np.testing.assert_allclose(alone, whole[some], rtol=1e-5)
    with pytest.raises(InputError, match="column gene holds gene9, which no training row has"):
        model.predict(sequences[:2], columns={"gc": gc[:2], "gene": np.array(["gene1", "gene9"])})


def test_a_column_that_nobody_has_is_named(cached: Path) -> None:
    settings = config(write(cached / "table.tsv", frame()), final="Noted")
    settings["dataset"] |= {"columns": {"gc": "number"}}
    with pytest.raises(ContractError, match=r"final block Noted needs lives .* the dataset has the columns gc"):
        run(settings, cached / "run", show_progress=False)


def test_millions_of_rows_with_columns_fit_into_memory(tmp_path: Path) -> None:
    """Rows of sequence, expression and a column, at most 400 bytes each beside the program's own: 6.7 million are under
    3 GB. In a process of its own, whose peak is its own."""
    if sys.platform != "linux":
        pytest.skip("ru_maxrss is in kB on Linux alone")
    rows, text = 200_000, tmp_path / "table.tsv"
    lines = [f"{s}\t{row / 7:.3f}\t{row % 9}\n" for row, s in enumerate(random_strings(rows // 100, 110))]
    text.write_text("sequence\texpression\tgc\n" + "".join(lines * 100))
    program = (
        "import resource, sys; from prixfixe.data.prepared import prepare\n"
        "prepare(sys.argv[2], {}, sys.argv[4]); before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "m, _ = prepare(sys.argv[1], {'columns': {'gc': 'number'}}, sys.argv[3])\n"
        "print(len(m), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / len(m))"
    )
    small = tmp_path / "small.tsv"
    small.write_text("sequence\texpression\n" + "".join(line.rpartition("\t")[0] + "\n" for line in lines))
    arguments = [str(text), str(small), str(tmp_path / "cache"), str(tmp_path / "other")]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    count, bytes_a_row = done.stdout.split()
    assert int(count) == rows
    assert float(bytes_a_row) < 400


# task=profile


def profile_config(cached: Path, *overrides: str, **training: Any) -> dict[str, Any]:
    path = cached / "table.tsv"
    if not path.exists():
        write(path, frame())
    return config(path, *overrides, final="ProfileAndCount", task="profile", **training)


def test_profiles_are_trained_and_scored_and_read_backwards_on_the_other_strand(cached: Path) -> None:
    settings = profile_config(cached, "recipe.reverse_complement=true")
    metrics = run(settings, cached / "run", show_progress=False)
    assert {"loss", "count_pearson_r", "count_spearman_rho", "profile_jsd"} <= metrics.keys()
    split = Table(**{key: value for key, value in settings["dataset"].items() if key != "_target_"}).read()
    recipe, task = build_recipe(settings), build_task(settings).fitted(split.train)
    samples = recipe.load(
        split.train.sequences, torch.device("cpu"), columns={"profile": split.train.columns["profile"]}
    )
    rows = torch.tensor([2, 5])
    generator = torch.Generator()
    forward = recipe.training_batch(samples, rows, task, generator)
    backward_batch = recipe.training_batch(samples, rows + len(samples), task, generator)
    counts = split.train.columns["profile"][rows.numpy()]
    np.testing.assert_array_equal(forward["counts"], counts)
    np.testing.assert_array_equal(backward_batch["counts"], counts[:, ::-1])
    np.testing.assert_array_equal(backward_batch["x"], forward["x"].flip(1, 2))
    model = prixfixe.load(cached / "run", device="cpu")
    strings = split.validation.sequences.to_strings()
    predicted = model.predict(strings)
    assert predicted.shape == (len(strings),)
    np.testing.assert_allclose(model.predict(list(map(reverse_complement, strings))), predicted, rtol=1e-4)
    kept = np.load(cached / "run" / "validation.npz")
    totals = split.validation.columns["profile"][:].sum(axis=1)
    np.testing.assert_allclose(kept["measured"], np.log1p(totals))
    np.testing.assert_allclose(kept["predicted"], predicted, rtol=1e-4)
    assert metrics["count_pearson_r"] == pytest.approx(pearsonr(np.log1p(totals), predicted).statistic, rel=1e-3)
    check_tracks(cached / "run", strings[:6], predicted[:6], cached)


def check_tracks(run: Path, strings: list[str], predicted: np.ndarray, folder: Path) -> None:
    """Expected counts as arrays and as a bigWig; where windows overlap, their mean."""
    import pybigtools

    width, windows = len(strings[0]), folder / "windows.fa"
    starts = [1000, 1000 + width // 2, 5000, 9000, 9000 + 2 * width, 20000]
    names = [f"chr{1 + row // 3}:{start}-{start + width}" for row, start in enumerate(starts)]
    windows.write_text("".join(f">{name}\n{string}\n" for name, string in zip(names, strings, strict=True)))
    command = ["predict", str(run), str(windows), "--device=cpu", "-o"]
    assert main([*command, str(folder / "p.npz")]) == 0
    arrays = np.load(folder / "p.npz")
    track = arrays["track"]
    assert arrays["names"].tolist() == names and track.shape[0] == 6
    np.testing.assert_allclose(arrays["predictions"], predicted, rtol=1e-4)
    np.testing.assert_allclose(track.sum(axis=1), np.expm1(predicted), rtol=1e-4)
    assert main([*command, str(folder / "p.bw")]) == 0
    bigwig = pybigtools.open(str(folder / "p.bw"))
    offset = (width - track.shape[1]) // 2
    expected: dict[tuple[str, int], list[float]] = {}
    for name, values in zip(names, track, strict=True):
        chrom, _, place = name.partition(":")
        for position, value in enumerate(values, int(place.split("-")[0]) + offset):
            expected.setdefault((chrom, position), []).append(value)
    assert max(map(len, expected.values())) == 2
    found = {}
    for chrom in bigwig.chroms():
        for start, stop, value in bigwig.records(chrom):
            found |= dict.fromkeys(((chrom, position) for position in range(start, stop)), value)
    assert found.keys() == expected.keys()
    for at, value in found.items():
        assert value == pytest.approx(np.mean(expected[at]), rel=1e-5)
    assert [path.name for path in folder.iterdir() if ".bw." in path.name] == []
    windows.write_text(f">enhancer\n{strings[0]}\n")
    assert main([*command, str(folder / "q.bw")]) == 2 and not (folder / "q.bw").exists()


def profile_task(counts: np.ndarray, weight: float | None = None) -> tuple[Profile, Measurements]:
    sequences = Sequences.from_strings(["ACGT"] * len(counts))
    rows = Measurements(sequences, np.zeros(len(counts)), columns={"profile": counts})
    fitted = Profile(select="loss", count_weight=weight).fitted(rows)
    assert isinstance(fitted, Profile)
    return fitted, rows


def test_scores_of_profiles_equal_scipys() -> None:
    generator = np.random.default_rng(0)
    counts = generator.poisson(2.0, size=(30, 50)).astype(np.uint8)
    counts[4] = 0
    logits = generator.normal(size=(30, 50))
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    log_counts = generator.normal(4, 1, size=30)
    task, rows = profile_task(counts)
    found = task.score(rows, {"profile": log_probs, "log_counts": log_counts})
    totals = counts.sum(axis=1)
    weight = max(1.0, np.median(totals) / 10)
    likelihood = [multinomial.logpmf(c, n, np.exp(p)) for c, n, p in zip(counts, totals, log_probs, strict=True)]
    squared = (np.log1p(totals) - log_counts) ** 2
    assert found["loss"] == pytest.approx(np.mean(weight * squared - likelihood), rel=1e-9)
    assert found["count_pearson_r"] == pytest.approx(pearsonr(np.log1p(totals), log_counts).statistic)
    assert found["count_spearman_rho"] == pytest.approx(spearmanr(np.log1p(totals), log_counts).statistic)
    some = np.delete(np.arange(30), 4)
    distances = [jensenshannon(counts[row] / totals[row], np.exp(log_probs[row])) for row in some]
    assert found["profile_jsd"] == pytest.approx(np.median(distances))
    assert found["n"] == 30


def test_strands_and_ensembles_of_profiles_are_mixtures() -> None:
    task, _ = profile_task(np.ones((3, 5)))
    generator = np.random.default_rng(0)
    one, other = (np.log(generator.dirichlet(np.ones(5), size=3)) for _ in range(2))
    views = [Prediction(profile=torch.tensor(p), log_counts=torch.full((3,), c)) for p, c in ((one, 1.0), (other, 3.0))]
    strands = [{"reverse": torch.zeros(3, dtype=torch.bool)}, {"reverse": torch.ones(3, dtype=torch.bool)}]
    outputs = task.combine(views, strands)
    np.testing.assert_allclose(outputs["profile"].exp(), (np.exp(one) + np.exp(other)[:, ::-1]) / 2, rtol=1e-5)
    assert outputs["log_counts"].tolist() == [2, 2, 2]
    members = [{"profile": p, "log_counts": np.full(3, c)} for p, c in ((one, 1.0), (other, 3.0))]
    together = task.ensemble(members)
    np.testing.assert_allclose(np.exp(together["profile"]).sum(axis=1), 1)
    np.testing.assert_allclose(np.exp(together["profile"]), (np.exp(one) + np.exp(other)) / 2)


@pytest.mark.parametrize("bad", [-1.0, np.nan])
def test_profiles_that_are_no_counts_are_refused(bad: float) -> None:
    counts = np.ones((6, 4))
    counts[2, 1] = bad
    with pytest.raises(InputError, match="profile of training row 3 holds"):
        profile_task(counts)
    with pytest.raises(InputError, match=r"counts of shape \(rows, positions\)"):
        profile_task(np.ones(6))
    with pytest.raises(InputError, match="every training profile is empty"):
        profile_task(np.zeros((6, 4)))
    task, rows = profile_task(np.ones((6, 4)))
    with pytest.raises(InputError, match="profile of held-out row 3 holds"):
        task.check(replace(rows, columns={"profile": counts}))
    with pytest.raises(InputError, match=r"has the shape \(6, 5\), and that of training rows 4 positions"):
        task.check(replace(rows, columns={"profile": np.ones((6, 5))}))


def test_profiles_of_a_table_that_measures_nothing_else(cached: Path) -> None:
    settings = profile_config(cached)
    settings["dataset"] = {**settings["dataset"], "expression": []}
    metrics = run(settings, cached / "run", show_progress=False)
    assert metrics["n"] > 0 and np.isfinite(metrics["loss"])
    assert len(prixfixe.load(cached / "run", device="cpu").predict(["ACGTACGT"])) == 1


@pytest.mark.parametrize("kind", ["dna", ".npy"])
def test_a_flag_is_one_number(kind: str, cached: Path) -> None:
    write(cached / "table.tsv", frame())
    column = str(cached / "several.npy") if kind.endswith(".npy") else {"column": "sequence", "kind": "dna"}
    np.save(cached / "several.npy", np.zeros((len(frame()), 3)))
    settings = config(cached / "table.tsv", "recipe.flags=[several]", final="ProfileAndCount")
    settings |= {"final": compose()["final"], "dataset": {**settings["dataset"], "columns": {"several": column}}}
    with pytest.raises(InputError, match=r"recipe.flags: the column several has values of shape \(\d+,\) a row"):
        run(settings, cached / "run", show_progress=False)


# task=grouped_expression


def grouped_config(cached: Path, **training: Any) -> dict[str, Any]:
    path = cached / "table.tsv"
    if not path.exists():
        write(path, frame())
    settings = config(path, "task.group=gene", final="Differences", task="grouped_expression", **training)
    settings["dataset"]["columns"] = {"group": {"column": "gene", "kind": "group"}}
    settings["task"]["group"] = "group"
    return {**settings, "recipe": {"_target_": f"{HERE}.People", "length": LENGTH}}


def people(groups: np.ndarray) -> Samples:
    recipe = People(length=LENGTH)
    sequences = Sequences.from_strings(random_strings(len(groups), LENGTH))
    return recipe.load(sequences, torch.device("cpu"), np.zeros(len(groups)), columns={"group": groups})


def test_a_step_holds_whole_units_of_one_group() -> None:
    recipe = People(length=LENGTH)
    groups = np.repeat(["a", "b", "c", "d"], [17, 8, 7, 3])
    samples = people(groups)
    order = recipe.epoch(samples, 10, torch.Generator().manual_seed(0))  # rounded down to 8
    assert len(order) == recipe.steps(samples, 10) == 2 + 1 + 1 + 1
    for rows in order:
        assert len(set(groups[rows])) == 1
        assert len(set(rows.tolist())) == len(rows)
    assert sorted(len(rows) for rows in order) == [3, 4, 8, 8, 8]
    again = recipe.epoch(samples, 10, torch.Generator().manual_seed(1))
    assert [rows.tolist() for rows in again] != [rows.tolist() for rows in order]
    batch = {"x": torch.arange(16), "y": torch.arange(16)}
    for parts in (1, 2, 3, 4, 9):
        pieces = recipe.cut(batch, parts)
        assert all(len(piece["x"]) % 4 == 0 and len(piece["x"]) for piece in pieces)
        assert torch.equal(torch.cat([piece["x"] for piece in pieces]), batch["x"])
        shares = [Processes(rank, parts).part(recipe, batch) for rank in range(parts)] if parts <= 4 else []
        assert not shares or torch.equal(torch.cat([share["y"] for share in shares]), batch["y"])
    with pytest.raises(Exception, match="4 x 4 rows that are never torn apart, too few for 9 processes"):
        Processes(0, 9).part(recipe, batch)
    with pytest.raises(InputError, match=r"batch_size=3: recipe People never tears 4 rows apart"):
        recipe.steps(samples, 3)


def gradients(network: Any, recipe: Any, batch: Batch, micro_batch: int | None) -> list[Tensor]:
    network.zero_grad()
    backward(network, recipe, batch, micro_batch, torch.float32, 0)
    return [p.grad.clone() for p in network.parameters()]


@pytest.mark.parametrize("kind", ["grouped", "profile"])
def test_any_number_of_whole_units_gives_the_gradient_of_one_step(kind: str, cached: Path) -> None:
    settings = grouped_config(cached) if kind == "grouped" else profile_config(cached)
    split = Table(**{key: value for key, value in settings["dataset"].items() if key != "_target_"}).read()
    recipe, task = build_recipe(settings), build_task(settings).fitted(split.train)
    network = build(recipe, settings, task).double().eval()
    samples = recipe.load(
        split.train.sequences, torch.device("cpu"), np.asarray(split.train.expression), columns=split.train.columns
    )
    batch = recipe.training_batch(samples, torch.arange(24), task, torch.Generator())
    batch = {key: value.double() if value.is_floating_point() else value for key, value in batch.items()}
    whole = gradients(network, recipe, batch, None)
    assert any(gradient.abs().max() > 1e-6 for gradient in whole)
    for micro_batch in (4, 5, 8, 12, 20):
        for one, other in zip(whole, gradients(network, recipe, batch, micro_batch), strict=True):
            torch.testing.assert_close(other, one, rtol=1e-6, atol=1e-9)
    total = network.sizes(batch)
    summed = [torch.zeros_like(gradient) for gradient in whole]
    for rank in range(3):
        network.zero_grad()
        backward(network, recipe, Processes(rank, 3).part(recipe, batch), None, torch.float32, 0, step_sizes=total)
        summed = [sum_ + p.grad for sum_, p in zip(summed, network.parameters(), strict=True)]
    for one, other in zip(whole, summed, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-6, atol=1e-9)


def test_scores_within_groups_equal_scikit_learns_and_scipys() -> None:
    generator = np.random.default_rng(0)
    groups = np.array(["b"] * 6 + ["a"] * 5 + ["alike"] * 4 + ["two"] * 2 + ["flat"] * 3)[
        (order := generator.permutation(20))
    ]
    measured, predicted = generator.normal(size=(2, 20))
    measured[groups == "alike"] = 1.5
    predicted[groups == "flat"] = 0.25
    missing = int(np.flatnonzero(groups == "b")[2])
    measured[missing] = np.nan
    assert len(order) == 20
    task = GroupedExpression(
        select="r2", group="gene", bins={"number": 18, "shift": 0.5, "sd": 0.5, "range": None}, sorted_into=None
    )
    rows = Measurements(Sequences.from_strings(["ACGT"] * 20), measured, columns={"gene": groups})
    found = task.score(rows, {"expression": predicted})
    each = []
    for name in ("a", "b", "flat"):
        own = (groups == name) & ~np.isnan(measured)
        r = 0.0 if name == "flat" else pearsonr(measured[own], predicted[own]).statistic
        each.append((r2_score(measured[own], predicted[own]), r))
    assert found["r2"] == pytest.approx(np.mean([one for one, _ in each]))
    assert found["pearson_r"] == pytest.approx(np.mean([one for _, one in each]))
    assert found["groups"] == 3
    assert found["n"] == 5 + 5 + 3
    predicted[int(np.flatnonzero(groups == "a")[0])] = np.nan
    broken = task.score(rows, {"expression": predicted})
    assert np.isnan(broken["r2"])
    assert np.isnan(broken["pearson_r"])


def test_a_run_is_evaluated_within_the_groups_of_a_table(cached: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(grouped_config(cached), cached / "run", show_progress=False)
    assert main(["evaluate", str(cached / "run"), str(cached / "table.tsv"), "--bootstrap", "20"]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines() if line} >= {"R2", "Pearson"}


def test_groups_are_needed_and_named(cached: Path) -> None:
    settings = grouped_config(cached)
    settings["dataset"]["columns"] = {"gc": "number"}
    with pytest.raises(InputError, match="needs the column group of groups"):
        run(settings, cached / "run", show_progress=False)
    settings |= {
        key: value for key, value in config(cached / "table.tsv", final="Differences").items() if key == "task"
    }
    with pytest.raises(InputError, match="recipe People needs the column group of groups"):
        run(settings, cached / "run", show_progress=False)


# both


@pytest.mark.parametrize("kind", ["grouped", "profile"])
def test_a_run_that_is_stopped_goes_on_with_the_same_weights(
    kind: str, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = grouped_config if kind == "grouped" else profile_config
    settings = make(cached, epochs=3, checkpoint_minutes=0)
    whole = run(settings, cached / "whole", show_progress=False)
    steps = whole["steps"]
    after_step = keeper.Keeper.after_step

    for stop in (2, steps - 2):

        def stopped(self: Any, *arguments: Any, stop: int = stop) -> None:
            after_step(self, *arguments)
            if self.account.step == stop:
                raise KeyboardInterrupt

        monkeypatch.setattr(keeper.Keeper, "after_step", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(settings, cached / "stopped", show_progress=False)
    monkeypatch.setattr(keeper.Keeper, "after_step", after_step)
    again = run(settings, cached / "stopped", show_progress=False)
    events = [json.loads(line)["event"] for line in (cached / "stopped" / "log.jsonl").read_text().splitlines()]
    assert events.count("resume") == 2
    one, other = ((cached / name / "weights.safetensors").read_bytes() for name in ("whole", "stopped"))
    assert one == other
    scores = [score["name"] for score in whole["scores"]]
    assert [again[name] for name in scores] == [whole[name] for name in scores]
    histories = [pd.read_csv(cached / name / "history.csv").drop(columns="seconds") for name in ("whole", "stopped")]
    pd.testing.assert_frame_equal(*histories)
