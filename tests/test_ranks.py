"""Bootstrap ranks against ranks worked out one sample at a time, and critical differences against published numbers."""

from pathlib import Path

import numpy as np
import pytest
from fabricated_runs import correlated, make_grid
from scipy.stats import friedmanchisquare, pearsonr, rankdata, spearmanr

from prixfixe.analysis import ranks
from prixfixe.analysis.evaluation import evaluate
from prixfixe.analysis.ranks import (
    TEST,
    VALIDATION,
    Predictions,
    bootstrap_ranks,
    bootstrap_scores,
    cd_groups,
    draws,
    model_cd,
    part_cd,
    read_predictions,
)
from prixfixe.analysis.results import collect
from prixfixe.common.errors import InputError
from prixfixe.data.sequences import Sequences
from prixfixe.data.testset import TestSet
from prixfixe.dream.testset import WEIGHTS
from prixfixe.runs.folder import RunFolder
from prixfixe.tasks.scores import KL, PEARSON

FEW = {
    "recipe": ("autosome", "bhi"),
    "first": ("conv",),
    "core": ("bilstm", "proformer"),
    "final": ("mlp", "soft_bins"),
}


def models(n: int, rs: list[float], seed: int = 0) -> Predictions:
    generator = np.random.default_rng(seed)
    measured = np.round(generator.normal(8, 3, n), 1)  # with ties
    predicted = [correlated(measured, r, generator) for r in rs]
    return Predictions([f"m{i}" for i in range(len(rs))], measured, predicted, {"all": np.arange(n)}, VALIDATION, [])


def folders(sweep: Path) -> list[RunFolder]:
    return [RunFolder(path.parent) for path in sorted(sweep.glob("*/config.yaml"))]


def test_scores_are_those_of_every_sample_on_its_own() -> None:
    kept = models(400, [0.8, 0.5, -0.3])
    scores = bootstrap_scores(kept, 50, 0.1, seed=4)
    generator = np.random.default_rng(4).spawn(1)[0]
    for part, drawn in draws(generator, 50, 400, 40):
        for sample, rows in zip(range(part.start, part.stop), drawn, strict=True):
            for model, predicted in enumerate(kept.predicted):
                expected = (
                    pearsonr(kept.measured[rows], predicted[rows]).statistic,
                    spearmanr(kept.measured[rows], predicted[rows]).statistic,
                )
                np.testing.assert_allclose(scores[sample, model], expected, atol=1e-5)


def test_with_ranks_of_all_sequences_rho_is_close(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = models(10_000, [0.8, 0.79, 0.5])
    exact = bootstrap_scores(kept, 30, 0.1, seed=1)
    monkeypatch.setattr(ranks, "RANKED_AT_MOST", 0)
    quick = bootstrap_scores(kept, 30, 0.1, seed=1)
    np.testing.assert_allclose(quick[..., 0], exact[..., 0], atol=1e-5)
    deviation = np.abs(quick[..., 1] - exact[..., 1]).max()
    assert 0 < deviation < 0.02
    assert deviation < exact[..., 1].std(axis=0).min()


def test_a_model_keeps_its_scores_in_any_company(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = models(300, [0.8, 0.6, 0.4, 0.2, 0.1])
    together = bootstrap_scores(kept, 40, 0.1, seed=1)
    monkeypatch.setattr(ranks, "MODELS_AT_ONCE", 2)
    monkeypatch.setattr(ranks, "COUNTS_AT_ONCE", 300 * 7)
    np.testing.assert_allclose(bootstrap_scores(kept, 40, 0.1, seed=1), together, atol=1e-5)


def test_weighted_scores_are_those_of_the_evaluation() -> None:
    generator = np.random.default_rng(0)
    n = 300
    subsets = {
        "all": np.arange(n),
        "high": np.arange(0, n, 2),
        "SNVs": np.stack([np.arange(150), np.arange(150, 300)], axis=1),
    }
    test_set = TestSet(
        Sequences.from_padded(np.zeros((n, 4), np.uint8), np.full(n, 4, np.int32)),
        generator.normal(size=n),
        subsets,
        weights=WEIGHTS,
    )
    predicted = [correlated(test_set.expression, r, generator) for r in (0.9, 0.6)]
    kept = Predictions(["a", "b"], test_set.expression, predicted, subsets, TEST, [], WEIGHTS)
    ours = bootstrap_scores(kept, 4000, 0.1, seed=0)
    for model, values in enumerate(predicted):
        theirs = evaluate(test_set, values, bootstrap=0)
        np.testing.assert_allclose(ours[:, model, 1].mean(), theirs.spearman_score.value, atol=0.05)  # as is rho
        np.testing.assert_allclose(ours[:, model, 0].mean(), theirs.pearson_score.value, atol=0.05)  # of few rows
    # and of one sample, worked out
    expected = np.zeros((2, 2))
    for (name, rows), own in zip(subsets.items(), np.random.default_rng(0).spawn(3), strict=True):
        _, drawn = next(draws(own, 1, len(rows), round(0.1 * len(rows))))
        chosen = rows[drawn[0]]
        values = [
            v[chosen] if chosen.ndim == 1 else v[chosen[:, 0]] - v[chosen[:, 1]]
            for v in (test_set.expression, *predicted)
        ]
        for model in (0, 1):
            expected[model] += WEIGHTS[name] * np.array(
                [pearsonr(values[0], values[1 + model])[0] ** 2, spearmanr(values[0], values[1 + model])[0]]
            )
    np.testing.assert_allclose(bootstrap_scores(kept, 1, 0.1, seed=0)[0], expected / 2.55, atol=1e-4)


def test_several_tasks_are_averaged() -> None:
    one, other = models(200, [0.8, 0.4]), models(200, [0.2, 0.6], seed=1)
    both = Predictions(
        one.names,
        np.stack([one.measured, other.measured], axis=1),
        [np.stack(pair, axis=1) for pair in zip(one.predicted, other.predicted, strict=True)],
        one.subsets,
        VALIDATION,
        [],
    )
    means = (bootstrap_scores(one, 30, 0.2, 0) + bootstrap_scores(other, 30, 0.2, 0)) / 2
    np.testing.assert_allclose(bootstrap_scores(both, 30, 0.2, 0), means, atol=1e-5)


def test_ranks_find_the_order_and_say_what_is_sure(tmp_path: Path) -> None:
    order = {
        ("autosome", "bilstm"): 0.9,
        ("autosome", "proformer"): 0.7,
        ("bhi", "bilstm"): 0.5,
        ("bhi", "proformer"): 0.3,
    }
    sweep = make_grid(
        tmp_path / "clear",
        choices=FEW,
        n=4000,
        noise=0.0,
        planted=lambda c: order[c["recipe"], c["core"]] + 0.001 * (c["final"] == "mlp"),
    )
    found = bootstrap_ranks(folders(sweep), samples=500)
    assert [name.rpartition("+")[0] for name in found.names[::2]] == [f"{r}+conv+{c}" for r, c in order]
    assert found.indistinguishable == [(0, 1), (2, 3), (4, 5), (6, 7)]
    np.testing.assert_allclose(found.average_rank, sum(found.by_score.values()) / 2)
    assert found.average_rank.sum() == pytest.approx(36)
    assert (found.low <= found.average_rank).all() and (found.average_rank <= found.high).all()
    assert (found.source, found.n, found.samples, found.exact) == (VALIDATION, 4000, 500, True)
    again = bootstrap_ranks(folders(sweep), samples=500)
    np.testing.assert_array_equal(found.average_rank, again.average_rank)


def test_equal_models_share_their_rank() -> None:
    kept = models(200, [0.5, 0.5])
    twins = Predictions(["a", "b"], kept.measured, [kept.predicted[0]] * 2, kept.subsets, VALIDATION, [])
    scores = bootstrap_scores(twins, 20, 0.1, 0)
    np.testing.assert_array_equal(rankdata(-scores, axis=1), np.full(scores.shape, 1.5))


def test_a_constant_prediction_ranks_last() -> None:
    kept = models(200, [0.5, -0.5])
    scores = bootstrap_scores(
        Predictions(["a", "b", "c"], kept.measured, [*kept.predicted, np.full(200, 3.3)], kept.subsets, VALIDATION, []),
        20,
        0.1,
        0,
    )
    np.testing.assert_array_equal(rankdata(-scores, axis=1).argmax(axis=1), np.full((20, 2), 2))


def test_seeds_are_averaged_before_ranks(tmp_path: Path) -> None:
    sweep = make_grid(tmp_path / "seeds", choices=FEW, n=200, seeds=(0, 1), failed={"bhi+conv+bilstm+mlp": "killed"})
    runs = [run for run in folders(sweep) if run.validation_file.exists()]
    found = bootstrap_ranks(runs, samples=50, names=[run.name.partition("+seed")[0] for run in runs])
    assert len(found.names) == len(set(found.names)) == 8


def test_the_test_set_goes_before_the_validation_set(tmp_path: Path) -> None:
    sweep = make_grid(tmp_path / "tested", choices=FEW, n=100, test=120)
    assert read_predictions(folders(sweep)).source == TEST
    assert list(read_predictions(folders(sweep)).subsets) == ["all"]
    with_subsets = make_grid(tmp_path / "subsets", choices=FEW, n=100, test=120, keep_subsets=True)
    assert bootstrap_ranks(folders(with_subsets), samples=20).subsets == ["all", "high", "native", "SNVs"]
    (sweep / "bhi+conv+bilstm+mlp" / "test.npz").unlink()
    kept = read_predictions(folders(sweep))
    assert (kept.source, len(kept.names)) == (VALIDATION, 8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 half", "damaged"),
        (b"", "damaged"),
        (None, "no validation.npz"),
        ("shape", "of one shape"),
        ("nan", "not finite"),
        ("other", "other sequences"),
    ],
)
def test_unusable_predictions_are_left_out_and_named(content: bytes | str | None, message: str, tmp_path: Path) -> None:
    sweep = make_grid(tmp_path / "broken", choices=FEW, n=100)
    file = sweep / "bhi+conv+bilstm+mlp" / "validation.npz"
    values = np.arange(100.0)
    if content == "shape":
        np.savez(file, measured=values, predicted=values[1:])
    elif content == "nan":
        np.savez(file, measured=values, predicted=np.full(100, np.nan))
    elif content == "other":
        np.savez(file, measured=values, predicted=values)
    elif content is None:
        file.unlink()
    else:
        assert isinstance(content, bytes)
        file.write_bytes(content)
    found = bootstrap_ranks(folders(sweep), samples=20)
    assert len(found.names) == 7
    (reason,) = found.left_out
    assert message in reason and "bhi+conv+bilstm+mlp" in reason


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    sweep = make_grid(tmp_path / "pickle", choices=FEW, n=50)
    np.savez(
        sweep / "bhi+conv+bilstm+mlp" / "validation.npz", measured=np.array([{}], dtype=object), predicted=np.zeros(1)
    )
    assert "damaged" in bootstrap_ranks(folders(sweep), samples=5).left_out[0]


def test_ranks_need_two_models(tmp_path: Path) -> None:
    sweep = make_grid(tmp_path / "none", choices=FEW, n=50, predictions=False)
    with pytest.raises(InputError, match="two models or more"):
        bootstrap_ranks(folders(sweep))
    with pytest.raises(InputError, match="two models or more"):
        bootstrap_ranks([])


@pytest.mark.parametrize(("k", "q"), [(2, 1.960), (4, 2.569), (10, 3.164)])
def test_critical_differences_are_those_of_the_table(k: int, q: float) -> None:
    """Demšar 2006, Table 5(a): q at 5 %."""
    found = cd_groups(np.random.default_rng(0).normal(size=(14, k)), [str(i) for i in range(k)], "blocks")
    assert found.difference == pytest.approx(q * np.sqrt(k * (k + 1) / (6 * 14)), abs=2e-3)


def test_groups_are_the_longest_runs_within_the_critical_difference() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(30, 6)) + np.array([0, 0.2, 1.5, 1.6, 3.5, 8])
    found = cd_groups(scores, list("abcdef"), "blocks")
    assert found.names[0] == "f"
    assert found.p == friedmanchisquare(*scores.T).pvalue
    for i in range(6):
        for j in range(i + 1, 6):
            close = found.average_rank[j] - found.average_rank[i] <= found.difference
            assert close == any(first <= i and j <= last for first, last in found.groups)


def test_critical_difference_of_models_and_parts(tmp_path: Path) -> None:
    sweep = make_grid(tmp_path / "cd", choices=FEW, n=2000, planted=lambda c: 0.9 if c["recipe"] == "bhi" else 0.3)
    found = model_cd(read_predictions(folders(sweep)))
    assert found.blocks == 100
    assert all(name.startswith("bhi") for name in found.names[:4])
    assert all((first < 4) == (last < 4) for first, last in found.groups)
    rows = collect([sweep]).rows
    parts = part_cd(rows, "recipe", PEARSON)
    assert parts is not None and parts.names == ["bhi", "autosome"] and parts.groups == [] and parts.blocks == 4
    by_kl = part_cd(rows, "recipe", KL)
    assert by_kl is not None and by_kl.names == ["bhi", "autosome"]
    assert part_cd(rows, "first", PEARSON) is None
