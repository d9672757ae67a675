"""The simulated assay: the model against a slow reference, the noise, the resemblance to real data, and the files."""

import argparse
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from prixfixe.analysis.evaluation import read_predictions
from prixfixe.commands import data_simulate
from prixfixe.common.errors import InputError
from prixfixe.data.sequences import Sequences
from prixfixe.data.tables import read_measurements
from prixfixe.dream.construct import LEFT_FLANK, RIGHT_FLANK
from prixfixe.dream.testset import SUBSETS, read_test_set
from prixfixe.simulation import assay, model, simulate, simulate_test_set, true_expression
from prixfixe.simulation.factors import COOPERATIONS, FACTORS, Factor, site_weights
from prixfixe.simulation.testset import PUBLISHED_SIZE, PUBLISHED_SUBSETS

NEUTRAL = "ACTGATGT" * 10  # 80 nt; what a planted site does is compared with it


def promoter(insert: str) -> str:
    return LEFT_FLANK + insert + RIGHT_FLANK


def planted(*sites: tuple[int, str]) -> str:
    insert = NEUTRAL
    for start, site in sites:
        insert = insert[:start] + site + insert[start + len(site) :]
    return promoter(insert)


def expression(*promoters: str) -> np.ndarray:
    return true_expression(Sequences.from_strings(promoters))


def factor_weight(name: str, sequence: str) -> float:
    single, _ = model.binding_weights(Sequences.from_strings([sequence]))
    return float(single[0, model.NAMES.index(name)])


@pytest.fixture(scope="module")
def simulated() -> assay.SimulatedMeasurements:
    return simulate(20_000, seed=1)


@pytest.fixture(scope="module")
def test_set():
    return simulate_test_set(2_000, seed=1)


# The model


def slow_weights(sequence: str, factor: Factor) -> list[float]:
    """The weight of a factor's site at each start, one letter at a time."""
    matrix = site_weights(factor.consensus)
    complement = dict(zip("ACGT", "TGCA", strict=True))
    weights = []
    for start in range(len(sequence) - max(len(matrix), 8) + 1):
        end = start + max(len(matrix), 8)
        site = sequence[start : start + len(matrix)]
        if "N" in sequence[start : start + 8] + sequence[end - 8 : end]:
            weights.append(0.0)
            continue
        plus = np.prod([row["ACGT".find(letter)] for row, letter in zip(matrix, site, strict=True)])
        opposite = [complement.get(letter, "N") for letter in reversed(site)]
        minus = np.prod([row["ACGT".find(letter)] for row, letter in zip(matrix, opposite, strict=True)])
        upstream = min(max(len(sequence) - 8 - start - len(RIGHT_FLANK), 0) / 80, 1)
        position = factor.distal * upstream + (1 - upstream)
        weights.append(factor.concentration * (plus + factor.minus * minus) * position)
    return weights


@pytest.mark.parametrize("length", [57, 80, 105])
def test_binding_weights_equal_a_slow_reference(length):
    rng = np.random.default_rng(length)
    sequences = [promoter("".join(rng.choice(list("ACGT"), size))) for size in (length, length, 80)]
    sequences[1] = sequences[1][:40] + "N" + sequences[1][41:]
    single, joint = model.binding_weights(Sequences.from_strings(sequences))
    for row, sequence in enumerate(sequences):
        weights = {factor.name: slow_weights(sequence, factor) for factor in FACTORS}
        np.testing.assert_allclose(single[row], [sum(weights[factor.name]) for factor in FACTORS], rtol=1e-5)
        pairs = [
            (pair.strength - 1)
            * sum(
                first * second
                for i, first in enumerate(weights[pair.first])
                for j, second in enumerate(weights[pair.second])
                if abs(i - j) <= pair.distance
            )
            for pair in COOPERATIONS
        ]
        # float32 running sums: relative to what a strong pair weighs
        np.testing.assert_allclose(joint[row], pairs, rtol=1e-3, atol=1e-5)


def test_occupancy_of_a_pair_is_that_of_its_four_states():
    single = np.full((1, len(FACTORS)), 0.5)
    joint = np.full((1, len(COOPERATIONS)), 3.0)
    bound = model.occupancy(single, joint)[0]
    first = model.NAMES.index(COOPERATIONS[0].first)
    assert bound[first] == pytest.approx((0.5 + 0.25 + 3) / (1 + 0.5 + 0.5 + 0.25 + 3))
    assert model.occupancy(single, 0 * joint)[0] == pytest.approx(0.5 / 1.5)


def test_site_weights_follow_the_consensus():
    weights = site_weights("AWN")
    assert weights[0, 0] == 1 and (weights[0, 1:] < 0.1).all()
    assert (weights[1, [0, 3]] == 1).all() and (weights[1, [1, 2]] < 0.2).all()
    assert (weights[2] == 1).all()


def test_the_page_lists_every_factor():
    page = (Path(__file__).parents[1] / "docs" / "simulated_assay.md").read_text()
    page = page.partition("simulated_starrseq")[0]  # behind which other simulated assays are described
    listed = re.findall(r"^\| ([\w():]+) \| ([ACGTRYSWKMBDHVN]+) \|", page, flags=re.MULTILINE)
    assert listed == [(factor.name, factor.consensus) for factor in FACTORS]


def test_expression_is_unchanged():
    """A change here is a change of every simulated data set: raise assay.VERSION with it."""
    assert assay.VERSION == 1
    sites = expression(
        promoter(NEUTRAL), planted((20, "TAGCCGCC"), (60, "TTACCCG")), planted((5, "TGACTCA"), (40, "CGCGCG"))
    )
    np.testing.assert_allclose(sites, [8.052469, 2.021792, 14.334486], rtol=1e-5)


def test_activators_raise_and_repressors_lower_expression():
    neutral, gcn4, ume6, rsc3 = expression(
        planted(), planted((40, "TGACTCA")), planted((40, "TAGCCGCC")), planted((40, "CGCGCGCG"))
    )
    assert ume6 < neutral - 1 < neutral + 1 < min(gcn4, rsc3)


def test_strand_and_position_matter_where_they_should():
    tata, reverse = "TATATAAG", "CTTATATA"
    assert factor_weight("TBP", planted((60, tata))) > 2 * factor_weight("TBP", planted((60, reverse)))
    assert factor_weight("TBP", planted((70, tata))) > 2 * factor_weight("TBP", planted((5, tata)))
    gcn4 = [factor_weight("Gcn4", planted((start, site))) for start, site in ((8, "TGACTCA"), (64, "TGAGTCA"))]
    assert gcn4[0] == pytest.approx(gcn4[1], rel=0.05)


def test_neighbouring_sites_cooperate():
    """Ste12 and Tec1 together do more near each other than apart."""
    near, apart = expression(planted((24, "TGAAACA"), (40, "CATTCC")), planted((8, "TGAAACA"), (64, "CATTCC")))
    assert near > apart + 0.1


def test_expression_does_not_depend_on_what_else_is_in_the_batch():
    short, long = promoter("ACGTT" * 12), promoter("GGCATTACA" * 11)
    np.testing.assert_allclose(expression(short, long), [*expression(short), *expression(long)], rtol=1e-6)


# Sequences and measurements


def test_the_seed_decides_and_the_number_of_cores_does_not(monkeypatch):
    monkeypatch.setattr(assay, "CHUNK", 300)
    made = []
    for cores in (1, 3):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        made.append(simulate(1_000, seed=5))
    np.testing.assert_array_equal(made[0].measurements.sequences.padded(), made[1].measurements.sequences.padded())
    np.testing.assert_array_equal(made[0].measurements.expression, made[1].measurements.expression)
    np.testing.assert_array_equal(made[0].true_expression, made[1].true_expression)
    assert len(np.unique(made[0].true_expression)) == 1_000  # no chunk repeats another
    assert (simulate(100, seed=6).true_expression != made[0].true_expression[:100]).all()


def test_none_and_one_promoter():
    assert len(simulate(0, seed=1)) == 0
    assert len(simulate(1, seed=1)) == 1


def test_promoters_are_complete(simulated):
    sequences = simulated.measurements.sequences
    for string, length in zip(sequences[:500].to_strings(), sequences.lengths, strict=False):
        assert len(string) == length
        assert string.startswith(LEFT_FLANK) and string.endswith(RIGHT_FLANK) and "N" not in string


def test_resembles_the_real_measurements(simulated):
    """The figures of the real sample that the simulation is set to; test_equals_the_real_sample has the data itself."""
    measured, inserts = simulated.measurements.expression, simulated.measurements.sequences.lengths - 30
    assert measured.min() >= 0 and measured.max() <= 17
    assert measured.mean() == pytest.approx(11.15, abs=0.15)
    assert measured.std() == pytest.approx(2.35, abs=0.1)
    assert (measured % 1 == 0).mean() == pytest.approx(0.58, abs=0.015)
    assert -0.4 < ((measured - measured.mean()) ** 3).mean() / measured.std() ** 3 < -0.1
    assert (inserts == 80).mean() == pytest.approx(0.819, abs=0.01)
    assert inserts.min() >= 57 and inserts.max() <= 105
    assert 0.85 < np.corrcoef(measured, simulated.true_expression)[0, 1] < 0.9


def test_equals_the_real_sample(simulated, real_data):
    real = read_measurements(real_data / "yeast" / "random_promoters.txt")
    ours = simulated.measurements
    assert ours.expression.mean() == pytest.approx(real.expression.mean(), abs=0.15)
    assert ours.expression.std() == pytest.approx(real.expression.std(), abs=0.1)
    shares = [np.bincount(m.sequences.lengths, minlength=140)[:140] / len(m) for m in (ours, real)]
    assert np.abs(shares[0] - shares[1]).sum() < 0.03
    letters = [
        np.bincount(m.sequences[m.sequences.lengths == 110].padded()[:, 17:97].ravel(), minlength=4)[:4]
        for m in (ours, real)
    ]
    np.testing.assert_allclose(letters[0] / letters[0].sum(), letters[1] / letters[1].sum(), atol=0.01)


def test_one_cell_gives_a_bin_and_many_cells_the_truth():
    rng = np.random.default_rng(1)
    truth = rng.uniform(4, 14, 500)
    single = assay.measure(truth, np.ones(500, dtype=np.int64), rng)
    assert (single % 1 == 0).all() and np.corrcoef(single, truth)[0, 1] < 0.98
    many = assay.measure(truth, np.full(500, 2_000), rng)
    assert np.abs(many - truth).max() < 0.3
    assert assay.measure(np.array([0.0, 17.0]), np.array([300, 300]), rng).round(6).tolist() != [0, 17]


def test_a_linear_model_learns_a_good_part(simulated):
    """Counts of 1- to 4-mers explain about what they explain of the real data, and not all of what is true."""
    index = model.window_index(simulated.measurements.sequences)[:6_000]
    counts = []
    for k in (1, 2, 3, 4):
        kmers = np.where(index == 4**8, 4**k, index >> 2 * (8 - k)) + np.arange(6_000)[:, None] * (4**k + 1)
        counts.append(np.bincount(kmers.ravel(), minlength=6_000 * (4**k + 1)).reshape(6_000, -1)[:, :-1])
    x = np.hstack([*counts, np.ones((6_000, 1))]).astype(float)
    y, truth = simulated.measurements.expression[:6_000], simulated.true_expression[:6_000]
    train, test = slice(0, 5_000), slice(5_000, None)
    weights = np.linalg.solve(x[train].T @ x[train] + 100 * np.eye(x.shape[1]), x[train].T @ y[train])
    assert 0.5 < np.corrcoef(x[test] @ weights, y[test])[0, 1] < 0.75
    assert np.corrcoef(x[test] @ weights, truth[test])[0, 1] < 0.85


# The test set


def inserts_of(test_set) -> np.ndarray:
    sequences = test_set.simulated.measurements.sequences
    assert (sequences.lengths == 110).all()
    return sequences.padded()[:, 17:97]


def test_subsets_have_the_published_proportions(test_set):
    assert set(test_set.subsets) == set(SUBSETS)
    assert len(test_set.simulated) == 2_000
    for name, rows in test_set.subsets.items():
        assert len(rows) == round(2_000 * PUBLISHED_SUBSETS[name] / PUBLISHED_SIZE)
        assert rows.min() >= 0 and rows.max() < 2_000
        assert len(np.unique(rows, axis=0)) == len(rows)


def test_subsets_are_what_their_names_say(test_set):
    truth, subsets = test_set.simulated.true_expression, test_set.subsets
    assert truth[subsets["high"]].mean() > np.quantile(truth[subsets["random"]], 0.99)
    assert truth[subsets["low"]].mean() < np.quantile(truth[subsets["random"]], 0.01)
    assert truth[subsets["challenging"]].std() > 1.3 * truth[subsets["random"]].std()
    inserts = inserts_of(test_set)
    at = np.isin(inserts, [0, 3]).mean(axis=1)
    assert at[subsets["native"]].mean() > at[subsets["random"]].mean() + 0.05


@pytest.mark.parametrize(
    ("name", "most", "span"), [("SNVs", 1, 1), ("motif_perturbation", 5, 8), ("motif_tiling", 8, 8)]
)
def test_pairs_differ_where_they_should(test_set, name, most, span):
    inserts = inserts_of(test_set)
    alternative, reference = test_set.subsets[name].T
    different = inserts[alternative] != inserts[reference]
    changed = different.sum(axis=1)
    first, last = different.argmax(axis=1), 79 - different[:, ::-1].argmax(axis=1)
    assert changed.max() <= most and (last - first)[changed > 0].max() < span
    assert (changed == 0).mean() < 0.02  # a tiled site may stand there already


def test_a_hundred_cells_leave_little_noise(test_set):
    measured, truth = test_set.simulated.measurements.expression, test_set.simulated.true_expression
    assert np.corrcoef(measured, truth)[0, 1] > 0.99
    assert (measured != truth).all()


def test_a_small_test_set_is_refused():
    with pytest.raises(InputError, match="500"):
        simulate_test_set(499, seed=1)


# The command


def command(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    data_simulate.configure(parser)
    return data_simulate.run(parser.parse_args(arguments))


def test_command_writes_what_the_readers_read(tmp_path, capsys):
    folder = tmp_path / "simulated"
    assert command("-o", str(folder), "--size", "700", "--test-size", "600", "--seed", "3") == 0
    assert "simulated" in capsys.readouterr().out
    for about in (folder / "about.json", folder / "test" / "about.json"):
        content = json.loads(about.read_text())
        assert content["simulated"] is True and content["seed"] == 3 and content["training_promoters"] == 700

    assert (folder / "train.tsv").read_text().startswith("sequence\texpression\nTGCATTTTTTTCACATC")
    train, expected = read_measurements(folder / "train.tsv"), simulate(700, seed=3)
    assert train.sequences.to_strings() == expected.measurements.sequences.to_strings()
    np.testing.assert_array_equal(train.expression, expected.measurements.expression)
    truth = np.loadtxt(folder / "true_expression.tsv", skiprows=1, usecols=1)
    np.testing.assert_array_equal(truth, expected.true_expression)

    test_set, expected_test_set = read_test_set(folder / "test"), simulate_test_set(600, seed=3)
    assert test_set.sequences.to_strings() == expected_test_set.simulated.measurements.sequences.to_strings()
    for name, rows in expected_test_set.subsets.items():
        np.testing.assert_array_equal(test_set.subsets[name], np.unique(rows, axis=0))
    ceiling = read_predictions(folder / "test" / "true_expression.tsv", test_set)
    assert np.corrcoef(ceiling, test_set.expression)[0, 1] > 0.99


@pytest.mark.parametrize("options", [["--size", "0"], ["--test-size", "10"], ["--seed", "-1"]])
def test_command_refuses_what_cannot_be(tmp_path, options):
    with pytest.raises(InputError):
        command("-o", str(tmp_path / "new"), *options)
    assert not (tmp_path / "new").exists()


def test_command_keeps_other_files(tmp_path):
    (tmp_path / "train.tsv").write_text("mine")
    with pytest.raises(InputError, match="empty"):
        command("-o", str(tmp_path))
    assert (tmp_path / "train.tsv").read_text() == "mine"
