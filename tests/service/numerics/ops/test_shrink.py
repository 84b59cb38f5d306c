import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY

X = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])


@pytest.mark.parametrize(
    ("name", "attributes", "values", "slopes"),
    [
        ("softshrink", {}, [-0.5, 0, 0, 0, 0.5], [1, 0, 0, 0, 1]),
        ("hardshrink", {}, [-1, 0, 0, 0, 1], [1, 0, 0, 0, 1]),
        ("threshold", {"threshold": 0.0, "value": 7.0}, [7, 7, 7, 0.5, 1], [0, 0, 0, 1, 1]),
    ],
)
def test_values_and_slopes_at_the_thresholds(name, attributes, values, slopes) -> None:
    op = OP_REGISTRY[name](**attributes)
    np.testing.assert_array_equal(op.forward(X), values)
    np.testing.assert_array_equal(op.backward(np.ones(5), op.forward(X), X)[0], slopes)
