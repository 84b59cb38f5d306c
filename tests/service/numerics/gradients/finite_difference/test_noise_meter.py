from types import SimpleNamespace

import mpmath
import numpy as np
import pytest

from service.numerics.core.batching import add_batch_axis
from service.numerics.gradients.finite_difference.downstream import DownstreamGraph
from service.numerics.gradients.finite_difference.noise_meter import NoiseMeter, evaluate_with_sweeps
from service.numerics.model.graph import Graph, Node
from service.numerics.ops import OP_REGISTRY
from tests.op_graphs import build_reference_model

CENTRAL = (1.0, -1.0)


def make_meter(graph, leaves, seed=0):
    generator = np.random.default_rng(seed)
    point, sweeps = evaluate_with_sweeps(graph, leaves, generator)
    measured = NoiseMeter(point, sweeps, generator)
    suffixes = {name: DownstreamGraph(point, name) for name in leaves}
    return SimpleNamespace(
        scale=measured.noise_unit,
        measure_noise=lambda name, offsets, step: measured.measure_noise(suffixes[name], offsets, step),
    )


def make_quartic(w):
    """L = (w^2)^2 / 2 under float64."""
    nodes = [
        Node("p", OP_REGISTRY["mul"](), ("w", "w")),
        Node("loss", OP_REGISTRY["half_squared_error"](reduction="sum"), ("p", 0.0)),
    ]
    return Graph(nodes, {"w": ()}), {"w": add_batch_axis(np.array(w))}


@pytest.mark.parametrize("w", [0.7, 1e-5, 3e7])
@pytest.mark.parametrize("step", [2.0**-4, 2.0**-12])
def test_noise_covers_the_float64_error_and_little_more(w, step):
    graph, leaves = make_quartic(w)
    h = w * step
    measured = make_meter(graph, leaves)
    noise = measured.measure_noise("w", CENTRAL, h)[0] * measured.scale
    generator = np.random.default_rng(1)
    errors = []
    for _ in range(50):
        moved = h * generator.uniform(1, 2)
        points = np.array([w + moved, w - moved])
        terms = graph.forward_downstream(graph.forward(leaves), {"w": points})["loss"]
        with mpmath.workdps(50):
            exact = [mpmath.mpf(float(point)) ** 4 / 2 for point in points]
            errors.append(float(mpmath.mpf(float(terms[0])) - mpmath.mpf(float(terms[1])) - (exact[0] - exact[1])))
    assert np.abs(errors).max() <= noise <= 1000 * np.abs(errors).max()


@pytest.mark.parametrize("phase", [1e4, 1e8, 1e10, 1e12])
def test_noise_of_a_large_phase_is_that_of_its_rounding(phase):
    """The errors that are drawn turn a phase of 1e10 many times; its own move it by 1e-6."""
    factor = 1.3
    nodes = [
        Node("z", OP_REGISTRY["mul"](), ("w", factor)),
        Node("h", OP_REGISTRY["cos"](), ("z",)),
        Node("loss", OP_REGISTRY["sum"](), ("h",)),
    ]
    generator, errors = np.random.default_rng(2), []
    graph, w = Graph(nodes, {"w": (1,)}), np.array([phase / 3])
    measured = make_meter(graph, {"w": add_batch_axis(w)})
    noise = float(measured.measure_noise("w", CENTRAL, 0.125)[0] * measured.scale)
    for _ in range(100):
        points = w + 0.125 * generator.uniform(1, 2) * np.array([1.0, -1.0])
        terms = np.cos(points * factor)
        with mpmath.workdps(50):
            exact = [mpmath.cos(mpmath.mpf(float(point)) * mpmath.mpf(factor)) for point in points]
            errors.append(float(mpmath.mpf(terms[0]) - mpmath.mpf(terms[1]) - (exact[0] - exact[1])))
    assert np.abs(errors).max() <= noise <= 1000 * np.abs(errors).max()


def test_noise_at_a_residual_of_zero_comes_from_the_neighbouring_points():
    """At the base a fitted model has terms of 0, which have no noise; its differences do."""
    graph, leaves = build_reference_model()
    leaves["y"] = graph.forward(leaves)["L2A"]
    measured = make_meter(graph, leaves)
    # Of these an error is the square of one in the residuals, about 1e-32.
    assert (measured.measure_noise("w1", CENTRAL, 2.0**-4) * measured.scale > 1e-20).all()


def test_noise_is_measured_per_term_and_repeats_with_the_seed():
    graph, leaves = build_reference_model()
    first, again = (make_meter(graph, leaves, seed=3).measure_noise("w1", CENTRAL, 2.0**-4) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (4,)
    assert (make_meter(graph, leaves, seed=4).measure_noise("w1", CENTRAL, 2.0**-4) != first).all()


def test_a_measurement_serves_steps_that_are_not_much_smaller():
    measured = make_meter(*build_reference_model())
    first = measured.measure_noise("w1", CENTRAL, 2.0**-4)
    assert measured.measure_noise("w1", CENTRAL, 2.0**-9) is first
    assert measured.measure_noise("w1", CENTRAL, 2.0**-2) is not first
    assert measured.measure_noise("w1", CENTRAL, 2.0**-12) is not first


def test_errors_in_common_are_not_taken_for_independent_ones():
    """L = sum (s + x) with s rounded once, upstream: all terms are off alike, and their sum by as many times."""
    count = 64
    nodes = [
        Node("s", OP_REGISTRY["mul"](), ("a", "a")),
        Node("p", OP_REGISTRY["mul"](), ("s", "x")),
        Node("loss", OP_REGISTRY["half_squared_error"](reduction="sum"), ("p", "y")),
    ]
    graph = Graph(nodes, {"a": (), "x": (count,), "y": (count,)})
    leaves = {"a": np.full(1, 0.7), "x": np.ones((1, count)), "y": np.zeros((1, count))}
    noise = make_meter(graph, leaves).measure_noise("x", CENTRAL, 2.0**-4)
    together = np.linalg.norm(noise)
    assert 2 * noise.mean() * np.sqrt(count) < together * np.sqrt(count) < 4 * noise.sum()


def test_a_wide_model_is_measured_pass_by_pass():
    graph, leaves = build_reference_model((64, 64), (3, 3))
    narrow, wide = build_reference_model((8, 8), (3, 3)), (graph, leaves)
    for meter in (narrow, wide):
        noise = make_meter(*meter).measure_noise("x", CENTRAL, 2.0**-4)
        assert 1e-17 < np.median(noise) * 2.0**-23 < 1e-13
