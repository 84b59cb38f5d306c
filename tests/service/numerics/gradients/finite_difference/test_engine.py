import dataclasses
import operator
from itertools import accumulate

import mpmath
import numpy as np
import pytest

from service.numerics.core.batching import add_batch_axis
from service.numerics.gradients import finite_difference
from service.numerics.gradients.finite_difference import (
    ADAPTIVE_METHOD,
    DifferenceStatus,
    colouring,
    difference_plan,
    engine,
    make_central_method,
    make_forward_method,
)
from service.numerics.model.graph import Graph, Node
from service.numerics.ops import OP_REGISTRY
from tests import truth
from tests.op_graphs import build_reference_example, build_reference_model
from tests.random_graphs import draw_graph

MUL, TANH, LOSS = OP_REGISTRY["mul"](), OP_REGISTRY["tanh"](), OP_REGISTRY["half_squared_error"](reduction="sum")
FAMILIES = ("ordinary", "weights", "inputs", "fitted")


def draw_problem(family, seed):
    """The reference model at 5x5/2x2: scaled over many decades, or fitted to its target."""
    graph, leaves = build_reference_model((5, 5), (2, 2), seed)
    generator = np.random.default_rng([seed, 11])
    if family == "weights":
        leaves |= {name: leaves[name] * 10 ** generator.uniform(-4, 4) for name in ("w1", "w2")}
    if family == "inputs":
        factor = 10 ** generator.uniform(-4, 9)
        leaves |= {"x": leaves["x"] * factor, "w1": leaves["w1"] / factor}
    if family == "fitted":
        leaves["y"] = graph.forward(leaves)["L2A"] + generator.normal(size=(1, 16)) * 10 ** generator.uniform(-12, -2)
    return graph, leaves


def count_misses(family, shrink=1.0, method=ADAPTIVE_METHOD):
    count = total = 0
    for seed in range(8):
        graph, leaves = draw_problem(family, seed)
        differences = finite_difference.differentiate_numerically(graph, leaves, ["w1", "w2", "x"], method, seed)
        for name, expected in truth.compute_rounded_gradients(graph, leaves, differences).items():
            count += int(
                np.count_nonzero(np.abs(differences[name].value - expected) > differences[name].error_bound * shrink)
            )
            total += expected.size
    return count, total


@pytest.mark.parametrize("family", FAMILIES)
def test_the_truth_lies_within_the_bound(family):
    count, total = count_misses(family)
    assert (count, total) == (0, 8 * (4 + 16 + 25))


def differentiate_squared_products(x):
    """dL/dx_k = 2 / x_k sum_{j >= k} p_j^2 of L = sum(p^2), p the cumulative product of one row."""
    with mpmath.workprec(400):
        factors = [mpmath.mpf(factor) for factor in x.tolist()]
        squares = list(accumulate((factor * factor for factor in factors), operator.mul))
        tails = list(accumulate(reversed(squares)))[::-1]
        return np.array([2 * tail / factor for tail, factor in zip(tails, factors, strict=True)])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_terms_that_all_moves_make_small_hold_their_bounds(seed):
    """The terms fall to a part of their size where all factors move, and not where one does."""
    x = np.random.default_rng(seed).normal(size=(6, 400))
    nodes = [
        Node("p", OP_REGISTRY["cumprod"](dim=1), ("x",)),
        Node("q", MUL, ("p", "p")),
        Node("loss", OP_REGISTRY["sum"](), ("q",)),
    ]
    graph = Graph(nodes, {"x": x.shape})
    difference = finite_difference.differentiate_numerically(graph, {"x": x[None]}, ["x"])["x"]
    expected = np.array([differentiate_squared_products(row) for row in x])
    with mpmath.workprec(400):
        errors = np.abs(difference.value - expected)
        assert (errors <= difference.error_bound + 2.0**-1073).all()


def test_a_bound_a_ten_thousandth_as_wide_would_miss():
    """The negative control: the bounds are not so wide that anything would do."""
    assert count_misses("ordinary", shrink=1e-4)[0] > 8


@pytest.mark.parametrize("seed", range(4))
def test_the_bound_is_tight(seed):
    graph, leaves = draw_problem("ordinary", seed)
    for difference in finite_difference.differentiate_numerically(graph, leaves, ["w1", "w2", "x"], seed=seed).values():
        assert np.median(difference.error_bound) < 1e-9 * np.abs(difference.value).max()


@pytest.mark.parametrize("method", [make_central_method(), make_forward_method()], ids=lambda method: method.name)
def test_the_other_methods_hold_their_bounds_too(method):
    assert count_misses("ordinary", method=method)[0] == 0
    assert count_misses("ordinary", shrink=1e-4, method=method)[0] > 8


def test_a_step_that_is_given_is_the_step_that_is_taken():
    """D(h) of L = w^4 / 2 at 1 is 2 + 2 h^2, forward 2 + 3 h + 2 h^2 + h^3 / 2."""
    graph = Graph([Node("p", MUL, ("w", "w")), Node("loss", LOSS, ("p", 0.0))], {"w": ()})
    leaves = {"w": np.ones(1)}
    for method, expected in (
        (make_central_method(0.25), 2 + 2 / 16),
        (make_forward_method(0.25), 2 + 3 / 4 + 2 / 16 + 1 / 128),
    ):
        difference = finite_difference.differentiate_numerically(graph, leaves, ["w"], method)["w"]
        assert difference.value == pytest.approx(expected, rel=1e-14)
        assert abs(difference.value - 2) <= difference.error_bound


def test_evaluations_are_counted_and_told_as_they_come():
    graph, leaves = build_reference_model((12, 12), (3, 3))
    told = []
    differences = finite_difference.differentiate_numerically(
        graph, leaves, ["w1", "x"], make_central_method(2.0**-10), progress=lambda *news: told.append(news)
    )
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert all(done < total for _, done, total in told)
    assert {name for name, _, _ in told} == {"w1", "x"}
    # Nine elements of the kernel, nine positions in it of each element of the picture; three steps and two sides.
    assert differences["w1"].evaluations == differences["x"].evaluations == 9 * 6
    assert told[-1][2] == 2 * 9 * 6


def test_common_descendants_of_tensors_are_moved_once():
    graph, leaves = build_reference_model((12, 12), (3, 3))
    differences = finite_difference.differentiate_numerically(graph, leaves, ["w1", "x"])
    assert differences["x"].evaluations == 0
    assert 0 < differences["w1"].evaluations <= 3 * 6, "the output of the convolution has one colour"


def test_progress_callback_may_stop_the_engine():
    class EnoughError(Exception):
        pass

    def stop(*_):
        raise EnoughError

    with pytest.raises(EnoughError):
        finite_difference.differentiate_numerically(*build_reference_example(), ["w1"], progress=stop)


def test_the_same_seed_gives_the_same_bits():
    graph, leaves = draw_problem("ordinary", 0)
    first, again, other = (
        finite_difference.differentiate_numerically(graph, leaves, ["w1"], seed=s)["w1"] for s in (5, 5, 6)
    )
    np.testing.assert_array_equal(first.value, again.value)
    np.testing.assert_array_equal(first.error_bound, again.error_bound)
    assert (first.error_bound != other.error_bound).any()


def test_a_node_is_differenced_like_a_leaf():
    graph, leaves = build_reference_example()
    difference = finite_difference.differentiate_numerically(graph, leaves, ["L2A"])["L2A"]
    residual = (graph.forward(leaves)["L2A"] - leaves["y"])[0]
    expected = graph.backward(graph.forward(leaves))["L2A"][0]
    assert (np.abs(difference.value - expected) <= difference.error_bound).all()
    assert np.sign(expected).tolist() == np.sign(residual).tolist()


def test_nonfinite_loss_has_no_difference():
    nodes = [Node("p", MUL, ("x", "w")), Node("q", MUL, ("p", "p")), Node("loss", LOSS, ("q", "zero"))]
    graph = Graph(nodes, {"x": (2,), "w": (2,), "zero": (2,)})
    leaves = {
        "x": add_batch_axis(np.array([1e200, 1.0])),
        "w": add_batch_axis(np.array([1.0, 2.0])),
        "zero": np.zeros((1, 2)),
    }
    with np.errstate(all="ignore"):
        difference = finite_difference.differentiate_numerically(graph, leaves, ["w"])["w"]
    assert difference.status.tolist()[0] == DifferenceStatus.NOT_FINITE
    assert np.isnan(difference.value[0])
    assert difference.error_bound[0] == np.inf


def test_a_function_that_swings_within_every_step_is_found_by_a_smaller_one():
    """tanh(1e6 w): no step that suits w itself suits it; the scale is found from the units downstream."""
    nodes = [Node("s", MUL, ("w", 1e6)), Node("t", TANH, ("s",)), Node("loss", LOSS, ("t", 0.5))]
    graph = Graph(nodes, {"w": ()})
    leaves = {"w": np.array([3e-7])}
    difference = finite_difference.differentiate_numerically(graph, leaves, ["w"])["w"]
    t = np.tanh(0.3)
    assert abs(difference.value - (t - 0.5) * (1 - t * t) * 1e6) <= difference.error_bound < 1e-3
    assert difference.status == DifferenceStatus.SETTLED


def test_a_difference_below_the_normal_numbers_says_that_it_is_lost():
    """L = sum x^2 / 2 at 1e-301: the squares are 0, and so is each difference; the derivative is not."""
    nodes = [Node("p", OP_REGISTRY["half_squared_error"](reduction="none"), ("x", "y"))]
    graph = Graph([*nodes, Node("loss", OP_REGISTRY["sum"](), ("p",))], {"x": (2,), "y": (2,)})
    leaves = {"x": np.array([[1e-301, 3e-302]]), "y": np.array([[0.0, 1.0]])}
    difference = finite_difference.differentiate_numerically(graph, leaves, ["x"])["x"]
    assert abs(difference.value[0] - 1e-301) <= difference.error_bound[0]
    assert abs(difference.value[1] + 1) <= difference.error_bound[1]


def test_difference_beside_a_nan_is_right_or_has_an_infinite_bound():
    """Steps are then as small as can be, and are lost in a point that nothing but a sum reads."""
    nodes = [Node("p", OP_REGISTRY["sqrt"](), ("x",)), Node("loss", OP_REGISTRY["sum"](), ("p",))]
    graph = Graph(nodes, {"x": (3,)})
    with np.errstate(all="ignore"):
        difference = finite_difference.differentiate_numerically(graph, {"x": np.array([[4.0, -1.0, 2.0]])}, ["p"])["p"]
    assert ((np.abs(difference.value - 1) <= difference.error_bound) | np.isinf(difference.error_bound)).all()


def test_evaluations_grow_with_colours_and_not_with_elements():
    counts = []
    for size in (8, 16, 32):
        graph, leaves = build_reference_model((size, size), (3, 3))
        differences = finite_difference.differentiate_numerically(graph, leaves, ["x", "w2"])
        counts.append((differences["x"].evaluations, differences["w2"].evaluations))
    assert max(x for x, _ in counts) <= 3 * 9 * 6
    assert max(w2 for _, w2 in counts) <= 3 * 6


@pytest.mark.parametrize("seed", range(6))
def test_coloured_difference_equals_single_elements(seed, monkeypatch):
    graph, leaves = draw_graph(seed)
    coloured = finite_difference.differentiate_numerically(graph, leaves, ["x", "w"])
    monkeypatch.setattr(difference_plan, "colour_elements", colour_one_by_one)
    monkeypatch.setattr(difference_plan.DifferencePlan, "_find_linear_readers", lambda self, name: [])
    for name, expected in finite_difference.differentiate_numerically(graph, leaves, ["x", "w"]).items():
        difference = coloured[name]
        assert (np.abs(difference.value - expected.value) <= difference.error_bound + expected.error_bound).all()
        assert expected.evaluations >= difference.evaluations


def colour_one_by_one(suffix):
    """A colouring that shares nothing."""
    shared = colouring.colour_elements(suffix)
    lowest = np.zeros_like(shared.lowest_felt)
    highest = np.broadcast_to(np.reshape(shared.shape, (-1, 1)) - 1, lowest.shape)
    return dataclasses.replace(shared, axis_periods=shared.shape, lowest_felt=lowest, highest_felt=highest)


def draw_fitted_model(seed=0):
    """The reference model, within 1e-8 of its targets: float64 has eight digits of each residual."""
    graph, leaves = build_reference_model((5, 5), (2, 2), seed)
    noise = np.random.default_rng(seed).normal(size=(1, 16))
    leaves["y"] = graph.forward(leaves)["L2A"] + noise * 1e-8
    return graph, leaves


def find_decided(differences):
    return np.concatenate(
        [(difference.error_bound <= 1e-5 * np.abs(difference.value)).ravel() for difference in differences.values()]
    )


def test_extended_precision_decides_where_float64_cannot(monkeypatch):
    graph, leaves = draw_fitted_model()
    differences = finite_difference.differentiate_numerically(graph, leaves, ["x", "w1", "w2"])
    for name, expected in truth.compute_gradients(graph, leaves).items():
        if name in differences:
            assert (
                np.abs(differences[name].value - expected.astype(np.float64)) <= differences[name].error_bound
            ).all()
    assert find_decided(differences).mean() > 0.85
    monkeypatch.setattr(engine, "EXTENDED_ROUNDOFF", 2.0**-53)
    assert find_decided(finite_difference.differentiate_numerically(graph, leaves, ["x", "w1", "w2"])).mean() < 0.5


@pytest.mark.parametrize("reason", ["an op that has no extended precision", "work"])
def test_extended_precision_needs_support_of_every_op(reason, monkeypatch):
    graph, leaves = draw_fitted_model()
    if reason == "work":
        monkeypatch.setattr(engine, "_MAX_EXTENDED_WORK", 1)
    else:
        monkeypatch.setattr(type(graph.nodes[-1].op), "supports_extended_precision", False)
    assert find_decided(finite_difference.differentiate_numerically(graph, leaves, ["x", "w1", "w2"])).mean() < 0.5


@pytest.mark.parametrize("method", [make_central_method(4.0), make_forward_method(4.0)], ids=lambda method: method.name)
def test_a_given_step_too_large_for_a_bound_shows_its_difference_all_the_same(method):
    graph = Graph([Node("t", TANH, ("w",)), Node("loss", LOSS, ("t", 0.5))], {"w": ()})
    difference = finite_difference.differentiate_numerically(graph, {"w": np.array([0.3])}, ["w"], method)["w"]

    def loss(w):
        return (np.tanh(w) - 0.5) ** 2 / 2

    below = 0.3 + 4.0 * method.offsets[1]
    assert difference.value == pytest.approx((loss(4.3) - loss(below)) / (4.3 - below), rel=1e-12)
    assert difference.error_bound == np.inf


@pytest.mark.parametrize(
    ("op", "attributes", "value"),
    [("relu", {}, [1.0]), ("abs", {}, [3.0]), ("max_pool2d", {"kernel_size": [1, 2]}, [[[1.0, 2.0]]])],
)
def test_factor_behind_an_exact_op_is_found_within_its_bound(op, attributes, value):
    point = np.array([value])
    nodes = [("a", op, ("x",), attributes), ("p", "mul", ("a", "u"), {}), ("loss", "sum", ("p",), {})]
    for seed in range(20):
        factor = np.random.default_rng(seed).normal()
        made = [Node(name, OP_REGISTRY[op](**more), operands) for name, op, operands, more in nodes]
        graph = Graph(made, {"x": point.shape[1:], "u": ()})
        difference = finite_difference.differentiate_numerically(
            graph, {"x": point, "u": np.array([factor])}, ["x"], seed=seed
        )["x"]
        assert abs(difference.value.ravel()[-1] - factor) <= difference.error_bound.ravel()[-1] <= 1e-14 * abs(factor)
