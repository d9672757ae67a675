"""Writing: whole or not at all, through links, and into what is no file."""

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from prixfixe.cli import main
from prixfixe.common.errors import InputError, OutputError
from prixfixe.common.files import format_by_ending, keep_inputs, write_arrays, write_json, write_text


def test_a_link_stays_and_what_it_names_is_replaced(tmp_path: Path) -> None:
    kept, link, dangling = tmp_path / "kept" / "table.tsv", tmp_path / "link.tsv", tmp_path / "dangling.tsv"
    write_text(kept, "old")
    link.symlink_to(kept)
    dangling.symlink_to(tmp_path / "new.tsv")
    for path in (link, dangling):
        write_text(path, "new")
        assert path.is_symlink()
        assert path.read_text() == "new"
    assert kept.read_text() == "new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "dangling.tsv",
        "kept",
        "link.tsv",
        "new.tsv",
        "table.tsv",
    ]


def test_a_failure_leaves_the_old_content(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    before = (tmp_path / "a.json").read_text()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert [path.read_text() for path in tmp_path.iterdir()] == [before]


def test_a_device_stays_one(tmp_path: Path) -> None:
    null = tmp_path / "null"  # not /dev/null itself: a test that fails must not replace it
    null.symlink_to(os.devnull)
    write_text(null, "x")
    assert null.is_symlink() and null.is_char_device()


@pytest.mark.parametrize(
    "write", [lambda path: write_text(path, "text"), lambda path: write_arrays(path, a=[1, 2])], ids=["text", "arrays"]
)
def test_a_pipe_is_written_into(write: Callable[[Path], None], tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    write(tmp_path / "file")
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write(pipe)
    reader.join(timeout=30)
    assert pipe.is_fifo()
    assert len(read[0]) >= len((tmp_path / "file").read_bytes()) > 0


def test_standard_output_is_written_into(tmp_path: Path) -> None:
    # not /dev/stdout: a test that fails must not replace it
    code = "from prixfixe.common.files import write_text; write_text('/dev/fd/1', 'text')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "text"
    with open(tmp_path / "redirected", "w+") as redirected:
        subprocess.run([sys.executable, "-c", code], stdout=redirected, check=True)
        assert redirected.read() == "text"  # the same file, not another of its name


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "run", "sequences"],
        ["evaluate", "run", "test"],
        ["results", "runs"],
        ["study", "any", "runs"],
        ["report", "runs"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_folder_as_output_is_refused_before_any_work(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "-o", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert f"-o {tmp_path} is a folder; give a file" in err


def test_a_full_disk_is_named_with_the_file_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = tmp_path / "a.json"
    write_json(file, {"a": 1})
    for step in ("os.fsync", "os.replace", "tempfile.mkstemp"):
        message = f"^{file} cannot be written: .*disk is full"
        with monkeypatch.context() as patch, pytest.raises(OutputError, match=message):
            patch.setattr(step, full)
            write_json(file, {"a": 2})
    assert [path.read_text() for path in tmp_path.iterdir()] == ['{\n  "a": 1\n}\n']


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_behind_standard_output_is_one_message(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "prixfixe", "blocks"]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "standard output cannot be written" in ended.stderr


def test_a_link_in_a_run_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "status.json").symlink_to(tmp_path / "mine")
    os.mkfifo(tmp_path / "pipe")
    for name in ("status.json", "pipe"):
        write_text(tmp_path / name, "new", follow=False)
        assert (tmp_path / name).read_text() == "new"
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("kind", ["itself", "relative", "link", "hard link", "link of the input"])
def test_an_output_that_is_an_input_is_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, output = tmp_path / "table.tsv", tmp_path / "output.tsv"
    table.write_text("ACGT\t1\n")
    given = table
    if kind == "itself":
        output = table
    elif kind == "relative":
        (tmp_path / "folder").mkdir()
        monkeypatch.chdir(tmp_path / "folder")
        output = Path("../folder/../table.tsv")
    elif kind == "link":
        output.symlink_to(table)
    elif kind == "hard link":
        output.hardlink_to(table)
    else:
        given = tmp_path / "given.tsv"
        given.symlink_to(table)
        output = table
    with pytest.raises(InputError, match=r"-o .* is an input, too"):
        keep_inputs(output, tmp_path / "absent", given)
    keep_inputs(tmp_path / "new.tsv", given)
    keep_inputs(None, given)


def test_files_of_a_run_and_of_a_test_set_are_inputs(tmp_path: Path) -> None:
    for name in ("a/config.yaml", "a/weights.safetensors", "high.csv", "test_sequences.tsv", "results.csv"):
        write_text(tmp_path / "folder" / name, "")
    for name in ("a/config.yaml", "a/weights.safetensors", "high.csv", "test_sequences.tsv"):
        with pytest.raises(InputError, match="is an input, too"):
            keep_inputs(tmp_path / "folder" / name, tmp_path / "folder")
    keep_inputs(tmp_path / "folder" / "results.csv", tmp_path / "folder")
    keep_inputs(tmp_path / "folder" / "a" / "config.yaml", tmp_path / "elsewhere")


def test_every_command_keeps_its_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "runs" / "a"
    write_text(run / "config.yaml", "seed: 0\n")
    write_text(tmp_path / "t.tsv", "ACGT\t1\n")
    config, table = str(run / "config.yaml"), str(tmp_path / "t.tsv")
    for arguments in (
        ["predict", str(run), table, "-o", table],
        ["predict", str(run), table, "-o", config],
        ["evaluate", table, table, "-o", table],
        ["evaluate", str(run), table, "-o", config],
        ["results", str(tmp_path / "runs"), "-o", config],
        ["results", str(tmp_path), "--against", str(run), "-o", config],
        ["report", str(tmp_path / "runs"), "-o", config],
        ["study", "proformer_ablation", str(tmp_path / "runs"), "-o", config],
    ):
        assert main(arguments) == 2, arguments
        assert "is an input, too" in capsys.readouterr().err, arguments
    assert (run / "config.yaml").read_text() == "seed: 0\n" and Path(table).read_text() == "ACGT\t1\n"


def test_the_ending_says_the_format(tmp_path: Path) -> None:
    formats = {".tsv": "tsv", ".csv": "csv", ".csv.gz": "packed", ".gz": "other"}
    for name, kind in (("a.tsv", "tsv"), ("a.b.CSV", "csv"), ("a.csv.gz", "packed"), ("a.gz", "other")):
        assert format_by_ending(tmp_path / name, formats, "tsv") == kind
    assert format_by_ending(None, formats, "tsv") == format_by_ending(Path("/dev/null"), formats, "tsv") == "tsv"
    for name in ("a", "a.xlsx", "tsv"):
        with pytest.raises(InputError, match=r"no format; end it with one of .tsv, .csv, .csv.gz, .gz"):
            format_by_ending(tmp_path / name, formats, "tsv")


def test_every_command_refuses_an_ending_that_it_cannot_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text(tmp_path / "t.tsv", "ACGT\t1\n")
    output = ["-o", str(tmp_path / "out.xlsx")]
    for arguments in (
        ["predict", str(tmp_path), str(tmp_path / "t.tsv")],
        ["evaluate", str(tmp_path / "t.tsv"), str(tmp_path / "t.tsv")],
        ["results", str(tmp_path)],
        ["report", str(tmp_path)],
        ["study", "proformer_ablation", str(tmp_path)],
    ):
        assert main([*arguments, *output]) == 2
        assert "its ending says no format; end it with one of" in capsys.readouterr().err
    assert not (tmp_path / "out.xlsx").exists()
