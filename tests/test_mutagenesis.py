"""In-silico mutagenesis: every mutant is what `predict` says of the same string, for recipes, tasks and ensembles."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ONE_OF_EACH, compose, demo, random_strings, untrained_run

import prixfixe
from prixfixe.cli import main
from prixfixe.common.errors import InputError
from prixfixe.inference import mutagenesis, predictor
from prixfixe.inference.predictor import Predictor

SMALL = ("first.channels=8", "core.widths=[8]")
STRINGS = [random_strings(1, 40)[0], "acgtNNacgt", random_strings(1, 33, seed=1)[0]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = demo("bhi", "conv", "efficientnet", "soft_bins", *SMALL)
    return untrained_run(tmp_path_factory.mktemp("runs") / "one", config)


@pytest.fixture(scope="module")
def two_tasks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("two")
    config = demo("autosome", "conv", "efficientnet", "mlp", *SMALL)
    return [untrained_run(folder / str(seed), config, ("Dev", "Hk"), seed=seed) for seed in range(3)]


def by_hand(model: Predictor, string: str) -> dict[tuple[int, str, str], np.ndarray]:
    """(position, reference, alternative) -> members' effects, (members, tasks), one mutant after the other."""
    string, found = string.upper(), {}
    reference = model.predict_members([string])[:, 0]
    for position, base in enumerate(string):
        for other in "ACGT":
            if base != "N" and other != base:
                mutant = string[:position] + other + string[position + 1 :]
                found[position, base, other] = model.predict_members([mutant])[:, 0] - reference
    return found


@pytest.mark.parametrize("parts", ONE_OF_EACH, ids="+".join)
def test_each_effect_is_that_of_the_mutant_by_itself(parts: tuple[str, ...], tmp_path: Path) -> None:
    model = prixfixe.load(untrained_run(tmp_path / "run", demo(*parts)), device="cpu")
    table = model.mutate(STRINGS, batch_size=16)
    assert list(table.columns) == ["name", "position", "reference", "alternative", "effect"]
    assert len(table) == 3 * sum(len(string) - string.count("N") for string in STRINGS)
    for name, string in enumerate(STRINGS):
        rows = table[table.name == str(name)]
        expected = by_hand(model, string)
        assert list(zip(rows.position, rows.reference, rows.alternative, strict=True)) == list(expected)
        np.testing.assert_allclose(rows.effect, [value[0] for value in expected.values()], atol=2e-5)
        alone = model.mutate([string], batch_size=16)  # several unlike sequences: each as in its own run
        np.testing.assert_allclose(rows.effect, alone.effect, atol=2e-5)


def test_several_tasks_and_members(two_tasks: list[Path]) -> None:
    model = prixfixe.load(two_tasks, device="cpu")
    table = model.mutate(STRINGS[:1])
    expected = by_hand(model, STRINGS[0])
    assert list(table.columns) == ["name", "position", "reference", "alternative", "task", "effect", "spread"]
    assert table.task.tolist() == ["Dev", "Hk"] * len(expected)
    stacked = np.stack(list(expected.values()))  # (rows, members, tasks)
    np.testing.assert_allclose(table.effect, stacked.mean(axis=1).ravel(), atol=2e-5)
    np.testing.assert_allclose(table.spread, stacked.std(axis=1, ddof=1).ravel(), atol=2e-5)


def test_arrays_and_both_published_means(run: Path) -> None:
    model = prixfixe.load(run, device="cpu")
    first, second, _ = model.mutagenesis(STRINGS)
    assert first.effects.shape == (40, 4, 1)
    rows = np.arange(40)
    assert (first.effects[rows, first.letters] == 0).all()
    others = [[first.effects[row, base, 0] for base in range(4) if base != first.letters[row]] for row in rows]
    np.testing.assert_allclose(first.mean_effects(3)[:, 0], np.mean(others, axis=1))
    np.testing.assert_allclose(first.mean_effects(4), 0.75 * first.mean_effects(3))
    np.testing.assert_allclose(first.attribution(), -first.mean_effects(4))
    assert np.isnan(second.effects[4:6]).all() and not np.isnan(second.effects[[0, 9]]).any()
    np.testing.assert_allclose(first.reference, model.predict(STRINGS[:1]), rtol=1e-6)


def test_chunks_cut_through_sequences(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = prixfixe.load(run, device="cpu")
    whole = model.mutate(STRINGS, batch_size=32)
    monkeypatch.setattr(predictor, "ROWS", 1)
    monkeypatch.setattr(predictor, "BATCHES", 1)
    sizes = []
    predict = Predictor.predict_member_chunks

    def noted(self, chunks, **options):
        return predict(self, (sizes.append(len(chunk)) or chunk for chunk in chunks), **options)

    monkeypatch.setattr(Predictor, "predict_member_chunks", noted)
    pd.testing.assert_frame_equal(model.mutate(STRINGS, batch_size=7), whole, rtol=1e-3, atol=1e-5)
    assert set(sizes[:-1]) == {7} and sum(sizes) == len(whole) + len(STRINGS)


def test_a_column_that_the_model_needs_stays_with_its_row(tmp_path: Path) -> None:
    import torch

    from prixfixe.contract import Spec

    config = compose(
        "recipe=plain", "recipe.length=40", "recipe.flags=[is_reverse]", "first=conv", "core=efficientnet",
        "final=task_heads", *SMALL, "dataset=table", "dataset.path=x",
        "+dataset.columns.is_reverse=number",
    )  # fmt: skip
    columns = {"is_reverse": Spec((), torch.float32)}
    run = untrained_run(tmp_path / "run", config, columns=columns)
    model = prixfixe.load(run, device="cpu")
    two = [STRINGS[0], STRINGS[0]]
    table = model.mutate(two, columns={"is_reverse": [0.0, 1.0]})
    first, second = (table[table.name == name].effect.to_numpy() for name in "01")
    np.testing.assert_allclose(first, model.mutate(two[:1], columns={"is_reverse": [0.0]}).effect, atol=2e-5)
    assert np.abs(first - second).max() > 1e-3
    with pytest.raises(InputError, match="is_reverse is missing"):
        model.mutate(two)
    table_file = tmp_path / "t.tsv"
    table_file.write_text(f"sequence\tis_reverse\n{two[0]}\t0\n{two[1]}\t1\n")
    assert main(["mutate", str(run), str(table_file), "--device=cpu", "-o", str(tmp_path / "m.tsv")]) == 0
    written = pd.read_csv(tmp_path / "m.tsv", sep="\t")
    np.testing.assert_allclose(written.effect, table.effect, rtol=1e-4, atol=1e-6)


def test_the_command_writes_tables_and_arrays(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    fasta = tmp_path / "s.fa"
    fasta.write_text("".join(f">{name}\n{string}\n" for name, string in zip("abc", STRINGS, strict=True)))
    command = ["mutate", str(run), str(fasta), "--device=cpu"]
    table = prixfixe.load(run, device="cpu").mutate(STRINGS)
    assert main([*command, "-o", str(tmp_path / "m.csv"), "--plot", str(tmp_path / "m.png")]) == 0
    written = pd.read_csv(tmp_path / "m.csv")
    assert written.name.map(dict(zip("abc", "012", strict=True))).tolist() == table.name.tolist()
    np.testing.assert_allclose(written.effect, table.effect, rtol=1e-5)
    assert (tmp_path / "m.png").stat().st_size > 10_000
    assert f"{len(table):,} rows" in capsys.readouterr().err
    assert main([*command, "-o", str(tmp_path / "m.npz")]) == 0
    arrays = np.load(tmp_path / "m.npz")
    assert arrays["names"].tolist() == ["a", "b", "c"] and arrays["effects_1"].shape == (10, 4)
    capsys.readouterr()
    assert main([*command, "--mean", "3"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["name", "position", "reference", "effect"] and len(lines) == 1 + len(table) // 3
    np.testing.assert_allclose(float(lines[1][3]), table.effect[:3].mean(), rtol=1e-5)


def test_bad_input_leaves_nothing(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    good, bad, output = tmp_path / "good.txt", tmp_path / "bad.txt", tmp_path / "out" / "m.tsv"
    good.write_text("ACGT\n")
    bad.write_text("ACGT\nACXT\n")
    for arguments, message in (
        ([str(bad), "-o", str(output)], "position 3 of the sequence is 'X'"),
        ([str(good), "-o", str(tmp_path / "m.doc")], "its ending says no format"),
        ([str(good), "--plot", str(tmp_path / "m.txt")], "--plot"),
        ([str(good), "-o", str(tmp_path / "m.npz"), "--mean", "3"], "--mean is of a table"),
        ([str(run), str(good)], "a run is named twice"),
    ):
        assert main(["mutate", str(run), *arguments]) == 2
        out, err = capsys.readouterr()
        assert message in err and out == "" and err.count("\n") == 1
    assert not output.parent.exists()


def test_memory_does_not_grow_with_the_file(run: Path, tmp_path: Path) -> None:
    code = (
        "import resource, sys; from prixfixe.cli import main; main(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    peaks = []
    for count in (2, 60):
        (tmp_path / "t.txt").write_text("".join(f"{string}\n" for string in random_strings(count, 40)))
        arguments = ["mutate", str(run), str(tmp_path / "t.txt"), "--device=cpu", "-o", str(tmp_path / "m.tsv")]
        process = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        peaks.append(int(process.stderr.split()[-1]) / 1024)
    assert peaks[1] - peaks[0] < 60, peaks  # MB


def test_substitutions_come_in_alphabetical_order() -> None:
    found = mutagenesis.substitutions(np.array([0, 3, 1], dtype=np.uint8))
    assert found.tolist() == [1, 2, 3, 0, 1, 2, 0, 2, 3]


def test_no_sequences_give_an_empty_table(run: Path, two_tasks: list[Path]) -> None:
    for runs in ([run], two_tasks):
        model = prixfixe.load(runs, device="cpu")
        assert list(model.mutate([]).columns) == list(model.mutate(STRINGS[1:2]).columns)
        assert len(model.mutate([])) == 0
