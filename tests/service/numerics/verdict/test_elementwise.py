import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.elementwise import find_failing_elements, judge_gradient, judge_shape_mismatch
from service.numerics.verdict.gradient_verdict import combine_outcomes
from service.numerics.verdict.outcome import Cause, Outcome
from service.numerics.verdict.reference import Reference, Tolerance

FP64 = PRECISIONS["FP64"]


def make_reference(value, bound=1e-12, rounding=1e-13, **more):
    value = np.array(value, dtype=np.float64)
    return Reference(value, np.broadcast_to(bound, value.shape), np.broadcast_to(rounding, value.shape), FP64, **more)


def judge_candidate(candidate, against):
    return judge_gradient({"candidate": np.array(candidate, dtype=np.float64)}, against)


NAN, INF = np.nan, np.inf
ONE = make_reference([1.0, 2.0])
WIDE = make_reference([1.0, 2.0], bound=[1e-12, 1e-3])
COARSE = make_reference([1.0, 2.0], tolerance=Tolerance(rtol=1e-2, atol=0.0))
FINE = make_reference([1.0, 2.0], bound=1e-6, tolerance=Tolerance(rtol=1e-9, atol=0.0))
UNKNOWN = make_reference([1.0, NAN], bound=[1e-12, INF])
DISPUTED = make_reference([1.0, 2.0], disputed_between_sources=np.array([False, True]))
# A step that is lost in rounding finds 0 within a bound as wide as one likes.
NOTHING = make_reference([0.0, 0.0], bound=[0.0, 1e9], peer_magnitude=2.0)
ZERO = make_reference([0.0, 0.0], bound=1e9, zero_tolerance=np.full(2, INF))
LOST = make_reference([1.0, 2.0], rounding=[1e-13, INF])

ELEMENTS = {
    "exact": ([1, 2], ONE, Cause.AGREES),
    "within bound and rounding": ([1, 2 + 1e-12], ONE, Cause.AGREES),
    "beyond both": ([1, 2 + 1.2e-12], ONE, Cause.EXCEEDS_ALLOWED_ERROR),
    "beyond below": ([1, 2 - 1.2e-12], ONE, Cause.EXCEEDS_ALLOWED_ERROR),
    "not a number": ([1, NAN], ONE, Cause.NOT_FINITE),
    "infinite": ([1, INF], ONE, Cause.NOT_FINITE),
    "an error could hide": ([1, 2], WIDE, Cause.TOO_UNCERTAIN),
    "an error could hide, but it is larger": ([1, 3], WIDE, Cause.EXCEEDS_ALLOWED_ERROR),
    "no reference": ([1, 2], UNKNOWN, Cause.NO_REFERENCE),
    "nor for what is not a number": ([1, NAN], UNKNOWN, Cause.NO_REFERENCE),
    "rounding without end": ([1, 5], LOST, Cause.TOO_UNCERTAIN),
    "small by nothing but a wide bound": ([0, 7], NOTHING, Cause.TOO_UNCERTAIN),
    "nor is zero then shown to be right": ([0, 0], NOTHING, Cause.TOO_UNCERTAIN),
    "zero by all routes": ([0, 0], ZERO, Cause.AGREES),
    "the routes disagree": ([1, 5], DISPUTED, Cause.SOURCES_DISAGREE),
    "a tolerance of one's own": ([1, 2.01], COARSE, Cause.AGREES),
    "beyond it": ([1, 2.021], COARSE, Cause.EXCEEDS_ALLOWED_ERROR),
    "finer than the bound": ([1, 2], FINE, Cause.TOLERANCE_TOO_FINE),
    "finer than the bound, nothing is known": ([1, 3], FINE, Cause.TOLERANCE_TOO_FINE),
}


@pytest.mark.parametrize(("candidate", "against", "cause"), ELEMENTS.values(), ids=ELEMENTS)
def test_element_outcome_follows_from_error_and_allowance(candidate, against, cause):
    verdict = judge_candidate(candidate, against)
    assert verdict.outcome == cause.outcome
    assert cause.description.cause in verdict.reason
    expected = 1 if cause is Cause.AGREES or against is FINE else 0
    assert verdict.outcome_counts[cause.outcome] == (2 if expected else 1)
    assert sum(verdict.outcome_counts.values()) == verdict.element_count == 2
    assert find_failing_elements(np.array(candidate), against)[1] == (cause.outcome == Outcome.FAIL)


def test_negligible_elements_are_counted_apart_when_uncertain():
    small = make_reference([1.0, 1e-9], bound=1e-10)
    verdict = judge_candidate([1.0, 1e-9], small)
    assert (verdict.outcome, verdict.negligible_count, verdict.outcome_counts[Outcome.PASS]) == (Outcome.PASS, 1, 2)
    assert verdict.smallest_detectable_error == pytest.approx(2e-10, rel=1e-2)
    wrong = judge_candidate([1.0, 1e-9 + 2e-10], small)
    assert (wrong.outcome, wrong.negligible_count) == (Outcome.FAIL, 0), "it is judged all the same"


def test_element_possibly_large_within_its_allowance_is_not_negligible():
    """However small its difference is."""
    for bound, outcome in ((1e-9, Outcome.PASS), (2e-6, Outcome.INCONCLUSIVE)):
        verdict = judge_candidate([1.0, 0.0], make_reference([1.0, 0.0], bound=[1e-12, bound]))
        assert (verdict.outcome, verdict.negligible_count) == (outcome, int(outcome == Outcome.PASS))


def test_zero_candidate_fails_beside_a_certain_gradient():
    hidden = make_reference([1.0, 1.0, 1.0, 1.0], rounding=1.1, disputed_between_sources=np.zeros(4, np.bool_))
    verdict = judge_candidate([0, 0, 0, 0], hidden)
    assert (verdict.outcome, verdict.outcome_counts[Outcome.FAIL]) == (Outcome.FAIL, 4)
    assert Cause.GRADIENT_MISSING.description.cause in verdict.reason
    assert judge_candidate([0, 0, 0, 1e-9], hidden).outcome == Outcome.INCONCLUSIVE
    assert (
        judge_candidate([0, 0, 0, 0], dataclasses.replace(hidden, rounding=np.full(4, 2.1))).outcome
        == Outcome.INCONCLUSIVE
    )
    assert (
        judge_candidate([0, 0, 0, 0], dataclasses.replace(hidden, disputed_between_sources=None)).outcome
        == Outcome.INCONCLUSIVE
    )


def test_kink_element_is_not_promised():
    sides = {"left_derivative": np.array([NAN, 0.0]), "right_derivative": np.array([NAN, 2.0])}
    verdict = judge_candidate([1.0, 1.5], make_reference([1.0, 0.0], **sides))
    assert (verdict.outcome, verdict.kink_count, verdict.negligible_count) == (Outcome.PASS, 1, 0)
    assert verdict.smallest_detectable_error < 1e-11


def test_pass_as_zero_reports_its_bounds():
    verdict = judge_candidate([0, 0], ZERO)
    assert (verdict.zero_tolerance, verdict.smallest_detectable_error, verdict.negligible_count) == (
        1e9 + 1e-13,
        INF,
        0,
    )
    assert judge_candidate([1, 2], ONE).zero_tolerance is None


@pytest.mark.parametrize(("given", "cause"), [(None, Cause.OUT_OF_RANGE), (False, Cause.EXCEEDS_ALLOWED_ERROR)])
def test_out_of_range_value_is_excused_in_own_sources_and_not_in_candidate(given, cause):
    disputed = None if given is None else np.array([given, given])
    lost = make_reference([1.0, 2.0], out_of_range=np.array([False, True]), disputed_between_sources=disputed)
    assert cause.description.cause in judge_candidate([1, 3], lost).reason
    assert Cause.OUT_OF_RANGE.description.cause in judge_candidate([1, INF], lost).reason


def test_zero_gradient_passes_only_as_zero():
    zeros = make_reference([0.0, 0.0], bound=0.0, rounding=0.0)
    assert judge_candidate([0, 0], zeros).outcome == Outcome.PASS
    assert judge_candidate([0, 5e-324], zeros).outcome == Outcome.FAIL
    assert judge_candidate([0, 0], zeros).smallest_detectable_error == INF


@pytest.mark.parametrize("scale", [1e-300, 1e-8, 1e8, 1e300])
def test_element_outcome_does_not_depend_on_scale(scale):
    against = make_reference(np.array([1.0, 2.0]) * scale, bound=1e-10 * scale, rounding=0.0)
    assert judge_candidate([scale, 2 * scale], against).outcome == Outcome.PASS
    assert judge_candidate([scale, 2.0001 * scale], against).outcome == Outcome.FAIL
    assert judge_candidate([scale, 0], against).outcome == Outcome.FAIL


@given(st.lists(st.floats(-1e3, 1e3).filter(lambda g: abs(g) > 1e-3), min_size=1, max_size=6), st.data())
def test_error_above_the_promise_never_passes(values, data):
    against = make_reference(values, bound=data.draw(st.floats(1e-14, 1e-2)), rounding=0.0)
    position = data.draw(st.integers(0, len(values) - 1))
    wrong = np.array(values)
    wrong[position] *= 1 + FP64.detectable_error * data.draw(st.sampled_from([-1.0, 1.0]))
    if not against.is_negligible[position]:
        assert judge_candidate(wrong, against).outcome != Outcome.PASS


def test_pass_reports_smallest_detectable_error():
    """Twice what is allowed: what is off by all of it on one side has as far to go on the other."""
    verdict = judge_candidate([1, 2], make_reference([1.0, 2.0], bound=1e-6, rounding=0.0))
    assert verdict.smallest_detectable_error == pytest.approx(2e-6, rel=2e-6)
    assert judge_candidate([1, 2], WIDE).smallest_detectable_error == pytest.approx(2.2e-12), "of those that pass only"
    assert judge_candidate([1, 2.1], make_reference([1.0, 2.0], bound=[1e-6, 1e-5])).smallest_detectable_error < 3e-6


def test_worst_elements_are_sorted_by_failure_then_ratio():
    values = np.arange(1.0, 21).reshape(4, 5)
    candidate = values.copy()
    candidate[1, 2] += 1e-6
    candidate[3, 4] += 1e-4
    candidate[0, 0] = NAN
    verdict = judge_candidate(candidate, make_reference(values))
    assert len(verdict.worst_elements) == 10
    assert [element.index for element in verdict.worst_elements[:3]] == [(0, 0), (3, 4), (1, 2)]
    worst = verdict.worst_elements[1]
    assert (worst.source, worst.reference, worst.judged_value) == ("candidate", 20.0, 20.0 + 1e-4)
    assert worst.allowed_error == pytest.approx(1.1e-12)
    assert worst.error_bound == 1e-12
    assert worst.error_ratio == pytest.approx(1e-4 / 1.1e-12, rel=1e-6)
    assert worst.outcome == Outcome.FAIL
    assert verdict.outcome_counts[Outcome.FAIL] == 3


def test_an_inconclusive_element_does_not_hide_a_failing_one():
    against = make_reference([1.0, 2.0], bound=[1e-12, INF])
    verdict = judge_candidate([1.5, 2.0], against)
    assert verdict.outcome == Outcome.FAIL
    assert verdict.worst_elements[0].index == (0,)
    assert verdict.outcome_counts == {Outcome.PASS: 0, Outcome.INCONCLUSIVE: 1, Outcome.FAIL: 1}


def test_worse_of_two_sources_decides_and_is_named():
    by_hand, by_torch = np.array([1.0, 2.0]), np.array([1.0, 2.5])
    verdict = judge_gradient({"analytic": by_hand, "autograd": by_torch}, ONE)
    assert verdict.outcome == Outcome.FAIL
    assert verdict.reason.startswith("1 of 2 elements of the autograd gradient: ")
    assert (verdict.worst_elements[0].source, verdict.worst_elements[0].index) == ("autograd", (1,))
    assert verdict.outcome_counts[Outcome.PASS] == 1


def test_narrow_gradients_are_judged_as_the_numbers_they_are():
    narrow = np.array([1.0, 0.1], dtype=np.float32)
    against = make_reference([1.0, 0.1], rounding=1e-12)
    assert judge_gradient({"candidate": narrow}, against).outcome == Outcome.FAIL
    assert (
        judge_gradient({"candidate": narrow}, dataclasses.replace(against, rounding=np.full(2, 1e-8))).outcome
        == Outcome.PASS
    )


def test_another_shape_fails_with_both_shapes():
    verdict = judge_shape_mismatch((3,), (2, 3))
    assert verdict.outcome == Outcome.FAIL
    assert "[3] instead of [2, 3]" in verdict.reason
    assert verdict.outcome_counts[Outcome.FAIL] == verdict.element_count == 6


def test_overall_outcome_is_the_worst():
    assert combine_outcomes([Outcome.PASS, Outcome.INCONCLUSIVE]) == Outcome.INCONCLUSIVE
    assert combine_outcomes([Outcome.FAIL, Outcome.INCONCLUSIVE]) == Outcome.FAIL
    assert combine_outcomes([Outcome.PASS]) == Outcome.PASS
