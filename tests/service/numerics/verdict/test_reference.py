import dataclasses

import numpy as np
import pytest

from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.reference import Reference, Tolerance


def make_reference(value, bound, rounding=0.0, **more):
    value = np.array(value, dtype=np.float64)
    full = [np.broadcast_to(np.asarray(errors, np.float64), value.shape) for errors in (bound, rounding)]
    return Reference(value, *full, PRECISIONS["FP64"], **more)


def test_allowed_is_the_bound_and_the_rounding_or_the_tolerance_alone():
    assert make_reference([2.0], 1e-9, 2e-9).allowed_error == pytest.approx(3e-9)
    assert make_reference([2.0], 1e-9, 2e-9, tolerance=Tolerance(1e-3, 0.5)).allowed_error == pytest.approx(0.502)


def test_negligible_element_is_small_at_any_value_within_its_allowance():
    reference = make_reference([1.0, 2e-6, 0.5e-6, 0.5e-6, 0.0], [0.0, 0.0, 0.0, 1e-6, 1e-7])
    assert reference.is_negligible.tolist() == [False, False, True, False, True]
    assert reference.is_undecided(reference.value).tolist() == [False, False, False, True, False]


def test_elements_at_the_end_of_a_range_are_negligible_beside_one_that_is_not():
    half = PRECISIONS["FP16"]
    unit = half.smallest_subnormal
    values, allowed = np.array([100.0, 15.0, 15.0, 50.0]) * unit, np.array([1.0, 1.0, 5.1, 4.9]) * unit
    reference = dataclasses.replace(make_reference(values, 0.0, allowed), precision=half)
    assert reference.is_negligible.tolist() == [False, True, False, True]
    assert reference.is_undecided(values).tolist() == [False, False, True, False]
    normal = dataclasses.replace(make_reference(1024 * values, 0.0, 1024 * allowed), precision=half)
    assert normal.is_undecided(1024 * values).tolist() == [False, True, True, True]


@pytest.mark.parametrize(("largest", "is_known"), [(1.1, False), (1.3, True)])
def test_a_gradient_that_none_could_tell_from_zero_is_no_negligible_one(largest, is_known):
    half = PRECISIONS["FP16"]
    values = np.array([largest, -0.5, 0.0]) * half.smallest_subnormal
    reference = dataclasses.replace(make_reference(values, 0.0, 0.6 * half.smallest_subnormal), precision=half)
    assert reference.is_undecided(np.zeros(3)).any() != is_known
    assert (np.abs(values) > reference.allowed_error).any(), "zeros fail"


def test_largest_magnitude_of_a_sample_includes_unexamined_elements():
    assert make_reference([1e-7], 0.0).is_negligible.tolist() == [False]
    assert make_reference([1e-7], 0.0, peer_magnitude=1.0).is_negligible.tolist() == [True]


def test_missing_reference_has_no_known_magnitude():
    reference = make_reference([np.nan, 3.0, 1.0], [0.0, np.inf, 0.0])
    assert reference.is_missing.tolist() == [True, True, False]
    assert reference.known_magnitudes.tolist() == [0.0, 0.0, 1.0]
    assert reference.is_negligible.tolist() == [False, False, False]


def test_difference_within_its_bound_has_no_known_magnitude():
    reference = make_reference([1e-12, 2.0], [1e-11, 1e-11])
    assert reference.known_magnitudes.tolist() == [0.0, 2.0]
    assert make_reference([1e-12], 1e-11).largest_magnitude == 0


@pytest.mark.parametrize(
    ("nothing", "judged", "undecided"),
    [
        (None, 0.0, True),  # nothing is known of it
        (-np.inf, 0.0, True),  # it may be hidden
        (np.inf, 4e5, False),  # it is 0 wherever the model is evaluated
        (1e-15, 0.0, False),  # it is 0 here
        (1e-15, 1e-15, False),
        (1e-15, 2e-15, True),
    ],
)
def test_zero_gradient_passes_as_zero(nothing, judged, undecided):
    reference = make_reference([0.0], 1e6, zero_tolerance=None if nothing is None else np.array([nothing]))
    assert reference.is_undecided(np.array([judged])).tolist() == [undecided]
    assert reference.is_zero(np.array([judged])).tolist() == [not undecided]


def test_element_with_known_neighbours_does_not_pass_as_zero():
    reference = make_reference([0.0, 1.0], [1e-3, 0.0], zero_tolerance=np.array([np.inf, np.inf]))
    assert reference.is_undecided(np.array([0.0, 1.0])).tolist() == [True, False]


def test_along_directions_all_have_the_size_of_the_gradient():
    value = np.array([3.0, -1e-9, 4.0])
    reference = make_reference(value, 1e-4, is_directional=True)
    assert reference.largest_magnitude == pytest.approx(5 / np.sqrt(3))
    assert reference.is_negligible.tolist() == [False] * 3
    assert reference.is_undecided(value).tolist() == [False] * 3
    assert make_reference(value, 2e-4, is_directional=True).is_undecided(value).tolist() == [True] * 3
    assert (
        make_reference(value, 1e-4, is_directional=True, peer_magnitude=1.0).is_undecided(value).tolist() == [True] * 3
    ), "they are large by chance"


def test_element_below_the_tolerance_is_negligible():
    reference = make_reference([1.0, 1e-3], 1e-12, tolerance=Tolerance(0.0, 1e-3))
    assert reference.is_negligible.tolist() == [False, True]
    assert reference.is_undecided(reference.value).tolist() == [False, False]


@pytest.mark.parametrize(("rounding", "absent"), [(1e-3, True), (0.44, True), (0.45, False)])
def test_zeros_are_absent_beside_a_gradient_above_rounding(rounding, absent):
    reference = make_reference([0.2, 0.1, 0.0, np.nan], [1e-9, 1e-9, 1.0, np.inf], [rounding, 0.0, 0.0, np.inf])
    assert reference.is_absent(np.zeros(4)) is absent
    assert not reference.is_absent(np.array([0.0, 0.0, 1e-300, 0.0]))
    for more in ({"is_directional": True}, {"tolerance": Tolerance(0.0, 1.0)}):
        assert not dataclasses.replace(reference, **more).is_absent(np.zeros(4))


@pytest.mark.parametrize(("left", "absent"), [(0.0, False), (-1.0, False), (0.5, True)])
def test_zeros_between_one_sided_derivatives_are_not_absent(left: float, absent: bool) -> None:
    nowhere = np.full(3, np.nan)
    reference = make_reference([1.0, 0.0, 0.0], 1e-9, left_derivative=nowhere.copy(), right_derivative=nowhere.copy())
    assert reference.left_derivative is not None
    assert reference.right_derivative is not None
    reference.left_derivative[0], reference.right_derivative[0] = left, 1.0
    assert reference.is_absent(np.zeros(3)) is absent


def test_kink_excuses_values_between_sides_and_conventions():
    sides = {"left_derivative": np.array([0.0, np.nan]), "right_derivative": np.array([1.0, np.nan])}
    reference = make_reference([0.5, 0.5], 1e-12, convention_gradients=(np.array([-7.0, 0.5]),), **sides)
    assert reference.is_kink.tolist() == [True, False]
    for judged, excused in ((0.3, True), (-7.0, True), (1.1, False)):
        assert reference.is_excused_by_kink(np.array([judged, judged])).tolist() == [excused, False]


def test_selected_elements_keep_their_reference():
    reference = make_reference(
        [[1.0, 2.0], [3.0, 4.0]], [[0.1, 0.2], [0.3, 0.4]], zero_tolerance=np.ones((2, 2)), peer_magnitude=3.0
    )
    some = reference.select_elements(np.array([3, 0]))
    assert some.value.tolist() == [4.0, 1.0]
    assert some.error_bound.tolist() == [0.4, 0.1]
    assert (some.peer_magnitude, some.zero_tolerance.tolist()) == (3.0, [1.0, 1.0])
