"""Small models with ties for these tests."""

import numpy as np

from service.numerics import ties
from service.numerics.graph import Graph, Node
from service.numerics.ops import REGISTRY
from service.numerics.precision import PRECISIONS
from service.numerics.ties import Point


def point(nodes: list[tuple], leaves: dict[str, object], precision: str = "FP64", most: int = 2**16) -> Point:
    """Point of a model given as (name, op, operands, attributes)."""
    arrays = {name: np.array([each], np.float64) for name, each in leaves.items()}
    made = [Node(name, REGISTRY[op](**attributes), operands) for name, op, operands, attributes in nodes]
    graph = Graph(made, {name: each.shape[1:] for name, each in arrays.items()})
    return ties.found(graph, arrays, [PRECISIONS[precision]], 1, most)


def maximum_of(values: list[float]) -> Point:
    return point([("m", "amax", ("x",), {}), ("loss", "mul", ("m", 3.0), {})], {"x": values})


def nested(values: list[float]) -> Point:
    nodes = [("a", "abs", ("x",), {}), ("m", "amax", ("a",), {}), ("loss", "mul", ("m", 3.0), {})]
    return point(nodes, {"x": values})


def dense(values: list[list[float]]) -> Point:
    """relu(x w), which shares its weights among the samples: all is 0 before relu."""
    nodes = [("z", "matmul", ("x", "w"), {}), ("y", "relu", ("z",), {}), ("loss", "sum", ("y",), {})]
    return point(nodes, {"x": values, "w": [[1.0, 1.0], [-1.0, -1.0]]})
