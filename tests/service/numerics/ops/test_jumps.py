"""Allowances where rounding decides on which side of a jump an element lies."""

import numpy as np
import pytest

from service.numerics.core.precision import PRECISIONS
from service.numerics.model.graph import Graph, Node
from service.numerics.model.rounding import estimate_rounding_allowances
from service.numerics.ops import OP_REGISTRY


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
