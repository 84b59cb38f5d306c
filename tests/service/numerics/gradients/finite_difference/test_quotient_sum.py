import numpy as np
import pytest

from service.numerics.gradients.finite_difference.quotient_sum import ProductBlock, QuotientSum
from service.numerics.gradients.finite_difference.quotients import DifferenceQuotients

COUNT = 5000
NOISE = 1e-9


def sum_into_one_element(values: np.ndarray) -> DifferenceQuotients:
    """Sum quotients with factors of 2, all into the first of two elements."""
    by_output = DifferenceQuotients(np.stack([values] * 2), np.full(COUNT, NOISE), np.full(COUNT, 1e-12))
    block = ProductBlock((COUNT,), np.zeros((1, COUNT), np.int64), np.full((1, COUNT), 2.0))
    return QuotientSum(by_output, 2).sum_quotients([block])


@pytest.mark.parametrize("equal", [True, False])
def test_noise_of_equal_quotients_adds_up(equal: bool) -> None:
    """That of others adds up as the root of their number."""
    values = np.full(COUNT, 0.7) if equal else np.random.default_rng(0).uniform(0.6, 0.8, COUNT)
    quotients = sum_into_one_element(values)
    np.testing.assert_allclose(quotients.values[:, 0], 2 * values.sum(), rtol=1e-13)
    assert quotients.noise[0] == pytest.approx(2 * NOISE * (COUNT if equal else COUNT**0.5), rel=1e-6)
    assert quotients.values[:, 1].tolist() == [0, 0]
    assert quotients.rounding_error[0] > 2 * COUNT * 1e-12


def test_errors_of_factors_add_up() -> None:
    by_output = DifferenceQuotients(np.full((1, COUNT), -3.0), np.zeros(COUNT), np.zeros(COUNT))
    block = ProductBlock((COUNT,), np.zeros((1, COUNT), np.int64), np.full((1, COUNT), -1e-6))
    assert QuotientSum(by_output, 1).sum_errors([block]) == pytest.approx([3e-6 * COUNT])
