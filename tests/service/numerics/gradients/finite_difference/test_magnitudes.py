"""Bounds hold whatever the magnitudes: within one tensor, and of what its elements are multiplied by."""

import mpmath
import numpy as np
import pytest

from service.numerics.gradients import finite_difference
from service.numerics.model.graph import Graph, Node
from service.numerics.ops import OP_REGISTRY
from tests import truth
from tests.truth import op_rules

# What lines this runs others count; to count them takes as long again.
pytestmark = pytest.mark.no_cover

PLAIN = ("sqrt", "tanh", "sin", "cos", "erf", "sigmoid", "silu", "gelu", "elu", "softplus", "neg", "rsqrt", "log")
SMOOTH = (*PLAIN, "exp", "expm1", "log1p", "softmax", "log_softmax", "mul", "div", "add", "sub")
POWERS = (2.0, 3.0, -2.0, -3.0)
FORMS = ("log of a square", "underflow on the way", "scalar coefficient", "square of a pole")
TWO = ("mul", "div", "add", "sub")
POSITIVE = {"log", "sqrt", "rsqrt", "log1p"}
EXPONENTIAL = {"exp", "expm1", "softmax", "log_softmax"}
DIGITS = 1000
SEEDS = 16


def draw_magnitudes(generator, count):
    """Numbers from 1e-300 to 1e300, or about as large as one another anywhere there."""
    spread = generator.uniform(-300, 300, count) if generator.random() < 0.5 else generator.uniform(-300, 300)
    return generator.choice([-1.0, 1.0], count) * 10.0 ** np.clip(spread + generator.normal(size=count), -300, 300)


def make_node(name, op, *operands, **attributes):
    return Node(name, OP_REGISTRY[op](**attributes), operands)


def make_composed_nodes(form):
    """Nodes of a form of several ops up to the output `y`."""
    return {
        "log of a square": [make_node("q", "mul", "x", "x"), make_node("y", "log", "q")],
        "square of a pole": [make_node("q", "pow", "x", exponent=-2.0), make_node("y", "mul", "q", "q")],
        "scalar coefficient": [
            make_node("t", "tanh", "x"),
            make_node("s", "sum", "z"),
            make_node("y", "mul", "t", "s"),
        ],
        "underflow on the way": [
            make_node("q", "mul", "x", "z"),
            make_node("r", "mul", "q", "w"),
            make_node("s", "sigmoid", "r"),
            make_node("y", "mul", "s", "r"),
        ],
    }[form]


def make_body(form, leaves, generator):
    """Nodes up to the output `y`; what they read besides `x` is added to the leaves."""
    x = leaves["x"]
    if form in POSITIVE:
        leaves["x"] = np.abs(x)
    if form in EXPONENTIAL:
        leaves["x"] = np.where(np.abs(x) > 700, np.sign(x) * generator.uniform(0, 700, x.shape), x)
    if form in POWERS:
        return [make_node("y", "pow", "x", exponent=form)]
    if form in SMOOTH:
        others = ("z",) * (form in TWO)
        nodes = [make_node("y", form, "x", *others, **({"dim": 0} if "softmax" in form else {}))]
    else:
        nodes = make_composed_nodes(form)
    read = {key for every in nodes for key in every.source_names}
    leaves.update({name: draw_magnitudes(generator, x.size) for name in ("z", "w") if name in read})
    return nodes


def draw_problem(form, seed):
    """L = sum c y(x); None where it is no number in float64."""
    generator = np.random.default_rng([seed, *map(ord, str(form))])
    count = int(generator.integers(1, 5))
    leaves = {"x": draw_magnitudes(generator, count), "c": draw_magnitudes(generator, count)}
    nodes = [*make_body(form, leaves, generator), make_node("p", "mul", "y", "c"), make_node("loss", "sum", "p")]
    graph = Graph(nodes, {name: leaf.shape for name, leaf in leaves.items()})
    leaves = {name: leaf[None] for name, leaf in leaves.items()}
    with np.errstate(all="ignore"):
        finite = all(np.isfinite(array).all() for array in graph.forward(leaves).values())
    return (graph, leaves) if finite else None


def count_misses(form, seeds, shrink=1.0):
    """Elements whose difference has a bound, and those of them of which the truth lies beyond it."""
    known = missed = 0
    for seed in seeds:
        problem = draw_problem(form, seed)
        if problem is None:
            continue
        graph, leaves = problem
        expected = truth.compute_gradients(graph, leaves, DIGITS)
        for name, difference in finite_difference.differentiate_numerically(
            graph, leaves, list(leaves), seed=seed
        ).items():
            bounded = np.isfinite(difference.error_bound)
            off = truth.compute_distance(np.where(bounded, difference.value, 0), expected[name], DIGITS)
            known += int(bounded.sum())
            missed += int((bounded & ~(off <= shrink * difference.error_bound)).sum())
    return known, missed


@pytest.fixture(autouse=True)
def power_rule(monkeypatch):
    """Whole powers, which the truth has no rule of."""

    def compute_power(op, x):
        result = x
        for _ in range(abs(int(op.exponent)) - 1):
            result = result * x
        return result if op.exponent > 0 else 1 / result

    monkeypatch.setitem(op_rules.RULES, "pow", compute_power)


@pytest.mark.parametrize("form", [*SMOOTH, *POWERS, *FORMS])
def test_the_truth_lies_within_the_bound(form):
    known, missed = count_misses(form, range(SEEDS))
    assert missed == 0
    assert known > SEEDS


@pytest.mark.parametrize("form", ["tanh", "silu", "log", 3.0])
def test_a_bound_a_ten_thousandth_as_wide_would_miss(form):
    """The negative control."""
    assert count_misses(form, range(SEEDS), shrink=1e-4)[1] > 3


def difference_op(op, x, c):
    nodes = [make_node("y", op, "x"), make_node("p", "mul", "y", "c"), make_node("loss", "sum", "p")]
    leaves = {"x": np.array([x]), "c": np.array([c])}
    graph = Graph(nodes, {name: leaf.shape[1:] for name, leaf in leaves.items()})
    return finite_difference.differentiate_numerically(graph, leaves, ["x"])["x"], truth.compute_gradients(
        graph, leaves, DIGITS
    )["x"]


@pytest.mark.parametrize(
    ("op", "x", "c"),
    [
        ("silu", [1.5e-272, 8.1e53], [2e70, 1.3e71]),
        ("sigmoid", [4.7857e-66, 2.628e-66], [-9.53e210, -1.24e-163]),
        ("silu", [2.8e-99, -2.1e-9, -3.3e-181], [3e-50, 6.9e196, -3.9e95]),
        ("sqrt", [0.008, 1.8e-166, 1.4453711181678967e94], [3.5e-272, 9.2e-272, 2.7e-271]),
        ("elu", [4.898369457866716e236], [-6.240576372184091e-120]),
    ],
)
def test_elements_far_apart_keep_bounds_of_their_own(op, x, c):
    difference, expected = difference_op(op, x, c)
    assert (truth.compute_distance(difference.value, expected, DIGITS) <= difference.error_bound).all()


def test_a_pole_between_both_ends_of_a_step_is_seen():
    """x^-2 is the same on both sides of 0, 1e-102 away from x or not; beside -6.5 the step is 1e-2."""
    nodes = [make_node("y", "pow", "x", exponent=-2.0), make_node("p", "mul", "y", "c"), make_node("loss", "sum", "p")]
    leaves = {"x": np.array([[9.9e-102, -6.5]]), "c": np.array([[0.0117, 4.4e13]])}
    difference = finite_difference.differentiate_numerically(Graph(nodes, {"x": (2,), "c": (2,)}), leaves, ["x"])["x"]
    expected = -2 * leaves["c"][0] / leaves["x"][0] ** 3
    assert (np.abs(difference.value - expected) <= difference.error_bound + 1e-14 * np.abs(expected)).all()
    assert np.isfinite(difference.error_bound).all()


def test_slope_hidden_by_the_rounding_of_a_norm_is_within_its_bound():
    """The first element moves a norm of 1e44 by less than its rounding wherever it is, and has a slope of 1e48."""
    nodes = [
        make_node("p", "pow", "x", exponent=-2.0),
        make_node("n", "vector_norm", "p", ord=3.0),
        make_node("loss", "silu", "n"),
    ]
    x = np.array([[4e-20, 1e-21, 1e-22]])
    graph = Graph(nodes, {"x": (3,)})
    difference = finite_difference.differentiate_numerically(graph, {"x": x}, ["x"])["x"]
    with mpmath.workdps(50):
        exact = [mpmath.mpf(value) for value in x[0]]
        size = sum(value**-6 for value in exact)
        expected = [-2 * value**-7 * size ** (-mpmath.mpf(2) / 3) for value in exact]
        off = [abs(mpmath.mpf(a) - b) for a, b in zip(difference.value, expected, strict=True)]
    assert np.all(np.array(off, dtype=np.float64) <= difference.error_bound)
