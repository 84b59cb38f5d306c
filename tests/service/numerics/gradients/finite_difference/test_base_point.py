import numpy as np

from service.numerics.gradients.finite_difference.base_point import BasePoint
from service.numerics.model.graph import Graph, Node
from service.numerics.ops import OP_REGISTRY
from tests.op_graphs import build_reference_model


def test_base_point_lists_the_readers_of_each_value() -> None:
    graph, leaves = build_reference_model()
    point = BasePoint(graph, graph.forward(leaves))
    assert [node.name for node in point.readers_by_name["w2"]] == ["L2"]
    assert [node.name for node in point.readers_by_name["L1"]] == ["L1A"]
    assert point.readers_by_name["loss"] == ()


def test_a_node_that_reads_a_name_twice_reads_it_once() -> None:
    graph = Graph(
        [Node("p", OP_REGISTRY["mul"](), ("x", "x")), Node("loss", OP_REGISTRY["sum"](), ("p",))], {"x": (2,)}
    )
    point = BasePoint(graph, graph.forward({"x": np.ones((1, 2))}))
    assert [node.name for node in point.readers_by_name["x"]] == ["p"]
    first, second = point.get_operand_arrays(point.nodes["p"])
    assert first is second is point.values["x"]


def test_base_point_from_shapes_takes_no_memory_and_keeps_indices() -> None:
    graph = Graph(
        [Node("e", OP_REGISTRY["embedding"](), ("i", "w")), Node("loss", OP_REGISTRY["sum"](), ("e",))],
        {"i": (3,), "w": (1000, 1000)},
        {"i": "index"},
    )
    indices = np.array([[2, 0, 2]])
    point = BasePoint.from_shapes(graph, {"i": indices, "w": np.ones((1, 1000, 1000))})
    assert point.values["i"] is indices
    assert point.values["w"].shape == (1, 1000, 1000)
    assert point.values["w"].base is not None
    assert point.values["w"].strides == (0, 0, 0)
