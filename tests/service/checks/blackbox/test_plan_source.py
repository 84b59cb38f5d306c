"""Judgements of points that a client makes itself: the request for a plan in place of the plan, and a digest."""

import copy
import hashlib
import json
from typing import Any

import numpy as np
import pytest

from schemas.plan import FurtherPoints, JudgeReport
from schemas.problem_details import InvalidRequestError
from service.checks.blackbox.judge import judge_losses
from service.checks.blackbox.plan import PlanResult, plan_evaluations
from service.checks.blackbox.plan_source import compute_digest
from service.checks.common.limits import Limits
from tests.service.checks.blackbox.output_requests import (
    EXAMPLE_OUTPUTS,
    EXAMPLE_POINT,
    compute_jvp,
    compute_vjp,
    evaluate_plan,
    to_wire,
)
from tests.service.checks.blackbox.plan_requests import (
    compute_gradient,
    compute_loss,
    decode_whole_plan,
    make_plan_request,
)

WRONG_DIGEST = "0" * 64
POINT = {"w1": [[0.1, -0.1], [0.2, 0.001]], "b": [0.5, -0.25]}


def hash_points(points: list[dict[str, Any]], cotangents: list[Any] | None = None) -> str:
    """The digest in the words of the interface: number by number."""
    hashed = hashlib.sha256()
    for array in [*(tensor for point in points for tensor in point.values()), *(cotangents or [])]:
        for number in np.asarray(array, np.float64).ravel().tolist():
            hashed.update(np.array(number if number else 0.0, "<f8").tobytes())
    return hashed.hexdigest()


def make_request(request: dict[str, Any]) -> tuple[dict[str, Any], PlanResult]:
    """A request for a judgement that passes with plan_request, and the plan."""
    result = plan_evaluations(request)
    points = result.answer["points"]
    fields = {"plan_request": request, "digest": hash_points(points)}
    return to_wire(fields | {"losses": list(map(compute_loss, points)), "candidate": compute_gradient()}), result


BODY, RESULT = make_request(make_plan_request(point=POINT))


def to_text(report: JudgeReport | FurtherPoints) -> str:
    return json.dumps(to_wire(report))


def judge_by_plan(body: dict[str, Any], result: PlanResult) -> JudgeReport | FurtherPoints:
    rest = {name: value for name, value in body.items() if name not in ("plan_request", "digest")}
    return judge_losses(to_wire(rest | {"plan": dict(result.plan)}))


@pytest.mark.parametrize("kind", ["random", "coordinates"])
@pytest.mark.parametrize("evaluations", ["full", "few"])
@pytest.mark.parametrize("moves", [{}, {"scale": {"w1": 0.3, "b": [1.0, 0.2]}}, {"bounds": {"b": {"min": [0.5, -1]}}}])
def test_a_request_gets_the_report_of_its_plan(kind: str, evaluations: str, moves: dict[str, Any]) -> None:
    body, result = make_request(make_plan_request(kind, point=POINT, evaluations=evaluations, **moves))
    report = judge_losses(body)
    assert to_text(report) == to_text(judge_by_plan(body, result))
    assert report["outcome"] in ("pass", "more" if "bounds" in moves else "pass")
    wrong = body | {"candidate": body["candidate"] | {"b": [0.8, 0.2]}}
    assert judge_losses(wrong)["outcome"] == ("more" if evaluations == "few" else "fail")
    assert to_text(judge_losses(wrong)) == to_text(judge_by_plan(wrong, result))


@pytest.mark.parametrize("has_own_cotangents", [False, True])
def test_a_request_with_outputs_gets_the_report_of_its_plan(has_own_cotangents: bool) -> None:
    request: dict[str, Any] = {"point": EXAMPLE_POINT, "outputs": EXAMPLE_OUTPUTS, "seed": 5, "evaluations": "few"}
    if has_own_cotangents:
        del request["outputs"]
        request["cotangents"] = {"y": [[1, 2, 3], [4, 5, 6]], "total": -1.0}
    result = plan_evaluations(request)
    cotangents = [tensor.array for tensor in result.cotangents.values()]
    products = {"values": evaluate_plan(result), "vjp": compute_vjp(result), "jvp": compute_jvp(result)}
    fields = {"plan_request": request, "digest": hash_points(result.answer["points"], cotangents)}
    body = to_wire(fields | products)
    report = judge_losses(body)
    assert report["outcome"] == "pass"
    assert to_text(report) == to_text(judge_by_plan(body, result))
    without_cotangents = hash_points(result.answer["points"])
    assert find_pointers(body | {"digest": without_cotangents}) == ["/digest"]


def test_further_points_may_come_with_the_plan_or_with_the_request() -> None:
    body, result = make_request(make_plan_request(point=POINT, evaluations="few"))
    wrong = body | {"candidate": body["candidate"] | {"b": [0.8, 0.2]}}
    more = judge_losses(wrong)
    assert more["plan"] == dict(result.plan)
    points = result.answer["points"] + more["points"]
    both = to_wire(wrong | {"losses": list(map(compute_loss, points))})
    assert find_pointers(both) == ["/digest"], "that of the first look is another one"
    report = judge_losses(both | {"digest": hash_points(points)})
    assert report["outcome"] == "fail"
    assert to_text(report) == to_text(judge_by_plan(both, result))


def find_pointers(body: dict[str, Any], limits: Limits | None = None) -> list[str]:
    with pytest.raises(InvalidRequestError) as error:
        judge_losses(body, limits)
    return [each["pointer"] for each in error.value.errors]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "both": ({"plan": to_wire(dict(RESULT.plan))}, "/plan_request"),
    "neither": ({"plan_request": None}, "/plan"),
    "no digest": ({"digest": None}, "/digest"),
    "another digest": ({"digest": WRONG_DIGEST}, "/digest"),
    "a short digest": ({"digest": "00"}, "/digest"),
    "a digest in capitals": ({"digest": BODY["digest"].upper()}, "/digest"),
    "another seed": ({"plan_request": BODY["plan_request"] | {"seed": 4}}, "/digest"),
    "another point": ({"plan_request": BODY["plan_request"] | {"point": POINT | {"b": [0.5, 0.25]}}}, "/digest"),
    "another order": (
        {"plan_request": BODY["plan_request"] | {"point": {name: POINT[name] for name in ("b", "w1")}}},
        "/digest",
    ),
    "an unknown field": ({"plan_request": BODY["plan_request"] | {"sed": 4}}, "/plan_request/sed"),
    "a scale of nothing": ({"plan_request": BODY["plan_request"] | {"scale": {"c": 1.0}}}, "/plan_request/scale/c"),
    "a small scale": ({"plan_request": BODY["plan_request"] | {"scale": {"b": 1e-15}}}, "/plan_request/scale/b"),
    "outputs twice": (
        {"plan_request": BODY["plan_request"] | {"outputs": {"y": []}, "cotangents": {"y": 1.0}}},
        "/plan_request/cotangents",
    ),
    "a cotangent of 0": (
        {"plan_request": BODY["plan_request"] | {"cotangents": {"y": 0.0}}},
        "/plan_request/cotangents/y",
    ),
    "no losses": ({"losses": None}, "/losses"),
}


@pytest.mark.parametrize(("fields", "pointer"), REFUSED.values(), ids=REFUSED)
def test_other_requests_are_refused_at_their_place(fields: dict[str, Any], pointer: str) -> None:
    body = copy.deepcopy(BODY) | fields
    assert find_pointers({name: value for name, value in body.items() if value is not None}) == [pointer]


def test_the_error_of_a_digest_says_what_to_do() -> None:
    with pytest.raises(InvalidRequestError, match="POST /v1/plan for the same request") as error:
        judge_losses(BODY | {"digest": WRONG_DIGEST})
    assert f"is not that of the {RESULT.evaluations} points" in error.value.errors[0]["detail"]


def test_a_digest_beside_a_plan_is_compared_too() -> None:
    body = BODY | {"plan": to_wire(dict(RESULT.plan))}
    del body["plan_request"]
    assert judge_losses(body)["outcome"] == "pass"
    assert find_pointers(body | {"digest": WRONG_DIGEST}) == ["/digest"]


def test_the_limits_hold_for_a_request() -> None:
    assert find_pointers(BODY, Limits(elements=10)) == ["/plan_request/directions/count"]
    assert "/plan_request/point" in find_pointers(BODY, Limits(names=1))


def test_a_negative_zero_has_the_digest_of_zero() -> None:
    digests = {
        compute_digest(*decode_whole_plan(plan_evaluations(make_plan_request("coordinates", point={"w": [zero, 1.0]}))))
        for zero in (0.0, -0.0)
    }
    assert len(digests) == 1
