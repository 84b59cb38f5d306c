import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal

X = np.array([-4.0, -3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, 6.0, 7.0])
SLOPES = {
    "relu6": [0, 0, 0, 0, 0, 1, 1, 1, 0, 0],
    "hardtanh": [0, 0, 0, 1, 1, 1, 0, 0, 0, 0],
    "softshrink": [1, 1, 1, 0, 0, 0, 1, 1, 1, 1],
    "hardshrink": [1, 1, 1, 0, 0, 0, 1, 1, 1, 1],
    "hardswish": [0, 0, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1, 1, 1],
}


@pytest.mark.parametrize("name", SLOPES)
def test_slopes_at_kinks_are_those_of_pytorch(name: str) -> None:
    op = OP_REGISTRY[name]()
    np.testing.assert_allclose(op.backward(np.ones(10), op.forward(X), X)[0], SLOPES[name], rtol=1e-15)


@pytest.mark.parametrize("name", ["relu6", "hardtanh", "hardsigmoid", "hardswish", "softshrink", "hardshrink", "rrelu"])
def test_infinities_and_nan_go_through(name: str) -> None:
    with np.errstate(invalid="ignore"):
        output = OP_REGISTRY[name]().forward(np.array([-np.inf, np.inf, np.nan]))
    expected = {"relu6": [0, 6], "hardtanh": [-1, 1], "hardsigmoid": [0, 1], "hardswish": [0, np.inf]}
    np.testing.assert_array_equal(output[:2], expected.get(name, [-np.inf, np.inf]))
    assert np.isnan(output[2])


def test_ends_in_the_wrong_order_are_refused() -> None:
    assert "min_val" in get_refusal("hardtanh", {"min_val": 1.0, "max_val": 0.0}, (3,))
    assert "lower slope" in get_refusal("rrelu", {"lower": 0.5, "upper": 0.1}, (3,))
