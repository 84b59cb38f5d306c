"""Answers as JSON and as text, and those that are held until they are sent."""

from collections.abc import Mapping
from typing import Any, cast

from flask import Response

from schemas.writing import written
from service.http.held import HeldAnswer
from service.rendering import markdown, text

RENDERINGS = {"text/plain": text, "text/markdown": markdown}
"""A report for reading, by media type."""


def vary_by_accept(response: Response) -> Response:
    """Tell caches that the answer depends on what is accepted; for blueprints that have several forms."""
    response.vary.add("Accept")
    return response


def json_answer(document: Mapping[str, Any], status: int = 200) -> Response:
    """Answer with a document that may hold NumPy arrays; it must be free of NaN, which JSON cannot spell."""
    return Response(written(document), status, mimetype="application/json")


def held_answer(body: bytes, media_type: str, held: HeldAnswer) -> Response:
    """Answer with what is held until it has been sent.

    Raises
    ------
    FullError
        If there is no room for it.
    """
    held.settle(len(body))
    response = Response(body, mimetype=media_type)
    response.call_on_close(held.close)
    return response


def report_bytes(report: Mapping[str, Any], form: str) -> bytes:
    """Write a report in a form: JSON, or one for reading."""
    return RENDERINGS[form](cast("Any", report)).encode() if form in RENDERINGS else written(report)
