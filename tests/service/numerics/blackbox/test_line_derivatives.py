"""Bounds of one-sided differences cover the truth, of losses of every kind, datatype and noise."""

import numpy as np
import pytest

from service.numerics.blackbox import central_derivatives
from service.numerics.blackbox.domain import LossDomain, find_element_moves
from service.numerics.blackbox.layout import EvaluationLayout, lay_out_evaluations
from service.numerics.blackbox.line_derivatives import difference_lines
from service.numerics.blackbox.lines import TensorPoint
from service.numerics.blackbox.schedule import STEP_SCHEDULES, choose_typical_scale
from service.numerics.core.precision import PRECISIONS
from tests.service.numerics.blackbox.smooth_losses import (
    MAX_FREQUENCIES,
    add_noise,
    draw_smooth_loss,
    estimate_planned_noise,
    make_layout,
)

NOISES = [(0.0, "normal"), (1e-7, "uniform"), (0.0, "float32"), (1e-3, "normal")]


def lay_out_on_bounds(values, datatype, generator, *, random) -> EvaluationLayout:
    """A plan of a point of which every element lies on its lower bound or on its upper one."""
    schedule, values = STEP_SCHEDULES[datatype], PRECISIONS[datatype].round_to_nearest(values)
    unit = choose_typical_scale(values, schedule)
    moved = TensorPoint(values, schedule, unit).choose_element_moves(random=random)
    lower = generator.random(values.size) < 0.5
    domain = LossDomain(np.where(lower, values, -np.inf), np.where(lower, np.inf, values))
    moves = find_element_moves(values, moved.move_sizes, domain, schedule, random=random)
    assert (moves.move_sides == np.where(lower, 1, -1)).all()
    point = TensorPoint(values, schedule, unit, moves, domain)
    layout = lay_out_evaluations({"w": point}, random=random, count=None, seed=int(generator.integers(2**40)))
    assert domain.contains_points(layout.stack_points("w")).all()
    return layout


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize(("relative", "kind"), NOISES)
@pytest.mark.parametrize("datatype", MAX_FREQUENCIES)
def test_bounds_cover_the_truth(datatype, relative, kind, random):
    """Lines of one plan share their noise and their loss, so that few plans would tell little of how many miss."""
    generator = np.random.default_rng(11)
    errors, bounds, sizes = [], [], []
    for _ in range(200):
        n = int(generator.integers(1, 30))
        loss = draw_smooth_loss(generator, n, MAX_FREQUENCIES[datatype])
        layout = lay_out_on_bounds(generator.normal(size=n), datatype, generator, random=random)
        lines, point = layout.lines["w"], layout.points["w"]
        losses = add_noise(loss.loss(layout.stack_points("w")), relative, generator, kind)
        with np.errstate(all="ignore"):
            derivatives = difference_lines(
                layout, "w", layout.select_tensor_losses("w", losses), losses[0], estimate_planned_noise(losses)
            )
        gradient = loss.gradient(point.values)
        truth = lines.directions @ (gradient * lines.direction_weights) if random else gradient[lines.moved_elements]
        errors.append(np.abs(derivatives.value - truth))
        bounds.append(derivatives.bound)
        sizes.append(np.full(len(truth), np.linalg.norm(gradient)))
    errors, bounds, sizes = map(np.concatenate, (errors, bounds, sizes))
    assert (errors > bounds + 1e-15 * sizes).mean() <= 5e-3
    assert (errors > bounds / 100).any(), "and are no more than is needed by far"


def test_bounds_are_narrow_where_nothing_is_noisy():
    generator = np.random.default_rng(3)
    layout = lay_out_on_bounds(np.array([0.3, -1.2, 0.7]), "FP64", generator, random=False)
    losses = np.exp(np.sin(layout.stack_points("w"))).sum(axis=1)
    with np.errstate(all="ignore"):
        derivatives = difference_lines(
            layout, "w", layout.select_tensor_losses("w", losses), losses[0], estimate_planned_noise(losses)
        )
    values = layout.points["w"].values
    truth = np.cos(values) * np.exp(np.sin(values))
    assert (np.abs(derivatives.value - truth) <= derivatives.bound).all()
    assert (derivatives.bound < 1e-10).all()


def test_lines_of_both_sides_are_as_they_were():
    layout = make_layout(np.array([0.5, -1.0, 2.0]))
    losses = np.tanh(layout.stack_points("w")).sum(axis=1)
    given = (layout, "w", layout.select_tensor_losses("w", losses), losses[0], estimate_planned_noise(losses))
    assert (difference_lines(*given).value == central_derivatives.difference_centrally(*given).value).all()


def test_a_side_without_values_leaves_the_other_one():
    layout = make_layout(np.array([0.5, -1.0, 2.0]), random=False)
    losses = np.tanh(layout.stack_points("w")).sum(axis=1)
    own = layout.select_tensor_losses("w", losses).copy()
    own[0, :, 1] = own[1, :, 0] = own[2] = np.nan
    with np.errstate(all="ignore"):
        derivatives = difference_lines(layout, "w", own, losses[0], estimate_planned_noise(losses))
    truth = 1 - np.tanh(layout.points["w"].values) ** 2
    assert (np.abs(derivatives.value - truth)[:2] <= derivatives.bound[:2]).all()
    assert (derivatives.bound[:2] < 1e-9).all()
    assert derivatives.bound[2] == np.inf
