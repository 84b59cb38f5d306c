"""The verdict on a tensor is put together from what is decided of each line."""

import numpy as np
import pytest

from service.numerics.blackbox.kinks import LossShape
from service.numerics.blackbox.line_comparison import compare_candidate
from service.numerics.blackbox.tensor_verdict import make_verdict
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.gradient_verdict import MAX_WORST_ELEMENTS
from service.numerics.verdict.outcome import Outcome
from service.numerics.verdict.reference import Tolerance
from tests.service.numerics.blackbox.stated_derivatives import (
    draw_directions,
    make_derivatives,
    make_element_lines,
    make_point,
)

FP64 = PRECISIONS["FP64"]
PASS, INCONCLUSIVE, FAIL = Outcome.PASS, Outcome.INCONCLUSIVE, Outcome.FAIL


def of_elements(candidate, value, bound=0.0, *, dimensions=None, deterministic=True, tolerance=None, **other):
    gradient = np.array(candidate, float)
    point = make_point(np.zeros(dimensions or gradient.shape), np.ones(gradient.size))
    lines = make_element_lines(point)
    found = compare_candidate(lines, point, gradient, make_derivatives(value, bound, **other), FP64, tolerance)
    return found, *make_verdict(lines, point, found, gradient, deterministic=deterministic)


def of_directions(candidate, off=(0.0, 0.0, 0.0), bound=1e-9):
    gradient = np.array(candidate, float)
    point = make_point(np.zeros(gradient.size))
    lines = draw_directions(point, 3)
    found = compare_candidate(
        lines, point, gradient, make_derivatives(lines.directions @ gradient - np.array(off), bound), FP64
    )
    return found, *make_verdict(lines, point, found, gradient, deterministic=True)


def test_elements_are_counted_by_outcome_and_the_last_one_prevails():
    value, bound = np.ones(6), np.array([0, 0, 0, 1e-3, 1e-3, 0])
    for wrong, outcome, counts in ((1.5, FAIL, [3, 2, 1]), (1.0, INCONCLUSIVE, [4, 2, 0])):
        _, found, lines = of_elements([1, 1, 1, 1, 1, wrong], value, bound)
        assert found.outcome == outcome
        assert [found.outcome_counts[each] for each in (PASS, INCONCLUSIVE, FAIL)] == counts
        assert [each.outcome for each in lines] == [PASS] * 3 + [INCONCLUSIVE] * 2 + [outcome if counts[2] else PASS]
        assert (found.element_count, found.unexamined_count, found.detection_limit.probability) == (6, 0, 0)
    assert of_elements([1.0], [1.0])[1].outcome == PASS


def test_the_error_that_would_be_found_is_twice_what_is_allowed_of_the_smaller_of_both_numbers():
    value, bound = np.array([1.0, -4.0, 0.5]), np.array([1e-6, 1e-5, 1e-6])
    candidate = value * [1 + 5e-7, 1, 1]
    found, made, _ = of_elements(candidate, value, bound)
    assert made.outcome == PASS
    each = 2 * found.allowance.allowed_error / np.minimum(np.abs(candidate), np.abs(value))
    assert each.max() <= made.smallest_detectable_error <= each.max() * (1 + 1e-9)


@pytest.mark.parametrize("bound", [1e-12, 1e-9, 4e-5])
def test_what_passes_on_one_side_and_is_changed_by_the_error_that_would_be_found_does_not_pass(bound):
    """From the one end of what passes to the other it may move unseen, and no farther."""
    certain = float(of_elements([1.0], [1.0], bound)[0].allowance.passing_error[0])
    candidate = 1 - certain * (1 - 1e-3)
    before = of_elements([candidate], [1.0], bound)[1]
    assert before.outcome == PASS
    error = before.smallest_detectable_error * candidate
    assert of_elements([candidate + error], [1.0], bound)[1].outcome != PASS
    assert of_elements([candidate - error], [1.0], bound)[1].outcome != PASS
    assert error < 4 * certain, "and it is no more than is needed by far"
    assert of_elements([candidate + error / 3], [1.0], bound)[1].outcome == PASS


def test_failing_or_negligible_tensor_promises_no_detectable_error():
    """An element of 1e-8 beside one of 1, and one that is undecided, or wrong."""
    alone = of_elements([1.0, 1.0], [1.0, 1.0], 1e-6)[1]
    for other, value, bound in ((1e-8, 1e-8, 1e-8), (1.0, 1.0, 1e-2), (2.0, 1.0, 1e-9)):
        found = of_elements([1.0, other], [1.0, value], [1e-6, bound])[1]
        assert found.smallest_detectable_error == pytest.approx(alone.smallest_detectable_error, rel=1e-6)
        assert found.negligible_count == (other < 1)
    undecided = of_elements([1.0], [1.0], 1e-2)[1]
    assert undecided.smallest_detectable_error == np.inf


def test_what_passes_as_zero_says_how_far_from_zero_it_may_be():
    bound = np.array([1e-13, 2e-13, 0.0])
    found, made, _ = of_elements([0.0, 0.0, 1.0], [0.0, 0.0, 1.0], bound)
    assert found.is_zero.tolist() == [True, True, False]
    assert made.zero_tolerance == found.allowance.allowed_error[1] > found.allowance.allowed_error[0]
    assert made.negligible_count == 2
    assert of_elements([1.0], [1.0])[1].zero_tolerance is None


def test_the_worst_are_failures_first_and_then_by_ratio():
    value, bound = np.ones(5), np.array([1e-9, 1e-9, 1e-2, 1e-9, 1e-2])
    found = of_elements([1, 1 + 9e-9, 1 + 3e-2, np.nan, 1 + 1e-2], value, bound)[1]
    assert [each.index for each in found.worst_elements] == [(3,), (1,), (2,), (4,), (0,)]
    assert [each.outcome for each in found.worst_elements] == [FAIL, FAIL, INCONCLUSIVE, INCONCLUSIVE, PASS]
    ratios = [each.error_ratio for each in found.worst_elements[1:]]
    assert ratios[0] > ratios[1] > ratios[2] > ratios[3] == 0


def test_a_failure_of_a_small_ratio_comes_before_what_is_undecided_of_a_larger_one():
    found = of_elements([1 + 2e-9, 1 + 3e-2], [1.0, 1.0], [1e-9, 1e-2])[1]
    first, second = found.worst_elements
    assert (first.index, second.index) == ((0,), (1,))
    assert first.error_ratio < second.error_ratio


def test_verdict_lists_ten_worst_elements_and_every_line():
    candidate = 1 + np.arange(15) * 1e-9
    found, lines = of_elements(candidate, np.ones(15), 1e-12)[1:]
    assert [each.index[0] for each in found.worst_elements] == list(range(14, 14 - MAX_WORST_ELEMENTS, -1))
    assert [each.index[0] for each in lines] == list(range(15))


def test_the_index_of_an_element_is_that_in_its_tensor():
    found = of_elements([1, 1, 1, 1, 5, 1], np.ones(6), 1e-9, dimensions=(2, 3))[1]
    assert found.worst_elements[0].index == (1, 1)
    worst = found.worst_elements[0]
    assert (worst.reference, worst.judged_value, worst.error_bound) == (1, 5, 1e-9)
    assert worst.error_ratio == pytest.approx(4 / worst.allowed_error)


@pytest.mark.parametrize(
    ("candidate", "bound", "other", "said"),
    [
        ([1.0, 1.0], 1e-9, {}, "Every element agrees within its error bound."),
        ([1.0, 2.0], 1e-9, {}, "1 of 2 elements of the candidate gradient: farther from the finite difference"),
        ([2.0, np.nan], 1e-9, {}, "1 of 2 elements of the candidate gradient: not a finite number"),
        ([1.0, 1.0], 1e-3, {}, "2 of 2 elements of the candidate gradient: not certain"),
        ([1.0, 1.0], 1e-3, {}, "must find (0.0001, relative). Evaluate the loss in a more precise arithmetic"),
        ([1 + 1e-9, 1.0], 1e-12, {"curvature": 1e9}, "1 of 2 elements of the candidate gradient: farther from the"),
        ([1 + 1e-9, 1.0], 1e-12, {"curvature": 1e9}, "than is certain, but no farther than rounding may explain"),
        ([1.0, 1.0], np.inf, {}, "no finite difference with a bound exists"),
        ([0.0, 1.0], 1e-9, {"loss_shape": LossShape.STAIRS}, "The loss is a staircase"),
        ([1.0, 1.0], 1e-3, {"deterministic": False}, "the loss was not the same each time"),
        ([1.0, 1.0], 1e-3, {"tolerance": Tolerance(1e-4, 0.0)}, "exceeds your tolerance"),
    ],
)
def test_the_reason_says_what_is_so_of_how_many_and_what_mends_it(candidate, bound, other, said):
    assert said in of_elements(candidate, [1.0, 1.0], bound, **other)[1].reason


def test_a_failure_that_a_lower_precision_explains_says_so_and_another_does_not():
    value = np.array([0.1, -1.7, 0.3])
    candidate = value.astype(np.float32).astype(float)
    made = of_elements(candidate, value)[1]
    assert made.outcome == FAIL
    assert made.reason.endswith('give "candidate_dtype": "FP32".')
    assert "candidate_dtype" not in of_elements(2 * candidate, value)[1].reason
    strict = of_elements(candidate, value, tolerance=Tolerance(1e-12, 0.0))[1]
    assert strict.outcome == FAIL
    assert "candidate_dtype" not in strict.reason, "nor beside a tolerance, which is the user's own"


def test_along_directions_nothing_is_said_of_elements():
    found, made, lines = of_directions([3.0, 4.0])
    assert made.outcome == PASS
    assert made.reason.startswith("Every direction agrees")
    assert (made.element_count, made.unexamined_count, made.worst_elements) == (2, 2, ())
    assert not any(made.outcome_counts.values())
    assert [each.index for each in lines] == [(0,), (1,), (2,)]
    assert made.direction_results == lines
    assert made.smallest_detectable_error == made.detection_limit.relative_l2
    assert made.detection_limit.probability <= 1e-3
    assert made.zero_tolerance is None
    assert not found.is_zero.any()


def test_along_directions_one_that_is_off_fails_all():
    made = of_directions([3.0, 4.0], (0.0, 1.0, 0.0))[1]
    assert made.outcome == FAIL
    assert made.reason.startswith("1 of 3 directions of the candidate gradient: farther from")
    assert 'Plan directions of kind "coordinates"' in made.reason


def test_along_directions_what_is_missed_grows_with_the_bound():
    errors = [of_directions([3.0, 4.0], bound=each)[1].smallest_detectable_error for each in (1e-12, 1e-9, 1e-6)]
    assert errors == sorted(errors)
    assert errors[2] == pytest.approx(1e3 * errors[1], rel=1e-2)
    assert of_directions([np.inf, 4.0])[1].outcome != PASS
