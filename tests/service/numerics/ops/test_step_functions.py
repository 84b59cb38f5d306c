"""Values and slopes of functions with jumps."""

import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY

X = np.array([-2.5, -1.0, -0.5, 0.0, 0.5, 1.5, 2.7])
VALUES = {
    "sign": [-1, -1, -1, 0, 1, 1, 1],
    "floor": [-3, -1, -1, 0, 0, 1, 2],
    "ceil": [-2, -1, 0, 0, 1, 2, 3],
    "trunc": [-2, -1, 0, 0, 0, 1, 2],
    "round": [-2, -1, 0, 0, 0, 2, 3],
    "frac": [-0.5, 0, -0.5, 0, 0.5, 0.5, 2.7 - 2],
}


@pytest.mark.parametrize("name", VALUES)
def test_values_and_slopes_are_those_of_the_piece(name: str) -> None:
    op = OP_REGISTRY[name]()
    np.testing.assert_array_equal(op.forward(X), VALUES[name])
    np.testing.assert_array_equal(op.backward(np.ones(7), op.forward(X), X)[0], 1 if name == "frac" else 0)


def test_round_takes_places_on_both_sides_of_the_point() -> None:
    np.testing.assert_array_equal(OP_REGISTRY["round"](decimals=2).forward(np.array([1.234, -0.005])), [1.23, 0])
    np.testing.assert_array_equal(OP_REGISTRY["round"](decimals=-1).forward(np.array([14.0, 15.0, 25.0])), [10, 20, 20])
