import numpy as np
import pytest

from service.numerics.gradients.finite_difference.base_point import BasePoint
from service.numerics.gradients.finite_difference.colouring import colour_elements
from service.numerics.gradients.finite_difference.downstream import DownstreamGraph
from service.numerics.model.graph import Graph, Node
from service.numerics.ops import OP_REGISTRY
from tests.op_graphs import build_reference_model
from tests.random_graphs import draw_graph


def make_colouring(graph, leaves, name):
    return colour_elements(DownstreamGraph(BasePoint(graph, graph.forward(leaves)), name))


@pytest.mark.parametrize(("name", "count"), [("x", 6), ("w1", 6), ("w2", 1)])
def test_the_reference_model_needs_as_many_colours_as_its_kernel_is_large(name, count):
    colouring = make_colouring(*build_reference_model((7, 8), (2, 3)), name)
    assert colouring.colour_count == count


def test_linear_weight_has_a_colour_for_each_feature():
    nodes = [
        Node("h", OP_REGISTRY["linear"](), ("x", "w", None)),
        Node("t", OP_REGISTRY["tanh"](), ("h",)),
        Node("loss", OP_REGISTRY["half_squared_error"](reduction="mean"), ("t", "y")),
    ]
    graph = Graph(nodes, {"x": (11, 5), "w": (3, 5), "y": (11, 3)})
    leaves = {name: np.ones((1, *shape)) for name, shape in graph.shapes.items() if name in ("x", "w", "y")}
    colouring = make_colouring(graph, leaves, "x")
    assert (colouring.colour_count, colouring.axis_periods, colouring.felt_together) == (5, (1, 5), 5)
    assert make_colouring(graph, leaves, "w").axis_periods == (1, 5), "each row of the weight makes terms of its own"


def find_changed_terms(graph, leaves, name, element):
    base = graph.forward(leaves)
    moved = leaves[name].copy()
    moved.flat[element] += 0.3
    after = graph.forward(leaves | {name: moved})
    return graph.get_loss_terms(after)[0] != graph.get_loss_terms(base)[0]


@pytest.mark.parametrize("seed", range(12))
def test_terms_depend_on_one_element_of_a_colour(seed):
    graph, leaves = draw_graph(seed)
    for name in ("x", "w"):
        colouring = make_colouring(graph, leaves, name)
        felt = colouring.find_felt_elements(np.arange(colouring.colour_count))
        assert (colouring.colour_directions(np.arange(colouring.colour_count)).sum(axis=0) == 1).all(), (
            "each element has one colour"
        )
        for element in range(min(40, leaves[name].size)):
            colour = colouring.element_colours.ravel()[element]
            changed = find_changed_terms(graph, leaves, name, element)
            assert (felt[colour][changed] == element).all()


def test_directions_are_those_of_the_colour():
    colouring = make_colouring(*build_reference_model((5, 6), (2, 2)), "x")
    for colour in range(colouring.colour_count):
        (direction,) = colouring.colour_directions(np.array([colour]))
        np.testing.assert_array_equal(np.flatnonzero(direction), np.flatnonzero(colouring.element_colours == colour))
    assert (
        colouring.colour_directions(np.arange(colouring.colour_count)).sum(axis=0).tolist() == np.ones((5, 6)).tolist()
    )


def test_scalar_is_one_colour_and_unused_elements_have_none():
    nodes = [
        Node("n", OP_REGISTRY["narrow"](dim=0, start=0, length=2), ("x",)),
        Node("p", OP_REGISTRY["mul"](), ("n", "s")),
    ]
    graph = Graph([*nodes, Node("loss", OP_REGISTRY["sum"](), ("p",))], {"x": (5,), "s": ()})
    leaves = {"x": np.ones((1, 5)), "s": np.ones(1)}
    assert make_colouring(graph, leaves, "s").colour_count == 1
    colouring = make_colouring(graph, leaves, "x")
    assert (colouring.colour_count, colouring.find_felt_elements(np.array([0])).tolist()) == (1, [[0, 1]])
