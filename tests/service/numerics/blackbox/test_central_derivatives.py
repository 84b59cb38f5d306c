"""Bounds cover the truth: smooth losses of every kind, every datatype, noise of every size and kind."""

import mpmath
import numpy as np
import pytest

from service.numerics.blackbox.central_derivatives import difference_centrally
from tests.service.numerics.blackbox.smooth_losses import (
    MAX_FREQUENCIES,
    add_noise,
    draw_smooth_loss,
    estimate_planned_noise,
    make_layout,
)

NOISES = [
    (0.0, "normal"),
    (1e-12, "normal"),
    (1e-12, "uniform"),
    (1e-7, "normal"),
    (1e-7, "uniform"),
    (0.0, "float32"),
    (1e-3, "normal"),
]


def measure_errors(datatype, relative, kind, random, problems=100, seed=11):
    """Errors, bounds and sizes of gradients, of all directions of many problems."""
    generator = np.random.default_rng(seed)
    errors, bounds, sizes = [], [], []
    for _ in range(problems):
        n = int(generator.integers(1, 30))
        loss = draw_smooth_loss(generator, n, MAX_FREQUENCIES[datatype])
        values = generator.normal(size=n) * 10 ** generator.uniform(-0.3, 0.3)
        layout = make_layout(values, datatype, random=random, seed=int(generator.integers(2**40)))
        losses = add_noise(loss.loss(layout.stack_points("w")), relative, generator, kind)
        derivatives = difference_centrally(
            layout, "w", layout.select_tensor_losses("w", losses), losses[0], estimate_planned_noise(losses)
        )
        gradient = loss.gradient(layout.points["w"].values)
        lines = layout.lines["w"]
        truth = lines.directions @ (gradient * lines.direction_weights) if random else gradient[lines.moved_elements]
        errors.append(np.abs(derivatives.value - truth))
        bounds.append(derivatives.bound)
        sizes.append(np.full(len(truth), np.linalg.norm(gradient)))
    return tuple(map(np.concatenate, (errors, bounds, sizes)))


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize(("relative", "kind"), NOISES)
@pytest.mark.parametrize("datatype", MAX_FREQUENCIES)
def test_bounds_cover_the_truth(datatype, relative, kind, random):
    errors, bounds, sizes = measure_errors(datatype, relative, kind, random)
    missed = errors > bounds + 1e-15 * sizes
    assert missed.mean() <= (1e-3 if relative < 1e-3 else 5e-3)
    assert (errors > bounds / 30).any(), "and are no more than is needed by far"


def test_bounds_are_narrow_where_nothing_is_noisy():
    _, bounds, sizes = measure_errors("FP64", 0.0, "normal", True)
    assert np.median(bounds / sizes) < 1e-11
    _, bounds, sizes = measure_errors("FP64", 1e-7, "normal", True)
    assert np.median(bounds / sizes) < 1e-3


def test_bounds_cover_the_truth_of_many_digits():
    """By mpmath, of a loss that float64 evaluates with errors of its own."""
    values = np.array([0.3, -1.2, 0.7])
    layout = make_layout(values, seed=3)
    losses = np.array([np.exp(np.sin(x[0] * x[1]) + np.tanh(x[2]) * x[0]) for x in layout.stack_points("w")])
    derivatives = difference_centrally(
        layout, "w", layout.select_tensor_losses("w", losses), losses[0], estimate_planned_noise(losses)
    )
    with mpmath.workdps(40):
        for number, direction in enumerate(layout.lines["w"].directions.tolist()):

            def evaluate_at(t, direction=direction):
                a, b, c = (mpmath.mpf(x) + t * mpmath.mpf(d) for x, d in zip(values.tolist(), direction, strict=True))
                return mpmath.exp(mpmath.sin(a * b) + mpmath.tanh(c) * a)

            truth = mpmath.diff(evaluate_at, 0)
            assert abs(derivatives.value[number] - truth) <= derivatives.bound[number] < 1e-11 * abs(truth)


def test_constant_loss_is_recognised():
    layout = make_layout(np.ones(3))
    losses = np.full(layout.evaluation_count, 0.1)
    derivatives = difference_centrally(
        layout, "w", layout.select_tensor_losses("w", losses), 0.1, estimate_planned_noise(losses)
    )
    assert derivatives.is_constant.all()
    assert not derivatives.value.any()
    losses[-1] = np.nextafter(0.1, 1)
    derivatives = difference_centrally(
        layout, "w", layout.select_tensor_losses("w", losses), 0.1, estimate_planned_noise(losses)
    )
    assert derivatives.is_constant.tolist() == [True, True, True, False]
