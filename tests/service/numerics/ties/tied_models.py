"""Small models with ties for these tests."""

import numpy as np

from service.numerics import ties
from service.numerics.core.recipe import EAGER_RECIPES
from service.numerics.model.graph import Graph, Node
from service.numerics.ops import OP_REGISTRY
from service.numerics.ties import TiePoint


def make_tie_point(
    nodes: list[tuple], leaves: dict[str, object], precision: str = "FP64", most: int = 2**16
) -> TiePoint:
    """Point of a model given as (name, op, operands, attributes)."""
    arrays = {name: np.array([leaf], np.float64) for name, leaf in leaves.items()}
    made = [Node(name, OP_REGISTRY[op](**attributes), operands) for name, op, operands, attributes in nodes]
    graph = Graph(made, {name: array.shape[1:] for name, array in arrays.items()})
    return ties.find_tie_point(graph, arrays, [EAGER_RECIPES[precision]], 1, most)


def make_maximum(values: list[float]) -> TiePoint:
    return make_tie_point([("m", "amax", ("x",), {}), ("loss", "mul", ("m", 3.0), {})], {"x": values})


def make_nested(values: list[float]) -> TiePoint:
    nodes = [("a", "abs", ("x",), {}), ("m", "amax", ("a",), {}), ("loss", "mul", ("m", 3.0), {})]
    return make_tie_point(nodes, {"x": values})


def make_dense(values: list[list[float]]) -> TiePoint:
    """relu(x w), which shares its weights among the samples: all is 0 before relu."""
    nodes = [("z", "matmul", ("x", "w"), {}), ("y", "relu", ("z",), {}), ("loss", "sum", ("y",), {})]
    return make_tie_point(nodes, {"x": values, "w": [[1.0, 1.0], [-1.0, -1.0]]})
