import numpy as np
import pytest

from service.numerics.ops.running_sums import sum_discounted_from_end


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 33])
def test_sums_are_those_of_a_loop_from_the_end(length: int) -> None:
    generator = np.random.default_rng(length)
    terms = generator.normal(size=(2, length))
    factors = generator.choice([0.0, 0.5, -1.5, 2.0], size=(1, length))
    factors[..., -1] = np.nan  # it is not used
    expected = terms.copy()
    for k in range(length - 2, -1, -1):
        expected[:, k] += factors[0, k] * expected[:, k + 1]
    np.testing.assert_allclose(sum_discounted_from_end(terms, factors), expected, rtol=1e-12, atol=1e-12)
