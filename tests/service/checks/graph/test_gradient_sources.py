import numpy as np

from service.checks.graph.gradient_sources import DirectionalDifference
from service.numerics.gradients.finite_difference import make_unexamined_difference
from tests.solved_problems import solve_preset


def test_the_gradients_stand_side_by_side():
    routes = solve_preset("logistic_regression").routes
    by_hand, by_torch = routes.own_gradients("w")
    np.testing.assert_allclose(by_hand, by_torch, rtol=1e-12)
    assert routes.evaluations == sum(each.evaluations for each in routes.differences.values()) > 0


def test_along_directions_a_gradient_is_its_inner_products():
    along = DirectionalDifference(np.array([[1.0, 2.0], [0.0, -1.0]]), make_unexamined_difference((2,), 0))
    np.testing.assert_array_equal(along.project_gradient(np.array([3.0, 4.0])), [11.0, -4.0])
    nothing = along.project_rounding(np.zeros(2), [])
    np.testing.assert_array_equal(nothing, [0.0, 0.0])
    some = along.project_rounding(np.array([1e-9, 0.0]), [np.array([3.0, 4.0]), np.array([np.nan, 0.0])])
    assert (some >= [1e-9, 0.0]).all()
    assert some.max() < 3e-9
