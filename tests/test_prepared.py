"""The cache of parsed tables: shared by jobs that start together, and never believed when damaged."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from prixfixe.common.errors import InputError
from prixfixe.data import prepared
from prixfixe.data.prepared import content_hash, prepare
from prixfixe.data.tables import read_measurements

HEADER = "seq\texpression\tother\tfold\n"


@pytest.fixture
def table(tmp_path) -> Path:
    generator = np.random.default_rng(0)
    lines = [f"{'ACGTN'[row % 5] * (1 + row % 60)}\t{generator.normal()}\t{row}\t{row % 3}\n" for row in range(300)]
    path = tmp_path / "table.tsv"
    path.write_text(HEADER + "".join(lines))
    return path


@pytest.fixture
def parsed(monkeypatch) -> list[Path]:
    """The files parsed since the test began."""
    seen: list[Path] = []

    def read(path, **options):
        seen.append(path)
        return read_measurements(path, **options)

    monkeypatch.setattr(prepared, "read_measurements", read)
    return seen


def assert_same(one, other):
    np.testing.assert_array_equal(one.sequences.padded(), other.sequences.padded())
    np.testing.assert_array_equal(one.sequences.lengths, other.sequences.lengths)
    np.testing.assert_array_equal(one.expression, other.expression)
    np.testing.assert_array_equal(one.fold, other.fold)
    assert one.tasks == other.tasks


def folders(cache: Path) -> list[Path]:
    return [folder for folder in cache.iterdir() if folder.name != "content"]


def test_parsed_once_and_memory_mapped(table, tmp_path, parsed):
    cache = tmp_path / "cache"
    first, content = prepare(table, {}, cache)
    second, _ = prepare(str(table), {"sequence": None}, cache)
    assert len(parsed) == 1
    assert content == content_hash(table, cache)
    assert_same(first, read_measurements(table))
    assert_same(second, first)
    assert isinstance(second.sequences.letters, np.memmap)
    assert not second.sequences.letters.flags.writeable
    other, _ = prepare(table, {"expression": ["other", "expression"]}, cache)
    assert other.tasks == ("other", "expression")
    assert other.expression.shape == (300, 2)
    assert len(parsed) == 2


def test_a_copy_of_the_content_under_another_name_is_not_parsed_again(table, tmp_path, parsed):
    prepare(table, {}, tmp_path / "cache")
    shutil.copy(table, tmp_path / "copy.txt")
    assert_same(prepare(tmp_path / "copy.txt", {}, tmp_path / "cache")[0], read_measurements(table))
    assert len(parsed) == 1


def test_changed_content_is_other_data(table, tmp_path):
    old = table.stat()
    assert len(prepare(table, {}, tmp_path / "cache")[0]) == 300
    with open(table, "a") as file:
        file.write("ACGT\t1\t2\t0\n")
    os.utime(table, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert len(prepare(table, {}, tmp_path / "cache")[0]) == 301


def test_a_file_replaced_after_it_was_hashed_is_not_kept_under_the_old_hash(table, tmp_path, monkeypatch):
    """The change falls between the hash, which names the folder, and the reading."""
    cache, old = tmp_path / "cache", table.read_text()
    load = prepared._load

    def replacing(*arguments):
        table.write_text(old.replace("A", "C"))
        return load(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(prepared, "_load", replacing)
        with pytest.raises(InputError, match="changed while it was read"):
            prepare(table, {}, cache)
    table.write_text(old)
    assert_same(prepare(table, {}, cache)[0], read_measurements(table))


def test_a_recent_file_is_hashed_again_and_an_older_one_is_remembered(table, tmp_path):
    cache = tmp_path / "cache"
    before = content_hash(table, cache)
    stamp = table.stat()
    table.write_text(table.read_text().replace("ACGT", "ACCT").replace("N", "A"))
    os.utime(table, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # as a write within one tick of the clock would leave it
    assert content_hash(table, cache) != before
    assert not (cache / "content").exists()
    os.utime(table, (time.time() - 60, time.time() - 60))
    known = content_hash(table, cache)
    (note,) = (cache / "content").iterdir()
    assert content_hash(table, cache) == known
    note.write_text(note.read_text().replace(known[:8], "00000000"))
    assert content_hash(table, cache) == known


@pytest.mark.parametrize("name", ["letters.npy", "lengths.npy", "expression.npy", "fold.npy", "manifest.json"])
@pytest.mark.parametrize("damage", ["truncated", "altered", "emptied", "removed", "extended"])
def test_damage_is_noticed_and_mended(name, damage, table, tmp_path, parsed):
    cache = tmp_path / "cache"
    prepare(table, {"fold": True}, cache)
    (folder,) = folders(cache)
    file = folder / name
    content = bytearray(file.read_bytes())
    if damage == "removed":
        file.unlink()
    elif damage == "altered":
        content[len(content) * 2 // 3] ^= 1
        file.write_bytes(content)
    else:
        file.write_bytes({"truncated": content[:-2], "emptied": b"", "extended": content + b"x"}[damage])
    assert_same(prepare(table, {"fold": True}, cache)[0], read_measurements(table, fold=True))
    assert len(parsed) == 2
    assert folders(cache) == [folder]
    prepare(table, {"fold": True}, cache)
    assert len(parsed) == 2


def test_a_file_where_the_folder_belongs_is_replaced(table, tmp_path):
    prepare(table, {}, tmp_path / "cache")
    (folder,) = folders(tmp_path / "cache")
    shutil.rmtree(folder)
    folder.write_text("not a folder")
    assert_same(prepare(table, {}, tmp_path / "cache")[0], read_measurements(table))


def test_jobs_that_start_together(table, tmp_path):
    """Several processes and no cache; then several threads and a damaged one, all arriving at the same moment."""
    cache = tmp_path / "cache"
    code = "import sys; from prixfixe.data.prepared import prepare; "
    code += "print(float(prepare(sys.argv[1], {}, sys.argv[2])[0].expression.sum()))"
    jobs = [
        subprocess.Popen([sys.executable, "-c", code, table, cache], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    expected = read_measurements(table)
    assert [float(job.communicate(timeout=60)[0]) for job in jobs] == [expected.expression.sum()] * 3
    (folder,) = folders(cache)
    for _ in range(10):
        (folder / "letters.npy").write_bytes(b"damaged")
        barrier = threading.Barrier(6)
        results = []

        def start(barrier=barrier, results=results):
            barrier.wait()
            results.append(prepare(table, {}, cache)[0])

        threads = [threading.Thread(target=start) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 6
        for result in results:
            assert_same(result, expected)
        assert folders(cache) == [folder]


def test_what_killed_jobs_left_is_removed_after_a_day(table, tmp_path):
    cache = tmp_path / "cache"
    prepare(table, {}, cache)
    (folder,) = folders(cache)
    shutil.rmtree(folder)
    old, recent = cache / f".{folder.name}.old", cache / f".{folder.name}.recent"
    for left in (old, recent):
        left.mkdir()
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    prepare(table, {}, cache)
    assert set(folders(cache)) == {folder, recent}


def test_the_environment_names_the_cache(table, tmp_path, monkeypatch):
    monkeypatch.setenv("PRIXFIXE_CACHE", str(tmp_path / "elsewhere"))
    prepare(table, {})
    assert len(folders(tmp_path / "elsewhere")) == 1


def test_bad_input_leaves_nothing_behind(tmp_path):
    path = tmp_path / "bad.tsv"
    path.write_text("ACGT\t1\nACXT\t2\n")
    with pytest.raises(InputError, match=":2: position 3"):
        prepare(path, {}, tmp_path / "cache")
    assert not (tmp_path / "cache").exists() or folders(tmp_path / "cache") == []
    for missing, message in ((tmp_path / "absent", "there is no such file"), (tmp_path, "is a folder")):
        with pytest.raises(InputError, match=message):
            prepare(missing, {}, tmp_path / "cache")
        with pytest.raises(InputError, match=message):
            content_hash(missing, tmp_path / "cache")


def test_a_cache_that_cannot_be_written(table, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(InputError, match="PRIXFIXE_CACHE"):
        prepare(table, {}, tmp_path / "cache")
