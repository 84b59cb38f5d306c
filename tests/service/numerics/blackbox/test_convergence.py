"""Differences beside a singularity nearer than the steps have no false bound, and farther ones keep theirs."""

import numpy as np
import pytest

from service.numerics.blackbox import neville
from service.numerics.blackbox.convergence import bound_slow_convergence
from service.numerics.blackbox.function_differences import difference_functions
from service.numerics.blackbox.noise import find_loss_format
from tests.service.numerics.blackbox.smooth_losses import make_layout

NODES = 2.0 ** -np.arange(3, 12, dtype=float)
EDGES = {
    "sqrt": (np.sqrt, lambda d: 0.5 / np.sqrt(d)),
    "power 3/2": (lambda d: d**1.5, lambda d: 1.5 * np.sqrt(d)),
    "log": (np.log, lambda d: 1 / d),
    "x log x": (lambda d: d * np.log(d), lambda d: np.log(d) + 1),
    "acos": (lambda d: 2 * np.arcsin(np.sqrt(d / 2)), lambda d: 1 / np.sqrt(d * (2 - d))),
}
SMALLEST_STEPS = {"FP64": 2.0**-15, "FP32": 2.0**-10}


def bound_quotients(quotients, noise=0.0):
    values, _ = neville.build_table(quotients[None], NODES)
    return bound_slow_convergence(values, {entry: np.full(1, noise) for entry in values}, NODES)


def test_whole_powers_are_not_slow():
    bounds = bound_quotients(1 + 3 * NODES - 7 * NODES**2 + 20 * NODES**3, noise=1e-14)
    assert all(bound[0] == 0 for bound in bounds.values())


def test_a_loss_that_is_fast_for_coarse_steps_alone_is_not_slow():
    bounds = bound_quotients(np.sin(50 * NODES) / NODES, noise=1e-12)
    assert all(bound[0] == 0 for bound in bounds.values())


@pytest.mark.parametrize("power", [0.2, 0.4, 0.6])
def test_the_remainder_of_a_slow_power_is_covered(power):
    values, _ = neville.build_table((2 + NODES**power)[None], NODES)
    for entry, bound in bound_quotients(2 + NODES**power).items():
        assert abs(values[entry][0] - 2) <= bound[0] * (1 + 1e-9) < 100


@pytest.mark.parametrize("quotients", [np.log(NODES), NODES**-0.5, NODES + 1e-4 * np.log(NODES)])
def test_differences_without_a_limit_have_no_bound_in_their_last_columns(quotients):
    bounds = bound_quotients(quotients, noise=1e-13)
    assert bounds[len(NODES) - 1, len(NODES) - 1][0] == np.inf


def test_noise_is_not_slow():
    noise = np.random.default_rng(1).normal(size=(200, len(NODES))) * 1e-9 / NODES
    for off in noise:
        errors = 6e-9 / NODES
        values, weights = neville.build_table((1 + NODES + off)[None], NODES)
        entry_errors = {entry: (np.abs(weights[entry]) * errors).sum(axis=-1) * np.ones(1) for entry in values}
        assert all(bound[0] == 0 for bound in bound_slow_convergence(values, entry_errors, NODES).values())


def differentiate_beside_edge(function, distance, datatype, seed):
    """Return the derivative at about this distance from the edge, its bound, and the exact distance."""
    edge = float(np.float32(np.random.default_rng(seed).uniform(0.8, 1.9)))
    layout = make_layout(np.array([edge + distance]), datatype, random=False)
    distances = layout.stack_points("w")[:, 0] - edge
    with np.errstate(all="ignore"):
        losses = function(distances)
        if datatype == "FP32":
            losses = losses.astype(np.float32).astype(np.float64)
        derivatives = difference_functions(layout, "w", losses, find_loss_format(losses))[1]
    return derivatives.value[0], derivatives.bound[0], distances[0]


@pytest.mark.parametrize("datatype", SMALLEST_STEPS)
@pytest.mark.parametrize("edge", EDGES.values(), ids=EDGES)
def test_bounds_beside_an_edge_hold(edge, datatype):
    """480 points, from 1/16 to 2^7 smallest steps away from where the values end."""
    function, slope = edge
    for number, octave in enumerate(np.arange(-4, 8, 0.25)):
        value, bound, distance = differentiate_beside_edge(
            function, SMALLEST_STEPS[datatype] * 2.0**octave, datatype, number
        )
        assert abs(value - slope(distance)) <= bound or bound == np.inf


@pytest.mark.parametrize("datatype", SMALLEST_STEPS)
@pytest.mark.parametrize("edge", EDGES.values(), ids=EDGES)
def test_edges_beyond_the_steps_are_decided(edge, datatype):
    function, slope = edge
    value, bound, distance = differentiate_beside_edge(function, 0.2, datatype, 5)
    assert abs(value - slope(distance)) <= bound <= abs(slope(distance)) * (1e-7 if datatype == "FP64" else 1e-3)
