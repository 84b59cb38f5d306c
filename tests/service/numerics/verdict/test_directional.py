import dataclasses

import numpy as np
import pytest

from service.numerics.core.precision import PRECISIONS
from service.numerics.gradients.finite_difference import Difference
from service.numerics.verdict import directional, projection
from service.numerics.verdict.outcome import Outcome
from service.numerics.verdict.reference import Reference

GRADIENT = np.random.default_rng(0).normal(size=(5, 7))
BOUND = 1e-9


def judge_projections(candidate, seed=0, count=4, bound=BOUND, **fields):
    along = projection.sample_directions(count, GRADIENT.shape, seed, "w")
    truth = projection.compute_inner_products(along, GRADIENT)[0]
    reference = Reference(
        truth, np.full(count, bound), np.zeros(count), PRECISIONS["FP64"], is_directional=True, **fields
    )
    given = {"candidate": projection.compute_inner_products(along, candidate)[0]}
    return directional.judge_directions(given, reference, GRADIENT.shape, projection.euclidean_norm(GRADIENT))


def test_directional_pass_reports_detection_limit_and_counts_no_element():
    verdict = judge_projections(GRADIENT)
    assert (verdict.outcome, len(verdict.direction_results), verdict.worst_elements) == (Outcome.PASS, 4, ())
    assert (verdict.element_count, verdict.unexamined_count, set(verdict.outcome_counts.values())) == (35, 35, {0})
    assert verdict.smallest_detectable_error == verdict.detection_limit.relative_l2 < 1e-7
    assert f"an error of {verdict.detection_limit.relative_l2:.1e} of the gradient's norm is missed" in verdict.reason


def test_wrong_element_fails_each_direction_that_shows_it():
    wrong = GRADIENT.copy()
    wrong[2, 3] *= 1 + 1e-4
    verdict = judge_projections(wrong)
    assert verdict.outcome == Outcome.FAIL
    assert verdict.unexamined_count == 35
    assert "directions of the candidate gradient" in verdict.reason
    assert "missed" not in verdict.reason


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_nonfinite_direction_fails(number):
    wrong = GRADIENT.copy()
    wrong[0, 0] = number
    verdict = judge_projections(wrong)
    assert verdict.outcome == Outcome.FAIL
    assert "not a finite number" in verdict.reason
    missing = judge_projections(wrong, bound=np.inf)
    assert missing.outcome == Outcome.INCONCLUSIVE
    assert missing.detection_limit == projection.NormDetectionLimit(np.inf, 1.0)
    assert "no error is sure" in missing.reason


def test_bound_above_the_detection_limit_is_inconclusive():
    size = projection.euclidean_norm(GRADIENT)
    wide = judge_projections(GRADIENT, bound=size * 1e-4, peer_magnitude=size)
    assert wide.outcome == Outcome.INCONCLUSIVE
    assert judge_projections(GRADIENT, bound=size * 1e-6, peer_magnitude=size).outcome == Outcome.PASS


def make_wrong_gradient(relative, seed=3):
    error = np.random.default_rng(seed).normal(size=GRADIENT.shape)
    return GRADIENT + error * (relative * projection.euclidean_norm(GRADIENT) / projection.euclidean_norm(error))


def measure_pass_rate(candidate, count, seeds):
    passed = [judge_projections(candidate, seed, count).outcome == Outcome.PASS for seed in seeds]
    return float(np.mean(passed))


@pytest.mark.no_cover
@pytest.mark.parametrize("count", [1, 2, 4])
def test_miss_probability_is_never_exceeded(count):
    """With 1000 seeds: at the error that a report names, and at smaller ones, whose probabilities can be measured.

    The automatic allowance counts bound and rounding once for what may hide an error and once for what is allowed: here
    the reference is exact, so that an error passes with the probability of half the slack, and never with more than p.
    """
    stated = judge_projections(GRADIENT, 0, count).detection_limit
    assert measure_pass_rate(make_wrong_gradient(stated.relative_l2), count, range(1000)) <= 4e-3
    slack, size = np.full(count, 2 * BOUND), projection.euclidean_norm(GRADIENT)
    for times in (1, 3):
        relative = times * BOUND / size
        measured = measure_pass_rate(make_wrong_gradient(relative), count, range(1000))
        exactly = projection.compute_miss_probability(slack / 2, size, relative)
        deviation = np.sqrt(exactly * (1 - exactly) / 1000)
        assert abs(measured - exactly) < 3.5 * deviation
        assert measured <= projection.compute_miss_probability(slack, size, relative) + 3.5 * deviation
        assert measured < projection.compute_miss_probability(2 * slack, size, relative) - 3.5 * deviation, (
            "a negative control"
        )


def make_difference(left, right, value):
    some = np.zeros(len(value))
    return Difference(np.array(value), some + BOUND, some, 0, some, some, np.array(left), np.array(right))


def test_beside_a_kink_a_convention_of_its_own_is_not_called_wrong():
    smooth = dataclasses.replace(make_difference([0], [0], [0]), left_derivative=None)
    assert directional.find_one_sided_derivatives(smooth) == (None, None, 0.0)
    low, high, beyond = directional.find_one_sided_derivatives(
        make_difference([-3.0, np.nan], [4.0, np.nan], [-5.0, 1.0])
    )
    assert np.array_equal(low, [-3.0, np.nan], equal_nan=True)
    assert np.array_equal(high, [4.0, np.nan], equal_nan=True)
    assert beyond == pytest.approx(90)
    value = np.array([-5.0])
    reference = Reference(
        value, np.array([BOUND]), np.zeros(1), PRECISIONS["FP64"], is_directional=True,
        left_derivative=low[:1], right_derivative=high[:1], kink_slack=beyond,
    )  # fmt: skip
    outcomes = {
        number: directional.judge_directions({"candidate": np.array([number])}, reference, (2,), 5.0).outcome
        for number in (-5.0, 0.0, 4.0, -4.0, 4.1, 90.0, 95.0, -96.0)
    }
    assert [outcome.wire_name for outcome in outcomes.values()] == ["pass"] * 3 + ["inconclusive"] * 3 + ["fail"] * 2
