"""Running error bounds are those of the partial sums, and cover the errors of sums."""

import numpy as np
import pytest

from service.numerics.core.batching import Array
from service.numerics.ops.partial_sums import bound_product, bound_sum


def draw(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape)


def test_a_sum_in_order_has_the_partial_sums_of_its_order() -> None:
    terms = np.array([[3.0, -1.0, 2.0], [1e-3, 1e-3, 1e-3]])
    partial_sums = np.array([[3.0, 2.0, 4.0], [1e-3, 2e-3, 3e-3]])
    in_order = np.sqrt(np.square(partial_sums).sum(-1, keepdims=True))
    assert (bound_sum(terms) >= in_order).all()
    np.testing.assert_allclose(bound_sum(terms)[0], in_order[0], rtol=1e-15)


def test_terms_that_cancel_in_their_order_have_the_partial_sums_of_an_order_left_to_chance() -> None:
    terms = np.tile([1.0, -1.0], 500)
    orders = np.random.default_rng(0).permuted(np.tile(terms, (2000, 1)), axis=1)
    by_chance = np.sqrt(np.square(np.cumsum(orders, axis=1)).sum(1).mean())
    in_order = np.sqrt(np.square(np.cumsum(terms)).sum())
    (bound,) = bound_sum(terms)
    assert bound == pytest.approx(by_chance, rel=0.1)
    assert bound > 10 * in_order


def test_a_product_of_matrices_has_the_partial_sums_of_its_sums() -> None:
    a, b = draw(2, 4, 64), draw(2, 64, 5)
    terms = a[..., :, :, None] * b[..., None, :, :]
    in_order = np.sqrt((np.square(np.cumsum(terms, axis=-2)) + np.square(terms)).sum(-2))
    assert bound_product(a, b).shape == (2, 4, 5)
    ratios = bound_product(a, b) / in_order
    assert 0.5 < ratios.min() < ratios.max() < 2


def test_a_product_of_one_term_rounds_its_product_and_its_sum() -> None:
    a, b = draw(3, 1), draw(1, 2)
    np.testing.assert_allclose(bound_product(a, b), np.sqrt(1 / 3 + 1 + 1 / 6) * np.abs(a @ b), rtol=1e-15)


@pytest.mark.parametrize("count", [8, 1000])
def test_the_rounding_of_a_float32_sum_is_of_the_size_of_the_bound(count: int) -> None:
    terms = draw(200, count).astype(np.float32)
    # cumsum adds one term after the other; sum adds in pairs.
    errors = np.cumsum(terms, axis=-1)[:, -1:].astype(np.float64) - terms.astype(np.float64).sum(-1, keepdims=True)
    bounds = np.finfo(np.float32).eps / 2 * bound_sum(terms.astype(np.float64))
    assert (np.abs(errors) < 3 * bounds).all()
    # Much less would not cover them.
    assert (np.abs(errors) > 0.1 * bounds).any()
