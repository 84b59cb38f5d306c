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


def judge_elements(candidate, value, bound=0.0, *, dimensions=None, deterministic=True, tolerance=None, **other):
    gradient = np.array(candidate, float)
    point = make_point(np.zeros(dimensions or gradient.shape), np.ones(gradient.size))
    lines = make_element_lines(point)
    comparison = compare_candidate(lines, point, gradient, make_derivatives(value, bound, **other), FP64, tolerance)
    return comparison, *make_verdict(lines, point, comparison, gradient, deterministic=deterministic)


def judge_directions(candidate, off=(0.0, 0.0, 0.0), bound=1e-9):
    gradient = np.array(candidate, float)
    point = make_point(np.zeros(gradient.size))
    lines = draw_directions(point, 3)
    comparison = compare_candidate(
        lines, point, gradient, make_derivatives(lines.directions @ gradient - np.array(off), bound), FP64
    )
    return comparison, *make_verdict(lines, point, comparison, gradient, deterministic=True)


def test_elements_are_counted_by_outcome_and_the_last_one_prevails():
    value, bound = np.ones(6), np.array([0, 0, 0, 1e-3, 1e-3, 0])
    for wrong, outcome, counts in ((1.5, FAIL, [3, 2, 1]), (1.0, INCONCLUSIVE, [4, 2, 0])):
        _, verdict, lines = judge_elements([1, 1, 1, 1, 1, wrong], value, bound)
        assert verdict.outcome == outcome
        assert [verdict.outcome_counts[outcome] for outcome in (PASS, INCONCLUSIVE, FAIL)] == counts
        assert [line.outcome for line in lines] == [PASS] * 3 + [INCONCLUSIVE] * 2 + [outcome if counts[2] else PASS]
        assert (verdict.element_count, verdict.unexamined_count, verdict.detection_limit.probability) == (6, 0, 0)
    assert judge_elements([1.0], [1.0])[1].outcome == PASS


def test_detectable_error_is_twice_the_allowed_one():
    value, bound = np.array([1.0, -4.0, 0.5]), np.array([1e-6, 1e-5, 1e-6])
    candidate = value * [1 + 5e-7, 1, 1]
    comparison, made, _ = judge_elements(candidate, value, bound)
    assert made.outcome == PASS
    errors = 2 * comparison.allowance.allowed_error / np.minimum(np.abs(candidate), np.abs(value))
    assert errors.max() <= made.smallest_detectable_error <= errors.max() * (1 + 1e-9)


@pytest.mark.parametrize("bound", [1e-12, 1e-9, 4e-5])
def test_detectable_error_would_not_pass_on_either_side(bound):
    """From the one end of what passes to the other it may move unseen, and no farther."""
    certain = float(judge_elements([1.0], [1.0], bound)[0].allowance.passing_error[0])
    candidate = 1 - certain * (1 - 1e-3)
    before = judge_elements([candidate], [1.0], bound)[1]
    assert before.outcome == PASS
    error = before.smallest_detectable_error * candidate
    assert judge_elements([candidate + error], [1.0], bound)[1].outcome != PASS
    assert judge_elements([candidate - error], [1.0], bound)[1].outcome != PASS
    assert error < 4 * certain, "and it is no more than is needed by far"
    assert judge_elements([candidate + error / 3], [1.0], bound)[1].outcome == PASS


def test_failing_or_negligible_tensor_promises_no_detectable_error():
    """An element of 1e-8 beside one of 1, and one that is undecided, or wrong."""
    alone = judge_elements([1.0, 1.0], [1.0, 1.0], 1e-6)[1]
    for other, value, bound in ((1e-8, 1e-8, 1e-8), (1.0, 1.0, 1e-2), (2.0, 1.0, 1e-9)):
        verdict = judge_elements([1.0, other], [1.0, value], [1e-6, bound])[1]
        assert verdict.smallest_detectable_error == pytest.approx(alone.smallest_detectable_error, rel=1e-6)
        assert verdict.negligible_count == (other < 1)
    undecided = judge_elements([1.0], [1.0], 1e-2)[1]
    assert undecided.smallest_detectable_error == np.inf


def test_pass_as_zero_states_its_detectable_error():
    bound = np.array([1e-13, 2e-13, 0.0])
    comparison, made, _ = judge_elements(
        [0.0, 0.0, 1.0], [0.0, 0.0, 1.0], bound, is_constant=np.array([True, True, False])
    )
    assert comparison.is_zero.tolist() == [True, True, False]
    assert made.zero_tolerance == comparison.allowance.allowed_error[1] > comparison.allowance.allowed_error[0]
    assert made.negligible_count == 2
    assert judge_elements([1.0], [1.0])[1].zero_tolerance is None


def test_the_worst_are_failures_first_and_then_by_ratio():
    value, bound = np.ones(5), np.array([1e-9, 1e-9, 1e-2, 1e-9, 1e-2])
    verdict = judge_elements([1, 1 + 9e-9, 1 + 3e-2, np.nan, 1 + 1e-2], value, bound)[1]
    assert [element.index for element in verdict.worst_elements] == [(3,), (1,), (2,), (4,), (0,)]
    assert [element.outcome for element in verdict.worst_elements] == [FAIL, FAIL, INCONCLUSIVE, INCONCLUSIVE, PASS]
    ratios = [element.error_ratio for element in verdict.worst_elements[1:]]
    assert ratios[0] > ratios[1] > ratios[2] > ratios[3] == 0


def test_failures_are_listed_before_undecided_elements():
    verdict = judge_elements([1 + 2e-9, 1 + 3e-2], [1.0, 1.0], [1e-9, 1e-2])[1]
    first, second = verdict.worst_elements
    assert (first.index, second.index) == ((0,), (1,))
    assert first.error_ratio < second.error_ratio


def test_verdict_lists_ten_worst_elements_and_every_line():
    candidate = 1 + np.arange(15) * 1e-9
    verdict, lines = judge_elements(candidate, np.ones(15), 1e-12)[1:]
    assert [element.index[0] for element in verdict.worst_elements] == list(range(14, 14 - MAX_WORST_ELEMENTS, -1))
    assert [line.index[0] for line in lines] == list(range(15))


def test_the_index_of_an_element_is_that_in_its_tensor():
    verdict = judge_elements([1, 1, 1, 1, 5, 1], np.ones(6), 1e-9, dimensions=(2, 3))[1]
    assert verdict.worst_elements[0].index == (1, 1)
    worst = verdict.worst_elements[0]
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
def test_reason_counts_elements_and_advises(candidate, bound, other, said):
    assert said in judge_elements(candidate, [1.0, 1.0], bound, **other)[1].reason


def test_a_failure_that_a_lower_precision_explains_says_so_and_another_does_not():
    value = np.array([0.1, -1.7, 0.3])
    candidate = value.astype(np.float32).astype(float)
    made = judge_elements(candidate, value)[1]
    assert made.outcome == FAIL
    assert made.reason.endswith('give "candidate_dtype": "FP32".')
    assert "candidate_dtype" not in judge_elements(2 * candidate, value)[1].reason
    strict = judge_elements(candidate, value, tolerance=Tolerance(1e-12, 0.0))[1]
    assert strict.outcome == FAIL
    assert "candidate_dtype" not in strict.reason, "nor beside a tolerance, which is the user's own"


def test_directional_verdict_counts_no_elements():
    comparison, made, lines = judge_directions([3.0, 4.0])
    assert made.outcome == PASS
    assert made.reason.startswith("Every direction agrees")
    assert (made.element_count, made.unexamined_count, made.worst_elements) == (2, 2, ())
    assert not any(made.outcome_counts.values())
    assert [line.index for line in lines] == [(0,), (1,), (2,)]
    assert made.direction_results == lines
    assert made.smallest_detectable_error == made.detection_limit.relative_l2
    assert made.detection_limit.probability <= 1e-3
    assert made.zero_tolerance is None
    assert not comparison.is_zero.any()


def test_along_directions_one_that_is_off_fails_all():
    made = judge_directions([3.0, 4.0], (0.0, 1.0, 0.0))[1]
    assert made.outcome == FAIL
    assert made.reason.startswith("1 of 3 directions of the candidate gradient: farther from")
    assert 'Plan directions of kind "coordinates"' in made.reason


def test_along_directions_what_is_missed_grows_with_the_bound():
    errors = [judge_directions([3.0, 4.0], bound=value)[1].smallest_detectable_error for value in (1e-12, 1e-9, 1e-6)]
    assert errors == sorted(errors)
    assert errors[2] == pytest.approx(1e3 * errors[1], rel=1e-2)
    assert judge_directions([np.inf, 4.0])[1].outcome != PASS
