"""Soft bins against scipy."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm

from prixfixe.data.tables import read_measurements
from prixfixe.simulation import simulate
from prixfixe.tasks.bins import Bins, spans
from prixfixe.tasks.expression import expression_range

SORTED_INTO = (0.0, 17.0)  # of the yeast assay
EXPRESSION = torch.tensor([0.0, 0.3, 7.5, 11.0, 16.9, 17.0, -3.0, 25.0], dtype=torch.float64)


def test_probabilities_agree_with_scipy() -> None:
    cuts = np.array([-np.inf, *range(1, 18), np.inf])
    expected = np.diff(norm.cdf(cuts[None, :], loc=EXPRESSION.numpy()[:, None] + 0.5, scale=0.5), axis=1)
    got = Bins().probabilities(EXPRESSION).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-14)
    np.testing.assert_allclose(got.sum(axis=1), 1, atol=1e-14)


def test_float32_agrees_with_float64() -> None:
    np.testing.assert_allclose(
        Bins().probabilities(EXPRESSION.float()).numpy(), Bins().probabilities(EXPRESSION).numpy(), atol=1e-6
    )


def test_log_probabilities_are_finite_far_away() -> None:
    log_probs = Bins().log_probabilities(EXPRESSION)
    assert torch.isfinite(log_probs).all()
    torch.testing.assert_close(log_probs.exp(), Bins().probabilities(EXPRESSION), atol=1e-12, rtol=0)


def test_expression_is_read_back() -> None:
    inside = torch.linspace(2, 15, 50, dtype=torch.float64)
    assert (Bins().expression(Bins().probabilities(inside)) - inside).abs().max() < 0.02


def test_another_range() -> None:
    bins = Bins(low=-2.0, high=3.1)
    assert bins.unit == pytest.approx(0.3)
    middle = torch.tensor([-0.5, 1.0], dtype=torch.float64)
    torch.testing.assert_close(bins.expression(bins.probabilities(middle)), middle, atol=0.01, rtol=0)


def test_a_distribution_of_another_width_agrees_with_scipy() -> None:
    bins, sd = Bins(low=-2.0, high=3.1), 0.7
    cuts = np.array([-np.inf, *range(1, 18), np.inf])
    means = (EXPRESSION.numpy() + 2) / 0.3 + 0.5
    expected = np.diff(norm.cdf(cuts[None, :], loc=means[:, None], scale=sd / 0.3), axis=1)
    got = bins.log_probabilities(EXPRESSION, sd).exp().numpy()
    np.testing.assert_allclose(got, expected, atol=1e-12)
    torch.testing.assert_close(Bins().log_probabilities(EXPRESSION, 0.5), Bins().log_probabilities(EXPRESSION))


@pytest.mark.parametrize("sd", [0.0, 1e-300, 1e-6, 1e4])
def test_a_distribution_of_any_width_is_finite(sd: float) -> None:
    assert torch.isfinite(Bins().log_probabilities(EXPRESSION, sd)).all()
    assert Bins().log_probabilities(EXPRESSION, float("nan")).isnan().all()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 17.0, (0.0, 17.0)),
        (2.3, 17.0, (0.0, 17.0)),  # a small sample of the yeast assay's
        (7.0, 15.8, (0.0, 17.0)),
        (0.0, 1.0, (0.0, 1.0)),  # shares
        (0.125, 8.0, (0.125, 8.0)),
        (9.0, 17.0, (9.0, 17.0)),
        (-0.1, 16.0, (-0.1, 16.0)),
        (0.0, 17.1, (0.0, 17.1)),
    ],
)
def test_bins_are_0_to_17_where_the_values_span_most_of_it(
    low: float, high: float, expected: tuple[float, float]
) -> None:
    values = np.linspace(low, high, 50)
    assert expression_range(values, None, SORTED_INTO) == expected
    assert expression_range(values, (0, 17), SORTED_INTO) == expression_range(values, (0, 17), None) == (0.0, 17.0)
    assert expression_range(values, None, None) == (low, high), "an assay that sorts no cells"


@pytest.mark.parametrize("size", [100, 6500])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_simulated_promoters_are_in_the_assays_bins(size: int, seed: int) -> None:
    expression = simulate(size, seed).measurements.expression
    assert spans(expression, SORTED_INTO) and not spans(expression, None)


def test_real_sets_have_the_bins_that_fit_them(real_data: Path) -> None:
    for name in ("random_promoters.txt", "designed_complex_media.tsv"):
        expression = read_measurements(real_data / "yeast" / name).expression
        assert expression_range(expression, None, SORTED_INTO) == SORTED_INTO
    other = read_measurements(real_data / "human" / "lentimpra_train.tsv").expression
    assert expression_range(other, None, SORTED_INTO) == (other.min(), other.max())
