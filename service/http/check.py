"""`POST /v1/check`."""

from typing import Any

from flask import Blueprint, Response, request

from schemas.report import CheckReport
from service.check import check
from service.checking import language
from service.http.answers import json_answer, text_answer
from service.http.body import JSON, json_body, negotiate
from service.http.limits import limits
from service.http.observed import observed
from service.http.operation import PROBLEMS_OF_WORK, Operation, documented
from service.http.slots import admitted
from service.rendering import markdown, text

blueprint = Blueprint("check", __name__)

_RENDERINGS = {"text/plain": text, "text/markdown": markdown}


@blueprint.after_request
def vary(response: Response) -> Response:
    """Tell caches what the answer depends on."""
    response.vary.add("Accept")
    return response


def _examples() -> dict[str, Any]:
    return {each["name"]: {"value": each["request"]} for each in language.models()["models"]}


@blueprint.post("/v1/check")
@documented(
    Operation(
        "Check a gradient by three independent routes",
        answer=CheckReport,
        body=language.Request,
        problems=PROBLEMS_OF_WORK,
        examples=_examples,
        renderings=_RENDERINGS,
    )
)
def post_check() -> Response:
    """Answer with a report; a failed gradient is a successful check."""
    form = negotiate(request, JSON, *_RENDERINGS)
    body = json_body(request)
    with admitted():
        report = check(body, limits())
    observed().checked(report)
    return json_answer(report) if form == JSON else text_answer(_RENDERINGS[form](report), form)
