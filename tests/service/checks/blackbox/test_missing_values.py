"""Reasons that tell of points without a value."""

import numpy as np
import pytest

from schemas.plan import Plan
from service.checks.blackbox.missing_values import count_missing_values, explain_missing_base, mark_incomplete_points
from service.checks.blackbox.plan_codec import decode_plan
from service.checks.common.limits import Limits
from service.numerics.verdict.gradient_verdict import GradientVerdict
from service.numerics.verdict.outcome import Outcome
from tests.service.checks.blackbox.output_requests import plan_outputs, to_wire

RESULT = plan_outputs()
LAYOUT = decode_plan(Plan.model_validate(to_wire(dict(RESULT.plan))), Limits(), 1).layout
COUNT = RESULT.evaluations


def make_verdict(outcome=Outcome.INCONCLUSIVE):
    return GradientVerdict(outcome, "Not known.", 1, {}, np.inf, ())


def make_values(*missing):
    values = np.zeros(COUNT)
    values[[*missing]] = np.nan
    return values


def test_points_of_other_tensors_do_not_count():
    first = LAYOUT.get_first_evaluation("b")
    values = make_values(first, first + 1)
    assert count_missing_values(LAYOUT, ["b"], values).missing_count == 2
    assert count_missing_values(LAYOUT, ["w"], values).missing_count == 0
    assert count_missing_values(LAYOUT, ["w", "b"], values).missing_count == 2
    reason = count_missing_values(LAYOUT, ["b"], values, "The output y").explain(make_verdict()).reason
    assert reason.startswith("Not known. The output y has no value at 2 of the 56 points")


def test_missing_near_points_are_reported():
    reason = count_missing_values(LAYOUT, ["b"], make_values(*range(3, COUNT))).explain(make_verdict()).reason
    assert "at most of the points next to the base" in reason


@pytest.mark.parametrize("outcome", [Outcome.PASS, Outcome.FAIL])
def test_other_outcomes_keep_their_reason(outcome):
    verdict = make_verdict(outcome)
    assert count_missing_values(LAYOUT, ["b"], make_values(COUNT - 1)).explain(verdict) is verdict
    assert explain_missing_base(verdict, "y", np.full((COUNT, 2), np.nan)) is verdict


def test_a_whole_set_of_values_adds_nothing():
    verdict = make_verdict()
    assert count_missing_values(LAYOUT, ["b"], make_values()).explain(verdict) is verdict
    assert explain_missing_base(verdict, "y", np.zeros((COUNT, 2))).reason == "Not known."


def test_an_element_without_a_base_takes_no_point_from_the_others():
    values = np.zeros((COUNT, 2, 2))
    values[:, 1, 0] = np.nan
    values[40, 0, 0] = np.inf
    assert np.flatnonzero(np.isnan(mark_incomplete_points(values))).tolist() == [40]


def test_elements_without_a_base_are_named():
    values = np.zeros((COUNT, 2, 2))
    values[1, 1, 0] = values[0, 1, 1] = np.nan
    assert (
        "no finite value of 2 of 4 elements, the first y[1][0], and"
        in explain_missing_base(make_verdict(), "y", values).reason
    )
    assert (
        "no finite value of total, and" in explain_missing_base(make_verdict(), "total", np.full(COUNT, np.inf)).reason
    )
