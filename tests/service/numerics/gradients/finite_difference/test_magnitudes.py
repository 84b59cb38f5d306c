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


def magnitudes(generator, count):
    """Numbers from 1e-300 to 1e300, or about as large as one another anywhere there."""
    spread = generator.uniform(-300, 300, count) if generator.random() < 0.5 else generator.uniform(-300, 300)
    return generator.choice([-1.0, 1.0], count) * 10.0 ** np.clip(spread + generator.normal(size=count), -300, 300)


def node(name, op, *operands, **attributes):
    return Node(name, OP_REGISTRY[op](**attributes), operands)


def composed(form):
    """Nodes of a form of several ops up to the output `y`."""
    return {
        "log of a square": [node("q", "mul", "x", "x"), node("y", "log", "q")],
        "square of a pole": [node("q", "pow", "x", exponent=-2.0), node("y", "mul", "q", "q")],
        "scalar coefficient": [node("t", "tanh", "x"), node("s", "sum", "z"), node("y", "mul", "t", "s")],
        "underflow on the way": [
            node("q", "mul", "x", "z"),
            node("r", "mul", "q", "w"),
            node("s", "sigmoid", "r"),
            node("y", "mul", "s", "r"),
        ],
    }[form]


def body(form, leaves, generator):
    """Nodes up to the output `y`; what they read besides `x` is added to the leaves."""
    x = leaves["x"]
    if form in POSITIVE:
        leaves["x"] = np.abs(x)
    if form in EXPONENTIAL:
        leaves["x"] = np.where(np.abs(x) > 700, np.sign(x) * generator.uniform(0, 700, x.shape), x)
    if form in POWERS:
        return [node("y", "pow", "x", exponent=form)]
    if form in SMOOTH:
        others = ("z",) * (form in TWO)
        nodes = [node("y", form, "x", *others, **({"dim": 0} if "softmax" in form else {}))]
    else:
        nodes = composed(form)
    read = {each for every in nodes for each in every.source_names}
    leaves.update({name: magnitudes(generator, x.size) for name in ("z", "w") if name in read})
    return nodes


def problem(form, seed):
    """L = sum c y(x); None where it is no number in float64."""
    generator = np.random.default_rng([seed, *map(ord, str(form))])
    count = int(generator.integers(1, 5))
    leaves = {"x": magnitudes(generator, count), "c": magnitudes(generator, count)}
    nodes = [*body(form, leaves, generator), node("p", "mul", "y", "c"), node("loss", "sum", "p")]
    graph = Graph(nodes, {name: leaf.shape for name, leaf in leaves.items()})
    leaves = {name: leaf[None] for name, leaf in leaves.items()}
    with np.errstate(all="ignore"):
        finite = all(np.isfinite(each).all() for each in graph.forward(leaves).values())
    return (graph, leaves) if finite else None


def held(form, seeds, shrink=1.0):
    """Elements whose difference has a bound, and those of them of which the truth lies beyond it."""
    known = missed = 0
    for seed in seeds:
        found = problem(form, seed)
        if found is None:
            continue
        graph, leaves = found
        expected = truth.compute_gradients(graph, leaves, DIGITS)
        for name, each in finite_difference.differentiate_numerically(graph, leaves, list(leaves), seed=seed).items():
            bounded = np.isfinite(each.error_bound)
            off = truth.compute_distance(np.where(bounded, each.value, 0), expected[name], DIGITS)
            known += int(bounded.sum())
            missed += int((bounded & ~(off <= shrink * each.error_bound)).sum())
    return known, missed


@pytest.fixture(autouse=True)
def powers(monkeypatch):
    """Whole powers, which the truth has no rule of."""

    def power(op, x):
        result = x
        for _ in range(abs(int(op.exponent)) - 1):
            result = result * x
        return result if op.exponent > 0 else 1 / result

    monkeypatch.setitem(op_rules.RULES, "pow", power)


@pytest.mark.parametrize("form", [*SMOOTH, *POWERS, *FORMS])
def test_the_truth_lies_within_the_bound(form):
    known, missed = held(form, range(SEEDS))
    assert missed == 0
    assert known > SEEDS


@pytest.mark.parametrize("form", ["tanh", "silu", "log", 3.0])
def test_a_bound_a_ten_thousandth_as_wide_would_miss(form):
    """The negative control."""
    assert held(form, range(SEEDS), shrink=1e-4)[1] > 3


def differences(op, x, c):
    nodes = [node("y", op, "x"), node("p", "mul", "y", "c"), node("loss", "sum", "p")]
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
    found, expected = differences(op, x, c)
    assert (truth.compute_distance(found.value, expected, DIGITS) <= found.error_bound).all()


def test_a_pole_between_both_ends_of_a_step_is_seen():
    """x^-2 is the same on both sides of 0, 1e-102 away from x or not; beside -6.5 the step is 1e-2."""
    nodes = [node("y", "pow", "x", exponent=-2.0), node("p", "mul", "y", "c"), node("loss", "sum", "p")]
    leaves = {"x": np.array([[9.9e-102, -6.5]]), "c": np.array([[0.0117, 4.4e13]])}
    found = finite_difference.differentiate_numerically(Graph(nodes, {"x": (2,), "c": (2,)}), leaves, ["x"])["x"]
    expected = -2 * leaves["c"][0] / leaves["x"][0] ** 3
    assert (np.abs(found.value - expected) <= found.error_bound + 1e-14 * np.abs(expected)).all()
    assert np.isfinite(found.error_bound).all()


def test_slope_hidden_by_the_rounding_of_a_norm_is_within_its_bound():
    """The first element moves a norm of 1e44 by less than its rounding wherever it is, and has a slope of 1e48."""
    nodes = [
        node("p", "pow", "x", exponent=-2.0),
        node("n", "vector_norm", "p", ord=3.0),
        node("loss", "silu", "n"),
    ]
    x = np.array([[4e-20, 1e-21, 1e-22]])
    graph = Graph(nodes, {"x": (3,)})
    found = finite_difference.differentiate_numerically(graph, {"x": x}, ["x"])["x"]
    with mpmath.workdps(50):
        exact = [mpmath.mpf(each) for each in x[0]]
        size = sum(each**-6 for each in exact)
        expected = [-2 * each**-7 * size ** (-mpmath.mpf(2) / 3) for each in exact]
        off = [abs(mpmath.mpf(a) - b) for a, b in zip(found.value, expected, strict=True)]
    assert np.all(np.array(off, dtype=np.float64) <= found.error_bound)
