"""Few evaluations first: what the client does with further points, and with services that know none."""

import json
from typing import Any

import numpy as np
import pytest

import gradcheckd
from gradcheckd import RequestError, Service
from tests.client.test_connection import Answer, serve_answers

POINT = np.array([0.5, -1.5, 2.0])
UNKNOWN = "unknown field 'evaluations'"
JSON_HEADERS = {"Content-Type": "application/json"}


def refuse_plan(field: str) -> Answer:
    """Answer as a service does that does not know a field."""
    problem = {
        "type": "t",
        "title": "Invalid request",
        "status": 422,
        "errors": [{"pointer": field, "detail": UNKNOWN}],
    }
    return 422, {"Content-Type": "application/problem+json"}, json.dumps(problem).encode()


@pytest.mark.parametrize(
    ("document", "version"),
    [((200, JSON_HEADERS, b'{"info": {"version": "1"}}'), "interface 1"), ((404, {}, b""), "an unknown version")],
)
def test_an_older_service_is_named_with_both_versions(document: Answer, version: str) -> None:
    answers = [refuse_plan("/plan_request"), refuse_plan("/evaluations"), document]
    with serve_answers(lambda number: answers[number - 1]) as (url, came), Service(url) as service:
        with pytest.raises(RequestError) as caught:
            service.check_function(np.sum, POINT, np.ones(3))
        assert len(came) == 3
    assert str(caught.value) == (
        f"The service ({url}, {version}) is older than this client (gradcheckd {gradcheckd.__version__}): it takes no "
        'few evaluations first. Update the service, or give evaluations="full".'
    )


def test_other_plan_refusals_are_raised_unchanged() -> None:
    answers = [refuse_plan("/plan_request"), refuse_plan("/seed")]
    seed_error = pytest.raises(gradcheckd.ProblemError, match="/seed")
    with serve_answers(lambda number: answers[number - 1]) as (url, _), seed_error:
        gradcheckd.check_function(np.sum, POINT, np.ones(3), url=url)


def test_an_older_service_takes_full_evaluations(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points for it are made without the field."""
    sent: list[bytes] = []
    post = service.connection.post

    def keep(path: str, body: Any, accept: str) -> bytes:
        sent.append(body.content)
        return post(path, body, accept)

    monkeypatch.setattr(service.connection, "post", keep)
    assert service.check_function(np.sum, POINT, np.ones(3), evaluations="full").passed
    assert service.check_function(np.sum, POINT.astype(np.float32), np.ones(3, np.float32)).passed
    assert len(sent) == 2
    assert not any(b"few" in content or b"evaluations" in content for content in sent)


def test_exceptions_at_further_points_have_the_numbers_of_the_values(service: Service) -> None:
    calls: list[int] = []

    def raise_at_two_calls(w: Any) -> float:
        calls.append(len(calls))
        if calls[-1] in (20, 40):
            raise ArithmeticError(f"call {calls[-1]}")
        return float(np.sin(w).sum())

    report = service.check_function(raise_at_two_calls, POINT, 1.001 * np.cos(POINT))
    assert (report.outcome, report.evaluations) == ("fail", 75)
    # The call at the base, before the plan, is that of point 0.
    assert [(number, str(error)) for number, error in report.exceptions] == [(20, "call 20"), (40, "call 40")]
    assert report.verdicts["x"].without_value == 2


def test_outputs_of_another_datatype_at_further_points_are_joined(service: Service) -> None:
    calls: list[int] = []

    def narrow_further_outputs(w: Any) -> Any:
        calls.append(0)
        values = 2.0 * np.round(w, 3)
        return values if len(calls) <= 23 else values.astype(np.float32)

    report = service.check_function(narrow_further_outputs, np.ones(2), vjp=lambda _, cotangents: 3 * cotangents)
    assert (report.evaluations, report.passed) == (75, False)


def test_a_kink_beside_the_point_takes_a_further_round_of_few_evaluations(service: Service) -> None:
    point = np.array([1.0, 1.0])

    def compute_kinked_loss(w: Any) -> float:
        return float(np.abs(w - 0.9999).sum())

    for gradient, outcome in ((np.ones(2), "pass"), (np.array([1.0, -1.0]), "fail")):
        few, full = (
            service.check_function(
                compute_kinked_loss, point, gradient, directions="coordinates", evaluations=evaluations
            )
            for evaluations in ("few", "full")
        )
        assert (few.outcome, full.outcome) == (outcome, outcome)
        assert few.evaluations <= full.evaluations
    assert (
        service.check_function(
            compute_kinked_loss, point, np.ones(2), directions="coordinates", evaluations="few"
        ).rounds
        > 1
    )
