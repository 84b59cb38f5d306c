"""Headers that tell a browser to make nothing more of an answer than it is."""

from collections.abc import Callable
from typing import Any

PAGE_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""What a page of ours may load: files of ours, nothing inline, nothing from elsewhere; and nothing may frame it."""

_POLICY = "Content-Security-Policy"
_OF_ALL = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    # A gradient is its client's own affair; what may be kept says so itself.
    ("Cache-Control", "no-store"),
)
OF_ANSWER = (*_OF_ALL, (_POLICY, "default-src 'none'; frame-ancestors 'none'"))
"""Of all that is no page."""
_OF_PAGE = (*_OF_ALL, (_POLICY, PAGE_POLICY))
_NOT_MODIFIED = "304"

StartResponse = Callable[..., Any]


def protecting(start_response: StartResponse) -> StartResponse:
    """Make what begins an answer add them, but for those that the answer has already.

    Behind Flask: to ask its headers for each takes longer than to look through the list that they become.
    """

    def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
        return start_response(status, headers + _missing(status, dict(headers)), *rest)

    return start


def _missing(status: str, present: dict[str, str]) -> list[tuple[str, str]]:
    return [header for header in _expected(status, present) if header[0] not in present]


def _expected(status: str, present: dict[str, str]) -> tuple[tuple[str, str], ...]:
    if status.startswith(_NOT_MODIFIED):
        # Its headers replace those of the answer that a browser keeps: a policy would be of another kind of answer.
        return _OF_ALL
    return _OF_PAGE if present.get("Content-Type", "").startswith("text/html") else OF_ANSWER
