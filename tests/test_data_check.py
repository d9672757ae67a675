"""`prixfixe data check`: each thing it tells is planted in a table and found."""

import argparse
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from conftest import random_strings, reverse_complement

from prixfixe.commands import data_check as command
from prixfixe.common.errors import InputError
from prixfixe.data.check import check, within_mismatches
from prixfixe.data.sequences import Sequences
from prixfixe.dream.construct import LEFT_FLANK, RIGHT_FLANK


def mutated(sequence: str, *positions: int) -> str:
    letters = list(sequence)
    for position in positions:
        letters[position] = "ACGT"["ACGT".index(letters[position]) - 1]
    return "".join(letters)


def write(path: Path, rows: list[tuple[str, float]]) -> Path:
    path.write_text("".join(f"{sequence}\t{expression}\n" for sequence, expression in rows))
    return path


def call(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    return command.run(parser.parse_args([str(argument) for argument in arguments]))


def test_what_is_planted_is_found(tmp_path):
    strings = random_strings(30)
    rows = [(string, float(row)) for row, string in enumerate(strings)]
    rows += [
        (strings[0], 0.0),
        (strings[1], 3.5),
        (reverse_complement(strings[2]), 2.0),
        (strings[3][:50] + "N", 1.0),
        ("ACGCGT" * 5, 4.0),
    ]
    report = check(write(tmp_path / "table", rows))
    assert report.rows == 35
    assert (report.lengths.shortest, report.lengths.median, report.lengths.longest, report.lengths.most_common) == (
        30,
        80,
        80,
        80,
    )
    assert report.lengths.most_common_share == pytest.approx(33 / 35)
    letters = "".join(sequence for sequence, _ in rows)
    assert report.alphabet.shares == pytest.approx({letter: letters.count(letter) / len(letters) for letter in "ACGTN"})
    assert report.alphabet.rows_with_n == 1
    repeats = report.repeats
    assert (repeats.distinct, repeats.repeated_rows, repeats.reverse_complements) == (
        33,
        2,
        2,
    )  # a palindrome is no pair
    assert (repeats.conflicting, repeats.largest_conflict, repeats.in_several_folds) == (1, 2.5, None)
    expression = report.expression["expression"]
    values = np.array([value for _, value in rows])
    assert expression.integer_share == pytest.approx(34 / 35)
    assert (expression.minimum, expression.maximum, expression.mean) == (0, 29, pytest.approx(values.mean()))
    assert expression.quartiles == pytest.approx(np.quantile(values, [0.25, 0.5, 0.75]))
    assert sum(expression.counts) == 35
    assert (report.flanks.left, report.flanks.right) == ("", "")
    assert any("more than once" in warning for warning in report.warnings())


def test_flanks(tmp_path):
    rows = [(LEFT_FLANK + string + RIGHT_FLANK, 1.0 + row) for row, string in enumerate(random_strings(30))]
    report = check(write(tmp_path / "table", [*rows, (random_strings(1, seed=9)[0], 1.0)]))
    assert (report.flanks.left, report.flanks.right) == (LEFT_FLANK, RIGHT_FLANK)
    assert report.flanks.rows_without == 1
    assert "shared by most sequences; 1 row without them" in report.text()
    other = check(write(tmp_path / "other", [("GATTACAGATTACA" + string, value) for (string, value) in rows]))
    assert other.flanks.left.startswith("GATTACAGATTACA")


def test_what_two_files_share(tmp_path):
    here, there = random_strings(10), random_strings(10, seed=1)
    there[0] = here[0]
    there[1] = reverse_complement(here[1])
    there[2] = mutated(here[2], 3, 70)
    there[3] = reverse_complement(mutated(here[3], 5, 6))
    there[4] = mutated(here[4], 1, 40, 79)  # one too many
    flanked = [[LEFT_FLANK + string + RIGHT_FLANK for string in strings] for strings in (here, there)]
    flanked[1][1] = reverse_complement(flanked[0][1])
    paths = [
        write(tmp_path / name, [(string, 1.0) for string in strings])
        for name, strings in zip("ab", flanked, strict=True)
    ]
    overlap = check(paths[0], against=paths[1], mismatches=2).against
    assert overlap is not None
    assert (overlap.identical, overlap.reverse_complement, overlap.near) == (1, 1, 2)
    assert not overlap.same_content
    wider = check(paths[0], against=paths[1], mismatches=3).against
    assert wider is not None
    assert wider.near == 3


def test_equal_content_in_another_order_and_format(tmp_path):
    rows = [(string, row + 0.5) for row, string in enumerate(random_strings(20))]
    path = write(tmp_path / "a.tsv", rows)
    shuffled = tmp_path / "b.csv"
    shuffled.write_text("expression,seq\n" + "".join(f"{value},{sequence.lower()}\n" for sequence, value in rows[::-1]))
    report = check(path, against=shuffled)
    assert report.against is not None and report.against.same_content
    assert any("same sequences and expression" in warning for warning in report.warnings())
    rows[3] = (rows[3][0], 99.0)
    changed = check(write(tmp_path / "c.tsv", rows), against=shuffled).against
    assert changed is not None and not changed.same_content and changed.identical == 20


@pytest.mark.parametrize("mismatches", [0, 1, 2, 5])
def test_near_duplicates_agree_with_comparing_all_pairs(mismatches):
    generator = np.random.default_rng(mismatches)
    strings = random_strings(60, length=24, seed=7)
    others = [mutated(string, *generator.choice(24, generator.integers(0, 8), replace=False)) for string in strings]
    others += [string[:20] for string in strings[:5]] + ["ACG", "A"]
    strings += ["ACT", "C", "GGGG"]
    expected = [
        any(len(a) == len(b) and sum(x != y for x, y in zip(a, b, strict=True)) <= mismatches for b in others)
        for a in strings
    ]
    found = within_mismatches(Sequences.from_strings(strings), Sequences.from_strings(others), mismatches)
    assert found.tolist() == expected


def test_many_candidates_are_compared_in_parts(monkeypatch):
    monkeypatch.setattr("prixfixe.data.check.PAIRS_AT_A_TIME", 10)
    strings = ["A" * 40 + string for string in random_strings(30, length=40)]
    others = [mutated(string, 75) for string in strings[::2]]
    found = within_mismatches(Sequences.from_strings(strings), Sequences.from_strings(others), 1)
    assert found.tolist() == [row % 2 == 0 for row in range(30)]


def test_folds_and_tasks(tmp_path):
    strings = random_strings(4)
    path = tmp_path / "table"
    path.write_text(
        "seq,a,b,fold\n"
        + "".join(f"{s},{i},{2 * i},{i % 2}\n" for i, s in enumerate([*strings, reverse_complement(strings[0])]))
    )
    report = check(path, expression=["b", "a"])
    assert list(report.expression) == ["b", "a"]
    assert report.folds == {"0": 3, "1": 2}
    assert report.repeats.in_several_folds == 0
    path.write_text(path.read_text() + f"{strings[0]},0,0,1\n")
    assert check(path, expression="a").repeats.in_several_folds == 1


def test_unusable_rows_are_counted_and_shown(tmp_path, capsys):
    rows = "".join(f"{string}\t{row}\n" for row, string in enumerate(random_strings(5)))
    path = tmp_path / "table"
    path.write_text(rows + "ACXT\t1\n" * 7 + "ACGT\n")
    assert call(path) == 0
    output = capsys.readouterr().out
    assert f"{path}:6: position 3 of the sequence is 'X'" in output
    assert f"{path}:10:" in output and f"{path}:11:" not in output
    assert "8 rows cannot be used" in output


def test_what_is_no_table_is_refused(tmp_path):
    path = tmp_path / "table"
    path.write_text("")
    with pytest.raises(InputError, match="is empty"):
        call(path)
    path.write_text("promoter\tlevel\nACGT\t1\n")
    with pytest.raises(InputError, match="Choose one with --sequence NAME; the columns are: promoter, level"):
        call(path)
    with pytest.raises(SystemExit):
        call(path, "--mismatches", "-1")


def test_json_holds_the_same_facts(tmp_path, capsys):
    path = write(tmp_path / "table", [(string, float(row)) for row, string in enumerate(random_strings(25))])
    assert call(path, "--against", path, "--mismatches", 1, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts == json.loads(json.dumps(check(path, against=path, mismatches=1).to_dict()))
    assert facts["rows"] == 25
    assert facts["against"]["same_content"] is True
    assert len(facts["warnings"]) == 1


def test_a_sound_table_has_no_warning(tmp_path):
    path = write(tmp_path / "table", [(string, float(row)) for row, string in enumerate(random_strings(25))])
    assert check(path).warnings() == []
    assert "Nothing to complain about." in check(path).text()


def test_one_value_is_said_in_one_line(tmp_path):
    path = write(tmp_path / "table", [(string, 5.0) for string in random_strings(25)])
    lines = check(path).text().splitlines()
    assert [line for line in lines if "5 in every row" in line] == [
        "expression   5 in every row",
        "warning: expression is 5 in every row: there is nothing to learn.",
    ]
    assert not any("#" in line for line in lines)


def test_one_is_counted_in_the_singular(tmp_path):
    strings = random_strings(25)
    path = write(tmp_path / "table", [*((string, float(row)) for row, string in enumerate(strings)), (strings[0], 3.0)])
    report = check(path, against=path, mismatches=1)
    assert "repeats of an earlier one in 1 row\n" in report.text()
    assert "0 rows within 1 mismatch of a sequence in it" in report.text()
    assert report.warnings()[0] == "1 sequence measured more than once, with results that differ by up to 3"


def test_the_public_demo_files_are_found_equal(real_data, tmp_path):
    training = real_data / "yeast" / "random_promoters.txt"
    validation = tmp_path / "demo_val.txt"
    validation.write_bytes(training.read_bytes())
    report = check(validation, against=training)
    assert report.against is not None and report.against.same_content
    assert report.alphabet.rows_with_n == 25
    assert report.flanks.left and report.flanks.rows_without == 0
    assert report.expression["expression"].integer_share == pytest.approx(0.58, abs=0.01)


def test_what_tells_of_each_other_is_counted(tmp_path):
    start, end = "GATTACAGATTACAG", "CCGGTTAACGTCC"
    inserts = random_strings(40)
    strings = [start + insert + end for insert in [*inserts, *map(reverse_complement, inserts[:3])]]
    strings.append(start + inserts[5][:40] + random_strings(1, 40, seed=3)[0] + end)
    path = tmp_path / "table"
    path.write_text("seq\texpression\tsplit\n" + "".join(f"{s}\t{i}\t{'ab'[i > 39]}\n" for i, s in enumerate(strings)))
    report = check(path)
    assert (report.kin.groups, report.kin.same_insert, report.kin.overlapping) == (41, 6, None)
    assert (report.kin.clusters, report.kin.groups_in_several_folds, report.kin.clusters_in_several_folds) == (40, 3, 4)
    assert report.folds == {"a": 40, "b": 4}
    assert "6 rows with the insert of another sequence, on either strand" in report.text()
    assert any(warning.startswith("3 groups in more than one fold") for warning in report.warnings())
    assert any(warning.startswith("4 clusters of similar sequences") for warning in report.warnings())
    other = write(tmp_path / "other", [(start + reverse_complement(s) + end, 1.0) for s in inserts[10:12]])
    overlap = check(other, against=path).against
    assert overlap is not None and (overlap.groups, overlap.stretches.count) == (2, 2)


def test_overlapping_windows_are_counted(tmp_path):
    path = tmp_path / "table"
    rows = [f"{s}\t{row}\tchr2\t{60 * row + 40 * (row > 3)}" for row, s in enumerate(random_strings(20))]
    rows = [f"{row}\t{int(row.rsplit(chr(9), 1)[1]) + 79}" for row in rows]
    path.write_text("sequence\texpression\tseqnames\tstart\tend\n" + "\n".join(rows) + "\n")
    report = check(path)
    assert (report.kin.groups, report.kin.overlapping) == (2, 20)  # rows 0 to 3, and 4 to 19


def test_memory_goes_with_letters(tmp_path):
    rows = [(string, float(row)) for row, string in enumerate(random_strings(400, 100))]
    path = write(tmp_path / "table", [*rows[:200], (random_strings(1, 200_000)[0], 0.5), *rows[200:]])
    tracemalloc.start()
    try:
        report = check(path, against=path)
        assert tracemalloc.get_traced_memory()[1] < 100e6  # rows times the longest: 80 MB an array of bytes
    finally:
        tracemalloc.stop()
    assert report.lengths.longest == 200_000
    assert report.against is not None and report.against.same_content
