import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "maximum", "minimum"])
@pytest.mark.parametrize("shapes", [((2,), (3,)), ((2, 3), (2,))])
def test_shapes_that_do_not_broadcast_are_refused(name, shapes):
    assert "broadcast together" in get_refusal(name, {}, *shapes)


def test_where_takes_all_three_shapes_into_account():
    assert OP_REGISTRY["where"]().infer_output_shape((3, 1), (4,), ()) == (3, 4)
    assert "broadcast together" in get_refusal("where", {}, (3,), (4,), ())


@pytest.mark.parametrize(("name", "of_larger"), [("maximum", 1.0), ("minimum", 0.0)])
def test_tie_gives_half_to_each_operand(name, of_larger):
    a, b = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 2.0])
    by_a, by_b = OP_REGISTRY[name]().backward(np.ones(3), np.zeros(3), a, b)
    np.testing.assert_array_equal(by_a, [1 - of_larger, 0.5, of_larger])
    np.testing.assert_array_equal(by_a + by_b, 1)


def test_division_neither_overflows_nor_underflows_on_the_way():
    """-a / b^2 would square a b of 1e-200."""
    a, b = np.array([1e-200]), np.array([1e-200])
    with np.errstate(all="raise"):
        _, by_b = OP_REGISTRY["div"]().backward(np.ones(1), a / b, a, b)
    np.testing.assert_allclose(by_b, -1e200)


def test_where_takes_nothing_from_the_other_side():
    mask, nan = np.array([True, False]), np.array([np.nan, 1.0])
    np.testing.assert_array_equal(OP_REGISTRY["where"]().forward(~mask, nan, np.array([5.0, 6.0])), [5, 1])
