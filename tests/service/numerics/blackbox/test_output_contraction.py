"""The product of an output with a cotangent has the bound of its sum or that of its elements."""

import numpy as np
import pytest

from service.numerics.blackbox.function_differences import difference_output
from service.numerics.blackbox.kinks import LossShape
from service.numerics.blackbox.output_contraction import choose_tighter, contract_derivatives, estimate_part_deviation
from tests.service.numerics.blackbox.stated_derivatives import make_derivatives
from tests.service.numerics.blackbox.vector_functions import lay_out


def test_bounds_of_elements_add_up():
    derivatives = make_derivatives(np.array([[1.0, 2.0], [3.0, -1.0]]), np.array([[0.1, 0.2], [0.3, 0.4]]))
    product = contract_derivatives(derivatives, np.array([2.0, -1.0]))
    np.testing.assert_allclose(product.value, [-1.0, 5.0])
    np.testing.assert_allclose(product.bound, [0.5, 0.8])


def test_an_element_without_a_cotangent_adds_nothing():
    derivatives = make_derivatives(np.array([[1.0], [np.nan]]), np.array([[0.1], [np.inf]]))
    product = contract_derivatives(derivatives, np.array([2.0, 0.0]))
    assert product.value == 2.0
    assert product.bound == 0.2
    nothing = contract_derivatives(derivatives, np.zeros(2))
    assert nothing.value == 0
    assert nothing.bound == 0


def test_product_is_a_staircase_only_if_all_changing_outputs_are():
    shapes = np.array([[LossShape.STAIRS, LossShape.STAIRS, LossShape.SMOOTH], [LossShape.STAIRS, LossShape.KINKED, 0]])
    derivatives = make_derivatives(np.ones((2, 3)), np.ones((2, 3)), loss_shape=shapes)
    product = contract_derivatives(derivatives, np.ones(2))
    assert product.loss_shape.tolist() == [LossShape.STAIRS, LossShape.KINKED, LossShape.SMOOTH]


def test_the_smaller_bound_counts_with_the_sizes_of_the_elements():
    of_sum = make_derivatives(np.array([1.0, 2.0]), np.array([0.1, np.inf]), loss_magnitude=np.array([5.0, 0.0]))
    of_elements = make_derivatives(np.array([1.5, 2.5]), np.array([0.2, 0.2]), loss_magnitude=np.array([7.0, 8.0]))
    chosen = choose_tighter(of_sum, of_elements)
    assert chosen.value.tolist() == [1.0, 2.5]
    assert chosen.bound.tolist() == [0.1, 0.2]
    assert chosen.loss_magnitude.tolist() == [7.0, 8.0]


def test_elements_know_more_where_no_step_suits_their_sum():
    """Elements that turn slowly need large steps, for their rounding, and those that turn often small ones."""
    ratios: list[float] = []
    for seed in range(10):
        generator = np.random.default_rng(seed)
        weights, cotangent, x = (generator.normal(size=size) for size in ((20, 6), 20, 6))
        turns = 2.0 ** np.arange(-5, 5, 0.5)
        layout = lay_out(x, random=True, seed=seed)
        values = np.array([np.sin(turns * (weights @ point)) for point in layout.stack_points("x")])
        of_elements = contract_derivatives(difference_output(layout, "x", values).derivatives, cotangent)
        of_sum = difference_output(layout, "x", (values @ cotangent)[:, None]).derivatives.bound[0]
        truth = layout.lines["x"].directions @ ((cotangent * turns * np.cos(turns * (weights @ x))) @ weights)
        assert (np.abs(of_elements.value - truth) <= of_elements.bound).all()
        ratios += (of_elements.bound / of_sum).tolist()
    assert min(ratios) < 0.2


def test_the_rounding_of_narrow_elements_stays_in_their_sum():
    values = np.random.default_rng(0).normal(size=(30, 3))
    weights = np.array([1.0, -3.0, 0.5])
    rounded = values.astype(np.float16).astype(np.float64)
    measured = np.std((rounded - values) @ weights)
    assert measured <= estimate_part_deviation(rounded, weights) <= 12 * measured
    assert estimate_part_deviation(rounded * 2.0**100, weights) == pytest.approx(
        2.0**100 * estimate_part_deviation(rounded, weights)
    )


def test_wide_elements_leave_nothing_in_their_sum():
    values = np.random.default_rng(0).normal(size=(30, 3))
    assert estimate_part_deviation(values, np.ones(3)) == 0
    assert estimate_part_deviation(values.astype(np.float32).astype(np.float64), np.ones(3)) == 0
    assert estimate_part_deviation(np.vstack([np.ones((1, 3)), values]), np.ones(3)) == 0
