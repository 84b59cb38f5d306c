import numpy as np
import pytest

from service.numerics.gradients.finite_difference.colouring import coloured
from service.numerics.gradients.finite_difference.point import Point
from service.numerics.gradients.finite_difference.suffix import Suffix
from service.numerics.graph import Graph, Node
from service.numerics.ops import REGISTRY
from tests.problems import reference_model
from tests.random_graphs import random_graph


def colouring_of(graph, leaves, name):
    return coloured(Suffix(Point(graph, graph.forward(leaves)), name))


@pytest.mark.parametrize(("name", "count"), [("x", 6), ("w1", 6), ("w2", 1)])
def test_the_reference_model_needs_as_many_colours_as_its_kernel_is_large(name, count):
    found = colouring_of(*reference_model((7, 8), (2, 3)), name)
    assert found.count == count


def test_features_not_features_times_samples():
    nodes = [
        Node("h", REGISTRY["linear"](), ("x", "w", None)),
        Node("t", REGISTRY["tanh"](), ("h",)),
        Node("loss", REGISTRY["half_squared_error"](reduction="mean"), ("t", "y")),
    ]
    graph = Graph(nodes, {"x": (11, 5), "w": (3, 5), "y": (11, 3)})
    leaves = {name: np.ones((1, *shape)) for name, shape in graph.shapes.items() if name in ("x", "w", "y")}
    found = colouring_of(graph, leaves, "x")
    assert (found.count, found.periods, found.together) == (5, (1, 5), 5)
    assert colouring_of(graph, leaves, "w").periods == (1, 5), "each row of the weight makes terms of its own"


def changed_terms(graph, leaves, name, element):
    base = graph.forward(leaves)
    moved = leaves[name].copy()
    moved.flat[element] += 0.3
    after = graph.forward(leaves | {name: moved})
    return graph.terms(after)[0] != graph.terms(base)[0]


@pytest.mark.parametrize("seed", range(12))
def test_no_term_feels_two_elements_of_a_colour_and_each_says_which(seed):
    graph, leaves = random_graph(seed)
    for name in ("x", "w"):
        found = colouring_of(graph, leaves, name)
        felt = found.felt(np.arange(found.count))
        assert (found.directions(np.arange(found.count)).sum(axis=0) == 1).all(), "each element has one colour"
        for element in range(min(40, leaves[name].size)):
            colour = found.of_elements.ravel()[element]
            changed = changed_terms(graph, leaves, name, element)
            assert (felt[colour][changed] == element).all()


def test_directions_are_those_of_the_colour():
    found = colouring_of(*reference_model((5, 6), (2, 2)), "x")
    for colour in range(found.count):
        (direction,) = found.directions(np.array([colour]))
        np.testing.assert_array_equal(np.flatnonzero(direction), np.flatnonzero(found.of_elements == colour))
    assert found.directions(np.arange(found.count)).sum(axis=0).tolist() == np.ones((5, 6)).tolist()


def test_a_number_is_one_colour_and_what_is_not_felt_is_none():
    nodes = [Node("n", REGISTRY["narrow"](dim=0, start=0, length=2), ("x",)), Node("p", REGISTRY["mul"](), ("n", "s"))]
    graph = Graph([*nodes, Node("loss", REGISTRY["sum"](), ("p",))], {"x": (5,), "s": ()})
    leaves = {"x": np.ones((1, 5)), "s": np.ones(1)}
    assert colouring_of(graph, leaves, "s").count == 1
    found = colouring_of(graph, leaves, "x")
    assert (found.count, found.felt(np.array([0])).tolist()) == (1, [[0, 1]])
