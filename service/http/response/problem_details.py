"""Errors as `application/problem+json` (RFC 9457), without internals."""

import logging
import uuid
from http import HTTPStatus

import orjson
from flask import Flask, Response
from werkzeug.exceptions import BadHost, HTTPException, NotFound

from schemas.problem_details import MEDIA_TYPE, InvalidRequestError, ProblemDetails, make_problem
from service.http.middleware.request_log import get_current_record

_log = logging.getLogger("gradcheckd")


def make_problem_response(document: ProblemDetails) -> Response:
    """Answer with a problem document."""
    return Response(orjson.dumps(document), document["status"], mimetype=MEDIA_TYPE)


def to_problem_details(error: Exception) -> ProblemDetails:
    """Make the problem document of an error of this request; log an unexpected one."""
    get_current_record().refusal_reason = _find_reason(error)
    return describe_problem(error)


def describe_problem(error: Exception) -> ProblemDetails:
    """Make the problem document of an error, outside of a request, too; log an unexpected one."""
    if isinstance(error, InvalidRequestError):
        return _invalid_request_to_problem(error)
    if isinstance(error, HTTPException):
        status = error.code or 500
        return make_problem(status, HTTPStatus(status).phrase, _describe_http_error(error))
    return log_unexpected_error(error)


def log_unexpected_error(error: Exception) -> ProblemDetails:
    """Make the document of an unexpected error; log it under the same number."""
    number = uuid.uuid4().hex
    _log.error("unexpected error %s", number, exc_info=error)
    detail = f"The service failed unexpectedly. Its log has the error under {number}."
    return make_problem(500, "Internal Server Error", detail)


def _find_reason(error: Exception) -> str:
    """Find the reason of an error for the log and the metrics, in one word."""
    status = error.code or 500 if isinstance(error, HTTPException) else 500
    return getattr(error, "reason", status_to_reason(HTTPStatus(status)))


def status_to_reason(status: HTTPStatus) -> str:
    """Turn a status into a reason."""
    return status.name.lower().replace("_", "-")


def _invalid_request_to_problem(error: InvalidRequestError) -> ProblemDetails:
    first = error.errors[0]
    location_prefix = f"{first['pointer']}: " if first["pointer"] else ""
    detail = location_prefix + first["detail"]
    if len(error.errors) > 1:
        detail = f"{len(error.errors)} places of the request are wrong; the first: {detail}"
    return make_problem(422, "Invalid request", detail, error.errors)


def _answer_error(error: Exception) -> Response:
    response = make_problem_response(to_problem_details(error))
    for name, value in error.get_headers() if isinstance(error, HTTPException) else ():
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value
    return response


def _describe_http_error(error: HTTPException) -> str:
    allowed = getattr(error, "valid_methods", None)
    if allowed:
        return f"This address takes {', '.join(sorted(allowed))}."
    if isinstance(error, NotFound) and error.description == NotFound.description:
        return "There is nothing at this address. GET /openapi.json lists all addresses."
    if isinstance(error, BadHost):
        return "The header Host does not name a host."
    return error.description or ""


def register(app: Flask, *, answers_unexpected: bool = True) -> None:
    """Answer every error of the application with a problem document.

    With `answers_unexpected=False` an unexpected error is raised: in the process of another program no log would have
    it, and it may be that of a signal handler there.
    """
    app.register_error_handler(HTTPException, _answer_error)
    app.register_error_handler(InvalidRequestError, _answer_error)
    if answers_unexpected:
        app.register_error_handler(Exception, _answer_error)
    else:
        app.config["PROPAGATE_EXCEPTIONS"] = True
