"""Splits keep a sequence and its reverse complement on one side; clusters keep similar ones together."""

import numpy as np
import pytest
from conftest import random_strings, reverse_complement
from hypothesis import given, settings
from hypothesis import strategies as st

from prixfixe.construct import LEFT_FLANK, RIGHT_FLANK
from prixfixe.data.flanks import flanks, inserts
from prixfixe.data.measurements import Measurements
from prixfixe.data.sequences import Sequences
from prixfixe.data.splits import (
    cluster_folds,
    clusters,
    fold_split,
    group_keys,
    split,
    straddling,
    strand_hash,
)
from prixfixe.data.tables import read_measurements
from prixfixe.errors import InputError


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
    with pytest.raises(InputError, match="101 folds cannot be made of 100 clusters"):
        cluster_folds(measurements, 101)


def test_real_yeast_promoters_split_cleanly(real_data):
    measurements = read_measurements(real_data / "yeast" / "random_promoters.txt")
    train, validation = split(measurements)
    assert (len(train), len(validation)) == (5733, 637)
    assert flanks(measurements.sequences) == (LEFT_FLANK, RIGHT_FLANK)
    assert clusters(measurements.sequences).max() + 1 == 6370  # random promoters share nothing
