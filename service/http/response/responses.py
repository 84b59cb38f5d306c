"""Responses in JSON and in text, and large ones whose bytes are reserved."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from flask import Response
from werkzeug.http import parse_options_header

from schemas.json_writer import write_json
from service.http.middleware.memory_quota import AnswerReservation
from service.rendering import render_markdown, render_text
from service.rendering.document import SectionBuilder

TEXT, MARKDOWN = "text/plain", "text/markdown"
RENDERERS: Mapping[str, Callable[..., str]] = {TEXT: render_text, MARKDOWN: render_markdown}
"""Renderers of reports for reading, by media type."""


@dataclass
class ReportRenderer:
    """A form in which a report is written for reading.

    Attributes
    ----------
    media_type
        One of `RENDERERS`.
    build_sections
        Function that builds the sections of the report.
    columns
        Width of a line of text; None for the default.
    has_details
        True to include all pairs of gradients and the gradients themselves.
    """

    media_type: str
    build_sections: SectionBuilder[Any]
    columns: int | None = None
    has_details: bool = False

    @classmethod
    def from_media_type(cls, value: str, build_sections: SectionBuilder[Any]) -> "ReportRenderer | None":
        """Read a media type with the parameters `columns` and `detail`, as in `text/plain; columns=80; detail=full`.

        None where it is none in which a report is written.
        """
        media_type, parameters = parse_options_header(value)
        media_type = media_type.lower()
        if media_type not in RENDERERS:
            return None
        columns = parameters.get("columns", "")
        width = int(columns) if columns.isascii() and columns.isdigit() and len(columns) < _MAX_WIDTH_DIGITS else None
        return cls(media_type, build_sections, width, parameters.get("detail") == "full")

    def add_included_details(self, request: object) -> None:
        """Write the gradients themselves where a request asks for them, and not by default."""
        self.has_details |= asks_for_details(request)

    def __call__(self, report: Mapping[str, Any]) -> str:
        """Write a report."""
        width = {"columns": self.columns} if self.media_type == TEXT and self.columns is not None else {}
        write = RENDERERS[self.media_type]
        return write(report, has_details=self.has_details, build_sections=self.build_sections, **width)


def asks_for_details(request: object) -> bool:
    """Tell whether a request, as parsed from JSON, asks for the gradients themselves."""
    include: object = cast("dict[str, object]", request).get("include") if isinstance(request, dict) else None
    return isinstance(include, list) and "gradients" in include


_MAX_WIDTH_DIGITS = 6


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
