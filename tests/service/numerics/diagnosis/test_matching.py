"""When an explanation of a wrong gradient is one: it matches, it is identifiable, and it is no chance."""

import numpy as np
import pytest

from service.numerics.core.precision import PRECISIONS
from service.numerics.diagnosis.matching import BugHypothesis, CandidateMatcher, fit_tolerance, is_beyond_chance

RIGHT = np.array([1.0, -2.0, 0.5, 3.0])
FP64 = PRECISIONS["FP64"]


def match_digits(made: np.ndarray, seen: np.ndarray, constants: int = 0, precision: str = "FP64") -> float | None:
    """Digits of a hypothesis about RIGHT; None where it does not match."""
    match = CandidateMatcher(seen, RIGHT[: seen.size], PRECISIONS[precision]).match_hypothesis(
        BugHypothesis("bug", made, "", constants)
    )
    return None if match is None else match.predicted_digits


def test_exact_match_predicts_all_digits() -> None:
    assert match_digits(2 * RIGHT, 2 * RIGHT) == pytest.approx(4 * 15.7, abs=1)


def test_match_tolerates_only_rounding_of_the_arithmetic() -> None:
    assert match_digits(2 * RIGHT, 2 * RIGHT * (1 + 1e-7)) is not None
    assert match_digits(2 * RIGHT, 2 * RIGHT * (1 + 1e-5)) is None
    assert match_digits(2 * RIGHT, 2 * RIGHT * (1 + 1e-5), precision="FP32") is not None


def test_hypothesis_equal_to_reference_is_no_match() -> None:
    wrong = RIGHT * (1 + 1e-7)
    assert match_digits(RIGHT, wrong) is None
    assert match_digits(RIGHT * (1 + 1e-8), wrong) is None


def test_unchanged_element_predicts_no_digits() -> None:
    made = np.array([2.0, -2.0, 0.5, 3.0])
    assert match_digits(made, made) == pytest.approx(15.7, abs=0.5)


def test_zero_element_predicts_one_digit() -> None:
    made = RIGHT * [1, 1, 0, 0]
    assert match_digits(made, made) == 2


def test_fitted_constants_take_the_best_elements_away() -> None:
    made = 1.3 * RIGHT
    assert match_digits(made, made, constants=3) == pytest.approx(15.4, abs=0.5)
    assert match_digits(made, made, constants=4) == 0


@pytest.mark.parametrize(("precision", "needed"), [("FP64", 1), ("FP32", 2), ("FP16", 4), ("BF16", 6)])
def test_number_of_elements_beyond_chance_depends_on_arithmetic(precision: str, needed: int) -> None:
    """As rounding leaves them, when the sign is wrong."""
    roundoff = PRECISIONS[precision].unit_roundoff

    def count_matching_digits(count: int) -> float:
        right = np.linspace(1, 2, count)
        target = CandidateMatcher(-right * (1 + roundoff), right, PRECISIONS[precision])
        match = target.match_hypothesis(BugHypothesis("bug", -right, ""))
        assert match is not None
        return match.predicted_digits

    assert is_beyond_chance(count_matching_digits(needed))
    assert needed == 1 or not is_beyond_chance(count_matching_digits(needed - 1))


def test_sizes_at_both_ends_of_the_range_do_not_overflow() -> None:
    for scale in (1e-300, 1e300):
        match = CandidateMatcher(-scale * RIGHT, scale * RIGHT, FP64).match_hypothesis(
            BugHypothesis("bug", -scale * RIGHT, "")
        )
        assert match is not None
        assert is_beyond_chance(match.predicted_digits)


def test_summed_comparison_counts_all_predicted_digits() -> None:
    match = CandidateMatcher(np.ones((2, 4)), RIGHT, FP64).match_hypothesis(
        BugHypothesis("bug", RIGHT, "", compared_gradient=RIGHT.copy())
    )
    assert match is not None
    assert is_beyond_chance(match.predicted_digits)


def test_another_shape_is_no_match() -> None:
    assert CandidateMatcher(np.ones((2, 2)), RIGHT, FP64).match_hypothesis(BugHypothesis("bug", RIGHT, "")) is None


def test_prefilter_keeps_only_near_gradients() -> None:
    target = CandidateMatcher(2 * RIGHT, RIGHT, FP64)
    assert target.may_match(np.array([RIGHT, 2 * RIGHT, 2.1 * RIGHT])).tolist() == [False, True, False]


def test_fit_tolerance_grows_with_unit_roundoff() -> None:
    fits = [fit_tolerance(PRECISIONS[name]) for name in ("FP64", "FP32", "FP16", "BF16")]
    assert fits == sorted(fits)
    assert fits[0] == 1e-6


@np.errstate(all="ignore")  # as a check computes
def test_infinity_beside_large_numbers_is_no_match() -> None:
    """The squares of 1e217 leave float64, unless the unit keeps them in range."""
    right = 1e217 * RIGHT
    wrong = np.array([np.inf, *(2 * right[1:])])
    for made in (2 * right, wrong, np.full(4, 1e300)):
        assert CandidateMatcher(wrong, right, FP64).match_hypothesis(BugHypothesis("bug", made, "")) is None
    match = CandidateMatcher(2 * right, right, FP64).match_hypothesis(BugHypothesis("bug", 2 * right, ""))
    assert match is not None
    assert match.relative_residual == 0


@np.errstate(all="ignore")
def test_prediction_with_overflowing_norm_is_no_match() -> None:
    assert match_digits(np.full(4, 1e300), 2 * RIGHT) is None
