import numpy as np
import pytest

from service.numerics.core.difference import DifferenceStatus
from service.numerics.gradients.finite_difference.estimate_table import EstimateTable

INF, NAN = np.inf, np.nan


def make_table(*levels, is_step_given=False):
    """A table of levels, each (values, bounds), of all elements or of those in a third entry."""
    table = EstimateTable(len(levels[0][0]), is_step_given)
    for number, (values, bounds, *elements) in enumerate(levels):
        count = len(levels[0][0])
        chosen = np.array(elements[0]) if elements else np.arange(count)
        table.add_level(np.array(values), np.array(bounds), np.full(count, 1e-16), np.full(count, 2.0**-number), chosen)
    return table


def test_each_element_keeps_the_estimate_with_the_smallest_bound():
    difference = make_table(([1.0, 2.0], [1e-9, 1e-3]), ([1.1, 2.0001], [1.0, 1e-6])).to_difference((2,), 7)
    assert difference.value.tolist() == [1.0, 2.0001]
    assert difference.error_bound.tolist() == [1e-9, 1e-6]
    assert difference.steps.tolist() == [1.0, 0.5]
    assert not difference.status.any()


def test_contradiction_of_another_level_widens_the_bound():
    difference = make_table(([1.0, 1.0], [0.01, 0.01]), ([2.0, 1.02], [0.25, 0.25])).to_difference((2,), 7)
    assert difference.value.tolist() == [1.0, 1.0]
    assert difference.error_bound == pytest.approx([0.01 + 1 - 0.25 - 0.01, 0.01])
    assert difference.status.tolist() == [DifferenceStatus.UNSETTLED, DifferenceStatus.SETTLED]


def test_level_of_some_elements_leaves_the_others_alone():
    table = make_table(([1.0, 1.0], [INF, INF]), ([3.0], [1e-9], [1]))
    assert table.find_unbounded_elements().tolist() == [0]
    difference = table.to_difference((2,), 7)
    np.testing.assert_array_equal(difference.value, [NAN, 3.0])
    assert difference.status.tolist() == [DifferenceStatus.NOT_FINITE, DifferenceStatus.SETTLED]


def test_value_without_a_bound_is_kept_for_a_given_step_alone():
    level = ([1.0], [INF])
    assert make_table(level, is_step_given=True).to_difference((1,), 7).value.tolist() == [1.0]
    assert np.isnan(make_table(level).to_difference((1,), 7).value).all()


def test_wide_bounds_need_refinement_and_undecided_ones_escalation():
    table = make_table(([1.0, 1.0, 1e-9], [2.0**-21, 5e-6, 1e-8]))
    assert table.needs_refinement().tolist() == [1, 2]
    assert table.needs_escalation().tolist() == [2]
