import numpy as np
import pytest

from service.numerics.core.batching import add_batch_axis
from service.numerics.gradients.finite_difference.base_point import BasePoint
from service.numerics.gradients.finite_difference.downstream import DownstreamGraph
from service.numerics.gradients.finite_difference.step_scale import draw_search_directions, find_step_scale
from service.numerics.model.graph import Graph, Node
from service.numerics.ops import OP_REGISTRY

TANH, MUL, LOSS = OP_REGISTRY["tanh"](), OP_REGISTRY["mul"](), OP_REGISTRY["half_squared_error"](reduction="sum")


def get_scale(graph, base, name):
    return find_step_scale(DownstreamGraph(BasePoint(graph, base), name), np.random.default_rng(0))


def make_product_under_tanh(x, w):
    """L = (tanh(x w) - 1)^2 / 2: a step in w moves the unit p by x times as much."""
    nodes = [Node("p", MUL, ("x", "w")), Node("t", TANH, ("p",)), Node("loss", LOSS, ("t", 1.0))]
    graph = Graph(nodes, {"x": (), "w": ()})
    return graph, graph.forward({"x": add_batch_axis(np.array(x)), "w": add_batch_axis(np.array(w))})


@pytest.mark.parametrize("x", [1e-6, 1.0, 1e3, 1e9])
def test_no_unit_downstream_moves_by_more_than_about_one(x):
    graph, base = make_product_under_tanh(x, 0.3 / x)
    step = get_scale(graph, base, "w")
    most = min(max(1, 0.3 / x), 1 / x)
    assert most / 64 <= step <= most, "and it is not so small that it would not be felt"
    assert np.log2(step) == int(np.log2(step)), "a power of two"


def test_a_point_of_zeros_has_a_scale():
    graph, base = make_product_under_tanh(1.0, 0.0)
    assert 2.0**-5 <= get_scale(graph, base, "w") <= 2.0


def test_step_scale_is_positive_and_finite_for_infinite_leaves():
    graph, base = make_product_under_tanh(1.0, 0.5)
    base = {name: value * np.inf for name, value in base.items()}
    with np.errstate(all="ignore"):
        assert 0 < get_scale(graph, base, "w") < np.inf


def test_directions_move_every_element_both_ways_and_not_alike():
    directions = draw_search_directions(1000, (2, 3), np.random.default_rng(0))
    assert ((np.abs(directions) >= 1) & (np.abs(directions) <= 2)).all()
    up = (directions > 0).mean(axis=0)
    assert ((up > 0.4) & (up < 0.6)).all()
    assert np.unique(np.abs(directions)).size == directions.size


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_the_phase_of_an_op_that_oscillates_moves_by_one_at_most(name):
    def find_scale(x):
        graph = Graph([Node("loss", OP_REGISTRY[name](), ("x",))], {"x": ()})
        return get_scale(graph, graph.forward({"x": add_batch_axis(np.array(x))}), "x")

    assert 2.0**-8 <= find_scale(1e6) <= 1
    assert np.isnan(find_scale(1e200)), "a phase that no step keeps is not differenced"


def test_a_point_of_zeros_under_a_tiny_scale_is_searched_downwards():
    """L = tanh(1e40 x) at x = 0 turns at 1e-40: no step of ordinary size would do."""
    nodes = [Node("p", MUL, ("x", 1e40)), Node("loss", TANH, ("p",))]
    graph = Graph(nodes, {"x": ()})
    scale = get_scale(graph, graph.forward({"x": np.zeros(1)}), "x")
    assert 1e-43 < scale <= 1e-40


def test_a_tiny_point_has_a_scale_of_its_own():
    graph = Graph([Node("loss", OP_REGISTRY["vector_norm"](), ("x",))], {"x": (2,)})
    base = graph.forward({"x": add_batch_axis(np.array([3e-300, -4e-300]))})
    assert get_scale(graph, base, "x") < 1e-294


@pytest.mark.parametrize("x", [1e-3, 1e-21, 1e-102])
def test_a_step_does_not_reach_over_a_pole(x):
    """Of x^-2 next to nothing is left where the step is far larger than x."""
    graph = Graph(
        [Node("p", OP_REGISTRY["pow"](exponent=-2.0), ("x",)), Node("loss", OP_REGISTRY["sum"](), ("p",))],
        {"x": ()},
    )
    point = BasePoint(graph, graph.forward({"x": np.array([x])}))
    scale = find_step_scale(DownstreamGraph(point, "x"), np.random.default_rng(0))
    assert 0 < scale <= x
