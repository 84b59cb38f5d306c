"""Bounds of one-sided differences cover the truth, of losses of every kind, datatype and noise."""

import numpy as np
import pytest

from service.numerics.blackbox import difference
from service.numerics.blackbox.domain import Domain, ways
from service.numerics.blackbox.layout import Layout, laid_out
from service.numerics.blackbox.lines import Point
from service.numerics.blackbox.schedule import SCHEDULES, typical
from service.numerics.blackbox.sided import along
from service.numerics.precision import PRECISIONS
from tests.service.numerics.blackbox.losses import FASTEST, noise_of, noisy, planned, smooth

NOISES = [(0.0, "normal"), (1e-7, "uniform"), (0.0, "float32"), (1e-3, "normal")]


def on_bounds(values, datatype, generator, *, random) -> Layout:
    """A plan of a point of which every element lies on its lower bound or on its upper one."""
    schedule, values = SCHEDULES[datatype], PRECISIONS[datatype].nearest(values)
    unit = typical(values, schedule)
    moved = Point(values, schedule, unit).moved(random=random)
    lower = generator.random(values.size) < 0.5
    domain = Domain(np.where(lower, values, -np.inf), np.where(lower, np.inf, values))
    found = ways(values, moved.sizes, domain, schedule, random=random)
    assert (found.sides == np.where(lower, 1, -1)).all()
    point = Point(values, schedule, unit, found, domain)
    layout = laid_out({"w": point}, random=random, count=None, seed=int(generator.integers(2**40)))
    assert domain.holds(layout.stacked("w")).all()
    return layout


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize(("relative", "kind"), NOISES)
@pytest.mark.parametrize("datatype", FASTEST)
def test_bounds_cover_the_truth(datatype, relative, kind, random):
    generator = np.random.default_rng(11)
    errors, bounds, sizes = [], [], []
    for _ in range(60):
        n = int(generator.integers(1, 30))
        loss = smooth(generator, n, FASTEST[datatype])
        layout = on_bounds(generator.normal(size=n), datatype, generator, random=random)
        lines, point = layout.lines["w"], layout.points["w"]
        losses = noisy(loss.loss(layout.stacked("w")), relative, generator, kind)
        with np.errstate(all="ignore"):
            found = along(layout, "w", layout.of("w", losses), losses[0], noise_of(losses))
        gradient = loss.gradient(point.values)
        truth = lines.directions @ (gradient * lines.weights) if random else gradient[lines.elements]
        errors.append(np.abs(found.value - truth))
        bounds.append(found.bound)
        sizes.append(np.full(len(truth), np.linalg.norm(gradient)))
    errors, bounds, sizes = map(np.concatenate, (errors, bounds, sizes))
    assert (errors > bounds + 1e-15 * sizes).mean() <= 5e-3
    assert (errors > bounds / 100).any(), "and are no more than is needed by far"


def test_bounds_are_narrow_where_nothing_is_noisy():
    generator = np.random.default_rng(3)
    layout = on_bounds(np.array([0.3, -1.2, 0.7]), "FP64", generator, random=False)
    losses = np.exp(np.sin(layout.stacked("w"))).sum(axis=1)
    with np.errstate(all="ignore"):
        found = along(layout, "w", layout.of("w", losses), losses[0], noise_of(losses))
    values = layout.points["w"].values
    truth = np.cos(values) * np.exp(np.sin(values))
    assert (np.abs(found.value - truth) <= found.bound).all()
    assert (found.bound < 1e-10).all()


def test_lines_of_both_sides_are_as_they_were():
    layout = planned(np.array([0.5, -1.0, 2.0]))
    losses = np.tanh(layout.stacked("w")).sum(axis=1)
    given = (layout, "w", layout.of("w", losses), losses[0], noise_of(losses))
    assert (along(*given).value == difference.along(*given).value).all()


def test_a_side_without_values_leaves_the_other_one():
    layout = planned(np.array([0.5, -1.0, 2.0]), random=False)
    losses = np.tanh(layout.stacked("w")).sum(axis=1)
    own = layout.of("w", losses).copy()
    own[0, :, 1] = own[1, :, 0] = own[2] = np.nan
    with np.errstate(all="ignore"):
        found = along(layout, "w", own, losses[0], noise_of(losses))
    truth = 1 - np.tanh(layout.points["w"].values) ** 2
    assert (np.abs(found.value - truth)[:2] <= found.bound[:2]).all()
    assert (found.bound[:2] < 1e-9).all()
    assert found.bound[2] == np.inf
