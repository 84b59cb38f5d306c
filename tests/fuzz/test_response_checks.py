"""What is held of answers can fail."""

from typing import Any

import pytest
from flask import Flask, Response

from tests.fuzz.response_checks import CountingApplication, check_response

NOT_FOUND = {"type": "about:blank", "title": "Not Found", "status": 404, "detail": "Not here."}
OTHERWISE: list[tuple[str, Any, int, str]] = [
    ("/v1/ops", "{}", 500, "application/json"),
    ("/v1/ops", "{}", 202, "application/json"),
    ("/v1/ops", "<p>", 200, "text/html"),
    ("/nowhere", "<p>", 404, "text/html"),
    ("/nowhere", NOT_FOUND, 403, "application/problem+json"),
    ("/nowhere", NOT_FOUND | {"detail": ""}, 404, "application/problem+json"),
    ("/nowhere", NOT_FOUND | {"status": 400}, 404, "application/problem+json"),
    ("/nowhere", NOT_FOUND | {"detail": "Traceback (most recent call last)"}, 404, "application/problem+json"),
]


def make_answering_app(path: str, body: Any, status: int, form: str) -> Flask:
    app = Flask("planted")
    encoded = body if isinstance(body, str) else app.json.dumps(body)
    app.add_url_rule(path, view_func=lambda: Response(encoded, status, mimetype=form))
    return app


def test_own_answers_pass_the_response_checks(counting_application: CountingApplication) -> None:
    for path in ("/v1/ops", "/nowhere", "/v1/check"):
        check_response(counting_application.document, counting_application.app.test_client().get(path))


def test_unaltered_problem_passes_the_check(counting_application: CountingApplication) -> None:
    response = make_answering_app("/nowhere", NOT_FOUND, 404, "application/problem+json").test_client().get("/nowhere")
    check_response(counting_application.document, response)


@pytest.mark.parametrize(("path", "body", "status", "form"), OTHERWISE)
def test_undescribed_answer_is_found(
    counting_application: CountingApplication, path: str, body: Any, status: int, form: str
) -> None:
    response = make_answering_app(path, body, status, form).test_client().get(path)
    with pytest.raises((AssertionError, KeyError)):
        check_response(counting_application.document, response)
