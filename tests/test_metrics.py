import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from prixfixe.tasks import metrics

TOLERANCE = 1e-12


def noisy(n: int = 500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    measured = generator.normal(10, 3, n).round(1)  # rounded: equal values
    return measured, (measured + generator.normal(0, 3, n)).round(1)


@pytest.mark.parametrize("n", [2, 3, 50, 5000])
def test_correlations_agree_with_scipy(n: int) -> None:
    measured, predicted = noisy(n)
    pearson = scipy.stats.pearsonr(measured, predicted).statistic
    assert metrics.pearson_r(measured, predicted) == pytest.approx(pearson, abs=TOLERANCE)
    spearman = scipy.stats.spearmanr(measured, predicted).statistic
    assert metrics.spearman_rho(measured, predicted) == pytest.approx(spearman, abs=TOLERANCE)


# integers, so that ties are many and neither side is nearly constant by rounding
@given(arrays(np.int64, (30, 2), elements=st.integers(-5, 5)))
def test_ties_agree_with_scipy(values: np.ndarray) -> None:
    measured, predicted = values.T
    if np.ptp(measured) == 0 or np.ptp(predicted) == 0:
        assert np.isnan(metrics.spearman_rho(measured, predicted))
        return
    expected = scipy.stats.spearmanr(measured, predicted).statistic
    assert metrics.spearman_rho(measured, predicted) == pytest.approx(expected, abs=TOLERANCE)
    expected = scipy.stats.pearsonr(measured, predicted).statistic
    assert metrics.pearson_r(measured, predicted) == pytest.approx(expected, abs=TOLERANCE)


def test_correlations_mind_neither_offset_nor_scale() -> None:
    measured, predicted = noisy()
    r = metrics.pearson_r(measured, predicted)
    assert metrics.pearson_r(1e-100 * measured, 1e100 * predicted) == pytest.approx(r, abs=TOLERANCE)
    assert metrics.pearson_r(measured, 5 - 2 * predicted) == pytest.approx(-r, abs=TOLERANCE)


def test_float32_is_scored_in_float64() -> None:
    measured, predicted = (values.astype(np.float32) for values in noisy())
    wide = metrics.scores(measured.astype(np.float64), predicted.astype(np.float64))
    assert metrics.scores(measured, predicted) == wide


@pytest.mark.parametrize("score", [metrics.pearson_r, metrics.spearman_rho])
def test_undefined_correlations_are_nan(score: object) -> None:
    assert callable(score)
    values = np.arange(5.0)
    assert np.isnan(score(values, np.full(5, 0.1)))
    assert np.isnan(score(np.full(5, 0.1), values))
    assert np.isnan(score(values[:1], values[:1]))
    assert np.isnan(score([], []))
    assert np.isnan(score(values, [0, 1, np.nan, 3, 4]))


def test_mse() -> None:
    assert metrics.mse([1, 2, 3], [1, 4, 0]) == pytest.approx(13 / 3)
    assert np.isnan(metrics.mse([], []))


def test_kl_divergence() -> None:
    target = np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    estimate = np.array([[0.25, 0.5, 0.25], [0.2, 0.3, 0.5]])
    expected = scipy.stats.entropy(target, estimate, axis=1).mean()
    assert metrics.kl_divergence(target, np.log(estimate)) == pytest.approx(expected, abs=TOLERANCE)
    with np.errstate(divide="ignore"):
        assert metrics.kl_divergence(target, np.log(target)) == 0  # a bin that neither uses adds nothing
        assert metrics.kl_divergence(estimate, np.log(target)) == np.inf
    assert np.isnan(metrics.kl_divergence([[np.nan, 1]], [[-1, -1]]))
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(3, 2\)"):
        metrics.kl_divergence(target, estimate.T)


def test_several_tasks_give_their_mean() -> None:
    first, second = noisy(seed=1), noisy(seed=2)
    measured, predicted = np.stack([first[0], second[0]], axis=1), np.stack([first[1], second[1]], axis=1)
    by_task = [metrics.scores(*first), metrics.scores(*second)]
    together = metrics.scores(measured, predicted)
    for name in ("pearson_r", "spearman_rho", "mse"):
        assert together[name] == pytest.approx((by_task[0][name] + by_task[1][name]) / 2)
    assert together["n"] == 500
    apart = metrics.scores_by_task(measured, predicted, ["dev", "hk"])
    assert apart == {
        task: {name: found[name] for name in found if name != "n"}
        for task, found in zip(["dev", "hk"], by_task, strict=True)
    }
    with pytest.raises(ValueError, match="zip"):
        metrics.scores_by_task(measured, predicted, ["dev"])


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(3,\) and \(3, 1\)"):
        metrics.pearson_r(np.zeros(3), np.zeros((3, 1)))
