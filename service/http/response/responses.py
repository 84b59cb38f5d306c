"""Responses in JSON and in text, and large ones whose bytes are reserved."""

from collections.abc import Mapping
from typing import Any

from flask import Response

from schemas.json_writer import write_json
from service.http.middleware.memory_quota import AnswerReservation
from service.rendering import render_markdown, render_text

RENDERERS = {"text/plain": render_text, "text/markdown": render_markdown}
"""Renderers of reports for reading, by media type."""


def add_vary_header(response: Response) -> Response:
    """Tell caches that the answer depends on Accept, for routes with several forms."""
    response.vary.add("Accept")
    return response


def make_json_response(document: Mapping[str, Any], status: int = 200) -> Response:
    """Answer with a document that may hold NumPy arrays, but no NaN.

    JSON cannot spell NaN.
    """
    return Response(write_json(document), status, mimetype="application/json")


def make_reserved_response(body: bytes, media_type: str, reservation: AnswerReservation) -> Response:
    """Answer with a body whose bytes are reserved until it has been sent.

    Raises
    ------
    CapacityError
        If there is no room for it.
    """
    reservation.resize(len(body))
    response = Response(body, mimetype=media_type)
    response.call_on_close(reservation.close)
    return response
