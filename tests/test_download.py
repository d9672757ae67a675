"""The download against a server on loopback that speaks Zenodo's API and misbehaves on request."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from prixfixe.cli import main
from prixfixe.commands import data_download
from prixfixe.common.errors import InputError
from prixfixe.data import download as module
from prixfixe.data.download import RECORD_FILE, download, unpack

RECORD = "10633252"
TEXT = b"ACGT\t1\n" * 20_000


def tar_gz(members: dict[str, bytes], **links: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, target in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return gzip.compress(buffer.getvalue(), mtime=0)  # the same each time: tests are named by it


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@dataclass
class Zenodo:
    """What the server has, and how it misbehaves: `tricks[name]` holds one trick for each of the next requests."""

    files: dict[str, bytes] = field(default_factory=dict)
    tricks: dict[str, list[Callable[[Any, bytes], None]]] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # name and Range
    altered: dict[str, dict[str, Any]] = field(default_factory=dict)  # entries of the file list
    base: str = ""
    number: str = RECORD

    def record(self) -> bytes:
        entries = [
            {
                "key": name,
                "size": len(content),
                "checksum": "md5:" + hashlib.md5(content).hexdigest(),
                "links": {"self": f"{self.base}/api/records/{self.number}/files/{name}/content"},
                **self.altered.get(name, {}),
            }
            for name, content in self.files.items()
        ]
        return json.dumps({"id": int(self.number), "files": entries}).encode()


class Server(ThreadingHTTPServer):
    zenodo: Zenodo

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that hangs up on a wrong answer is part of the tests


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        zenodo: Zenodo = self.server.zenodo
        name = "record" if self.path == f"/api/records/{zenodo.number}" else self.path.split("/")[-2]
        zenodo.requests.append((name, self.headers.get("Range")))
        content = zenodo.record() if name == "record" else zenodo.files.get(name)
        if content is None:
            self.send_error(404)
        elif zenodo.tricks.get(name):
            zenodo.tricks[name].pop(0)(self, content)
        else:
            self.answer(content)

    def answer(self, content: bytes, *, ranges: bool = True, cut: int | None = None) -> None:
        """The content from where it is asked for; `cut`: the connection ends after so many bytes."""
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(content[start:] if cut is None else content[start : start + cut])
        self.close_connection = cut is not None

    def log_message(self, format: str, *args: Any) -> None:
        pass


def cut(handler: Handler, content: bytes) -> None:
    handler.answer(content, cut=50_000)


def cut_without_ranges(handler: Handler, content: bytes) -> None:
    handler.answer(content, ranges=False, cut=50_000)


def whole_again(handler: Handler, content: bytes) -> None:
    handler.answer(content, ranges=False)


def too_short(handler: Handler, content: bytes) -> None:
    handler.answer(content[:-1])


def too_long_unannounced(handler: Handler, content: bytes) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(content + b"more")
    handler.close_connection = True


def damaged(handler: Handler, content: bytes) -> None:
    handler.answer(bytes([content[0] ^ 1]) + content[1:])


def refusal(status: int, **headers: str) -> Callable[[Handler, bytes], None]:
    def trick(handler: Handler, content: bytes) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return trick


class Reporter:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.shown: list[int] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    @contextmanager
    def transfer(self, name: str, size: int, done: int) -> Iterator[Callable[[int], None]]:
        yield self.shown.append


@pytest.fixture
def zenodo(monkeypatch: pytest.MonkeyPatch) -> Iterator[Zenodo]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server(("127.0.0.1", 0), Handler)
    state = Zenodo(files={"train.txt": TEXT}, base=f"http://127.0.0.1:{server.server_address[1]}")
    server.zenodo = state
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass
class Trial:
    zenodo: Zenodo
    folder: Path
    reporter: Reporter = field(default_factory=Reporter)
    waits: list[float] = field(default_factory=list)

    def __call__(self) -> list[Path]:
        return download(RECORD, self.folder, self.reporter, base=self.zenodo.base, sleep=self.waits.append)

    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture
def trial(zenodo: Zenodo, tmp_path: Path) -> Trial:
    return Trial(zenodo, tmp_path / "dream")


def test_downloads_verifies_and_unpacks(trial: Trial) -> None:
    trial.zenodo.files |= {
        "empty.txt": b"",
        "test_subset_ids.tar.gz": tar_gz({"test_subset_ids/high.csv": b"pos\n1\n", "._test_subset_ids": b"mac"}),
        "weights.zip": zipped({"0_1_0_0/model.pth": b"weights", "0_1_1_0/model.pth": b"others"}),
    }
    paths = trial()
    assert [path.name for path in paths] == [*trial.zenodo.files, "test_subset_ids", "weights"]
    assert (trial.folder / "train.txt").read_bytes() == TEXT
    assert (trial.folder / "empty.txt").read_bytes() == b""
    assert (trial.folder / "test_subset_ids" / "high.csv").read_text() == "pos\n1\n"
    assert (trial.folder / "weights" / "0_1_1_0" / "model.pth").read_bytes() == b"others"
    assert trial.names() == {*trial.zenodo.files, "test_subset_ids", "weights", RECORD_FILE}
    assert trial.reporter.shown[-1] == len(trial.zenodo.files["weights.zip"])
    assert trial.waits == []


def test_second_run_asks_for_nothing(trial: Trial) -> None:
    first = trial()
    trial.zenodo.requests.clear()
    assert trial() == first
    assert trial.zenodo.requests == []


def test_only_what_is_missing_or_damaged_is_fetched_again(trial: Trial) -> None:
    trial.zenodo.files |= {"test.txt": b"test", "ids.zip": zipped({"a.csv": b"a", "b.csv": b"b"})}
    trial()
    trial.zenodo.requests.clear()
    (trial.folder / "test.txt").write_bytes(b"tesT")
    (trial.folder / "ids.zip").unlink()
    trial()
    assert [name for name, _ in trial.zenodo.requests] == ["test.txt", "ids.zip"]
    assert (trial.folder / "test.txt").read_bytes() == b"test"


def test_cut_connection_is_gone_on_with(trial: Trial) -> None:
    trial.zenodo.tricks["train.txt"] = [cut, cut]
    trial()
    assert (trial.folder / "train.txt").read_bytes() == TEXT
    ranges = [asked for name, asked in trial.zenodo.requests if name == "train.txt"]
    assert ranges == [None, "bytes=50000-", "bytes=100000-"]
    assert trial.waits == [1, 1]


def test_a_later_run_goes_on_with_what_an_earlier_one_left(trial: Trial) -> None:
    trial.folder.mkdir()
    (trial.folder / "train.txt.part").write_bytes(TEXT[:70_000])
    trial()
    assert ("train.txt", "bytes=70000-") in trial.zenodo.requests
    assert (trial.folder / "train.txt").read_bytes() == TEXT


@pytest.mark.parametrize("left", [TEXT[:-5] + b"wrong", TEXT + b"more", b"x" * 1000])
def test_a_useless_rest_is_replaced(trial: Trial, left: bytes) -> None:
    trial.folder.mkdir()
    (trial.folder / "train.txt.part").write_bytes(left)
    trial()
    assert (trial.folder / "train.txt").read_bytes() == TEXT


@pytest.mark.parametrize("trick", [whole_again, too_short, too_long_unannounced, damaged, refusal(503), refusal(429)])
def test_one_failure_of_any_kind_is_overcome(trial: Trial, trick: Callable[[Any, bytes], None]) -> None:
    trial.zenodo.tricks["train.txt"] = [cut, trick]
    trial()
    assert (trial.folder / "train.txt").read_bytes() == TEXT
    assert trial.names() == {"train.txt", RECORD_FILE}


@pytest.mark.parametrize(
    ("trick", "message"),
    [
        (too_short, "announces 139999 bytes, the record 140000"),
        (too_long_unannounced, "more than the 140000 bytes"),
        (damaged, "the checksum is"),
        (cut_without_ranges, "ended after 50000 of 140000 bytes"),
        (refusal(503), "answers 503"),
    ],
)
def test_a_lasting_failure_ends_with_what_to_do(
    trial: Trial, trick: Callable[[Any, bytes], None], message: str
) -> None:
    trial.zenodo.files["zz.txt"] = b"comes after"
    trial.zenodo.tricks["train.txt"] = [trick] * 100
    with pytest.raises(InputError, match=message) as error:
        trial()
    assert not (trial.folder / "train.txt").exists()
    for part in (f"/files/train.txt/content\n    (140 kB) and save it as {trial.folder / 'train.txt'}", "zz.txt"):
        assert part in str(error.value)
    assert trial.waits == sorted(trial.waits)
    assert len(trial.waits) < 10


def test_retry_after_is_honoured_and_capped(trial: Trial) -> None:
    trial.zenodo.tricks["train.txt"] = [
        refusal(429, Retry_After="7"),
        refusal(503, Retry_After="99999"),
        refusal(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
        refusal(429, Retry_After="soon"),
    ]
    trial()
    assert trial.waits == [7, module.LONGEST_WAIT_SECONDS, 0, 8]


def test_an_answer_that_waiting_cannot_change_is_not_repeated(trial: Trial) -> None:
    trial.zenodo.tricks["train.txt"] = [refusal(404)]
    with pytest.raises(InputError, match="answers 404"):
        trial()
    assert trial.waits == []


def test_offline_by_hand(trial: Trial, tmp_path: Path) -> None:
    base = trial.zenodo.base
    trial.zenodo.files["ids.zip"] = zipped({"a.csv": b"a", "b.csv": b"b"})
    content = trial.zenodo.record()

    def offline() -> list[Path]:
        return download(RECORD, trial.folder, trial.reporter, base="http://127.0.0.1:9", sleep=trial.waits.append)

    with pytest.raises(InputError) as error:
        offline()
    assert f"127.0.0.1:9/api/records/{RECORD}\n    and save it as {trial.folder / RECORD_FILE}" in str(error.value)
    assert f"put it into {trial.folder}" in str(error.value)

    # as told; a file that is missing or damaged is asked for by name
    (trial.folder / RECORD_FILE).write_bytes(content.replace(base.encode(), b"http://127.0.0.1:9"))
    (trial.folder / "train.txt").write_bytes(TEXT[:-1])
    (trial.folder / "ids.zip").write_bytes(trial.zenodo.files["ids.zip"])
    with pytest.raises(InputError, match=r"save it as .*train\.txt") as error:
        offline()
    assert "ids.zip" not in str(error.value)
    (trial.folder / "train.txt").write_bytes(TEXT)
    assert [path.name for path in offline()] == ["train.txt", "ids.zip", "ids"]
    assert trial.zenodo.requests == []


@pytest.mark.parametrize(
    "alteration",
    [
        {"key": "../train.txt"},
        {"key": "a/b.txt"},
        {"key": ".."},
        {"key": RECORD_FILE},
        {"links": {"self": "file:///etc/hostname"}},
        {"checksum": "sha1:00"},
        {"size": "many"},
        {"size": None},
    ],
)
def test_a_suspicious_record_is_refused(trial: Trial, alteration: dict[str, Any]) -> None:
    trial.zenodo.altered["train.txt"] = alteration
    with pytest.raises(InputError):
        trial()
    assert trial.names() == set()


def test_answers_that_are_no_record_are_refused(trial: Trial) -> None:
    trial.zenodo.tricks["record"] = [lambda handler, _: handler.answer(b"<html>Please log in</html>")]
    with pytest.raises(InputError, match="not a Zenodo record"):
        trial()
    trial.folder.mkdir(exist_ok=True)
    (trial.folder / RECORD_FILE).write_bytes(trial.zenodo.record().replace(RECORD.encode(), b"1", 1))
    with pytest.raises(InputError, match="record 1"):
        trial()


def test_too_little_space_is_said_before(trial: Trial) -> None:
    trial.zenodo.altered["train.txt"] = {"size": 10**18}
    with pytest.raises(InputError, match="1e\\+09 GB are still to be downloaded"):
        trial()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tar.gz", tar_gz({"fine.txt": b"", "../outside.txt": b"x"})),
        ("a.tar.gz", tar_gz({"b/../../outside.txt": b"x"})),
        ("a.tar.gz", tar_gz({"/outside.txt": b"x"})),
        ("a.tar.gz", tar_gz({}, link="../outside.txt")),
        ("a.tar.gz", tar_gz({"link/outside.txt": b"x"}, link="..")),
        ("a.tar.gz", tar_gz({"a": b"x", "a/b": b"x"})),
        ("a.tar.gz", tar_gz({"a": TEXT})[:-40]),
        ("a.tar.gz", b"no archive"),
        ("a.zip", zipped({"../outside.txt": b"x"})),
        ("a.zip", zipped({"/outside.txt": b"x"})),
        ("a.zip", zipped({"b\\..\\..\\outside.txt": b"x"})),
        ("a.zip", b"no archive"),
    ],
)
def test_archives_that_reach_outside_or_are_broken_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=r"a\.(zip|tar\.gz)"):
        unpack(folder / name, folder / "a")
    assert [path.name for path in folder.iterdir()] == [name]  # nothing half unpacked
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_zip_links_are_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/hostname")
    with pytest.raises(InputError, match="a link"):
        unpack(tmp_path / "a.zip", tmp_path / "a")


def test_command(
    zenodo: Zenodo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRIXFIXE_ZENODO", zenodo.base)
    parser = argparse.ArgumentParser()
    data_download.configure(parser)
    assert data_download.run(parser.parse_args(["dream2022", "-o", str(tmp_path / "data")])) == 0
    output, progress = capsys.readouterr()
    assert output == f"{tmp_path / 'data' / 'train.txt'}\n"
    assert progress.splitlines()[-1] == "train.txt: 100 %"


PUBLISHED = {  # what a record holds, and what is needed of it
    "starrseq": (
        "5502060",
        {f"Sequences_{name}": TEXT for name in ("Train.fa", "activity_Train.txt", "Val.fa", "activity_Val.txt")},
        {"DeepSTARR.model.h5": b"weights"},
    ),
    "lentimpra": (
        "10633252",
        {"human_mpra_data.tar.gz": tar_gz({"human_mpra/K562_clean.tsv": b"seq_id\tseq\tmean_value\tfold\n"})},
        {"train.txt": TEXT, "prixfixe_model_weights.tar.gz": b"gigabytes"},
    ),
    "atac": (
        "7443683",
        {"folds.zip": zipped({"folds/fold_0.json": b"{}"}), "bias_models.zip": zipped({"a.h5": b"a", "b.h5": b"b"})},
        {"others.tar.gz": b"gigabytes"},
    ),
}


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_of_a_record_only_what_is_needed_is_fetched(
    dataset: str, zenodo: Zenodo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    zenodo.number, needed, others = PUBLISHED[dataset]
    zenodo.files = {**others, **needed}
    folder = tmp_path / "data"
    arguments = ["data", "download", dataset, "-o", str(folder)]
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    monkeypatch.setenv("PRIXFIXE_ZENODO", "http://127.0.0.1:9")
    assert main(arguments) == 2  # offline: what to fetch by hand, and where to put it
    said = capsys.readouterr().err
    assert f"http://127.0.0.1:9/api/records/{zenodo.number}\n    and save it as {folder / RECORD_FILE}" in said
    wanted = "Sequences_*" if dataset == "starrseq" else " and ".join(needed)
    assert f"{wanted} that http://127.0.0.1:9/records/{zenodo.number} offers\n    and put it into {folder}" in said
    monkeypatch.setenv("PRIXFIXE_ZENODO", zenodo.base)
    assert main(arguments) == 0
    archives = [name.split(".")[0] for name in needed if not name.startswith("Sequences")]
    assert capsys.readouterr().out.split() == [str(folder / name) for name in [*needed, *archives]]
    assert {name for name, _ in zenodo.requests} == {"record", *needed}
    if dataset == "lentimpra":
        assert (folder / "human_mpra_data" / "K562_clean.tsv").read_text() == "seq_id\tseq\tmean_value\tfold\n"
    zenodo.files = others
    (folder / RECORD_FILE).unlink()
    assert main(arguments) == 2
    assert f"record {zenodo.number} has no file" in capsys.readouterr().err


def endless(handler: Handler, content: bytes) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.close_connection = True
    try:
        while True:
            handler.wfile.write(b" " * (1 << 16))
    except OSError:  # the client has seen enough
        pass


def test_a_record_without_end_is_refused(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    trial.zenodo.tricks["record"] = [endless]
    with pytest.raises(InputError, match=r"api/records/\d+: the answer does not end after 1\d(\.\d)? MB"):
        trial()
    monkeypatch.setattr(module, "LONGEST_RECORD_SECONDS", 0.0)  # however slowly it comes
    trial.zenodo.tricks["record"] = [lambda handler, content: handler.answer(content)]
    with pytest.raises(InputError, match="does not end"):
        trial()
    (trial.folder / RECORD_FILE).write_bytes(b" " * (module.LARGEST_RECORD + 1))
    with pytest.raises(InputError, match="larger than"):
        trial()


@pytest.mark.parametrize(
    "alteration",
    [
        {"key": "n" * 300},
        {"key": "é" * 150},
        {"key": "a\x1b[2Jb"},
        {"key": "a\nb"},
        {"key": "\udc80"},
        {"key": "...zip"},
        {"key": f"{RECORD_FILE}.zip"},
        {"size": True},
        {"size": -1},
        {"size": 1.5},
        {"size": 10**400},
        {"links": {"self": "http://[bad"}},
        {"links": None},
    ],
    ids=str,
)
def test_names_and_sizes_that_no_file_can_have_are_refused(trial: Trial, alteration: dict[str, Any]) -> None:
    trial.zenodo.altered["train.txt"] = alteration
    with pytest.raises(InputError) as error:
        trial()
    assert str(error.value).isprintable() and len(str(error.value)) < 1000
    assert trial.names() == set()


@pytest.mark.parametrize("answer", [b'{"id": 1, "files": "\xff"}', b"[" * 100_000, b"null", b'{"files": [1]}'])
def test_records_of_another_form_are_refused(trial: Trial, answer: bytes) -> None:
    trial.zenodo.tricks["record"] = [lambda handler, _: handler.answer(answer)]
    with pytest.raises(InputError, match="not a Zenodo record") as error:
        trial()
    assert str(error.value).isprintable() and len(str(error.value)) < 1000


@pytest.mark.parametrize("other", ["a", "a.tar.gz", "a.tgz"])
def test_an_archive_and_what_has_the_name_of_its_folder(trial: Trial, other: str) -> None:
    content = zipped({"x.txt": b"x"}) if other.endswith("zip") else tar_gz({"x.txt": b"x"})
    trial.zenodo.files = {"a.zip": zipped({"x.txt": b"x"}), other: content}
    with pytest.raises(InputError, match=r"would be unpacked into a, where a(\.zip|\.tar\.gz|\.tgz)? belongs"):
        trial()
    assert trial.names() == set()


def compressed(method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("a.txt", bytes(range(256)) * 200)
    return buffer.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_damaged_byte_of_an_archive_is_refused_or_harmless(method: int, tmp_path: Path) -> None:
    sound = compressed(method)
    archives = {"a.zip": sound, "b.tar.gz": tar_gz({"a.txt": bytes(range(256)) * 200})}
    for name, content in archives.items():
        for position in range(0, len(content), max(1, len(content) // 60)):
            for damage in (bytes([content[position] ^ 0x55]), b"\xff"):
                (tmp_path / name).write_bytes(content[:position] + damage + content[position + 1 :])
                target = tmp_path / "target"
                try:
                    unpack(tmp_path / name, target)
                except InputError as error:
                    assert name in str(error) and str(error).isprintable()
                    assert not target.exists()
                else:
                    shutil.rmtree(target)
    assert {path.name for path in tmp_path.iterdir()} == set(archives)


def test_a_bomb_is_bounded_by_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage._replace(free=module.SPARE_BYTES + (1 << 20)))
    zeros = bytes(8 << 20)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", zeros)
    liar = bytearray(buffer.getvalue())
    size = len(zeros).to_bytes(4, "little")
    liar[:] = liar.replace(size, (1).to_bytes(4, "little"))  # says that it holds one byte
    for name, content in (("a.zip", buffer.getvalue()), ("b.zip", bytes(liar)), ("c.tar.gz", tar_gz({"zeros": zeros}))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=r"does not fit on the disk|cannot be unpacked"):
            unpack(tmp_path / name, tmp_path / "target")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "b.zip", "c.tar.gz"]


def test_a_header_of_any_size_is_not_read_into_memory(tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 33
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(header.tobuf() + bytes(1 << 20)))
    with pytest.raises(InputError, match="cannot be unpacked"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "a")


@pytest.mark.parametrize("name", ["n" * 300, "a/" * 3000 + "b"])
def test_members_that_no_file_can_be_named_like(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(tar_gz({name: b"x"}))
    with pytest.raises(InputError, match=r"a\.tar\.gz") as error:
        unpack(tmp_path / "a.tar.gz", tmp_path / "a")
    assert str(error.value).isprintable() and not (tmp_path / "a").exists()
