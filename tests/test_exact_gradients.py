"""The truth is checked against differences of its own forward pass in 80 digits, and can be caught lying."""

import mpmath
import numpy as np
import pytest

from service.numerics.model.graph import Graph, Node
from service.numerics.ops import OP_REGISTRY
from tests import problem_families, truth
from tests.op_graphs import build_op_graph, build_reference_model
from tests.random_graphs import draw_graph
from tests.truth import mpf_tape, op_rules

# What lines this runs others count; to count them takes as long again.
pytestmark = pytest.mark.no_cover

CASES = [
    pytest.param(name, number, id=f"{name}-{number}")
    for name in op_rules.RULES
    for number in range(len(OP_REGISTRY[name].examples))
]


def measure_distance(graph, leaves):
    """Largest distance of some elements of the gradient from differences, in units of the largest of each leaf."""
    expected = truth.compute_gradients(graph, leaves)
    generator = np.random.default_rng(0)
    worst = 0.0
    with mpmath.workdps(80):
        step = mpmath.mpf(10) ** -25
        for name, leaf in leaves.items():
            if leaf.dtype.kind != "f":
                continue
            for i in generator.permutation(leaf.size)[:6]:
                ends = [truth.compute_loss(graph, leaves | {name: move_element(leaf, i, by)}) for by in (step, -step)]
                quotient = (ends[0] - ends[1]) / (2 * step)
                largest = max(map(abs, expected[name].ravel())) or 1
                worst = max(worst, float(abs(quotient - expected[name].ravel()[i]) / largest))
    return worst


def move_element(leaf, element, by):
    result = np.asarray(mpf_tape.to_mpf(leaf), dtype=object)
    result.ravel()[element] += by
    return result


@pytest.mark.parametrize(("name", "number"), CASES)
def test_truth_equals_differences_in_eighty_digits(name, number):
    assert measure_distance(*build_op_graph(OP_REGISTRY[name], OP_REGISTRY[name].examples[number])) < 1e-40


@pytest.mark.parametrize("graph", [build_reference_model(), draw_graph(3)], ids=["reference", "random"])
def test_truth_of_whole_graphs_equals_differences(graph):
    assert measure_distance(*graph) < 1e-40


PRIMITIVES = (
    "__add__",
    "__neg__",
    "__mul__",
    "__truediv__",
    "__matmul__",
    "__getitem__",
    "reshape",
    "transpose",
    "sum",
)


def spoil_derivatives(method):
    """The same value, with derivatives that are wrong in the twentieth digit."""

    def apply_spoiled(*operands, **options):
        right = method(*operands, **options)
        parents = [
            (parent, lambda g, rule=rule: rule(g) * (1 + mpmath.mpf(10) ** -20)) for parent, rule in right.parents
        ]
        return mpf_tape.MpfTensor(right.value, parents)

    return apply_spoiled


def is_error_caught():
    return (
        max(
            measure_distance(*build_reference_model()),
            measure_distance(*build_op_graph(OP_REGISTRY["linear"], OP_REGISTRY["linear"].examples[0])),
        )
        > 1e-30
    )


def test_right_rules_are_not_caught():
    assert not is_error_caught()


@pytest.mark.parametrize("primitive", PRIMITIVES)
def test_a_wrong_rule_of_a_primitive_is_caught(primitive, monkeypatch):
    monkeypatch.setattr(mpf_tape.MpfTensor, primitive, spoil_derivatives(getattr(mpf_tape.MpfTensor, primitive)))
    assert is_error_caught()


@pytest.mark.parametrize("name", mpf_tape.PRIMITIVES)
def test_a_wrong_slope_of_a_function_is_caught(name, monkeypatch):
    function, slope = mpf_tape.PRIMITIVES[name]
    wrong = (function, lambda x, y: slope(x, y) + mpmath.mpf(10) ** -20)
    monkeypatch.setitem(mpf_tape.PRIMITIVES, name, wrong)
    op = {"erf": "gelu", "sqrt": "rsqrt"}.get(name, name)
    assert measure_distance(*build_op_graph(OP_REGISTRY[op], OP_REGISTRY[op].examples[0])) > 1e-30


@pytest.mark.parametrize(("name", "number"), CASES)
def test_truth_has_the_ops_of_the_service(name, number):
    graph, leaves = build_op_graph(OP_REGISTRY[name], OP_REGISTRY[name].examples[number])
    expected = truth.compute_gradients(graph, leaves)
    for leaf, gradient in graph.backward(graph.forward(leaves)).items():
        # Of softmax what is far below 1 is found to a rounding of 1.
        allowed = 1e-13 * np.abs(gradient).max() + 1e-15
        assert (truth.compute_distance(gradient[0], expected[leaf]) <= allowed).all(), leaf


def test_truth_is_taken_at_exactly_the_given_numbers():
    graph = Graph([Node("loss", OP_REGISTRY["half_squared_error"](reduction="sum"), ("x", 0.0))], {"x": ()})
    gradients = truth.compute_gradients(graph, {"x": np.array([0.1])})["x"]
    assert gradients == mpmath.mpf(0.1)
    with mpmath.workdps(50):
        assert gradients != mpmath.mpf("0.1")
    assert truth.compute_distance(np.array(np.nextafter(0.1, 1)), gradients) == np.spacing(0.1)


def test_saturated_values_keep_their_digits():
    """1 - tanh(360)^2 is 4 e^-720, and float64 has such numbers."""
    nodes = [Node("t", OP_REGISTRY["tanh"](), ("x",)), Node("loss", OP_REGISTRY["sum"](), ("t",))]
    gradients = truth.compute_gradients(Graph(nodes, {"x": (1,)}), {"x": np.array([[360.0]])})["x"]
    assert float(gradients[0] / (4 * mpmath.exp(-720)) - 1) == pytest.approx(0, abs=1e-30)


@pytest.mark.parametrize(("family", "variant"), [cell for cell in problem_families.CELLS if cell[0] != "reference S1"])
def test_more_digits_change_nothing(family, variant):
    problem = problem_families.draw_problem(family, variant, 5)
    gradients, finer = (
        truth.compute_gradients(problem.graph, problem.leaves, digits) for digits in (truth.DIGITS, 460)
    )
    for name in problem.names:
        with mpmath.workdps(460):
            gaps = abs(gradients[name] - finer[name])
            assert np.all(gaps <= mpmath.mpf(10) ** -30 * abs(finer[name]) + mpmath.mpf(10) ** -330)
