"""The V of a naive difference, the flat line of the complex step, and that neither depends on how it is cut up."""

import numpy as np
import pytest

from service.numerics.core.batching import add_batch_axis
from service.numerics.gradients import analytic
from service.numerics.gradients import step_curve as module
from service.numerics.gradients.step_curve import (
    CURVE_STEPS,
    compute_step_curve,
    estimate_curve_work,
    supports_complex_step,
)
from service.numerics.model.graph import Graph, NamedArrays, Node
from service.numerics.ops import OP_REGISTRY
from tests.op_graphs import build_reference_example, build_reference_model, list_shapes

EXAMPLE = -0.1342557202950444
"""dL/dw1[0, 0] of the reference example, from the product's own description."""


def make_chain(*ops: str, **leaves: float) -> tuple[Graph, NamedArrays]:
    """A number through functions of one number."""
    values = {name: add_batch_axis(np.array(value)) for name, value in leaves.items()}
    nodes = [
        Node(f"n{number}", OP_REGISTRY[op](), (f"n{number - 1}" if number else "x",)) for number, op in enumerate(ops)
    ]
    return Graph(nodes, list_shapes(values)), values


def fit_slope(steps: np.ndarray, errors: np.ndarray) -> float:
    """Exponent of the power of the step by which errors grow."""
    return float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


def test_the_steps_hit_every_power_of_ten() -> None:
    assert CURVE_STEPS[0] == 1e-16
    assert CURVE_STEPS[-1] == 1
    assert [float(f"1e{exponent}") for exponent in range(-16, 1)] == CURVE_STEPS[::4].tolist()
    np.testing.assert_allclose(CURVE_STEPS[1:] / CURVE_STEPS[:-1], 10**0.25, rtol=1e-14)


def test_the_error_falls_with_the_step_and_rises_again() -> None:
    graph, leaves = build_reference_example()
    curve = compute_step_curve(graph, leaves, "w1", 0)
    forward, central = np.abs(curve.forward - EXAMPLE), np.abs(curve.central - EXAMPLE)
    truncated = (CURVE_STEPS >= 1e-4) & (CURVE_STEPS <= 1e-2)
    assert fit_slope(CURVE_STEPS[truncated], central[truncated]) == pytest.approx(2, abs=0.01)
    assert fit_slope(CURVE_STEPS[truncated], forward[truncated]) == pytest.approx(1, abs=0.01)
    rounded = (CURVE_STEPS >= 1e-14) & (CURVE_STEPS <= 1e-8)
    for errors in (forward, central):
        assert fit_slope(CURVE_STEPS[rounded], errors[rounded] + 1e-12) == pytest.approx(-1, abs=0.25)
    assert 1e-6 < CURVE_STEPS[np.argmin(central)] < 1e-4
    assert central.min() < 1e-10
    assert 1e-9 < CURVE_STEPS[np.argmin(forward)] < 1e-6
    assert central[CURVE_STEPS < 1e-15].min() > 0.01
    # Which says whether truncation and rounding have their sizes, not their slopes alone: h^2 f''' / 6 and u f / h.
    assert central[CURVE_STEPS == 1e-3] == pytest.approx(7.89e-7, rel=1e-2)
    assert central[CURVE_STEPS == 1e-12] < 4 * 2.0**-53 * 2.38 / 1e-12


def test_the_complex_step_is_right_to_the_last_digit_at_every_small_step() -> None:
    graph, leaves = build_reference_example()
    for name in ("w1", "w2", "x", "L1", "y"):
        gradient = analytic.differentiate_analytically(graph, leaves).gradients[name]
        for element, expected in enumerate(gradient.ravel()):
            curve = compute_step_curve(graph, leaves, name, element).complex_step
            assert curve is not None
            assert (np.abs(curve[CURVE_STEPS <= 1e-9] - expected) <= 1e-15 * np.abs(gradient).max()).all(), (
                name,
                element,
            )
    curve = compute_step_curve(graph, leaves, "w1", 0).complex_step
    assert curve is not None
    assert (np.abs(curve[CURVE_STEPS <= 1e-9] - EXAMPLE) <= 1e-15 * abs(EXAMPLE)).all()


@pytest.mark.parametrize(("name", "element"), [("w1", 3), ("w2", 1), ("C1", 2), ("L2A", 0)])
def test_the_differences_are_those_of_a_loop_over_whole_losses(name: str, element: int) -> None:
    graph, leaves = build_reference_example()
    curve = compute_step_curve(graph, leaves, name, element)
    base = graph.forward(leaves)

    def loss(move: float) -> float:
        point = base[name].copy()
        point.flat[element] += move
        return graph.forward_downstream(base, {name: point})["loss"].item()

    for step, forward, central in zip(CURVE_STEPS, curve.forward, curve.central, strict=True):
        assert forward == (loss(step) - loss(0)) / step
        assert central == (loss(step) - loss(-step)) / (2 * step)


def test_a_step_that_is_lost_at_the_point_says_zero() -> None:
    graph, leaves = build_reference_example()
    curve = compute_step_curve(graph, leaves, "x", 8)
    assert set(curve.central[CURVE_STEPS < 4e-16]) == {0.0}


def test_curve_in_passes_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, leaves = build_reference_model((8, 8), (3, 3))
    passes: list[tuple[str, int, int]] = []
    whole = compute_step_curve(graph, leaves, "w1", 4, lambda *step: passes.append(step))
    assert passes == [("w1", 0, 131), ("w1", 0, 65)]
    passes.clear()
    monkeypatch.setattr(module, "_MAX_ELEMENTS_PER_PASS", 2000)
    cut = compute_step_curve(graph, leaves, "w1", 4, lambda *step: passes.append(step))
    assert len(passes) > 10
    assert {total for _, _, total in passes} == {131, 65}
    for field in ("forward", "central", "complex_step"):
        np.testing.assert_array_equal(getattr(cut, field), getattr(whole, field))


def test_a_pass_holds_no_more_than_one_evaluation_of_a_large_model_does(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, leaves = build_reference_example()
    monkeypatch.setattr(module, "_MAX_ELEMENTS_PER_PASS", 1)
    passes: list[int] = []
    compute_step_curve(graph, leaves, "w2", 0, lambda _name, done, _total: passes.append(done))
    assert passes == [*range(131), *range(65)]


@pytest.mark.parametrize("op", ["relu", "abs", "softplus"])
def test_piecewise_ops_have_no_complex_step(op: str) -> None:
    graph, leaves = make_chain("sin", op, "exp", x=0.4)
    curve = compute_step_curve(graph, leaves, "x", 0)
    assert curve.complex_step is None
    assert curve.central[CURVE_STEPS == 1e-5] == pytest.approx(
        analytic.differentiate_analytically(graph, leaves).gradients["x"], rel=1e-9
    )


def test_ops_beside_the_path_to_the_loss_do_not_prevent_a_complex_step() -> None:
    """Only the ops between the element and the loss have to be analytic."""
    nodes = [
        Node("bent", OP_REGISTRY["relu"](), ("x",)),
        Node("product", OP_REGISTRY["mul"](), ("bent", "w")),
        Node("loss", OP_REGISTRY["sum"](), ("product",)),
    ]
    leaves = {"x": add_batch_axis(np.array([1.0, -2.0])), "w": add_batch_axis(np.array([3.0, 4.0]))}
    graph = Graph(nodes, list_shapes(leaves))
    assert [supports_complex_step(graph, name) for name in ("x", "bent", "w", "product")] == [False, True, True, True]
    assert compute_step_curve(graph, leaves, "x", 0).complex_step is None
    np.testing.assert_array_equal(compute_step_curve(graph, leaves, "w", 0).complex_step, np.ones(CURVE_STEPS.size))


def test_step_curve_is_nan_at_a_loss_of_nan() -> None:
    """A complex logarithm has a value left of zero; the real one has none, and no derivative."""
    graph, leaves = make_chain("log", x=-1.0)
    curve = compute_step_curve(graph, leaves, "x", 0)
    for differences in (curve.forward, curve.central, curve.complex_step):
        assert np.isnan(differences).all()


def test_step_curve_has_one_side_at_the_edge_of_the_domain() -> None:
    graph, leaves = make_chain("sqrt", x=0.0)
    curve = compute_step_curve(graph, leaves, "x", 0)
    np.testing.assert_allclose(curve.forward, CURVE_STEPS**-0.5)
    assert np.isnan(curve.central).all()
    graph, leaves = make_chain("exp", "exp", x=6.5)
    assert compute_step_curve(graph, leaves, "x", 0).forward[-1] == np.inf


def test_work_counts_evaluations_downstream() -> None:
    graph, _ = build_reference_model((20, 20), (3, 3))
    assert estimate_curve_work(graph, "w1") > estimate_curve_work(graph, "L2") > estimate_curve_work(graph, "L2A") > 0
    bent, _ = make_chain("relu", x=1.0)
    smooth, _ = make_chain("sin", x=1.0)
    assert estimate_curve_work(smooth, "x") > 2 * estimate_curve_work(bent, "x")
