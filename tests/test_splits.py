"""Splits keep a sequence and its reverse complement on one side; clusters keep similar ones together."""

import numpy as np
import pytest
from conftest import random_strings, reverse_complement
from hypothesis import given, settings
from hypothesis import strategies as st

from prixfixe.common.errors import InputError
from prixfixe.data import splits
from prixfixe.data.flanks import flanks, inserts
from prixfixe.data.measurements import Measurements
from prixfixe.data.near_duplicates import near_duplicates, near_duplicates_of
from prixfixe.data.sequences import Sequences
from prixfixe.data.splits import (
    cluster_folds,
    clusters,
    fold_split,
    group_keys,
    groups,
    split,
    straddling,
    strand_hash,
    told_of,
)
from prixfixe.data.tables import read_measurements
from prixfixe.dream.construct import LEFT_FLANK, RIGHT_FLANK


def measured(strings: list[str], fold: list[int] | None = None) -> Measurements:
    expression = np.arange(len(strings), dtype=np.float64)
    return Measurements(Sequences.from_strings(strings), expression, fold=None if fold is None else np.array(fold))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("ACGTN", min_size=1, max_size=30), min_size=1, max_size=40))
def test_keys_are_equal_exactly_for_a_sequence_and_its_reverse_complement(strings):
    strings = strings + [reverse_complement(string) for string in strings[::2]]
    keys = group_keys(Sequences.from_strings(strings)).tolist()
    canonical = [min(string, reverse_complement(string)) for string in strings]
    assert len(set(keys)) == len(set(canonical)) == len(set(zip(keys, canonical, strict=True)))
    hashes = strand_hash(Sequences.from_strings(strings)).tolist()
    assert len(set(hashes)) == len(set(strings)) == len(set(zip(hashes, strings, strict=True)))


def test_hashes_do_not_depend_on_the_arrays_width():
    short, long = Sequences.from_strings(["ACGTN", "ACG"]), Sequences.from_strings(["ACGTN", "ACG", "T" * 50])
    np.testing.assert_array_equal(strand_hash(short), strand_hash(long)[:2])
    np.testing.assert_array_equal(group_keys(short), group_keys(long)[:2])


def test_neighbours_by_one_letter_do_not_collide():
    one = random_strings(1, 110)[0]
    variants = {one[:at] + letter + one[at + 1 :] for at in range(110) for letter in "ACGTN"}
    pairs = {
        variant[:at] + letter + variant[at + 1 :]
        for variant in variants
        for at in (7, 15, 103, 109)
        for letter in "ACGTN"
    }
    strings = sorted(pairs)
    assert len(np.unique(strand_hash(Sequences.from_strings(strings)))) == len(strings)


def test_sequences_hashed_one_by_one_hash_as_many_do(monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = Sequences.from_strings(["", "A", "ACGTNAC", *random_strings(4, 100), "ACGTACGT" * 1000])
    one_by_one = strand_hash(sequences)
    monkeypatch.setattr(splits, "FEW_ROWS", 0)
    np.testing.assert_array_equal(one_by_one, strand_hash(sequences))


def test_no_sequence_stands_on_both_sides():
    strings = random_strings(300)
    strings += strings[:100] + [reverse_complement(string) for string in strings[50:200]]
    measurements = measured(strings)
    train, validation = split(measurements, validation_fraction=0.2, seed=3)
    sides = [{min(strings[row], reverse_complement(strings[row])) for row in rows} for rows in (train, validation)]
    assert not sides[0] & sides[1]
    assert len(sides[1]) == 60
    assert sorted([*train, *validation]) == list(range(len(strings)))
    assert straddling(measurements[train], measurements[validation]) == 0


def test_the_split_depends_on_the_seed_and_not_on_the_order():
    strings = random_strings(200)
    order = np.random.default_rng(1).permutation(200)
    held_out = [set(np.array(strings)[split(measured(strings), seed=seed)[1]]) for seed in (0, 0, 1)]
    shuffled = [strings[row] for row in order]
    assert held_out[0] == held_out[1] == set(np.array(shuffled)[split(measured(shuffled))[1]])
    assert held_out[0] != held_out[2]


@pytest.mark.parametrize("fraction", [0.001, 0.5, 0.999])
def test_both_sides_hold_something(fraction):
    train, validation = split(measured(random_strings(10)), validation_fraction=fraction)
    assert len(train) and len(validation) >= 3


def test_too_few_sequences_are_refused():
    strings = random_strings(9)
    with pytest.raises(InputError, match="27 rows with 9 different sequences"):
        split(measured(strings * 2 + [reverse_complement(string) for string in strings]))
    with pytest.raises(InputError, match="between 0 and 1"):
        split(measured(random_strings(20)), validation_fraction=1.0)


def test_straddling_counts_either_strand():
    strings = random_strings(20)
    a, b = strings[:10], [strings[3], reverse_complement(strings[4]), strings[3], strings[12]]
    assert straddling(measured(a), measured(b)) == 3


def test_fold_split():
    measurements = measured(random_strings(6), fold=[0, 1, 2, 0, 1, 2])
    train, validation = fold_split(measurements, 1)
    assert train.tolist() == [0, 2, 3, 5]
    assert validation.tolist() == [1, 4]
    with pytest.raises(InputError, match="fold 7 has no rows; the table's folds are: 0, 1, 2"):
        fold_split(measurements, 7)
    with pytest.raises(InputError, match="no fold column"):
        fold_split(measured(random_strings(3)), 0)
    with pytest.raises(InputError, match="holds every row"):
        fold_split(measured(["AC", "GG"], fold=[4, 4]), 4)


def test_flanks_of_the_construct_and_of_others():
    strings = random_strings(50)
    yeast = Sequences.from_strings(
        [LEFT_FLANK + string[: 60 + row % 20] + RIGHT_FLANK for row, string in enumerate(strings)]
    )
    assert flanks(yeast) == (LEFT_FLANK, RIGHT_FLANK)
    assert inserts(yeast).to_strings() == [string[: 60 + row % 20] for row, string in enumerate(strings)]
    other = Sequences.from_strings(
        ["GATTACAGATTACA" + string[: 60 + row % 20] + "CCCCGGGGTT" for row, string in enumerate(strings)]
    )
    left, right = flanks(other)
    assert left.startswith("GATTACAGATTACA")
    assert right.endswith("CCCCGGGGTT")
    assert flanks(Sequences.from_strings(strings)) == ("", "")
    assert flanks(Sequences.from_strings([strings[0]] * 50)) == ("", "")


def test_a_sequence_without_the_flanks_stays_whole():
    strings = random_strings(3)
    strings[:2] = ["A" + strings[0][1:-1] + "A", "C" + strings[1][1:-1] + "C"]  # or two might share a letter more
    mixed = Sequences.from_strings(
        [LEFT_FLANK + strings[0] + RIGHT_FLANK, LEFT_FLANK + strings[1] + RIGHT_FLANK, strings[2]]
    )
    assert inserts(mixed).to_strings() == strings


def test_similar_sequences_are_one_cluster_and_flanks_connect_nothing():
    strings = random_strings(40)
    other = random_strings(40, seed=1)
    related = [
        strings[0],
        strings[0][:40] + other[0][40:],  # shares the first half
        reverse_complement(strings[0][:24] + other[1][24:]),  # shares 24 letters, on the other strand
        other[1],  # joined through the one before
        strings[0][:10] + other[2][:45] + strings[0][20:45],  # shares 25 letters at another place
    ]
    strings = [LEFT_FLANK + string + RIGHT_FLANK for string in related + strings[1:]]
    labels = clusters(Sequences.from_strings(strings))
    assert len(set(labels[:5])) == 1
    assert len(set(labels)) == len(strings) - 4


def test_any_shared_stretch_of_24_is_found():
    generator = np.random.default_rng(0)
    for _ in range(50):
        one, two = random_strings(2, seed=int(generator.integers(1 << 30)))
        at, to = generator.integers(0, 56, 2)
        two = two[:to] + one[at : at + 24] + two[to + 24 :]
        assert clusters(Sequences.from_strings([one, two])).tolist() == [0, 0]


def test_simple_repeats_and_unknown_letters_connect_nothing():
    strings = [
        string[:30] + middle + string[30:60]
        for string, middle in zip(random_strings(4), ["A" * 30, "A" * 30, "N" * 30, "N" * 30], strict=True)
    ]
    strings += [string[:30] + "CAG" * 10 + string[30:60] for string in random_strings(2, seed=5)]
    assert len(set(clusters(Sequences.from_strings(strings)))) == 6


def test_short_sequences_are_joined_when_equal():
    labels = clusters(Sequences.from_strings(["ACGTT", "AACGT", "ACGTA", "ACGTT", "A"]))
    assert labels[0] == labels[1] == labels[3]
    assert len(set(labels.tolist())) == 3


def planted(seed: int, left: int, right: int, windows: bool) -> tuple[list[str], np.ndarray, np.ndarray | None]:
    """Sequences between constant ends of these lengths, many of which tell of each other; which do; their windows."""
    rng = np.random.default_rng(seed)
    start, end = ("".join(rng.choice(list("ACGT"), length)) for length in (left, right))
    strings, kin, regions, place = [], [], [], 0
    for number in range(int(rng.integers(40, 80))):
        insert = "".join(rng.choice(list("ACGT"), rng.integers(30, 60)))
        forms = [start + insert + end]
        if rng.random() < 0.3:
            forms.append(start + reverse_complement(insert) + end)
        if rng.random() < 0.2:
            forms += [forms[0], reverse_complement(forms[-1])]
        if rng.random() < 0.1 and left and right:
            forms.append(insert)  # without its flanks
        if rng.random() < 0.1 and left:
            forms.append("N" + start[1:] + reverse_complement(insert) + end)
        strings += forms
        overlaps = windows and number and rng.random() < 0.2
        kin += [kin[-1] if overlaps else number] * len(forms)
        place = place + 150 if overlaps else 100_000 * number
        regions += [(7, place, place + 200)] * len(forms)
    order = rng.permutation(len(strings))
    region = np.array(regions)[order] if windows else None
    return [strings[row] for row in order], np.array(kin)[order], region


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([(0, 0), (15, 15), (17, 13), (6, 40), (0, 20), (5, 4)]), st.booleans())
def test_no_two_rows_that_tell_of_each_other_straddle_a_split(seed, ends, windows):
    strings, kin, regions = planted(seed, *ends, windows)
    rows = Measurements(Sequences.from_strings(strings), np.zeros(len(strings)), regions=regions)
    train, validation = split(rows, validation_fraction=0.2, seed=seed)
    assert not set(kin[train]) & set(kin[validation])
    different = len(set(group_keys(rows.sequences).tolist()))
    held_out = len(set(group_keys(rows.sequences[validation]).tolist()))
    assert 0.1 * different <= held_out <= 0.3 * different
    folds = cluster_folds(rows, 3, seed=seed)
    assert len(set(zip(kin.tolist(), folds.tolist(), strict=True))) == len(set(kin.tolist()))
    order = np.random.default_rng(seed).permutation(len(strings))
    again = split(rows[order], validation_fraction=0.2, seed=seed)[1]
    np.testing.assert_array_equal(np.sort(order[again]), validation)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_unrelated_rows_are_groups_of_their_own(seed):
    start, end = random_strings(2, 20, seed=seed)
    strings = [start + insert + end for insert in random_strings(200, 40, seed=seed + 1)]
    rows = measured(strings)
    np.testing.assert_array_equal(groups(rows), group_keys(rows.sequences))


def mirrored(strings: list[str], left: int, right: int) -> list[str]:
    return [s[:left] + reverse_complement(s[left : len(s) - right]) + s[len(s) - right :] for s in strings]


def same_groups(strings: list[str], others: list[str]) -> bool:
    group = groups(measured([*strings, *others]))
    return bool((group[: len(others)] == group[len(strings) :]).all())


def test_mirrored_inserts_of_two_constructs_written_on_both_strands():
    one, two = ("GATTACAGATTACAG", "CCGGTTAACGT"), ("TTGACCATGCAAT", "AGGCATTTACGCCCA")
    strings = [
        start + insert + end
        for (start, end), many in zip((one, two), (random_strings(40), random_strings(30, seed=1)), strict=True)
        for insert in many
    ]
    others = mirrored(strings[:40], 15, 11) + mirrored(strings[40:], 13, 15)
    assert same_groups(strings, others)
    assert same_groups(strings, [reverse_complement(other) for other in others])
    assert same_groups(strings + random_strings(15, seed=2), [*others[:20]])


def test_where_a_flank_ends_need_not_be_certain():
    start, end = "GATTACAGATTACAG", "CCGGTTAACGT"
    inserts_of_a = ["A" + insert for insert in random_strings(60)]  # as if the flank were one letter longer
    strings = [start + insert + end for insert in inserts_of_a]
    assert same_groups(strings, mirrored(strings[:5], len(start), len(end)))
    shorter = [string[:40] + end[:8] for string in strings]  # cut off within the other flank
    assert same_groups(shorter, mirrored(shorter, len(start), 8))
    strings += mirrored(strings[10:20], len(start), len(end))
    error = [start[:5] + "A" + start[6:] + insert + end for insert in inserts_of_a[:5]]
    assert same_groups(strings, mirrored(error, len(start), len(end)))


def test_variants_of_one_sequence_are_not_one_group():
    one = random_strings(1, 60)[0]
    variants = [one[:at] + letter + one[at + 1 :] for at in range(60) for letter in "ACGT" if letter != one[at]]
    assert len(set(groups(measured(variants)).tolist())) == len(variants)


def test_windows_overlap_where_they_share_a_position():
    regions = np.array([(1, 0, 10), (1, 10, 20), (1, 19, 30), (2, 19, 30), (1, 100, 500), (1, 110, 120), (1, 400, 401)])
    rows = Measurements(Sequences.from_strings(random_strings(8)), np.zeros(8), regions=np.vstack([regions, [-1] * 3]))
    group = groups(rows).tolist()
    assert group[1] == group[2] and group[4] == group[5] == group[6]
    assert len(set(group)) == 5


def test_a_tiled_region_is_refused_and_a_large_one_trained_on():
    strings = random_strings(40)
    tiles = np.array([(1, 50 * row, 50 * row + 80) for row in range(40)])
    rows = Measurements(Sequences.from_strings(strings), np.zeros(40), regions=tiles)
    with pytest.raises(InputError, match=r"all 40 rows tell of each other .* give dataset.validation=FILE"):
        split(rows)
    tiles[30:, 0] = np.arange(2, 12)
    train, validation = split(rows, validation_fraction=0.1)
    assert len(validation) == 4 and set(range(30)) <= set(train.tolist())
    tiles[10:, 0], tiles[:10, 0] = 1, 2
    assert split(rows, validation_fraction=0.1)[1].tolist() == list(range(10))  # two regions: the smaller one


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_near_duplicates_are_those_with_a_common_stretch(seed):
    rng = np.random.default_rng(seed)
    others = ["".join(rng.choice(list("ACGTN"), rng.integers(1, 80), p=[0.24] * 4 + [0.04])) for _ in range(20)]
    strings = []
    for _ in range(20):
        string, other = "".join(rng.choice(list("ACGT"), 60)), others[rng.integers(20)]
        piece = other[: rng.integers(20, 28)] if rng.random() < 0.5 else other[-rng.integers(20, 28) :]
        piece = piece if rng.random() < 0.5 else reverse_complement(piece)
        strings.append(string[:20] + piece + string[20:])
    strings += ["A" * 40, "ACG" * 12, "ACGT" * 10, "AC"]
    others += ["A" * 50, "ACG" * 12, "ACGT" * 10, "AC"]
    stretches = {other[at : at + 24] for other in others for at in range(len(other) - 23)}
    stretches = {one for one in stretches if "N" not in one and all(one[p:] != one[:-p] for p in (1, 2, 3))}
    stretches |= set(map(reverse_complement, stretches))
    expected = sum(any(s[at : at + 24] in stretches for at in range(len(s) - 23)) for s in strings)
    found = near_duplicates(Sequences.from_strings(strings), Sequences.from_strings(others))
    assert (found.count, found.sequences, found.at_least) == (expected, 24, False)


def test_shared_flanks_make_no_near_duplicates(monkeypatch):
    start, end = random_strings(2, 40, seed=9)
    strings = [start + insert + end for insert in random_strings(60)]
    sequences = Sequences.from_strings(strings)
    assert near_duplicates(sequences[:3], sequences[3:]).count == 0
    monkeypatch.setattr("prixfixe.data.near_duplicates.CHUNK_LETTERS", 100)  # smaller than a sequence
    assert near_duplicates(sequences[:30], sequences[20:]).count == 10
    monkeypatch.setattr("prixfixe.data.near_duplicates.MOST_LOOKED_UP", 7)
    monkeypatch.setattr("prixfixe.data.near_duplicates.MOST_LETTERS", 50 * 160)
    sampled = near_duplicates(sequences, sequences)
    assert sampled.sequences == 7 and sampled.at_least and sampled.text().startswith("at least ")


def test_folds_by_name():
    rows = Measurements(
        Sequences.from_strings(random_strings(5)), np.zeros(5), fold=np.array(["Train", "Val", "Test", "Train", "Val"])
    )
    assert fold_split(rows, "val")[1].tolist() == [1, 4]
    with pytest.raises(InputError, match="fold 3 has no rows; the table's folds are: Test, Train, Val"):
        fold_split(rows, 3)
    gaps = Measurements(Sequences.from_strings(random_strings(3)), np.zeros(3), fold=np.array(["0", "", "1"]))
    with pytest.raises(InputError, match="1 of 3 rows have no fold"):
        fold_split(gaps, 0)


def test_cluster_folds_are_even_and_keep_clusters_whole():
    strings = random_strings(100)
    strings += [
        string[:40] + other[:40] for string, other in zip(strings[:50], random_strings(50, seed=1), strict=True)
    ]
    measurements = measured(strings)
    folds = cluster_folds(measurements, 5, seed=0)
    assert np.bincount(folds).tolist() == [30] * 5
    np.testing.assert_array_equal(folds[:50], folds[100:])
    np.testing.assert_array_equal(folds, cluster_folds(measurements, 5, seed=0))
    assert (folds != cluster_folds(measurements, 5, seed=1)).any()
    with pytest.raises(InputError, match=r"dataset\.folds=101: 101 folds cannot be made of 100 clusters"):
        cluster_folds(measurements, 101)


def test_real_yeast_promoters_split_cleanly(real_data):
    measurements = read_measurements(real_data / "yeast" / "random_promoters.txt")
    train, validation = split(measurements)
    assert (len(train), len(validation)) == (5733, 637)
    assert flanks(measurements.sequences) == (LEFT_FLANK, RIGHT_FLANK)
    assert clusters(measurements.sequences).max() + 1 == 6370  # random promoters share nothing


def test_mirrored_inserts_of_the_real_library_stay_together(real_data):
    rows = read_measurements(real_data / "human" / "lentimpra_train.tsv")
    strings = rows.sequences.to_strings()
    for some in (range(1000), range(0, 1000, 7)):
        every = strings + mirrored([strings[row] for row in some], 15, 15)
        train, validation = split(measured(every), validation_fraction=0.2)
        insert = [min(string[15:-15], reverse_complement(string[15:-15])) for string in every]
        assert not {insert[row] for row in train} & {insert[row] for row in validation}
        assert 0.18 * len(every) < len(validation) < 0.22 * len(every)


def test_overlapping_windows_of_the_real_genome_stay_together(real_data):
    rows = read_measurements(real_data / "drosophila" / "starrseq_train.tsv", expression="Dev_log2_enrichment")
    assert rows.regions is not None
    assert (rows.regions[:, 2] - rows.regions[:, 1] == 249).all()  # its ends are the last positions
    train, validation = split(rows)
    assert 90 <= len(validation) <= 110
    for row in validation:
        there = rows.regions[train]
        there = there[there[:, 0] == rows.regions[row, 0]]
        assert not ((there[:, 1] < rows.regions[row, 2]) & (rows.regions[row, 1] < there[:, 2])).any()


def test_near_duplicates_of_real_promoters_are_counted(real_data):
    rows = read_measurements(real_data / "yeast" / "designed_complex_media.tsv").sequences
    train, validation = split(Measurements(rows, np.zeros(len(rows))))
    assert near_duplicates(rows[validation], rows[train]).share > 0.95
    rows = read_measurements(real_data / "yeast" / "random_promoters.txt").sequences
    train, validation = split(Measurements(rows, np.zeros(len(rows))))
    assert near_duplicates(rows[validation], rows[train]).count == 0


def test_near_duplicates_of_several_parts_are_those_of_each_alone() -> None:
    strings = random_strings(90, 120, seed=4)
    strings[3], strings[41] = strings[80][:60] + strings[3][60:], strings[85][30:90] + strings[41][60:]
    first, second, train = (Sequences.from_strings(strings[at : at + 30]) for at in (0, 30, 60))
    empty = Sequences.from_strings(["A" * 40] * 3)
    alone = [near_duplicates(part, train) for part in (first, second, empty)]
    assert near_duplicates_of([first, second, empty], train) == alone
    assert [near.count for near in alone] == [1, 1, 0]


def test_training_tells_of_a_row_itself_not_through_others() -> None:
    strings = random_strings(9, 100, seed=5)
    strings[8] = strings[2]  # a repeat elsewhere

    def at(rows: slice, *starts: int) -> Measurements:
        regions = np.array([[start // 1000, start % 1000, start % 1000 + 100] for start in starts])
        regions[np.array(starts) < 0] = -1
        return Measurements(Sequences.from_strings(strings[rows]), np.zeros(len(starts)), regions=regions)

    train = at(slice(0, 4), 0, 300, 1000, -1)
    other = at(slice(4, 9), 99, 198, 1100, -1, 2500)
    assert told_of(train, other).tolist() == [True, False, False, False, True]  # the second overlaps the first alone
    assert splits.straddling(train, other) == 3
    assert not told_of(at(slice(0, 1), -1), other).any()
