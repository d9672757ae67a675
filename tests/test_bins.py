"""Soft bins against scipy."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from prixfixe.bins import Bins

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
