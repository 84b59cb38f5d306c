"""Fields of a judgement that belong to its plan."""

import pytest

from schemas.problem_details import InvalidRequestError
from service.checks.blackbox.judge import judge_losses
from tests.service.checks.blackbox.output_requests import make_output_request
from tests.service.checks.blackbox.plan_requests import make_judge_request

OUTPUTS, LOSS = make_output_request("random", "vjp"), make_judge_request()


def find_errors(body):
    with pytest.raises(InvalidRequestError) as error:
        judge_losses(body)
    return {entry["pointer"]: entry["detail"] for entry in error.value.errors}


def drop(body, *names):
    return {name: value for name, value in body.items() if name not in names}


WRONG = {
    "losses of outputs": (OUTPUTS | {"losses": [1.0]}, "/losses", "this one has outputs: give values"),
    "a candidate of outputs": (OUTPUTS | {"candidate": {"w": 1.0}}, "/candidate", "this one has outputs"),
    "no values": (drop(OUTPUTS, "values"), "/values", "is missing: the plan has outputs"),
    "no product": (drop(OUTPUTS, "vjp"), "/vjp", "is missing: give vjp, jvp or jacobian, or have `include"),
    "no outputs": (OUTPUTS | {"vjp": {}}, "/vjp", "at least 1"),
    "values of a loss": (LOSS | {"values": {"y": [1.0]}}, "/values", "this one is of a loss"),
    "products of a loss": (LOSS | {"vjp": {"y": {"w1": 1.0}}}, "/vjp", "this one is of a loss"),
    "no losses": (drop(LOSS, "losses"), "/losses", "is missing: the plan is of a loss"),
    "no candidate": (drop(LOSS, "candidate"), "/candidate", "is missing: give your gradient, or have `include"),
    "derivatives of random directions": (LOSS | {"include": ["derivatives"]}, "/include", "coordinates"),
    "an unknown part": (LOSS | {"include": ["gradients"]}, "/include/0", "must be 'derivatives'"),
}


@pytest.mark.parametrize(("body", "place", "words"), WRONG.values(), ids=WRONG)
def test_fields_of_another_plan_are_refused(body, place, words):
    assert words in find_errors(body)[place]


def test_a_plan_alone_tells_all_that_is_missing():
    assert set(find_errors({"plan": OUTPUTS["plan"]})) == {"/values", "/vjp"}
    assert set(find_errors({"plan": LOSS["plan"]})) == {"/losses", "/candidate"}
