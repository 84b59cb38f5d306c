"""What is decided of each line, with a case on each side of each limit."""

import numpy as np
import pytest

from service.numerics.blackbox.allowance import CandidateAllowance
from service.numerics.blackbox.kinks import LossShape
from service.numerics.blackbox.line_comparison import LineComparison, compare_candidate
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.outcome import Cause, Outcome
from service.numerics.verdict.reference import Tolerance
from tests.service.numerics.blackbox.stated_derivatives import (
    draw_directions,
    make_derivatives,
    make_element_lines,
    make_point,
)

FP64 = PRECISIONS["FP64"]
CAUSES = tuple(Cause)
PASS, INCONCLUSIVE, FAIL = Outcome.PASS, Outcome.INCONCLUSIVE, Outcome.FAIL


def make_comparison(off, certain=1e-6, allowed=2e-6, doubtful=0.0, negligible=False):
    """One line whose derivative is 1."""
    known = CandidateAllowance(*(np.array([value]) for value in (1 + off, certain, allowed, doubtful, 1.0)))
    no = np.zeros(1, bool)
    return LineComparison(make_derivatives([1.0], certain), known, no, np.array([negligible]), no, FP64)


def compare_elements(candidate, value, bound=0.0, *, point=None, tolerance=None, **other):
    point = make_point(np.zeros(len(candidate))) if point is None else point
    reference = make_derivatives(value, bound, **other)
    return compare_candidate(make_element_lines(point), point, np.array(candidate, float), reference, FP64, tolerance)


def list_causes(comparison):
    return [CAUSES[position] for position in comparison.cause_positions]


@pytest.mark.parametrize(
    ("off", "cause", "outcome"),
    [
        (0.9e-6, Cause.AGREES, PASS),
        (1.1e-6, Cause.TOO_UNCERTAIN, INCONCLUSIVE),
        (1.9e-6, Cause.TOO_UNCERTAIN, INCONCLUSIVE),
        (2.1e-6, Cause.EXCEEDS_ALLOWED_ERROR, FAIL),
    ],
)
def test_a_line_between_certain_and_allowed_is_undecided(off, cause, outcome):
    for sign in (1, -1):
        comparison = make_comparison(sign * off)
        assert (list_causes(comparison), comparison.line_outcomes) == ([cause], [outcome])


@pytest.mark.parametrize(
    ("doubtful", "outcome"), [(0.0, FAIL), (1e-6, FAIL), (2e-6, INCONCLUSIVE), (1.0, INCONCLUSIVE)]
)
def test_doubtful_error_keeps_a_line_from_failing_and_passes_none(doubtful, outcome):
    assert make_comparison(3.5e-6, doubtful=doubtful).line_outcomes == [outcome]
    assert make_comparison(1.5e-6, doubtful=doubtful).line_outcomes == [INCONCLUSIVE]


def test_negligible_line_passes_within_its_allowance():
    assert [make_comparison(1.9e-6, negligible=value).line_outcomes for value in (True, False)] == [
        [PASS],
        [INCONCLUSIVE],
    ]
    assert make_comparison(2.1e-6, negligible=True).line_outcomes == [FAIL]


@pytest.mark.parametrize(("bound", "uncertain"), [(4.9e-5, False), (5.1e-5, True)])
def test_an_element_of_which_an_error_that_must_be_found_could_pass_is_undecided(bound, uncertain):
    """In float64 one of 1e-4, of which half may be allowed."""
    assert compare_elements([1.0], [1.0], bound).line_outcomes == [INCONCLUSIVE if uncertain else PASS]
    assert compare_elements([1 + 3 * bound], [1.0], bound).line_outcomes == [INCONCLUSIVE if uncertain else FAIL]
    assert compare_elements([1 + 4.1 * bound], [1.0], bound).line_outcomes == [FAIL], (
        "beyond four times what is allowed"
    )


@pytest.mark.parametrize(
    ("value", "bound", "outcome", "negligible"),
    [
        (0.6e-6, 0.8e-6, INCONCLUSIVE, False),
        (0.8e-6, 0.6e-6, PASS, False),
        (0.3e-6, 0.6e-6, PASS, True),
        (0.0, 0.9e-6, PASS, True),
        (0.0, 1.1e-6, INCONCLUSIVE, False),
    ],
)
def test_an_element_whose_sign_is_hidden_is_undecided_unless_it_is_negligible(value, bound, outcome, negligible):
    """Beside one of 1, of which 1e-6 matters."""
    comparison = compare_elements([value, 1.0], [value, 1.0], [bound, 0.0])
    assert comparison.line_outcomes == [outcome, PASS]
    assert comparison.is_negligible.tolist() == [negligible, False]
    assert not comparison.is_zero.any()


def test_an_element_is_negligible_by_what_it_does_to_the_loss():
    """By its derivative times its move: one of 1e-9 that is moved by 2^20 is not."""
    value = np.array([1e-9, 1.0])
    for size, negligible in ((1.0, True), (2.0**20, False)):
        point = make_point(np.zeros(2), np.array([size, 1.0]))
        assert compare_elements(value, value, point=point).is_negligible.tolist() == [negligible, False]


@pytest.mark.parametrize(
    ("candidate", "bound", "outcome"),
    [
        (0.0, 4000 * 2.0**-53, PASS),
        (0.0, 4200 * 2.0**-53, INCONCLUSIVE),
        (63 * 2.0**-53, 4000 * 2.0**-53, PASS),
        (65 * 2.0**-53, 4000 * 2.0**-53, INCONCLUSIVE),
        (1.0, 4000 * 2.0**-53, FAIL),
    ],
)
def test_zero_passes_where_loss_and_candidate_change_by_rounding_alone(candidate, bound, outcome):
    comparison = compare_elements([candidate], [0.0], bound, has_jitter=True)
    assert comparison.line_outcomes == [outcome]
    assert comparison.is_zero.tolist() == comparison.is_negligible.tolist() == [outcome == PASS]


@pytest.mark.parametrize(("size", "zero"), [(2.0**-50, False), (2.0**-49, True)])
def test_an_element_that_is_hardly_moved_is_not_zero(size, zero):
    comparison = compare_elements([0.0], [0.0], 1e-13, point=make_point(np.zeros(1), np.array([size])), has_jitter=True)
    assert comparison.is_zero.tolist() == [zero]
    assert comparison.line_outcomes == [PASS if zero else INCONCLUSIVE]


def test_a_constant_loss_has_a_gradient_of_zero_where_the_candidate_says_so():
    for candidate, outcome in ((0.0, PASS), (1e-300, INCONCLUSIVE)):
        comparison = compare_elements([candidate], [0.0], resolution=0.0, loss_magnitude=0.0, is_constant=True)
        assert comparison.line_outcomes == [outcome]


@pytest.mark.parametrize(
    ("shape", "candidate", "outcome"),
    [
        (LossShape.STAIRS, 0.0, INCONCLUSIVE),
        (LossShape.STAIRS, 2.0, FAIL),
        (LossShape.KINKED, 0.0, FAIL),
        (LossShape.SMOOTH, 0.0, FAIL),
    ],
)
def test_a_zero_beside_a_staircase_is_not_called_wrong(shape, candidate, outcome):
    assert compare_elements([candidate], [1.0], 1e-9, loss_shape=shape).line_outcomes == [outcome]


@pytest.mark.parametrize(("times", "outcome"), [(3.9, INCONCLUSIVE), (4.1, FAIL)])
def test_line_with_a_suspected_kink_fails_beyond_four_times_its_allowance(times, outcome):
    assert compare_elements([1 + times * 1e-9], [1.0], 1e-9, may_have_kink=True).line_outcomes == [outcome]
    assert compare_elements([1 + times * 1e-9], [1.0], 1e-9).line_outcomes == [FAIL]


@pytest.mark.parametrize("candidate", [np.nan, np.inf, -np.inf])
def test_a_candidate_that_is_not_finite_fails_where_there_is_a_derivative(candidate):
    comparison = compare_elements([candidate, 1.0], [1.0, 1.0], 1e-9)
    assert list_causes(comparison) == [Cause.NOT_FINITE, Cause.AGREES]
    assert comparison.error_ratios.tolist() == [np.inf, 0.0]
    assert list_causes(compare_elements([candidate], [np.nan], np.inf)) == [Cause.NO_REFERENCE]


@pytest.mark.parametrize(("value", "bound"), [(np.nan, np.inf), (1.0, np.inf), (np.inf, 1e-9)])
def test_a_line_without_a_reference_is_undecided(value, bound):
    comparison = compare_elements([1.0, 1.0], [value, 1.0], [bound, 0.0])
    assert list_causes(comparison) == [Cause.NO_REFERENCE, Cause.AGREES]
    assert comparison.line_outcomes[0] == INCONCLUSIVE


@pytest.mark.parametrize(
    ("off", "bound", "cause"),
    [
        (0.9e-3, 0.9e-3, Cause.AGREES),
        (1.1e-3, 0.9e-3, Cause.EXCEEDS_ALLOWED_ERROR),
        (0.0, 1.1e-3, Cause.TOLERANCE_TOO_FINE),
        (1.0, 1.1e-3, Cause.TOLERANCE_TOO_FINE),
    ],
)
def test_a_tolerance_decides_unless_the_bound_exceeds_it(off, bound, cause):
    comparison = compare_elements([1 + off], [1.0], bound, tolerance=Tolerance(rtol=1e-3, atol=0.0))
    assert list_causes(comparison) == [cause]
    assert comparison.relative_allowance == 0
    assert not comparison.is_negligible.any()


@pytest.mark.parametrize("candidate", [0.0, 10 * 2.0**-53])
def test_a_derivative_that_rounding_hides_is_undecided(candidate):
    """As of 1e14 + sin(x): where nothing shows that it is 0, no candidate passes."""
    comparison = compare_elements([candidate], [0.0], 4000 * 2.0**-53, deviation=400 * 2.0**-53)
    assert list_causes(comparison) == [Cause.TOO_UNCERTAIN]
    assert comparison.is_hidden_by_noise.all()
    assert not compare_elements([1.0], [1.0], 1e-9, deviation=1e-10).is_hidden_by_noise.any()
    assert not compare_elements([0.0], [0.0], 4000 * 2.0**-53, deviation=0.0).is_hidden_by_noise.any()


def compare_directions(candidate, bound, off=0.0, **other):
    point = make_point(np.zeros(len(candidate)))
    lines, gradient = draw_directions(point, 3), np.array(candidate, float)
    return compare_candidate(
        lines, point, gradient, make_derivatives(lines.directions @ gradient + off, bound, **other), FP64
    )


@pytest.mark.parametrize(("bound", "uncertain"), [(4.9e-5, False), (5.1e-5, True)])
def test_directions_are_held_against_the_norm_of_the_candidate(bound, uncertain):
    bound = 5 * bound
    assert compare_directions([3.0, 4.0], bound).line_outcomes == [INCONCLUSIVE if uncertain else PASS] * 3
    assert compare_directions([3.0, 4.0], bound, 3 * bound).line_outcomes == [INCONCLUSIVE if uncertain else FAIL] * 3


def test_directions_are_zero_where_all_of_them_are():
    least = 4000 * 2.0**-53
    assert compare_directions([0.0, 0.0], least, has_jitter=True).line_outcomes == [PASS] * 3
    comparison = compare_directions([0.0, 0.0], np.array([least, least, 2 * least]), has_jitter=True)
    assert not comparison.is_zero.any()
    assert comparison.line_outcomes == [INCONCLUSIVE] * 3


def test_unnoticed_errors_pass_or_stay_undecided():
    decided, undecided = compare_elements([1.0], [1.0], 1e-9), compare_elements([1.0], [1.0], 1e-9, may_have_kink=True)
    assert decided.unnoticed_error == decided.allowance.passing_error
    assert undecided.unnoticed_error == 4 * undecided.allowance.allowed_error
