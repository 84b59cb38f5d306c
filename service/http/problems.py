"""Every error as `application/problem+json` (RFC 9457); nothing of the inside leaks out."""

import logging
import uuid
from http import HTTPStatus

import orjson
from flask import Flask, Response
from werkzeug.exceptions import HTTPException, NotFound

from schemas.problem import MEDIA_TYPE, InvalidRequestError, Problem, problem
from service.http.observed import observed

_log = logging.getLogger("gradcheckd")


def answer(document: Problem) -> Response:
    """Answer with a problem document."""
    return Response(orjson.dumps(document), document["status"], mimetype=MEDIA_TYPE)


def _invalid(error: InvalidRequestError) -> Response:
    observed().reason = error.reason
    first = error.errors[0]
    place = f"{first['pointer']}: " if first["pointer"] else ""
    detail = place + first["detail"]
    if len(error.errors) > 1:
        detail = f"{len(error.errors)} places of the request are wrong; the first: {detail}"
    return answer(problem(422, "Invalid request", detail, error.errors))


def _http(error: HTTPException) -> Response:
    status = error.code or 500
    observed().reason = getattr(error, "reason", HTTPStatus(status).name.lower().replace("_", "-"))
    response = answer(problem(status, HTTPStatus(status).phrase, _described(error)))
    for name, value in error.get_headers():
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value
    return response


def _described(error: HTTPException) -> str:
    allowed = getattr(error, "valid_methods", None)
    if allowed:
        return f"This address takes {', '.join(sorted(allowed))}."
    if isinstance(error, NotFound):
        return "There is nothing at this address; GET /openapi.json lists what there is."
    return error.description or ""


def _unexpected(error: Exception) -> Response:
    number = uuid.uuid4().hex
    observed().reason = "internal-server-error"
    _log.error("unexpected error %s", number, exc_info=error)
    detail = f"Something went wrong here. It is in the log of the service under {number}."
    return answer(problem(500, "Internal Server Error", detail))


def register(app: Flask) -> None:
    """Answer every error of the application so."""
    app.register_error_handler(InvalidRequestError, _invalid)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _unexpected)
