"""Answers as JSON and as text, and those that are held until they are sent."""

from collections.abc import Mapping
from typing import Any, cast

from flask import Response

from schemas.json_writer import write_json
from service.http.middleware.memory_quota import AnswerReservation
from service.rendering import render_markdown, render_text

RENDERERS = {"text/plain": render_text, "text/markdown": render_markdown}
"""A report for reading, by media type."""


def add_vary_header(response: Response) -> Response:
    """Tell caches that the answer depends on what is accepted; for blueprints that have several forms."""
    response.vary.add("Accept")
    return response


def make_json_response(document: Mapping[str, Any], status: int = 200) -> Response:
    """Answer with a document that may hold NumPy arrays; it must be free of NaN, which JSON cannot spell."""
    return Response(write_json(document), status, mimetype="application/json")


def make_reserved_response(body: bytes, media_type: str, reservation: AnswerReservation) -> Response:
    """Answer with what is held until it has been sent.

    Raises
    ------
    FullError
        If there is no room for it.
    """
    reservation.resize(len(body))
    response = Response(body, mimetype=media_type)
    response.call_on_close(reservation.close)
    return response


def serialize_report(report: Mapping[str, Any], media_type: str) -> bytes:
    """Write a report in a form: JSON, or one for reading."""
    return RENDERERS[media_type](cast("Any", report)).encode() if media_type in RENDERERS else write_json(report)
