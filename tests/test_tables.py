"""The reader of tables: every supported format round trip, every kind of bad input with its place."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import random_strings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prixfixe.common.errors import InputError
from prixfixe.data import streams, tables
from prixfixe.data.check import check
from prixfixe.data.measurements import Measurements, check_expression, standard_deviation
from prixfixe.data.sequences import Sequences
from prixfixe.data.splits import in_fold
from prixfixe.data.tables import count_sequences, first_row, read_measurements, read_sequence_chunks, read_sequences

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
sequences = st.text("ACGTNacgtn", min_size=1, max_size=40)
numbers = st.floats(allow_nan=False, allow_infinity=False)
rows = st.lists(st.tuples(sequences, numbers, numbers, st.integers(-5, 5)), min_size=1, max_size=30)


def write(folder: Path, content: str | bytes, name: str = "table") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def tar_of(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@quick
@given(
    rows=rows,
    delimiter=st.sampled_from("\t,;"),
    header=st.booleans(),
    quote=st.booleans(),
    zipped=st.booleans(),
    bom=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.sampled_from(["", "\n", "\n\n\n", "\n  \n"]),
)
def test_text_round_trip(rows, delimiter, header, quote, zipped, bom, end, last, tmp_path):
    mark = '"' if quote else ""
    lines = [delimiter.join([f"{mark}{sequence}{mark}", repr(first), str(fold)]) for sequence, first, _, fold in rows]
    if header:
        lines.insert(0, delimiter.join(["Sequence", "expression", "fold"]))
    text = (b"\xef\xbb\xbf" if bom else b"") + (end.join(lines) + last.replace("\n", end)).encode()
    path = write(tmp_path, gzip.compress(text) if zipped else text)

    read = read_measurements(path, fold=True)

    assert read.sequences.to_strings() == [sequence.upper() for sequence, *_ in rows]
    np.testing.assert_array_equal(read.expression, [first for _, first, *_ in rows])
    np.testing.assert_array_equal(read.fold, [fold for *_, fold in rows])
    encoded, names = read_sequences(path)
    assert encoded.to_strings() == read.sequences.to_strings()
    assert names == [str(row) for row in range(len(rows))]


@quick
@given(
    rows=rows,
    kind=st.sampled_from([pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())]),
)
def test_parquet_round_trip(rows, kind, tmp_path):
    columns = list(zip(*rows, strict=True))
    table = pa.table(
        {
            "id": list(range(len(rows))),
            "seq": pa.array(columns[0]).cast(kind),
            "a": columns[1],
            "b": columns[2],
            "cv": columns[3],
        }
    )
    pq.write_table(table, tmp_path / "table", row_group_size=7)

    read = read_measurements(tmp_path / "table", expression=["b", "a"], fold="cv")

    assert read.tasks == ("b", "a")
    assert read.sequences.to_strings() == [sequence.upper() for sequence in columns[0]]
    np.testing.assert_array_equal(read.expression, np.array([columns[2], columns[1]]).T)
    np.testing.assert_array_equal(read.fold, columns[3])
    assert read_sequences(tmp_path / "table")[1] == [str(row) for row in range(len(rows))]


@quick
@given(
    rows=st.lists(st.tuples(st.text("abcXYZ019_|", min_size=1), sequences), min_size=1),
    width=st.integers(1, 50),
    zipped=st.booleans(),
)
def test_fasta_round_trip(rows, width, zipped, tmp_path):
    text = io.StringIO()
    for name, sequence in rows:
        text.write(f">{name} what it is\n")
        text.writelines(f"{sequence[start : start + width]}\n" for start in range(0, len(sequence), width))
    data = text.getvalue().encode()
    read, names = read_sequences(write(tmp_path, gzip.compress(data) if zipped else data))
    assert names == [name for name, _ in rows]
    assert read.to_strings() == [sequence.upper() for _, sequence in rows]


table_like = st.lists(
    st.lists(st.one_of(sequences, st.sampled_from(["", "1", "-2.5", "nan", "x", '"', "seq", ">", "\x00"])), max_size=4),
    max_size=6,
)


@quick
@given(
    content=st.one_of(
        st.binary(max_size=300),
        table_like.map(lambda rows: "\n".join("\t".join(row) for row in rows).encode()),
        st.binary(max_size=100).map(lambda tail: b"\x1f\x8b\x08" + tail),
        st.binary(max_size=100).map(lambda tail: b"PAR1" + tail + b"PAR1"),
        st.tuples(st.integers(0, 60), st.integers(1, 255)).map(
            lambda at: corrupted(gzip.compress(b"ACGT\t1\n" * 20, mtime=0), *at)
        ),
    )
)
def test_any_bytes_are_read_or_refused(content, tmp_path):
    path = write(tmp_path, content)
    for read in (read_measurements, read_sequences):
        try:
            result = read(path)
        except InputError as error:
            assert str(path) in str(error)
            continue
        encoded = result.sequences if isinstance(result, Measurements) else result[0]
        assert len(encoded) > 0
        assert encoded.lengths.min() > 0
        assert encoded.padded().max() <= 4
        if isinstance(result, Measurements):
            assert np.isfinite(result.expression).all()  # one task: rows that lack it are left out
    with suppress(InputError):
        assert len(read_measurements(path, rejected=[])) > 0


def corrupted(content: bytes, position: int, change: int) -> bytes:
    position %= len(content)
    return content[:position] + bytes([content[position] ^ change]) + content[position + 1 :]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("ACGT\t1\nACXT\t2\n", ":2: position 3 of the sequence is 'X'"),
        ("ACGT\t1\n\t2\n", ":2: the sequence is empty"),
        ("ACGT\t1\n\nACGT\t2\n", ":2: the sequence is empty"),
        ("ACGT\t1\n  \nACGT\t2\n", ":2: the sequence is empty"),
        ("ACGT\t1\nACGT\tlow\n", ":2: the expression 'low' is not a finite number"),
        ("ACGT\t1\nACGT\t-inf\n", ":2: the expression '-inf' is not a finite number"),
        (
            "ACGT\t1\nACGT\t\u0661\u0662\n",
            ":2: the expression '\u0661\u0662' is not a finite number; .* the digits 0 to 9",
        ),
        ("ACGT\t1\nACGT\t\u22121.5\n", ":2: the expression '\u22121.5' is not a finite number; .* a plain -"),
        ("ACGT\t1\nACGT\t1e999\n", ":2: the expression '1e999' is not a finite number"),
        ("ACGT\t1\nACGT\n", ":2: 1 columns where 2 were expected"),
        ("ACGT\t1\nACGT\t1\t2\n", ":2: 3 columns where 2 were expected"),
        ("ACXT\t1\nACGT\t2\n", ":1: position 3"),
        ("ACGT\tNA\nACGT\t\n", "no row has a measurement"),
        ("seq\texpression\nACGT\tNA\nACGT\t\n", "no row has a measurement"),
        ("\n\nseq\texpression\r\nACGT\t1\r\nACUT\t2\r\n", ":5: position 3 of the sequence is 'U'"),
        ("seq,expression\n", "a header but no rows"),
        ("", "is empty"),
        ("\n \n\n", "is empty"),
        ("ACGT\n", "one column"),
        (">a\nACGT\n", "FASTA"),
        (
            "promoter\tlevel\nACGT\t1\n",
            "no column is named sequence or seq.*dataset.sequence=NAME; the columns are: promoter, level",
        ),
        ("seq\ta\tb\nACGT\t1\t2\n", "2 columns hold numbers.*dataset.expression=NAME; the columns are: seq, a, b"),
        ("seq\ta\nACGT\tx\n", "no column holds numbers"),
        ("ACGT\t1\n".encode("utf-16-le"), ":1: zero bytes"),
        (b"seq\texpression\xff\nACGT\t1\n", ":1: byte 0xFF is no UTF-8 text: .*iconv"),
        (b"ACGT\t1\nAC\xffT\t1\n", ":2: byte 0xFF is no UTF-8"),
        (gzip.compress(b"ACGT\t1\n" * 1000, mtime=0)[:-9], "cannot be read"),
    ],
)
def test_bad_input_is_refused_with_its_place(content, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_measurements(write(tmp_path, content))


@pytest.mark.parametrize("names", [["12345678901234567890", "1"], ["\u0661", "1"]], ids=["20-digits", "arabic"])
def test_folds_of_digits_that_are_no_number_keep_their_names(names, tmp_path):
    rows = "".join(f"ACGT\t1\t{names[row % 2]}\n" for row in range(6))
    read = read_measurements(write(tmp_path, "seq\texpression\tfold\n" + rows), fold=True)
    assert np.asarray(read.fold).tolist() == names * 3


def test_a_problem_far_into_a_large_file_has_its_line(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "BLOCK_BYTES", 1 << 12)
    lines = ["seq\texpression"] + ["ACGTACGTACGT\t1.5"] * 5_000
    lines[4_321] = "ACGTACGTACGU\t1.5"
    path = write(tmp_path, "\n".join(lines))
    with pytest.raises(InputError, match=r":4322: position 12 of the sequence is 'U'"):
        read_measurements(path)


def test_blocks_of_different_lengths_come_together(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "BLOCK_BYTES", 1 << 10)
    strings = ["ACGTN"[row % 5] * (1 + row * 37 % 90) for row in range(500)]
    read = read_measurements(write(tmp_path, "".join(f"{string}\t{row}\n" for row, string in enumerate(strings))))
    assert read.sequences.to_strings() == strings
    np.testing.assert_array_equal(read.expression, np.arange(500.0))


def test_unusable_rows_can_be_left_out_and_described(tmp_path):
    content = "seq\texpression\nACGT\t1\nACXT\t2\nACGT\nAC\t3\n\nA\tx\nACG\t4\nACGT\t\t\n\n"
    rejected: list[str] = []
    read = read_measurements(write(tmp_path, content), rejected=rejected)
    assert read.sequences.to_strings() == ["ACGT", "AC", "ACG"]
    assert read.sequences.padded().shape == (3, 4)
    np.testing.assert_array_equal(read.expression, [1, 3, 4])
    assert [line.split(":")[1] for line in rejected] == ["3", "4", "6", "7", "9"]


def test_a_file_without_one_usable_row_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"No row can be used.*:2: the expression 'x'"):
        read_measurements(write(tmp_path, "seq\texpression\nACGT\tx\n"), rejected=[])


def test_named_columns(tmp_path):
    path = write(tmp_path, "name,promoter,low,high,fold\np1,ACGT,1,2,0\np2,AC,3,4,1\n")
    read = read_measurements(path, sequence="promoter", expression=["high", "low"])
    assert read.tasks == ("high", "low")
    np.testing.assert_array_equal(read.expression, [[2, 1], [4, 3]])
    assert read.fold is None
    folds = read_measurements(path, sequence="promoter", expression="low", fold=True).fold
    np.testing.assert_array_equal(folds, [0, 1])
    assert read_measurements(path, sequence="promoter", expression="fold", fold=True).fold is None
    assert read_measurements(path, sequence="promoter", expression=["low"]).expression.shape == (2,)
    assert read_sequences(path, sequence="promoter")[1] == ["p1", "p2"]
    with pytest.raises(InputError, match=r"no column 'medium' for the expression.*promoter, low, high"):
        read_measurements(path, sequence="promoter", expression="medium")


def test_columns_of_a_file_without_header_cannot_be_named(tmp_path):
    with pytest.raises(InputError, match="has no header"):
        read_measurements(write(tmp_path, "ACGT\t1\n"), sequence="promoter")


def test_names_that_look_like_data_are_a_header_when_asked_for(tmp_path):
    read = read_measurements(write(tmp_path, "0\t1\nACGT\t2\n"), sequence="0", expression="1")
    assert read.sequences.to_strings() == ["ACGT"]


def test_the_only_numeric_column_is_the_expression(tmp_path):
    path = write(tmp_path, "id,seq,source,activity,fold\n1,ACGT,lab,0.5,3\n2,ACGT,lab,0.7,4\n")
    read = read_measurements(path, fold=True)
    assert read.tasks == ("activity",)
    np.testing.assert_array_equal(read.fold, [3, 4])


def test_spaces_around_numbers(tmp_path):
    np.testing.assert_array_equal(read_measurements(write(tmp_path, "ACGT, 1.5\nACGT,+2 \n")).expression, [1.5, 2])


def test_one_sequence_a_line(tmp_path):
    read, names = read_sequences(write(tmp_path, "acgt\nAC\n\n"))
    assert read.to_strings() == ["ACGT", "AC"]
    assert names == ["0", "1"]
    assert read_sequences(write(tmp_path, "sequence\nACGT\n"))[0].to_strings() == ["ACGT"]
    with pytest.raises(InputError, match=":1: position 3"):
        read_sequences(write(tmp_path, "ACXT\nACGT\n"))
    with pytest.raises(InputError, match=":2: the sequence is empty"):
        read_sequences(write(tmp_path, "ACGT\n\nACGT\n"))


def test_rows_that_lack_only_their_sequence_are_not_dropped_at_the_end(tmp_path):
    with pytest.raises(InputError, match=":3: the sequence is empty"):
        read_sequences(write(tmp_path, "seq\texpression\nACGT\t1\n\t2\n"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (">a\nACGT\n>b\nAC\nGXT\n", ":5: position 2 of the line is 'X'"),
        (">a\nACGT\n>b\n>c\nACGT\n", ":3: the sequence of 'b' is empty"),
        (">a\n", ":1: the sequence of 'a' is empty"),
    ],
)
def test_bad_fasta(content, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_sequences(write(tmp_path, content))


def test_missing_file_and_folder(tmp_path):
    for read in (read_measurements, read_sequences):
        with pytest.raises(InputError, match="there is no such file"):
            read(tmp_path / "absent.tsv")
        with pytest.raises(InputError, match="is a folder"):
            read(tmp_path)


def test_parquet_problems(tmp_path):
    path = tmp_path / "table"
    pq.write_table(pa.table({"seq": ["ACGT", None], "expression": [1.0, 2.0]}), path)
    with pytest.raises(InputError, match="row 2: the sequence is empty"):
        read_measurements(path)
    pq.write_table(pa.table({"seq": ["ACGT", "AC"], "expression": [1.0, None]}), path)
    assert len(read_measurements(path)) == 1
    pq.write_table(pa.table({"seq": [[1], [2]], "expression": [1.0, 2.0]}), path)
    with pytest.raises(InputError, match=r"column 'seq' is of type list<.*int64>, which cannot be read"):
        read_measurements(path)
    pq.write_table(pa.table({"seq": pa.array([], pa.string()), "expression": pa.array([], pa.float64())}), path)
    with pytest.raises(InputError, match="no rows"):
        read_measurements(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="cannot be read"):
        read_measurements(path)


LENGTHS = [1 + row * 37 % 90 for row in range(500)]
STRINGS = ["ACGTN"[row % 5] * length for row, length in enumerate(LENGTHS)]


@pytest.mark.parametrize("rows", [1, 7, 100, 499, 500, 1000])
@pytest.mark.parametrize("kind", ["table", "table with ids", "FASTA", "Parquet"])
def test_chunks_are_the_whole_file_in_pieces(kind, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "BLOCK_BYTES", 1 << 10)
    monkeypatch.setattr("prixfixe.data.fasta.FASTA_RECORDS", 33)
    monkeypatch.setattr(tables, "PARQUET_ROWS", 33)
    content = {
        "table": "\n".join(STRINGS) + "\n\n",
        "table with ids": "seq\tid\n" + "".join(f"{string}\tp{row}\n" for row, string in enumerate(STRINGS)),
        "FASTA": "".join(f">{f'p{row}' if row % 2 else ''}\n{string}\n" for row, string in enumerate(STRINGS)),
        "Parquet": "",
    }
    path = write(tmp_path, content[kind])
    if kind == "Parquet":
        pq.write_table(
            pa.table({"sequence": STRINGS, "id": pa.array([None, *range(1, 500)])}), path, row_group_size=120
        )
    whole, names = read_sequences(path)
    assert whole.to_strings() == STRINGS
    assert len(names) == len(STRINGS) == count_sequences(path)
    chunks = list(read_sequence_chunks(path, rows))
    assert [len(chunk) for chunk, _ in chunks] == [
        len(STRINGS[start : start + rows]) for start in range(0, len(STRINGS), rows)
    ]
    assert [string for chunk, _ in chunks for string in chunk.to_strings()] == STRINGS
    assert [name for _, chunk_names in chunks for name in chunk_names] == names


@pytest.mark.parametrize("fasta", [False, True])
def test_chunks_come_before_the_file_is_read_to_its_end(fasta, tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "BLOCK_BYTES", 1 << 10)
    monkeypatch.setattr("prixfixe.data.fasta.FASTA_RECORDS", 33)
    start = ">p\n" if fasta else ""
    path = write(tmp_path, "".join(f"{start}{string}\n" for string in [*STRINGS, "ACXT", "A"]))
    chunks = read_sequence_chunks(path, 10)
    assert next(chunks)[0].to_strings() == STRINGS[:10]
    with pytest.raises(InputError, match=f":{1002 if fasta else 501}: position 3"):
        list(chunks)
    with pytest.raises(InputError, match=f":{1002 if fasta else 501}: position 3"):
        count_sequences(path)


@pytest.mark.parametrize(
    ("file", "options", "shape", "longest"),
    [
        ("yeast/random_promoters.txt", {}, (6370,), 135),
        ("yeast/designed_complex_media.tsv", {}, (12869,), 110),
        ("yeast/leaderboard/test_sequences.tsv", {}, (1072,), 110),
        (
            "drosophila/starrseq_train.tsv",
            {"expression": ["Dev_log2_enrichment", "Hk_log2_enrichment"]},
            (1000, 2),
            249,
        ),
        ("drosophila/starrseq_val.tsv", {"expression": ["Dev_log2_enrichment", "Hk_log2_enrichment"]}, (1000, 2), 249),
        ("human/lentimpra_train.tsv", {}, (1000,), 230),
        ("human/lentimpra_val.tsv", {}, (1000,), 230),
    ],
)
def test_real_files(file, options, shape, longest, real_data):
    read = read_measurements(real_data / file, **options)
    lines = (real_data / file).read_text().splitlines()
    assert read.expression.shape == shape
    assert read.sequences.padded().shape == (shape[0], longest)
    assert read.sequences.to_strings()[-1] in lines[-1]
    has_folds = not file.startswith("yeast")
    assert bool(read.remarks) == has_folds
    assert (read_measurements(real_data / file, fold=True, **options).fold is not None) == has_folds


PROMOTERS = random_strings(40)


def lines_of(*columns, mark="\t"):
    return "".join(mark.join(map(str, row)) + "\n" for row in zip(*columns, strict=True))


@pytest.mark.parametrize("folds", [["train", "val", "test", ""] * 10, ["0", "1", "x", "2.5"] * 10])
def test_a_fold_column_is_read_where_it_is_asked_for(folds, tmp_path):
    path = write(tmp_path, "sequence\texpression\tsplit\n" + lines_of(PROMOTERS, range(40), folds))
    read = read_measurements(path)
    assert len(read) == 40 and read.fold is None
    assert " has a column split (" in read.remarks[0]
    assert f"which is not used: dataset.fold={'val' if 'val' in folds else '0'} validates" in read.remarks[0]
    if "" in folds:
        with pytest.raises(InputError, match=r":5: the fold is empty: fill it in"):
            read_measurements(path, fold=True)
        with pytest.raises(
            InputError, match=r"no column 'part' for the fold. Choose one with dataset\.fold_column=NAME"
        ):
            read_measurements(path, fold="part")
    else:
        read = read_measurements(path, fold="split")
        assert read.fold.tolist() == folds and read.remarks == ()
        assert in_fold(read, 1).tolist() == in_fold(read, "1").tolist() == [fold == "1" for fold in folds]
    assert read_measurements(path, fold=True, rejected=[]).fold.tolist() == folds


def test_a_third_column_without_a_header_is_left_alone(tmp_path):
    third = [str(row % 7) for row in range(36)] + ["NA", "2.5", "", "x"]
    path = write(tmp_path, lines_of(PROMOTERS, range(40), third))
    assert len(read_measurements(path)) == 40
    path = write(tmp_path, lines_of(PROMOTERS, range(40), [row % 7 for row in range(40)]))
    assert (
        " has a third column (0, 1, 2, 3, ...), which is not used: dataset.fold=0 "
        in read_measurements(path).remarks[0]
    )
    np.testing.assert_array_equal(read_measurements(path, fold=True).fold, np.arange(40) % 7)


@pytest.mark.parametrize("missing", sorted(tables.MISSING | {"NaN", "NA", "None", "NULL", "N/A"}))
def test_what_was_not_measured_is_nan(missing, tmp_path):
    first = [missing, *range(1, 39), missing]
    second = [0.5, missing, *range(2, 39), missing]
    path = write(tmp_path, "sequence\tDev\tHk\n" + lines_of(PROMOTERS, first, second))
    read = read_measurements(path, expression=["Dev", "Hk"])
    assert read.sequences.to_strings() == PROMOTERS[:39]
    np.testing.assert_array_equal(read.expression[:3], [[np.nan, 0.5], [1, np.nan], [2, 2]])
    assert read.remarks == (
        "1 of 40 rows left out: no measurement (empty, NA or the like)",
        "Dev is measured in 38 of 39 rows",
        "Hk is measured in 38 of 39 rows",
    )
    one = read_measurements(path, expression="Hk")
    assert len(one) == 38 and one.remarks == ("2 of 40 rows left out: no Hk (empty, NA or the like)",)
    with pytest.raises(InputError, match=r":2: the Dev .*is"):
        read_measurements(path, expression="Dev", unmeasured=False)


def test_a_task_that_was_never_measured(tmp_path):
    path = write(tmp_path, "sequence\ta\tb\n" + lines_of(PROMOTERS, range(40), ["NA"] * 40))
    with pytest.raises(InputError, match="b is measured in no row"):
        read_measurements(path, expression=["a", "b"])


@pytest.mark.parametrize("header", ["tag\tlog2FC", "cat\tnan", "nan\tgc", "oligo\tlog2(RNA/DNA)", "2\tta", "t\tNaN"])
def test_a_header_is_judged_by_the_rows_below(header, tmp_path):
    path = write(tmp_path, header + "\n" + lines_of(PROMOTERS, range(40)))
    names = header.split("\t")
    assert first_row(path) == (names, True)
    read = read_measurements(path, sequence=names[0])
    assert len(read) == 40 and read.tasks == (names[1],)


def test_a_header_with_a_number(tmp_path):
    path = write(tmp_path, "oligo\tlog2\t2\ttrue\n" + lines_of(PROMOTERS, *[range(40)] * 3))
    assert read_measurements(path, sequence="oligo", expression="2").tasks == ("2",)
    with pytest.raises(InputError, match=r"no column is named sequence.*the columns are: oligo, log2, 2, true"):
        read_measurements(path)


@pytest.mark.parametrize(
    "first", ["\t1", "ACXTACGTACGTACGTACGT\t1", f"{PROMOTERS[0]}\tlow", f"{PROMOTERS[0][:50]}X\tx"]
)
def test_a_first_row_that_is_damaged_is_no_header(first, tmp_path):
    path = write(tmp_path, first + "\n" + lines_of([string[:20] for string in PROMOTERS], range(40)))
    with pytest.raises(InputError, match=":1: "):
        read_measurements(path)


@pytest.mark.parametrize("names", ["sequence,expression,expression", "sequence,SEQUENCE,expression", "seq,seq,a"])
def test_a_name_that_two_columns_have(names, tmp_path):
    path = write(tmp_path, names + "\n" + lines_of(PROMOTERS, PROMOTERS, range(40), mark=","))
    with pytest.raises(InputError, match=r"2 columns are named '\w+' \(columns \d, \d\): rename"):
        read_measurements(path)
    path = write(tmp_path, "seq,a,a\n" + lines_of(PROMOTERS, range(40), range(40), mark=","))
    with pytest.raises(InputError, match="2 columns are named 'a'"):
        read_measurements(path, expression="a")


@pytest.mark.parametrize("index", ["", "Unnamed: 0"])
def test_the_index_of_pandas_is_no_measurement(index, tmp_path):
    path = write(tmp_path, f"{index},seq,log2FC\n" + lines_of(range(40), PROMOTERS, range(40), mark=","))
    assert read_measurements(path).tasks == ("log2FC",)


def test_row_names_of_r_and_a_trailing_mark(tmp_path):
    path = write(tmp_path, '"sequence"\t"y"\n' + lines_of(range(40), [f'"{s}"' for s in PROMOTERS], range(40)))
    read = read_measurements(path)
    assert read.sequences.to_strings() == PROMOTERS and read.tasks == ("y",)
    path = write(tmp_path, "sequence,y\n" + lines_of(PROMOTERS, range(40), [""] * 40, mark=","))
    assert read_measurements(path).sequences.to_strings() == PROMOTERS


def test_comments_above_the_header(tmp_path):
    body = lines_of(PROMOTERS, range(40))
    for head in ('# assay 12, "B\n\n# log2\nsequence\texpression\n', "# nothing\n", "# a, b\n#sequence\texpression\n"):
        read = read_measurements(write(tmp_path, head + body))
        assert len(read) == 40 and read.tasks == ("expression",)
    with pytest.raises(InputError, match=r":4: the expression 'x'"):
        read_measurements(write(tmp_path, "# a\n\nsequence\texpression\nACGT\tx\n"))


def test_spaces_around_cells(tmp_path):
    lines = [f" {string} , {row} , train " for row, string in enumerate(PROMOTERS)]
    read = read_measurements(write(tmp_path, "\n".join(["sequence , expression, set", *lines])), fold=True)
    assert read.sequences.to_strings() == PROMOTERS and set(read.fold) == {"train"}
    np.testing.assert_array_equal(read.expression, np.arange(40.0))


@pytest.mark.parametrize("header", ["sequence;expression\n", "sequence;log2FC\n", ""])
@pytest.mark.parametrize("number", ["1,238", "1.234,5", "1,234.5"])
def test_decimal_commas_are_named(header, number, tmp_path):
    path = write(tmp_path, header + lines_of(PROMOTERS, [number] * 40, mark=";"))
    with pytest.raises(InputError, match=f"'{number}'.* a comma is no part of a number here: write a decimal point"):
        read_measurements(path)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, lambda text: text])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("fasta", [False, True])
def test_compressions_and_encodings(pack, encoding, fasta, tmp_path):
    text = lines_of(PROMOTERS, ["1.5 µ"] * 40)
    if fasta:
        text = "".join(f">é{row}\n{string}\n" for row, string in enumerate(PROMOTERS))
    read, names = read_sequences(write(tmp_path, pack(text.encode(encoding))))
    assert read.to_strings() == PROMOTERS
    assert names[39] == ("é39" if fasta else "39")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 and more", "xlsx.*save the sheet as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", r"\.xls"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (gzip.compress(gzip.compress(b"ACGT\t1\n", mtime=0), mtime=0), "compressed twice"),
        (gzip.compress(b"PAR1 and more", mtime=0), "Parquet inside"),
        (bz2.compress(b"ACGT\t1\n" * 99)[:-9], "cannot be read"),
        (lzma.compress(b"ACGT\t1\n" * 99)[:-9], "cannot be read"),
        ("ACGT\t1\n".encode("utf-32"), "UTF-32"),
        ("ACGT\t1é\n".encode("latin-1"), ":1: byte 0xE9 is no UTF-8.*iconv"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"@r1\nACGT\n+\nIIII\n", "FASTQ"),
        (tar_of("table.tsv", b"ACGT\t1\n"), "a tar archive"),
        (b"ACGT\t1\n" * 300_000 + b"\0", ":300001: zero bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "file",  # gzip's bytes hold the time
)
def test_other_files_are_named_for_what_they_are(content, message, tmp_path):
    for read in (read_measurements, read_sequences):
        with pytest.raises(InputError, match=message):
            read(write(tmp_path, content))


@pytest.mark.parametrize(
    ("letter", "hint"),
    [("U", "write T for U"), ("R", "IUPAC.*write N"), ("*", "gaps and stops"), ("-", "gaps and stops")],
)
def test_other_letters_have_a_hint(letter, hint, tmp_path):
    with pytest.raises(
        InputError,
        match=rf":1: position 5 of the sequence is '\{letter}'.*{hint}".replace("\\U", "U").replace("\\R", "R"),
    ):
        read_measurements(write(tmp_path, f"ACGT{letter}\t1\n"))
    with pytest.raises(InputError, match=f":2: position 5 of the line is .*{hint}"):
        read_sequences(write(tmp_path, f">a\nACGT{letter}\n"))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_fasta_with_any_line_ends_and_comments(end, tmp_path):
    text = end.join(["; a comment", ">a b", "ACGT", "; another", "", "AC", ">c", "G", ""])
    read, names = read_sequences(write(tmp_path, text))
    assert (read.to_strings(), names) == (["ACGTAC", "G"], ["a", "c"])
    with pytest.raises(InputError, match=":8: position 1 of the line is 'X'"):
        read_sequences(write(tmp_path, text.replace(f"{end}G", f"{end}X")))


def test_names_are_printable(tmp_path):
    path = write(tmp_path, 'id,sequence\n"a\tb\r\nc",ACGT\n"\x1b[31mred",AC\n')
    assert read_sequences(path)[1] == [r"a\tb\r\nc", r"\x1b[31mred"]


def test_chunks_are_bounded_by_letters(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "CHUNK_LETTERS", 100)
    strings = ["A" * length for length in (10, 10, 95, 10, 300, 1, 1, 1, 99, 1)]
    for content in ("\n".join(strings), "".join(f">a\n{string}\n" for string in strings)):
        chunks = [chunk for chunk, _ in read_sequence_chunks(write(tmp_path, content), 3)]
        assert [string for chunk in chunks for string in chunk.to_strings()] == strings
        assert [len(chunk) for chunk in chunks] == [3, 2, 3, 2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, 1e300], r"1e\+300 in row 2 of the 2"),
        ([-1e39, 1.0], r"-1e\+39 in row 1 of the 2"),
        ([1e9, 1e9 + 1, 1e9 + 2], "cannot tell such values apart: subtract"),
        ([1e-40, 2e-40, 0.0], "standard deviation is .*use other units"),
        ([[1.0, 2.0], [2.0, 1e300], [np.nan, 3.0]], r"b is 1e\+300 in row 2"),
    ],
)
def test_values_that_float32_cannot_hold_or_tell_apart(values, message):
    expression = np.array(values)
    names = ("a", "b") if expression.ndim == 2 else ("a",)
    with pytest.raises(InputError, match=message):
        check_expression(Measurements(Sequences.from_strings(["A"] * len(values)), expression, names), "table")


@pytest.mark.parametrize(
    "values", [[0.0, 17.0], [1e6, 1e6 + 1e3], [1e-10, 2e-10], [3.0, 3.0], [1.0, np.nan, 2.0], [1e15, 0.0]]
)
def test_values_that_float32_holds(values):
    check_expression(Measurements(Sequences.from_strings(["A"] * len(values)), np.array(values)), "table")


def test_a_deviation_does_not_overflow():
    assert standard_deviation(np.array([1e300, -1e300, np.nan])) == 1e300
    assert standard_deviation(np.array([0.0, 2.0])) == 1.0


@pytest.mark.parametrize("read", [read_measurements, read_sequences, check])
def test_what_is_no_regular_file(read, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for path, message in (("/dev/zero", "a device"), (tmp_path / "pipe", "a pipe"), (tmp_path / "loop", "leads back")):
        with pytest.raises(InputError, match=f"{path}.*{message}"):
            read(path)


def test_labels_in_words_are_refused_with_what_to_write(tmp_path: Path) -> None:
    path = write(tmp_path, "sequence\tlabel\nACGT\tTRUE\nACGG\tFALSE\n")
    with pytest.raises(InputError, match="label 'TRUE' is not a finite number; write 1 or 0"):
        read_measurements(path, expression="label")
