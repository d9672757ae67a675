"""Rows of text: no row is lost without an error that names a line, whatever quotes, marks and line ends there are."""

import csv
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import random_strings
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from prixfixe.common.errors import InputError
from prixfixe.data import records as module
from prixfixe.data import streams
from prixfixe.data.check import check
from prixfixe.data.tables import read_measurements, read_sequences

thorough = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
STRINGS = random_strings(60)
ROWS = [(f"s{row}", string, row / 8, "ok") for row, string in enumerate(STRINGS)]
NAMES = ["id", "sequence", "expression", "note"]

texts = st.text("ab \t\n\r\",;'xé#", max_size=8)
rows = st.lists(
    st.tuples(texts, st.text("ACGT", min_size=1, max_size=12), st.floats(allow_nan=False, allow_infinity=False), texts),
    min_size=1,
    max_size=25,
)


def write(path: Path, lines: list[str], end: str = "\n") -> Path:
    path.write_bytes("".join(f"{line}{end}" for line in lines).encode())
    return path


def table_lines(mark: str) -> list[str]:
    return [mark.join(map(str, row)) for row in [NAMES, *ROWS]]


@thorough
@given(
    rows=rows,
    mark=st.sampled_from("\t,; "),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    block=st.sampled_from([7, 64, 1 << 21]),
    order=st.permutations(range(4)),
)
def test_what_csv_writes_is_read(rows, mark, quoting, end, block, order, tmp_path, monkeypatch):
    if quoting != csv.QUOTE_ALL:  # where Python writes a line break of another kind without quotes
        rows = [tuple(c.replace("\r", "").replace("\n", end) if isinstance(c, str) else c for c in row) for row in rows]
    out = io.StringIO()
    writer = csv.writer(out, delimiter=mark, quoting=quoting, lineterminator=end)
    writer.writerows([[row[at] for at in order] for row in [("note", "sequence", "expression", "other"), *rows]])
    path = tmp_path / "table"
    path.write_bytes(out.getvalue().encode())
    monkeypatch.setattr(streams, "BLOCK_BYTES", block)
    read = read_measurements(path)
    assert read.sequences.to_strings() == [row[1] for row in rows]
    np.testing.assert_array_equal(read.expression, [row[2] for row in rows])


@thorough
@given(
    cells=st.lists(st.lists(st.text('a"\t,\n\r ', max_size=6), min_size=3, max_size=3), min_size=1, max_size=8),
    mark=st.sampled_from([b",", b"\t"]),
)
def test_fast_and_slow_ways_are_one_definition(cells, mark):
    block = b"\n".join(mark.join(cell.encode() for cell in row) for row in cells) + b"\n"
    assume(b'""' not in block.splitlines())  # refused by either, in other words
    sound, starts = module._sound_part(block, mark, width=3)
    if not sound:
        return
    fast = module._split_by_pyarrow(block[:sound], 1, mark.decode(), 3, [0, 1, 2], quoted=True, starts=starts)
    slow = list(module.records("x", block[:sound], 1, mark, last=False, looks_like_row=lambda row: False))
    slow = [([b""] * 3 if cells == [b""] else cells, line) for cells, line, _ in slow]  # an empty line
    assert [row[0] for row in slow if len(row[0]) == 3] == [
        list(row) for row in zip(*map(pa.Array.to_pylist, fast.cells), strict=True)
    ]
    assert [row[1] for row in slow if len(row[0]) == 3] == fast.lines.tolist()
    assert [row[1] for row in slow if len(row[0]) != 3] == [line for line, _ in fast.misfits]


@pytest.mark.parametrize("block", [64, 1 << 21])
@pytest.mark.parametrize("mark", [",", "\t", ";"])
@pytest.mark.parametrize("column", [0, 3])
@pytest.mark.parametrize("apart", [1, 10])
def test_a_quote_that_swallows_rows_is_refused_by_its_line(apart, column, mark, block, tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "BLOCK_BYTES", block)
    lines = table_lines(mark)
    for line, quoted in ((20, '"{}'), (20 + apart, '{}"')):
        cells = lines[line].split(mark)
        cells[column] = quoted.format(cells[column])
        lines[line] = mark.join(cells)
    path = write(tmp_path / "table", lines)
    for read in (read_measurements, read_sequences, check):
        with pytest.raises(
            InputError, match=rf":21: a quote opens in this line and is closed in line {21 + apart} only"
        ):
            read(path)


@pytest.mark.parametrize("column", range(4))
@pytest.mark.parametrize("line", [1, 30, 60])
def test_a_quote_that_is_never_closed(line, column, tmp_path):
    for mark in ",;\t":
        lines = table_lines(mark)
        cells = lines[line].split(mark)
        cells[column] = '"' + cells[column]
        lines[line] = mark.join(cells)
        path = write(tmp_path / "table", lines)
        if mark == "\t" and column in (0, 3):  # taken as a letter
            assert read_sequences(path)[0].to_strings() == STRINGS
            continue
        with pytest.raises(InputError, match=rf":{line + 1}: "):
            read_measurements(path)


def test_a_chosen_cell_holds_no_line_break(tmp_path):
    path = write(tmp_path / "table", ["note,sequence,expression", 'a,"ACGT\nACGT",1', "b,ACGT,2"])
    for read in (read_measurements, read_sequences, check):
        with pytest.raises(InputError, match=r":2: the sequence holds a line break"):
            read(path)
    path = write(tmp_path / "table", ["note,sequence,expression", "b,ACGT,2", 'a,ACGT,"1\r\n"'])
    for read in (read_measurements, check):
        with pytest.raises(InputError, match=r":3: the expression holds a line break"):
            read(path)


def test_line_breaks_in_notes_read_alike_at_any_size(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "BLOCK_BYTES", 1 << 12)
    lines, where = ["id,sequence,expression,note"], []
    for row in range(3_000):
        where.append(sum(line.count("\n") + 1 for line in lines[-1:]) + (where[-1] if where else 0))
        lines.append(f"s{row},{STRINGS[row % 60]},{row}," + ('"one,\ntwo, of ""3""\r\n\n"' if row % 3 == 0 else "ok"))
    path = write(tmp_path / "table", lines)
    read = read_measurements(path)
    assert len(read) == 3_000
    np.testing.assert_array_equal(read.expression, np.arange(3_000.0))
    lines[2_001] = lines[2_001].replace(",2000,", ",none?,")
    with pytest.raises(InputError, match=rf":{where[2_000] + 1}: the expression 'none\?'"):
        read_measurements(write(tmp_path / "table", lines))


def test_rows_of_another_width_have_their_line(tmp_path):
    lines = table_lines(",")
    lines[5] += ',"x\ny"'
    lines[9] = 's8,"a\nb"'
    rejected: list[str] = []
    assert len(read_measurements(write(tmp_path / "table", lines), rejected=rejected)) == 58
    assert [message.split(":", 1)[1] for message in rejected] == [
        "6: 5 columns where 4 were expected.",
        "11: 2 columns where 4 were expected.",
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_letters_that_look_like_quotes(end, tmp_path):
    lines = ["sequence\texpression\tnote", "ACGT\t1\t5' end", 'AC\t2\t5" end', 'ACG\t3\t"5"" end"', 'A\t4\t"x" or y']
    read = read_measurements(write(tmp_path / "table", lines, end))
    assert read.sequences.to_strings() == ["ACGT", "AC", "ACG", "A"]


def test_memory_of_a_long_line_is_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "LONGEST_LINE", 1 << 16)
    path = write(tmp_path / "table", ["ACGT\t1", "A" * (1 << 18) + "\t2", "ACGT\t3"])
    monkeypatch.setattr(streams, "BLOCK_BYTES", 1 << 10)
    monkeypatch.setattr("prixfixe.data.tables.HEAD_BYTES", 1 << 10)
    with pytest.raises(InputError, match=r":2: a line of more than 65,536 bytes"):
        read_measurements(path)


def test_a_list_column_is_named(tmp_path):
    table = pa.table({"sequence": STRINGS, "expression": [[1.0, 2.0]] * 60, "other": [{"a": 1}] * 60})
    pq.write_table(table, tmp_path / "table")
    for name, kind in (("expression", "list"), ("other", "struct")):
        with pytest.raises(InputError, match=f"column {name!r} is of type {kind}<.* which cannot be read"):
            read_measurements(tmp_path / "table", expression=name)
    assert len(read_sequences(tmp_path / "table")[0]) == 60
