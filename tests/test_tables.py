"""The reader of tables: every supported format round trip, every kind of bad input with its place."""

import gzip
import io
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prixfixe.data import streams, tables
from prixfixe.data.measurements import Measurements
from prixfixe.data.tables import count_sequences, read_measurements, read_sequence_chunks, read_sequences
from prixfixe.errors import InputError

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
sequences = st.text("ACGTNacgtn", min_size=1, max_size=40)
numbers = st.floats(allow_nan=False, allow_infinity=False)
rows = st.lists(st.tuples(sequences, numbers, numbers, st.integers(-5, 5)), min_size=1, max_size=30)


def write(folder: Path, content: str | bytes, name: str = "table") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


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
    with pytest.raises(InputError, match="column 'seq' is of type list<.*int64>, which cannot be read"):
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
