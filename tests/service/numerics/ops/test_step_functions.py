"""Values and slopes of functions with jumps, and verdicts where rounding decides on which side an element lies."""

import numpy as np
import pytest

from service.numerics.core.precision import PRECISIONS
from service.numerics.model.graph import Graph, Node
from service.numerics.model.rounding import estimate_rounding_allowances
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


@pytest.mark.parametrize("name", ["floor", "ceil", "trunc", "round", "sign", "frac", "hardshrink"])
def test_where_rounding_decides_on_the_piece_the_allowance_has_no_limit(name: str) -> None:
    """A third of 3 (1 + 2^-22) in float32 may round to 1 or to its neighbours; that of 1.2 is far from any jump."""
    op = OP_REGISTRY[name](**({"lambd": 1.0} if name == "hardshrink" else {}))
    nodes = [
        Node("z", OP_REGISTRY["div"](), ("x", "t")),
        Node("d", OP_REGISTRY["sub"](), ("z", "o")),
        Node("s", op, ("d",)),
        Node("p", OP_REGISTRY["mul"](), ("s", "w")),
        Node("loss", OP_REGISTRY["sum"](), ("p",)),
    ]
    at_jump = {"sign": 1.0, "round": 0.5}.get(name, 0.0)
    graph = Graph(nodes, {"x": (2,), "t": (), "o": (), "w": (2,)})
    leaves = {
        "x": np.array([[3 * (1 + 2.0**-22), 3.6]]),
        "t": np.array([3.0]),
        "o": np.array([at_jump]),
        "w": np.array([[2.0, 2.0]]),
    }
    allowances = estimate_rounding_allowances(graph, leaves, PRECISIONS["FP32"], 0)
    assert allowances["w"][0] == np.inf
    assert allowances["w"][1] < 1e-5
    in_float64 = estimate_rounding_allowances(graph, leaves, PRECISIONS["FP64"], 0)
    assert (in_float64["w"] < 1e-12).all(), "in float64 the piece is certain, though its sweeps have larger errors"
