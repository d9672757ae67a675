"""`prixfixe predict`: the text that it writes, chunk by chunk, and nothing of it where the input is bad."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import demo, random_strings, untrained_run

import prixfixe
from prixfixe.cli import main
from prixfixe.common.errors import InputError
from prixfixe.common.table_writer import as_text
from prixfixe.data import fasta, streams
from prixfixe.data.sequences import Sequences
from prixfixe.inference.model import Model

STRINGS = [string[: 60 + row % 21] for row, string in enumerate(random_strings(100))]
SIZES = ("first.channels=8", "core.widths=[8]")
SMALL = demo("autosome", "conv", "efficientnet", "soft_bins", *SIZES)
NAMES = [f"promoter {row} é" for row in range(len(STRINGS))]


@pytest.fixture(scope="module")
def one_task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_run(tmp_path_factory.mktemp("runs") / "one", SMALL)


@pytest.fixture(scope="module")
def two_tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_run(
        tmp_path_factory.mktemp("runs") / "two", demo("autosome", "conv", "efficientnet", "mlp", *SIZES), ("Dev", "Hk")
    )


def expected_text(run: Path, names: list[str], batch_size: int) -> str:
    """What the command must write, one row after the other."""
    model = prixfixe.load(run, device="cpu")
    predictions = model.predict(STRINGS, batch_size=batch_size).reshape(len(STRINGS), -1)
    columns = ["prediction"] if len(model.tasks) == 1 else [f"prediction_{task}" for task in model.tasks]
    lines = ["\t".join(["name", "sequence", *columns])]
    for name, string, values in zip(names, STRINGS, predictions, strict=True):
        lines.append("\t".join([name, string, *(f"{value:.6g}" for value in values)]))
    return "".join(f"{line}\n" for line in lines)


def write_table(path: Path) -> list[str]:
    path.write_text("".join(f"{string.lower()}\n" for string in STRINGS))
    return [str(row) for row in range(len(STRINGS))]


def write_gzip(path: Path) -> list[str]:
    text = "id,seq,expression\n" + "".join(f"{name},{string},1\n" for name, string in zip(NAMES, STRINGS, strict=True))
    path.write_bytes(gzip.compress(text.encode()))
    return NAMES


def write_parquet(path: Path) -> list[str]:
    pq.write_table(pa.table({"name": range(len(STRINGS)), "sequence": STRINGS}), path, row_group_size=30)
    return [str(row) for row in range(len(STRINGS))]


def write_fasta(path: Path) -> list[str]:
    path.write_text("".join(f">{name}\n{s[:50]}\n{s[50:]}\n" for name, s in zip(NAMES, STRINGS, strict=True)))
    return ["promoter"] * len(STRINGS)


@pytest.mark.parametrize("batch_size", [7, 50, 1024])
@pytest.mark.parametrize("write", [write_table, write_gzip, write_parquet, write_fasta])
def test_text_is_that_of_one_row_after_the_other(
    write: Callable[[Path], list[str]], batch_size: int, one_task, tmp_path, monkeypatch
):
    monkeypatch.setattr(streams, "BLOCK_BYTES", 1 << 10)
    monkeypatch.setattr(fasta, "FASTA_RECORDS", 9)
    names = write(tmp_path / "input")
    output = tmp_path / "new folder" / "predictions.tsv"
    assert (
        main(
            [
                "predict",
                str(one_task),
                str(tmp_path / "input"),
                "--device=cpu",
                f"--batch-size={batch_size}",
                "-o",
                str(output),
            ]
        )
        == 0
    )
    assert output.read_text() == expected_text(one_task, names, batch_size)
    assert list(output.parent.iterdir()) == [output]


def test_several_tasks_to_standard_output(two_tasks, tmp_path, capsys):
    names = write_table(tmp_path / "input")
    assert main(["predict", str(two_tasks), str(tmp_path / "input"), "--device=cpu"]) == 0
    assert capsys.readouterr() == (expected_text(two_tasks, names, 1024), "")


def test_chunks_of_several_batches_say_the_same(one_task, tmp_path, capsys, monkeypatch):
    names = write_table(tmp_path / "input")
    monkeypatch.setattr(Model, "chunk_rows", lambda model, batch_size: 3 * batch_size)  # as on a GPU
    assert main(["predict", str(one_task), str(tmp_path / "input"), "--device=cpu", "--batch-size=16"]) == 0
    assert capsys.readouterr().out == expected_text(one_task, names, 16)


def test_a_chunk_is_given_out_once_the_next_is_launched(one_task):
    model = prixfixe.load(one_task, device="cpu")
    encoded = Sequences.from_strings(STRINGS)
    taken = []

    def chunks():
        for start in range(0, len(STRINGS), 16):
            taken.append(start)
            yield encoded[start : start + 16]

    predictions = model.predict_chunks(chunks(), batch_size=8)
    first = next(predictions)
    assert taken == [0, 16]
    np.testing.assert_array_equal(np.concatenate([first, *predictions]), model.predict(STRINGS, batch_size=8))


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ("ACGT", r"a list of sequences: give \[sequence\]"),
        ([""], "sequence 1 is empty"),
        (["ACGT", ""], "sequence 2 is empty"),
        (["ACGT", None], "sequence 2 is None"),
        ([b"ACGT"], "sequence 1 is b'ACGT'"),
        (pd.DataFrame({"sequence": ["ACGT"]}), "one column of a data frame"),
    ],
    ids=["string", "empty", "one-empty", "none", "bytes", "data-frame"],
)
def test_what_is_no_list_of_sequences_is_refused(sequences, message, one_task):
    with pytest.raises(InputError, match=message):
        prixfixe.load(one_task, device="cpu").predict(sequences)


@pytest.mark.parametrize("damage", ["truncated", "no header", "empty"])
def test_damaged_weights_are_named(damage, one_task, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(one_task, run)
    file = run / "weights.safetensors"
    content = file.read_bytes()
    file.write_bytes({"truncated": content[: len(content) // 2], "no header": b"\xff" * 100, "empty": b""}[damage])
    write_table(tmp_path / "input")
    assert main(["predict", str(run), str(tmp_path / "input"), "--device=cpu"]) == 2
    assert f"{file} is damaged" in capsys.readouterr().err


def test_what_is_no_run_folder(one_task, tmp_path, capsys):
    write_table(tmp_path / "input")
    assert main(["predict", str(tmp_path / "input"), str(tmp_path / "input")]) == 2
    assert "is no run folder: it has no config.yaml" in capsys.readouterr().err
    (tmp_path / "config.yaml").write_bytes(b"seed: \xff\n")
    assert main(["predict", str(tmp_path), str(tmp_path / "input")]) == 2
    assert f"{tmp_path / 'config.yaml'} is damaged" in capsys.readouterr().err


def test_a_run_of_version_0_1_which_kept_no_residuals_predicts(two_tasks, tmp_path, capsys):
    old = shutil.copytree(two_tasks, tmp_path / "old")
    targets = json.loads((old / "targets.json").read_text())
    del targets["residual_sd"]
    targets["bins"] |= {"low": 0.0, "high": 17.0}
    (old / "targets.json").write_text(json.dumps(targets))
    write_table(tmp_path / "t.txt")
    assert main(["predict", str(old), str(tmp_path / "t.txt")]) == 0
    found = capsys.readouterr().out
    assert main(["predict", str(two_tasks), str(tmp_path / "t.txt")]) == 0
    assert found == capsys.readouterr().out


def test_the_advice_on_columns_is_the_commands_own(one_task, tmp_path, capsys):
    (tmp_path / "input").write_text("promoter,level\nACGT,1\n")
    assert main(["predict", str(one_task), str(tmp_path / "input"), "--device=cpu"]) == 2
    assert "Choose one with --sequence NAME; the columns are: promoter, level" in capsys.readouterr().err


def test_no_sequences(one_task, two_tasks):
    assert prixfixe.load(one_task, device="cpu").predict([]).shape == (0,)
    assert prixfixe.load(two_tasks, device="cpu").predict([]).shape == (0, 2)


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-5, 123456.5, 1234567.0, 1e300, float("nan"), float("-inf"), 2 / 3])
def test_numbers_are_written_as_python_does(value):
    columns = {"name": "name", "sequence": "letters", "a": "number", "b": "number"}
    text = as_text("tsv", columns, [["a %s", "b"], ["ACGTN", "A"], np.array([value, 2.0]), np.array([1.0, value])])
    shown = "NA" if np.isnan(value) else f"{value:.6g}"
    assert text == f"a %s\tACGTN\t{shown}\t1\nb\tA\t2\t{shown}\n"


@pytest.mark.parametrize("to_file", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("".join(f"{string}\n" for string in STRINGS) + "ACXT\nACGT\n", ":101: position 3 of the sequence is 'X'"),
        ("".join(f">p\n{string}\n" for string in STRINGS) + ">q\nACXT\n", ":202: position 3 of the line is 'X'"),
        ("sequence\n", "a header but no rows"),
    ],
    ids=["table", "fasta", "empty"],
)
def test_nothing_is_written_where_the_input_is_bad(content, message, to_file, one_task, tmp_path, capsys):
    folder = tmp_path / "results"
    (tmp_path / "input").write_text(content)
    output = ["-o", str(folder / "predictions.tsv")] if to_file else []
    assert main(["predict", str(one_task), str(tmp_path / "input"), "--device=cpu", "--batch-size=10", *output]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert not folder.exists()


@pytest.mark.parametrize("bad", [False, True])
def test_a_pipe_is_read_once(bad, one_task, tmp_path, capsys):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    text = "".join(f"{string}\n" for string in STRINGS) + ("ACXT\n" if bad else "")
    writer = threading.Thread(target=pipe.write_text, args=(text,), daemon=True)
    writer.start()
    code = main(["predict", str(one_task), str(pipe), "--device=cpu"])
    writer.join(60)
    assert not writer.is_alive(), "all of the pipe was read"
    out, err = capsys.readouterr()
    if bad:
        assert (code, out) == (2, "")
        assert err == f"prixfixe: {pipe}:101: position 3 of the sequence is 'X', which is no nucleotide (A C G T N).\n"
    else:
        assert (code, out) == (0, expected_text(one_task, [str(row) for row in range(len(STRINGS))], 1024))


def test_a_reader_that_has_seen_enough_is_no_error(one_task: Path, tmp_path: Path) -> None:
    table = tmp_path / "many.tsv"
    table.write_text("".join(f"{string}\n" for string in random_strings(3000)))
    command = f"{sys.executable} -m prixfixe predict {one_task} {table} --batch-size 64 | head -n 2"
    process = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True)
    assert process.stdout.count("\n") == 2 and process.stderr == "" and process.returncode == 141


NASTY = ['"quoted"', "a\tb", "c\nd\r\ne", "=cmd|' /C calc'!A0", "f,g", "\x1b[2J", "plain", "-1"]


@pytest.mark.parametrize("ending", [".tsv", ".csv", ".tsv.gz", ".csv.gz", ".parquet", ".txt"])
def test_the_ending_says_the_format_and_names_break_nothing(ending: str, two_tasks: Path, tmp_path: Path) -> None:
    names = NASTY * 4
    pq.write_table(pa.table({"id": names, "sequence": STRINGS[: len(names)]}), tmp_path / "input")
    output = tmp_path / f"out{ending}"
    arguments = ["predict", str(two_tasks), str(tmp_path / "input"), "--device=cpu", "--batch-size=5"]
    assert main([*arguments, "-o", str(output)]) == 0
    if ending == ".parquet":
        frame = pd.read_parquet(output)
    else:
        content = gzip.decompress(output.read_bytes()) if ending.endswith("gz") else output.read_bytes()
        assert content.count(b"\n") == 1 + len(names) and b"\r" not in content and b"\x1b" not in content
        frame = pd.read_csv(output, sep="," if "csv" in ending else "\t", dtype={"name": str})
    assert list(frame.columns) == ["name", "sequence", "prediction_Dev", "prediction_Hk"]
    assert frame["sequence"].tolist() == STRINGS[: len(names)]
    guard = "'" if "csv" in ending else ""
    expected = ['"quoted"', r"a\tb", r"c\nd\r\ne", f"{guard}{NASTY[3]}", "f,g", r"\x1b[2J", "plain", f"{guard}-1"]
    assert frame["name"].tolist() == expected * 4
    predicted = prixfixe.load(two_tasks, device="cpu").predict(STRINGS[: len(names)], batch_size=5)
    np.testing.assert_allclose(frame.iloc[:, 2:].to_numpy(), predicted, rtol=1e-5)


def test_one_long_record_takes_no_more_memory_than_its_letters(one_task: Path, tmp_path: Path) -> None:
    table = tmp_path / "mixed.fa"
    short = "".join(f">s{row}\n{string}\n" for row, string in enumerate(random_strings(1500)))
    peaks = []
    for length in (80, 1_500_000):
        table.write_text(short + ">long\n" + "ACGT" * (length // 4) + "\n")
        code = (
            "import resource, sys; from prixfixe.cli import main; main(sys.argv[1:]);"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
        )
        arguments = ["predict", str(one_task), str(table), "--device=cpu", "-o", str(tmp_path / "out.tsv")]
        process = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        peaks.append(int(process.stderr.split()[-1]) / 1024)
    assert peaks[1] - peaks[0] < 150, peaks  # MB; padded to the longest it was 7,000


@pytest.mark.parametrize("wrong", [-1, 0, 2.5, "4", True])
def test_a_batch_size_is_a_whole_number(wrong: object, one_task: Path) -> None:
    model = prixfixe.load(one_task, device="cpu")
    for method in (model.predict, model.mutate, model.attribute):
        with pytest.raises(InputError, match="batch_size"):
            method(STRINGS[:1], batch_size=wrong)


def test_what_is_no_list_of_sequences_or_no_column_is_refused(one_task: Path) -> None:
    model = prixfixe.load(one_task, device="cpu")
    with pytest.raises(InputError, match="a list of sequences"):
        model.predict({"A": STRINGS[0]})
    with pytest.raises(InputError, match=r"column gc: .* needs no columns"):
        model.predict(STRINGS[:1], columns={"gc": [0.5]})
