import numpy as np
import pytest

from service.numerics.gradients.finite_difference import differentiate_numerically
from service.numerics.gradients.finite_difference.base_point import BasePoint
from service.numerics.gradients.finite_difference.downstream import DownstreamGraph
from service.numerics.model.graph import Graph, Node
from service.numerics.ops import OP_REGISTRY
from tests import truth
from tests.op_graphs import build_reference_model
from tests.random_graphs import draw_graph

MOVES = np.array([0.5, -0.5, 2.0**-10])


def draw_directions(leaves, name, count=3):
    return np.random.default_rng(0).normal(size=(count, *leaves[name].shape[1:]))


def evaluate_weighted_terms(suffix, directions):
    """Terms as they enter the loss."""
    terms, coefficients = suffix.evaluate_terms_at_moves(suffix.compute_linear_responses(directions), MOVES)
    return terms if coefficients is None else terms * coefficients


def compare_with_forward(graph, leaves, name):
    """Terms by the suffix, and by a forward pass for each direction and move."""
    base = graph.forward(leaves)
    suffix = DownstreamGraph(BasePoint(graph.hold_branches(base)[0], base), name)
    directions = draw_directions(leaves, name)
    terms = evaluate_weighted_terms(suffix, directions)
    moved = leaves[name] + directions[:, None] * MOVES.reshape(-1, *(1,) * (leaves[name].ndim - 1))
    values = graph.hold_branches(base)[0].forward(leaves | {name: moved.reshape(-1, *leaves[name].shape[1:])})
    return suffix, terms, graph.hold_branches(base)[0].get_loss_terms(values).reshape(terms.shape)


@pytest.mark.parametrize("name", ["x", "w1", "w2", "y"])
def test_downstream_pass_equals_the_full_pass(name):
    suffix, comparison, expected = compare_with_forward(*build_reference_model((6, 5), (3, 2)), name)
    np.testing.assert_allclose(comparison, expected, rtol=1e-12, atol=1e-15)
    assert suffix.moves_exactly is (name != "y")


@pytest.mark.parametrize("seed", range(8))
def test_downstream_pass_equals_the_full_pass_of_random_graphs(seed):
    graph, leaves = draw_graph(seed)
    for name in ("x", "w"):
        _, comparison, expected = compare_with_forward(graph, leaves, name)
        np.testing.assert_allclose(comparison, expected, rtol=1e-9, atol=1e-12)


def test_linear_sums_move_exactly_and_products_do_not():
    """x + 2 x moves in proportion to x; x times x does not."""
    add, mul, total = OP_REGISTRY["add"](), OP_REGISTRY["mul"](), OP_REGISTRY["sum"]()

    def make_downstream(op):
        graph = Graph([Node("d", mul, ("x", 2.0)), Node("s", op, ("x", "d")), Node("loss", total, ("s",))], {"x": (3,)})
        leaves = {"x": np.array([[1.0, 2.0, -3.0]])}
        base = graph.forward(leaves)
        return DownstreamGraph(BasePoint(graph, base), "x"), compare_with_forward(graph, leaves, "x")

    sums, (_, terms, expected) = make_downstream(add)
    assert sums.moves_exactly
    np.testing.assert_allclose(terms, expected, rtol=1e-14)
    products, (_, terms, expected) = make_downstream(mul)
    assert not products.moves_exactly
    np.testing.assert_allclose(terms, expected, rtol=1e-14)


def test_a_step_far_below_the_spacing_of_the_point_is_felt_through_linear_ops():
    graph = Graph(
        [Node("p", OP_REGISTRY["mul"](), ("x", 3.0)), Node("loss", OP_REGISTRY["sum"](), ("p",))], {"x": (1,)}
    )
    base = graph.forward({"x": np.array([[1e20]])})
    suffix = DownstreamGraph(BasePoint(graph, base), "x")
    (responses,) = (suffix.compute_linear_responses(np.ones((1, 1))),)
    assert responses["p"] == 3
    moved = suffix.evaluate_values_at_moves(responses, np.array([1e6]))
    assert moved["p"][0, 0] - 3e20 == pytest.approx(3e6, rel=0.1)


def test_terms_have_their_coefficients_zero_included():
    nodes = [("a", "relu", ("x",)), ("s", "sum", ("a",)), ("p", "mul", ("s", 0.3)), ("r", "abs", ("s",))]
    nodes += [("q", "mul", ("r", 0.0)), ("loss", "add", ("p", "q"))]
    graph = Graph([Node(name, OP_REGISTRY[op](), operands) for name, op, operands in nodes], {"x": ()})
    base = graph.forward({"x": np.array([2.0])})
    suffix = DownstreamGraph(BasePoint(graph.hold_branches(base)[0], base), "x")
    terms, coefficients = suffix.evaluate_terms_at_moves(
        suffix.compute_linear_responses(np.ones((1,))), np.array([0.5])
    )
    assert terms.tolist() == [[[2.5, 2.5]]]
    assert coefficients is not None
    assert sorted(coefficients) == [0, 0.3]


@pytest.mark.parametrize("name", ["x", "w1", "w2"])
def test_moved_values_keep_extended_precision(name):
    graph, leaves = build_reference_model((6, 5), (3, 2))
    extended = {key: leaf.astype(np.longdouble) for key, leaf in leaves.items()}
    coarse = DownstreamGraph(BasePoint(graph, graph.forward(leaves)), name)
    suffix = coarse.move_to_point(BasePoint(graph, graph.forward(extended)))
    terms = evaluate_weighted_terms(suffix, draw_directions(leaves, name))
    assert terms.dtype == np.longdouble
    assert evaluate_weighted_terms(coarse, draw_directions(leaves, name)).dtype == np.float64


def make_cancelling_graph(op, a, b, x):
    """L = op(x) (exp(a) - exp(b)): a term of op(x), which counts a difference that cancels."""
    nodes = [
        Node("large", OP_REGISTRY["exp"](), ("a",)),
        Node("near", OP_REGISTRY["exp"](), ("b",)),
        Node("d", OP_REGISTRY["sub"](), ("large", "near")),
        Node("y", OP_REGISTRY[op](), ("x",)),
        Node("loss", OP_REGISTRY["mul"](), ("y", "d")),
    ]
    leaves = {"a": np.array([a]), "b": np.array([b]), "x": np.array([x])}
    return Graph(nodes, {"a": (), "b": (), "x": ()}), leaves


@pytest.mark.parametrize("op", ["sin", "abs"])
def test_coefficients_of_terms_carry_the_uncertainty_of_their_inputs(op):
    graph, leaves = make_cancelling_graph(op, 20.0, 20 + 1e-9, 0.7)
    expected = truth.compute_gradients(graph, leaves)["x"]
    difference = differentiate_numerically(graph, leaves, ["x"])["x"]
    off = truth.compute_distance(difference.value, expected)
    assert off <= difference.error_bound <= 1e5 * off + 1e-5 * abs(difference.value)


def test_a_constant_that_terms_count_rounds_once():
    """3.3 relu(x) has no other error than that of the product."""
    graph = Graph(
        [Node("y", OP_REGISTRY["relu"](), ("x",)), Node("loss", OP_REGISTRY["mul"](), ("y", "c"))], {"x": (), "c": ()}
    )
    for seed in range(20):
        x, c = np.random.default_rng(seed).uniform(1, 2, 2)
        leaves = {"x": np.array([x]), "c": np.array([c])}
        difference = differentiate_numerically(graph, leaves, ["x"])["x"]
        assert abs(difference.value - c) <= difference.error_bound <= 1e-11


def test_loss_coefficients_follow_the_point():
    graph, leaves = make_cancelling_graph("sin", 1.0, 0.0, 0.7)
    suffix, moved = (
        DownstreamGraph(BasePoint(graph, graph.forward(leaves | change)), "x")
        for change in ({}, {"a": np.array([2.0])})
    )
    first, there = (
        evaluate_weighted_terms(suffix, np.ones((1,))),
        evaluate_weighted_terms(suffix.move_to_point(moved.point), np.ones((1,))),
    )
    np.testing.assert_allclose(there / first, np.expm1(2) / np.expm1(1))
