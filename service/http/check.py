"""`POST /v1/check`."""

from typing import Any

from flask import Blueprint, Response, current_app, request

from schemas.report import CheckReport
from service.check import Limits, check
from service.checking import language
from service.http.answers import json_answer
from service.http.body import JSON, json_body, negotiate
from service.http.operation import Operation, documented
from service.settings import Settings

blueprint = Blueprint("check", __name__)


def _examples() -> dict[str, Any]:
    return {each["name"]: {"value": each["request"]} for each in language.models()["models"]}


@blueprint.post("/v1/check")
@documented(
    Operation(
        "Check a gradient by three independent routes",
        answer=CheckReport,
        body=language.Request,
        problems=(
            (400, "The body is not JSON."),
            (406, "No media type that is served is accepted."),
            (413, "The body is too large."),
            (415, "The body has another content type or a content encoding."),
            (422, "The body is JSON, but not a valid request."),
        ),
        examples=_examples,
    )
)
def post_check() -> Response:
    """Answer with a report; a failed gradient is a successful check."""
    negotiate(request, JSON)
    settings: Settings = current_app.extensions["gradcheckd"]
    limits = Limits(
        names=settings.max_names,
        nodes=settings.max_nodes,
        elements=settings.max_elements,
        work=settings.max_work,
        seconds=settings.max_seconds,
    )
    return json_answer(check(json_body(request), limits))
