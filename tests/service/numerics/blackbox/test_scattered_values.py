"""Functions that lack values at points of their own keep bounds that hold, and soon have them."""

from dataclasses import fields

import numpy as np
import pytest

from service.numerics.blackbox import function_differences, scattered_values
from service.numerics.blackbox.domain import LossDomain, find_element_moves
from service.numerics.blackbox.function_differences import difference_output
from service.numerics.blackbox.kinks import LossShape
from service.numerics.blackbox.layout import BASE_REPEATS, lay_out_evaluations
from service.numerics.blackbox.lines import TensorPoint
from service.numerics.blackbox.schedule import STEP_SCHEDULES, choose_typical_scale
from tests.service.numerics.blackbox.vector_functions import lay_out, list_tangents, make_saturating_layer

SIZES = np.array([1e13, 1.0, 1e-3, 1.0, 1e5] * 60)


@pytest.fixture
def scattered_calls(monkeypatch):
    """Difference every output as if it had too many sets of points, and count the calls for groups of lines."""
    calls = []

    def count(*given):
        calls.append(len(given[2]))
        return difference_lines(*given)

    difference_lines = scattered_values.difference_lines
    monkeypatch.setattr(function_differences, "_MAX_POINT_SETS", 0)
    monkeypatch.setattr(scattered_values, "difference_lines", count)
    return calls


def make_case(random, missing, seed=0, outputs=300, inputs=4):
    """Return a layout, values of which a part is missing, and the derivatives along the lines."""
    generator = np.random.default_rng([seed, 7])
    function = make_saturating_layer(seed, SIZES[:outputs], inputs, outputs)
    x = generator.normal(size=inputs)
    layout = lay_out(x, random=random, seed=seed)
    values = np.array([function.evaluate(point) for point in layout.stack_points("x")])
    is_missing = generator.random(values.shape) < missing
    is_missing[:BASE_REPEATS] = False
    values[is_missing] = np.nan
    return layout, values, function.differentiate(x) @ list_tangents(layout).T


def assert_bounds_hold(derivatives, truth):
    is_known = np.isfinite(derivatives.bound)
    errors = np.abs(derivatives.value - truth)
    assert (errors <= derivatives.bound)[is_known].all()
    return is_known


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize(("missing", "known"), [(0.0, 1.0), (0.02, 0.995), (0.1, 0.97), (0.4, 0.1)])
def test_bounds_hold_wherever_values_are_missing(random, missing, known, scattered_calls):
    layout, values, truth = make_case(random, missing)
    derivatives = difference_output(layout, "x", values).derivatives
    assert assert_bounds_hold(derivatives, truth).mean() >= known
    # One call for each set of points, of some forty, and not one for each function.
    assert 0 < len(scattered_calls) < 60


@pytest.mark.parametrize("random", [True, False])
def test_a_wrong_value_would_be_seen(random, scattered_calls):
    """The bounds are not so large that everything is within them."""
    layout, values, truth = make_case(random, 0.02)
    derivatives = difference_output(layout, "x", values).derivatives
    is_told = derivatives.bound < np.abs(1e-6 * truth)
    assert is_told.mean() > 0.95
    assert (np.abs(derivatives.value - 1.0001 * truth) > derivatives.bound)[is_told].all()


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize("missing", [0.0, 0.005])
def test_lines_with_frequent_sets_are_differenced_as_in_groups(random, missing, monkeypatch):
    layout, values, _ = make_case(random, missing, outputs=50)
    grouped = difference_output(layout, "x", values)
    monkeypatch.setattr(function_differences, "_MAX_POINT_SETS", 0)
    alone = difference_output(layout, "x", values)
    np.testing.assert_allclose(alone.derivatives.value, grouped.derivatives.value, rtol=1e-8)
    assert (alone.derivatives.bound <= 4 * grouped.derivatives.bound).all()
    np.testing.assert_array_equal(alone.noise.deviation, grouped.noise.deviation)
    if missing == 0:
        for field in fields(grouped.derivatives):
            expected, actual = (getattr(differences.derivatives, field.name) for differences in (grouped, alone))
            np.testing.assert_array_equal(actual, expected, field.name)


@pytest.mark.no_cover
def test_too_many_sets_alone_leave_the_groups(monkeypatch):
    layout, values, _ = make_case(False, 0.05)
    calls = []
    monkeypatch.setattr(
        function_differences, "difference_scattered_lines", lambda *given: calls.append(1) or difference(*given)
    )
    difference = scattered_values.difference_scattered_lines
    difference_output(layout, "x", values[:, :100])
    assert calls == []
    difference_output(layout, "x", values)
    assert calls == [1]


@pytest.mark.no_cover
def test_lines_of_one_side_stay_among_themselves(scattered_calls):
    """Some elements lie on a bound: their lines have points of one side alone."""
    generator = np.random.default_rng(3)
    function, x = make_saturating_layer(3, SIZES, 20, 300), generator.normal(size=20)
    domain = LossDomain(np.where(np.arange(20) % 3 == 0, x, -np.inf), np.full(20, np.inf))
    schedule = STEP_SCHEDULES["FP64"]
    sizes = np.full(20, choose_typical_scale(x, schedule))
    moves = find_element_moves(x, sizes, domain, schedule, random=False)
    point = TensorPoint(x, schedule, sizes[0], moves, domain)
    layout = lay_out_evaluations({"x": point}, random=False, count=None, seed=0)
    values = np.array([function.evaluate(moved) for moved in layout.stack_points("x")])
    values[BASE_REPEATS:][generator.random(values[BASE_REPEATS:].shape) < 0.02] = np.nan
    derivatives = difference_output(layout, "x", values).derivatives
    lines = layout.lines["x"]
    is_known = assert_bounds_hold(derivatives, function.differentiate(x)[:, lines.moved_elements])
    assert (lines.sides != 0).sum() == 7
    assert is_known.mean() > 0.99


def test_functions_that_leave_their_domain_elsewhere_are_differenced_as_in_groups(monkeypatch):
    """Element i is the root of x_i - a_i: its own line alone lacks values, from its own step on."""
    x = np.linspace(0.5, 1.5, 60)
    edges = x - np.geomspace(1e-7, 1.0, 60)
    layout = lay_out(x, random=False)
    values = np.array([np.sqrt(np.where(point > edges, point - edges, np.nan)) for point in layout.stack_points("x")])
    grouped = difference_output(layout, "x", values).derivatives
    monkeypatch.setattr(function_differences, "_MAX_POINT_SETS", 0)
    alone = difference_output(layout, "x", values).derivatives
    is_known = np.isfinite(grouped.bound)
    np.testing.assert_array_equal(np.isfinite(alone.bound), is_known)
    distances = (x - edges) / (layout.points["x"].schedule.smallest_step * layout.lines["x"].derivative_units)
    assert np.diag(is_known)[distances > 128].all()
    assert not np.diag(is_known)[distances < 1].any()
    np.testing.assert_allclose(alone.value[is_known], grouped.value[is_known], rtol=1e-12)
    np.testing.assert_allclose(alone.bound[is_known], grouped.bound[is_known], rtol=1e-12)


def test_stairs_are_found_where_the_near_points_have_values(scattered_calls):
    layout = lay_out(np.array([0.7, -1.2, 0.4]), random=False)
    points = layout.stack_points("x")
    values = np.stack([np.round(np.sin(points).sum(axis=1), 2), np.sin(points).sum(axis=1)], axis=1)
    values[-1] = np.nan
    shapes = difference_output(layout, "x", values).derivatives.loss_shape
    assert (shapes[0] == LossShape.STAIRS).all()
    assert (shapes[1] == LossShape.SMOOTH).all()
