import mpmath
import numpy as np
import pytest

from service.numerics.core.batching import add_batch_axis
from service.numerics.core.precision import PRECISIONS
from service.numerics.gradients import analytic, autograd
from service.numerics.model import monte_carlo, rounding
from service.numerics.model.graph import Graph, Node
from service.numerics.model.rounding import estimate_rounding_allowances
from service.numerics.ops import OP_REGISTRY
from tests import truth
from tests.alarms.problem_cells import WIDE_SOURCES, draw_problem
from tests.op_graphs import build_preset_graph, build_reference_model

FAMILIES = ("ordinary", "weights", "inputs")


def draw_scaled_model(family, seed):
    """The reference model at 6x6/3x3, its weights or inputs scaled over many decades."""
    graph, leaves = build_reference_model((6, 6), (3, 3), seed)
    generator = np.random.default_rng([seed, 7])
    if family == "weights":
        factor = 10 ** generator.uniform(-4, 4)
        leaves |= {"w1": leaves["w1"] * factor, "w2": leaves["w2"] * factor}
    if family == "inputs":
        factor = 10 ** generator.uniform(-4, 9)
        leaves |= {"x": leaves["x"] * factor, "w1": leaves["w1"] / factor}
    return graph, leaves


def round_leaves(leaves, dtype):
    return {name: leaf.astype(dtype) for name, leaf in leaves.items()}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("name", "dtype"), [("FP64", np.float64), ("FP32", np.float32)])
def test_rounding_allowance_covers_correct_gradients(family, seed, name, dtype):
    graph, leaves = draw_scaled_model(family, seed)
    narrow = round_leaves(leaves, dtype)
    wide = round_leaves(narrow, np.float64)
    allowed = estimate_rounding_allowances(graph, wide, PRECISIONS[name], seed)
    with np.errstate(all="ignore"):
        routes = [
            differentiate(graph, narrow).gradients
            for differentiate in (analytic.differentiate_analytically, autograd.differentiate_by_torch)
        ]
    for key, expected in truth.compute_rounded_gradients(graph, wide).items():
        for gradients in routes:
            assert (np.abs(gradients[key].astype(np.float64) - expected) <= allowed[key]).all(), key


@pytest.mark.parametrize("phase", [1e4, 1e8, 1e10, 1e12, 1e14])
def test_allowance_of_a_large_phase_is_that_of_its_rounding(phase):
    generator = np.random.default_rng(5)
    x = generator.uniform(0.5, 2, 50)
    nodes = [
        Node("z", OP_REGISTRY["mul"](), ("w", "x")),
        Node("h", OP_REGISTRY["cos"](), ("z",)),
        Node("loss", OP_REGISTRY["sum"](), ("h",)),
    ]
    graph = Graph(nodes, {"w": (50,), "x": (50,)})
    leaves = {"w": phase * generator.uniform(0.5, 1, (1, 50)), "x": x[None]}
    allowed = estimate_rounding_allowances(graph, leaves, PRECISIONS["FP64"], 0)["w"].ravel()
    errors = []
    for w, factor in zip(leaves["w"][0], x, strict=True):
        with mpmath.workdps(50):
            exact = -mpmath.mpf(factor) * mpmath.sin(mpmath.mpf(w) * mpmath.mpf(factor))
            errors.append(abs(float(mpmath.mpf(-factor * np.sin(w * factor)) - exact)))
    assert (np.array(errors) <= allowed).all()
    assert np.median(allowed) <= 1000 * np.median(errors)


@pytest.mark.parametrize("seed", range(4))
def test_rounding_allowance_is_not_much_larger_than_needed(seed):
    graph, leaves = draw_scaled_model("ordinary", seed)
    for name in ("FP64", "FP32"):
        u = PRECISIONS[name].unit_roundoff
        allowed = estimate_rounding_allowances(
            graph, round_leaves(round_leaves(leaves, np.float32), np.float64), PRECISIONS[name], seed
        )
        for key, expected in truth.compute_rounded_gradients(graph, leaves, ("w1", "w2", "x")).items():
            assert (allowed[key] <= 300 * u * np.abs(expected).max()).all()
            assert (allowed[key] >= u * np.abs(expected)).all()


def test_a_gradient_that_is_wrong_by_little_is_not_allowed():
    graph, leaves = draw_scaled_model("ordinary", 0)
    leaves = round_leaves(round_leaves(leaves, np.float32), np.float64)
    allowed = estimate_rounding_allowances(graph, leaves, PRECISIONS["FP32"], 0)
    expected = truth.compute_rounded_gradients(graph, leaves)["w1"]
    wrong = expected.copy()
    largest = np.unravel_index(np.abs(expected).argmax(), expected.shape)
    wrong[largest] *= 1 + 1000 * 2.0**-24
    assert np.abs(wrong - expected)[largest] > allowed["w1"][largest]


def test_the_same_seed_gives_the_same_allowance_and_another_a_like_one():
    graph, leaves = draw_scaled_model("ordinary", 0)
    first, again, other = (estimate_rounding_allowances(graph, leaves, PRECISIONS["FP64"], seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first["w1"], again["w1"])
    assert (first["w1"] != other["w1"]).all()
    np.testing.assert_allclose(first["w1"], other["w1"], rtol=2)


def find_least_allowance():
    """The least of two thousand allowances that are the same but for chance, over their mean, in float32."""
    count = 2000
    nodes = [
        Node("p", OP_REGISTRY["mul"](), ("x", "w")),
        Node("square", OP_REGISTRY["mul"](), ("p", "p")),
        Node("loss", OP_REGISTRY["half_squared_error"](), ("square", "y")),
    ]
    leaves = {name: np.full((1, count), value) for name, value in {"x": 1.0, "w": 0.75, "y": 0.0}.items()}
    # Equal numbers would share their errors, and so their luck.
    leaves["w"] = leaves["w"] + 2.0**-22 * np.arange(count)
    allowances = estimate_rounding_allowances(
        Graph(nodes, dict.fromkeys(leaves, (count,))), leaves, PRECISIONS["FP32"], 0
    )["x"]
    return allowances.min() / allowances.mean()


def test_no_allowance_is_too_small_by_chance(monkeypatch):
    assert find_least_allowance() > 0.45
    monkeypatch.setattr(rounding, "ROUNDING_ROUNDS", 1)
    assert find_least_allowance() < 0.4


def make_product(value):
    """L = x w at one point; dL/dw = x."""
    graph = Graph([Node("loss", OP_REGISTRY["mul"](), ("x", "w"))], {"x": (), "w": ()})
    return graph, {"x": add_batch_axis(np.array(value)), "w": add_batch_axis(np.array(0.5))}


def test_inputs_count_where_the_precision_does_not_have_them():
    """Of L = sum x w^2 / 2 the gradient x w carries the rounding of w only where that is inexact."""
    count = 500
    nodes = [Node("p", OP_REGISTRY["mul"](), ("x", "w")), Node("loss", OP_REGISTRY["half_squared_error"](), ("p", "y"))]
    graph = Graph(nodes, {"x": (count,), "w": (count,), "y": (count,)})

    def average_allowance(value):
        leaves = {"x": np.ones((1, count)), "w": np.full((1, count), value), "y": np.zeros((1, count))}
        return estimate_rounding_allowances(graph, leaves, PRECISIONS["FP32"], 0)["x"].mean() / value**2

    assert average_allowance(0.1) > 1.1 * average_allowance(0.75)


def test_each_product_of_a_sum_underflows_by_itself():
    """Of L = c W x the gradient c W is a sum of products that half precision rounds to multiples of 2^-24, or to 0."""
    generator = np.random.default_rng(0)
    c, w = (generator.normal(size=shape).astype(np.float16) * np.float16(1e-4) for shape in ((400,), (400, 50)))
    nodes = [
        Node("y", OP_REGISTRY["linear"](), ("x", "w", None)),
        Node("loss", OP_REGISTRY["linear"](), ("y", "c", None)),
    ]
    leaves = {
        "x": np.ones((1, 50)),
        "w": add_batch_axis(w.astype(np.float64)),
        "c": add_batch_axis(c[None].astype(np.float64)),
    }
    allowed = estimate_rounding_allowances(
        Graph(nodes, {"x": (50,), "w": w.shape, "c": (1, 400)}), leaves, PRECISIONS["FP16"], 0
    )["x"]
    error = np.abs((c[:, None] * w).astype(np.float64).sum(axis=0) - leaves["c"][0, 0] @ leaves["w"][0])
    assert (error <= allowed).all()
    assert error.max() > 6 * 2.0**-25, "more than one such rounding"


def test_rounding_allowance_covers_only_requested_names():
    graph, leaves = build_preset_graph(draw_scaled_model("ordinary", 0)[1])
    assert set(estimate_rounding_allowances(graph, leaves, PRECISIONS["FP64"], 0, ["w1"])) == {"w1"}


def test_nonfinite_rounding_sweep_makes_the_allowance_infinite():
    graph, leaves = make_product(0.5)
    leaves["x"] = add_batch_axis(np.array(np.inf))
    with np.errstate(all="ignore"):
        assert estimate_rounding_allowances(graph, leaves, PRECISIONS["FP64"], 0)["w"] == np.inf


def test_a_gradient_that_only_moves_values_has_no_allowance_of_its_own():
    graph = Graph(
        [Node("a", OP_REGISTRY["flatten"](), ("x",)), Node("loss", OP_REGISTRY["flatten"](), ("a",))], {"x": (1, 1)}
    )
    assert estimate_rounding_allowances(graph, {"x": np.ones((1, 1, 1))}, PRECISIONS["FP64"], 0)["x"] == 0


def make_softmax_of_scores(scores):
    """Sum of y * softmax(2 q), with scores of 2 q."""
    q = np.array([scores]) / 2
    nodes = [
        Node("s", OP_REGISTRY["mul"](), ("q", 2.0)),
        Node("p", OP_REGISTRY["softmax"](dim=-1), ("s",)),
        Node("t", OP_REGISTRY["mul"](), ("p", "y")),
        Node("loss", OP_REGISTRY["sum"](), ("t",)),
    ]
    leaves = {"q": q, "y": np.arange(1.0, 1 + q.size)[None]}
    return Graph(nodes, {name: leaf.shape[1:] for name, leaf in leaves.items()}), leaves


@pytest.mark.parametrize(
    ("scores", "name", "resolved"),
    [
        ([1000.1, 1000.3, 999.9], "FP32", True),
        ([1000.1, 1000.3, 999.9], "BF16", False),
        ([1000.1, 500.3, 400.7], "BF16", True),
        ([1e9 + 0.1, 1e9, 1e9 - 1], "FP32", False),
        ([1e9 + 0.1, 1e9, 1e9 - 1], "FP64", True),
    ],
    ids=["near in float32", "near in bfloat16", "far apart in bfloat16", "huge in float32", "huge in float64"],
)
def test_nothing_bounds_rounding_that_moves_scores_past_one_another(scores, name, resolved):
    graph, leaves = make_softmax_of_scores(scores)
    allowed = estimate_rounding_allowances(graph, leaves, PRECISIONS[name], 0, ["q"])["q"]
    assert np.isfinite(allowed).all() == resolved


def test_scores_that_are_masked_do_not_count_as_moved():
    shapes = {"q": (3, 4), "k": (3, 4), "v": (3, 2)}
    nodes = [
        Node("s", OP_REGISTRY["mul"](), ("q", 0.3)),
        Node("a", OP_REGISTRY["scaled_dot_product_attention"](is_causal=True), ("s", "k", "v", None)),
        Node("loss", OP_REGISTRY["sum"](), ("a",)),
    ]
    generator = np.random.default_rng(0)
    leaves = {name: generator.normal(size=(1, *shape)) for name, shape in shapes.items()}
    allowed = estimate_rounding_allowances(Graph(nodes, shapes), leaves, PRECISIONS["BF16"], 0, ["q", "v"])
    assert all(np.isfinite(allowance).all() for allowance in allowed.values())


def judge_saturated_bias(seed):
    """Return the allowance over the error of a bias with eight units whose tanh rounds to -1 + 2^-24."""
    problem, leaves = draw_problem("mlp", "weights", 625647805)
    by_hand = {str(source): source for source in WIDE_SOURCES}
    exact, computed = (
        by_hand[name].compute_gradients("mlp", leaves, np.random.default_rng(0))["b"][3]
        for name in ("FP64 by hand", "FP32 by hand")
    )
    tiles = {name: leaf[None] for name, leaf in leaves.items()}
    allowance = estimate_rounding_allowances(problem.graph, tiles, PRECISIONS["FP32"], seed, ["b"])["b"][3]
    return allowance / abs(computed - exact)


def test_equal_outputs_have_equal_slope_errors(monkeypatch):
    """A unit computed eight times over is off by the sum of eight equal errors."""
    ratios = [judge_saturated_bias(seed) for seed in range(40)]
    assert min(ratios) > 1.5
    assert max(ratios) < 4
    # Negative control: by independent errors a right gradient fails for some seeds.
    monkeypatch.setattr(monte_carlo, "find_equal_numbers", lambda _: None)
    assert min(judge_saturated_bias(seed) for seed in range(40)) < 1
