import numpy as np
import pytest

from service.numerics.precision import PRECISIONS
from service.numerics.reference import Reference, Tolerance, sizes_of


def reference(value, bound, rounding=0.0, **more):
    value = np.array(value, dtype=np.float64)
    full = [np.broadcast_to(np.asarray(each, np.float64), value.shape) for each in (bound, rounding)]
    return Reference(value, *full, PRECISIONS["FP64"], **more)


def test_allowed_is_the_bound_and_the_rounding_or_the_tolerance_alone():
    assert reference([2.0], 1e-9, 2e-9).allowed == pytest.approx(3e-9)
    assert reference([2.0], 1e-9, 2e-9, tolerance=Tolerance(1e-3, 0.5)).allowed == pytest.approx(0.502)


def test_what_matters_is_not_negligible_beside_the_largest():
    assert reference([1.0, 2e-6, 0.5e-6], 0.0).matters.tolist() == [True, True, False]


def test_what_has_no_reference_does_not_matter():
    found = reference([np.nan, 3.0, 1.0], [0.0, np.inf, 0.0])
    assert found.missing.tolist() == [True, True, False]
    assert found.sizes.tolist() == [0.0, 0.0, 1.0]


def test_a_difference_of_zero_within_a_wide_bound_has_the_size_of_the_other_routes():
    alone, beside = reference([0.0], 4e5), reference([0.0], 4e5, others=np.array([0.2]))
    assert alone.uncertain.tolist() == [False]
    assert beside.uncertain.tolist() == [True]


def test_what_cancels_to_zero_within_rounding_is_zero():
    for exact_to, certain in ((1e-16, True), (1e-24, False)):
        found = reference([1e-17], 1e-13, exact_to=np.array([exact_to]))
        assert (not found.uncertain[0]) is certain


def test_what_cancels_to_zero_within_the_rounding_of_a_gradient_is_zero_too():
    """As with the bias of the keys of an attention: the difference is 0 within 1e-15, and moves by itself no less."""
    for rounding, certain in ((1e-14, True), (1e-24, False)):
        found = reference([1e-17], 1e-15, rounding, exact_to=np.array([1e-33]))
        assert (not found.uncertain[0]) is certain


@pytest.mark.parametrize(
    ("analytic", "autograd", "sizes"),
    [
        ([3.0, -2.0], [3.0, -2.5], [3.0, 2.0]),  # beyond rounding: by the smaller
        ([3.0, 1e-17], [3.0 + 1e-12, 3e-18], [3.0, 0.0]),  # one element cancels
        ([2e-17, 1e-17], [-1e-17, 3e-18], [0.0, 0.0]),  # both do
        ([2e-17, 1e-17], [2e-17, 1e-17], [0.0, 0.0]),  # both do, rounded alike
        ([2e-17, 1e-17], [2e-17, 1e-17 + 1e-28], [2e-17, 1e-17]),  # small, as both say
        ([2e-19, 1e-30], [2e-19, 1e-30], [2e-19, 1e-30]),  # so small that to round alike would not do
        ([2e-38, 1e-38], [1e-59, 0.0], [2e-38, 1e-38]),  # so small that rounding would not do at all
        ([0.0, 0.0], [0.0, 0.0], [0.0, 0.0]),
        ([np.nan, 1.0], [1.0, 1.0], [0.0, 1.0]),
    ],
)
def test_sizes_are_not_made_by_rounding(analytic, autograd, sizes):
    found = sizes_of((np.array(analytic), np.array(autograd)), np.full(2, 1e-15), 2.0**-53)
    np.testing.assert_allclose(found, sizes, rtol=1e-9)


def test_a_kink_excuses_what_lies_between_and_either_convention():
    sides = {"left": np.array([0.0, np.nan]), "right": np.array([1.0, np.nan])}
    found = reference([0.5, 0.5], 1e-12, conventions=(np.array([-7.0, 0.5]),), **sides)
    assert found.kinks.tolist() == [True, False]
    for judged, excused in ((0.3, True), (-7.0, True), (1.1, False)):
        assert found.excuses(np.array([judged, judged])).tolist() == [excused, False]


def test_of_some_elements_it_is_the_same():
    found = reference([[1.0, 2.0], [3.0, 4.0]], [[0.1, 0.2], [0.3, 0.4]], others=np.ones((2, 2)))
    some = found.at(np.array([3, 0]))
    assert some.value.tolist() == [4.0, 1.0]
    assert some.error_bound.tolist() == [0.4, 0.1]
    assert some.others is not None
