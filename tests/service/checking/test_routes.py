import numpy as np

from service.checking.routes import Projected
from service.numerics.gradients.finite_difference import nothing_by_element
from tests.candidates import preset


def test_the_gradients_stand_side_by_side():
    routes = preset("logistic_regression").routes
    by_hand, by_torch = routes.own("w")
    np.testing.assert_allclose(by_hand, by_torch, rtol=1e-12)
    assert routes.evaluations == sum(each.evaluations for each in routes.differences.values()) > 0


def test_along_directions_a_gradient_is_its_inner_products():
    along = Projected(np.array([[1.0, 2.0], [0.0, -1.0]]), nothing_by_element((2,), 0))
    np.testing.assert_array_equal(along.of(np.array([3.0, 4.0])), [11.0, -4.0])
    nothing = along.rounding(np.zeros(2), [])
    np.testing.assert_array_equal(nothing, [0.0, 0.0])
    some = along.rounding(np.array([1e-9, 0.0]), [np.array([3.0, 4.0]), np.array([np.nan, 0.0])])
    assert (some >= [1e-9, 0.0]).all()
    assert some.max() < 3e-9
