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

_POLICY_HEADER = "Content-Security-Policy"
_COMMON_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    # A gradient is its client's own affair; what may be kept says so itself.
    ("Cache-Control", "no-store"),
)
ANSWER_HEADERS = (*_COMMON_HEADERS, (_POLICY_HEADER, "default-src 'none'; frame-ancestors 'none'"))
"""Of all that is no page."""
_PAGE_HEADERS = (*_COMMON_HEADERS, (_POLICY_HEADER, PAGE_POLICY))
_NOT_MODIFIED = "304"

StartResponse = Callable[..., Any]


def add_security_headers(start_response: StartResponse) -> StartResponse:
    """Make what begins an answer add them, but for those that the answer has already.

    Behind Flask: to ask its headers for each takes longer than to look through the list that they become.
    """

    def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
        return start_response(status, headers + _find_missing_headers(status, dict(headers)), *rest)

    return start


def _find_missing_headers(status: str, present: dict[str, str]) -> list[tuple[str, str]]:
    return [header for header in _choose_headers(status, present) if header[0] not in present]


def _choose_headers(status: str, present: dict[str, str]) -> tuple[tuple[str, str], ...]:
    if status.startswith(_NOT_MODIFIED):
        # Its headers replace those of the answer that a browser keeps: a policy would be of another kind of answer.
        return _COMMON_HEADERS
    return _PAGE_HEADERS if present.get("Content-Type", "").startswith("text/html") else ANSWER_HEADERS
