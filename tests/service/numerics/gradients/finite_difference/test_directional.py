import numpy as np
import pytest

from service.numerics.gradients import analytic, finite_difference
from service.numerics.gradients.finite_difference import DifferenceStatus, make_central_method, make_forward_method
from service.numerics.model.graph import Graph, Node
from service.numerics.ops import OP_REGISTRY
from service.numerics.verdict import projection
from tests import problem_families
from tests.op_graphs import build_reference_model


def difference_along_directions(graph, leaves, names, count=4, **options):
    """Directions, the differences along them, and the inner products of the analytic gradient."""
    directions = {name: projection.sample_directions(count, graph.shapes[name], 0, name) for name in names}
    differences = finite_difference.differentiate_along_directions(graph, leaves, directions, **options)
    gradients = analytic.differentiate_analytically(graph, leaves).gradients
    return differences, {name: projection.compute_inner_products(directions[name], gradients[name]) for name in names}


METHODS = {
    "adaptive": finite_difference.ADAPTIVE_METHOD,
    "central": make_central_method(),
    "forward": make_forward_method(),
    "a step": make_central_method(1e-3),
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_every_method_bounds_the_inner_product(method):
    graph, leaves = build_reference_model((6, 6), (3, 3))
    names = ["x", "w1", "w2", "L1", "y"]
    differences, exact = difference_along_directions(graph, leaves, names, method=method)
    for name in names:
        value, off = exact[name]
        assert (np.abs(differences[name].value - value) <= differences[name].error_bound + 20 * off).all()
        assert differences[name].error_bound.max() < 1e-3
        assert (
            np.abs(differences[name].value - 1.001 * value) > differences[name].error_bound
        ).any() or method.name == "forward"


CELLS = [cell for cell in problem_families.CELLS if cell[1] in ("ordinary", "inputs", "weights")]


@pytest.mark.parametrize(("family", "variant"), CELLS, ids=[f"{a}, {b}" for a, b in CELLS])
def test_bounds_hold_on_the_families(family, variant):
    for seed in range(2):
        problem = problem_families.draw_problem(family, variant, seed)
        differences, exact = difference_along_directions(problem.graph, problem.leaves, problem.names)
        for name, (value, off) in exact.items():
            assert (np.abs(differences[name].value - value) <= differences[name].error_bound + 20 * off).all(), (
                str(problem),
                name,
            )


def test_directional_bound_is_tight():
    ratios = []
    for seed in range(5):
        problem = problem_families.draw_problem("mlp", "ordinary", seed)
        differences, exact = difference_along_directions(problem.graph, problem.leaves, problem.names)
        ratios += [differences[name].error_bound / np.abs(value).max() for name, (value, _) in exact.items()]
    assert np.median(ratios) < 1e-10


def test_a_direction_takes_what_an_element_takes():
    graph, leaves = build_reference_model((12, 12), (3, 3))
    plan = finite_difference.plan_directional_differences(graph, leaves, ["x", "w2"], 3)
    assert plan.first_level_evaluations == 2 * 3 * finite_difference.ADAPTIVE_METHOD.evaluations_per_colour
    told = []
    directions = {name: projection.sample_directions(3, graph.shapes[name], 0, name) for name in ("x", "w2")}
    with_plan = finite_difference.differentiate_along_directions(
        graph, leaves, directions, plan=plan, progress=lambda name, done, total: told.append(name)
    )
    without = finite_difference.differentiate_along_directions(graph, leaves, directions)
    for name in directions:
        assert np.array_equal(with_plan[name].value, without[name].value)
        assert with_plan[name].evaluations % (3 * finite_difference.ADAPTIVE_METHOD.evaluations_per_colour) == 0
    assert set(told) == {"x", "w2"}, "by the names that the client knows"


def test_large_and_small_tensors_find_a_step():
    """The unit is that of the tensor: neither is lost in rounding."""
    for size in (1e-12, 1.0, 1e12):
        graph, leaves = build_reference_model()
        leaves = leaves | {"x": leaves["x"] * size, "w1": leaves["w1"] / size}
        differences, exact = difference_along_directions(graph, leaves, ["x"])
        assert (differences["x"].error_bound < 1e-9 * np.abs(exact["x"][0]).max()).all()


def test_a_number_has_directions_too():
    nodes = [Node("p", OP_REGISTRY["mul"](), ("x", "w")), Node("loss", OP_REGISTRY["sum"](), ("p",))]
    leaves = {"x": np.array([[1.0, 2.0, 4.0]]), "w": np.array([0.5])}
    differences, exact = difference_along_directions(Graph(nodes, {"x": (3,), "w": ()}), leaves, ["w"])
    assert np.allclose(differences["w"].value, exact["w"][0], rtol=1e-12)
    assert np.allclose(differences["w"].value, 7 * projection.sample_directions(4, (), 0, "w"), rtol=1e-12)


def test_unexamined_difference_has_no_value_and_an_infinite_bound():
    nothing = finite_difference.make_unexamined_difference((2, 3), 5)
    assert np.isnan(nothing.value).all()
    assert np.isinf(nothing.error_bound).all()
    assert (nothing.status == DifferenceStatus.NOT_EXAMINED).all()
    assert nothing.evaluations == 5
