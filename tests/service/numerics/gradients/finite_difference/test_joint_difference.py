import math
from collections.abc import Iterator

import mpmath
import numpy as np
import pytest

from service.numerics.gradients.finite_difference import JointDifference, joint_difference
from service.numerics.model.graph import Graph, Node
from service.numerics.ops import OP_REGISTRY
from tests import problem_families, truth
from tests.joint_lines import compute_point, compute_true_derivative, differentiate_line
from tests.problem_families import FamilyProblem

PROBLEMS_PER_CELL = 3


def iterate_lines(family: str, variant: str, count: int) -> Iterator[tuple[FamilyProblem, JointDifference]]:
    """Problems of a cell that are at no kink, each with a line."""
    for seed in range(count):
        problem = problem_families.draw_problem(family, variant, seed)
        line = differentiate_line(problem.graph, compute_point(problem.graph, problem.leaves), problem.names, seed)
        if line is not None:
            yield problem, line


def measure_error(problem: FamilyProblem, line: JointDifference) -> float:
    """Error of a line over its bound."""
    exact = compute_true_derivative(line, truth.compute_gradients(problem.graph, problem.leaves))
    with mpmath.workdps(truth.DIGITS):
        return float(abs(mpmath.mpf(line.value) - exact) / mpmath.mpf(line.error_bound))


@pytest.mark.trial
@pytest.mark.parametrize(
    ("family", "variant"),
    problem_families.CELLS,
    ids=[f"{family}, {variant}" for family, variant in problem_families.CELLS],
)
def test_bound_of_a_joint_difference_is_true(family, variant):
    for problem, line in iterate_lines(family, variant, PROBLEMS_PER_CELL):
        assert math.isinf(line.error_bound) or measure_error(problem, line) <= 1, str(problem)


def test_bound_without_the_noise_is_false(monkeypatch):
    """A negative control."""
    monkeypatch.setattr(joint_difference, "estimate_adjoint_noise", lambda *_: 0.0)
    monkeypatch.setattr(joint_difference, "estimate_sum_rounding", lambda _: 0.0)
    errors = [measure_error(*pair) for pair in iterate_lines("mlp", "ordinary", 8)]
    assert max(errors) > 1


def test_bound_without_truncation_is_false(monkeypatch):
    """A negative control: the difference itself in place of the distance in Neville's table."""
    monkeypatch.setattr(joint_difference, "_FIRST_STEP", 2.0**-3)
    monkeypatch.setattr(joint_difference, "MAX_STEPS", 1)
    monkeypatch.setattr(
        joint_difference, "extrapolate_central_number", lambda quotients, floors: (quotients[-1], floors[-1])
    )
    errors = [measure_error(*pair) for pair in iterate_lines("softmax", "ordinary", 4)]
    assert max(errors) > 1


def test_ordinary_problems_take_six_evaluations_and_have_tight_bounds():
    for family in ("reference S0", "mlp", "transformer"):
        for problem, line in iterate_lines(family, "ordinary", 2):
            gradients = compute_point(problem.graph, problem.leaves).gradients
            norm = math.hypot(*(line.scales[name] * np.linalg.norm(gradients[name]) for name in problem.names))
            assert line.evaluations == joint_difference.EVALUATIONS_PER_STEP
            assert line.error_bound < 1e-8 * norm


def test_tensors_have_equal_shares_to_the_bits_of_their_scales():
    ((problem, line),) = iterate_lines("mlp", "ordinary", 1)
    gradients = compute_point(problem.graph, problem.leaves).gradients
    shares = [line.scales[name] * np.linalg.norm(gradients[name]) for name in problem.names]
    assert max(shares) <= 1.02 * min(shares)
    assert all((256 * math.frexp(scale)[0]).is_integer() for scale in line.scales.values()), "eight bits"


def make_model(*nodes, **leaves):
    """A model of nodes (name, op, operands), and its leaves."""
    listed = [Node(name, OP_REGISTRY[op](**attributes), operands) for name, op, operands, attributes in nodes]
    tiles = {name: np.asarray(leaf, np.float64)[None] for name, leaf in leaves.items()}
    return Graph(listed, {name: leaf.shape[1:] for name, leaf in tiles.items()}), tiles


def differentiate(graph, leaves, names, seed=0):
    return differentiate_line(graph, compute_point(graph, leaves), names, seed)


SUM = ("loss", "sum", ("y",), {})


@pytest.mark.parametrize(
    ("op", "operands", "w"),
    [
        ("relu", ("w",), [0.0, 1.0, -1.0]),
        ("maximum", ("w", "w"), [1.0, 2.0, 3.0]),
        ("abs", ("w",), [2.0**-40, 1.0, -1.0]),
    ],
)
def test_kinks_and_ties_have_no_joint_difference(op, operands, w):
    graph, leaves = make_model(("y", op, operands, {}), SUM, w=w)
    assert differentiate(graph, leaves, ["w"]) is None


def test_a_piece_that_does_not_end_nearby_has_a_joint_difference():
    graph, leaves = make_model(("y", "relu", ("w",), {}), SUM, w=[0.5, 1.0, -1.0])
    line = differentiate(graph, leaves, ["w"])
    exact = line.scales["w"] * line.directions["w"][:2].sum()
    assert abs(line.value - exact) <= line.error_bound < 1e-9 * abs(exact)


def test_without_finite_values_there_is_no_joint_difference():
    graph, leaves = make_model(("y", "log", ("w",), {}), SUM, w=[-1.0, 1.0])
    assert differentiate(graph, leaves, ["w"]) is None


def test_without_any_gradient_there_is_no_bound_and_no_evaluation():
    graph, leaves = make_model(("y", "mul", ("w", 0.0), {}), SUM, w=[1.0, 2.0])
    line = differentiate(graph, leaves, ["w"])
    assert (math.isnan(line.value), line.error_bound, line.evaluations) == (True, math.inf, 0)


def test_a_pole_within_the_steps_is_not_stepped_over():
    """x^-2 at 1e-9 beside a tensor of 1: the first step reaches far beyond 0."""
    graph, leaves = make_model(("y", "pow", ("w",), {"exponent": -2.0}), SUM, w=[1e-9, 1.0, -1.0])
    line = differentiate(graph, leaves, ["w"])
    exact = line.scales["w"] * float(line.directions["w"] @ (-2.0 * leaves["w"][0] ** -3))
    assert math.isinf(line.error_bound) or abs(line.value - exact) <= line.error_bound


@pytest.mark.parametrize("exponent", [-700, -200, 200, 700])
def test_squares_beyond_the_range_do_not_spoil_a_line(exponent):
    """The loss and its gradient are 2^exponent: their squares are no numbers."""
    graph, leaves = make_model(("z", "sin", ("w",), {}), ("y", "mul", ("z", 2.0**exponent), {}), SUM, w=[0.3, 1.0])
    line = differentiate(graph, leaves, ["w"])
    exact = line.scales["w"] * float(line.directions["w"] @ (2.0**exponent * np.cos(leaves["w"][0])))
    assert abs(line.value - exact) <= line.error_bound < 1e-8 * abs(exact)


def test_a_node_moves_beside_the_weight_that_it_follows_from():
    graph, leaves = make_model(("z", "tanh", ("w",), {}), ("y", "mul", ("z", "z"), {}), SUM, w=[0.3, -0.8])
    line = differentiate(graph, leaves, ["w", "z"])
    z = np.tanh(leaves["w"][0])
    gradients = {"z": 2 * z, "w": 2 * z * (1 - z**2)}
    exact = float(compute_true_derivative(line, gradients))
    assert abs(line.value - exact) <= line.error_bound < 1e-8 * abs(exact)


def test_numbers_have_directions_too():
    graph, leaves = make_model(("y", "mul", ("x", "w"), {}), SUM, x=[1.0, 2.0, 4.0], w=0.5)
    line = differentiate(graph, leaves, ["w"])
    assert line.value == pytest.approx(7 * line.scales["w"] * float(line.directions["w"]), rel=1e-10)


def test_the_same_seed_gives_the_same_line_and_another_one_another():
    ((_, line),) = iterate_lines("layer_norm", "ordinary", 1)
    ((_, again),) = iterate_lines("layer_norm", "ordinary", 1)
    assert (line.value, line.error_bound) == (again.value, again.error_bound)
    problem = problem_families.draw_problem("layer_norm", "ordinary", 0)
    other = differentiate(problem.graph, problem.leaves, problem.names, seed=5)
    assert other.value != line.value


@pytest.mark.parametrize("size", [5e-324, 2.0**-1000, 2.0**950])
def test_scales_beyond_the_range_have_no_bound(size):
    graph, leaves = make_model(("y", "mul", ("w", "w"), {}), SUM, w=[size, -size])
    line = joint_difference.differentiate_jointly(graph, compute_point(graph, leaves), {"w": np.array([1.0, 0.5])})
    assert math.isinf(line.error_bound)
    assert line.evaluations == 0


@pytest.mark.parametrize("exponent", [-13.7, -1.0, 0.0])
@pytest.mark.parametrize("size", [1e-200, 0.3, 1.0, 7e150])
def test_a_scale_keeps_eight_bits_and_is_no_larger(exponent, size):
    scale = joint_difference._keep_bits(size, exponent)
    assert (256 * math.frexp(scale)[0]).is_integer()
    assert 1 - 2.0**-7 < scale / (size * 2.0**exponent) <= 1
