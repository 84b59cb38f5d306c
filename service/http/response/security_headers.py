"""Security headers: a browser may do no more with an answer than read it."""

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
"""Policy of the pages: they load only files of the service, nothing inline, and no other page may frame them."""

_POLICY_HEADER = "Content-Security-Policy"
_COMMON_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    # A gradient belongs to its client; answers that may be cached say so themselves.
    ("Cache-Control", "no-store"),
)
ANSWER_HEADERS = (*_COMMON_HEADERS, (_POLICY_HEADER, "default-src 'none'; frame-ancestors 'none'"))
"""Headers of all answers that are no page."""
_PAGE_HEADERS = (*_COMMON_HEADERS, (_POLICY_HEADER, PAGE_POLICY))
_NOT_MODIFIED = "304"

StartResponse = Callable[..., Any]


def add_security_headers(start_response: StartResponse) -> StartResponse:
    """Wrap `start_response` so that it adds the headers that the answer lacks.

    It works behind Flask: looking through the final list is faster than asking Flask's headers for each.
    """

    def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
        return start_response(status, headers + _find_missing_headers(status, dict(headers)), *rest)

    return start


def _find_missing_headers(status: str, present: dict[str, str]) -> list[tuple[str, str]]:
    return [header for header in _choose_headers(status, present) if header[0] not in present]


def _choose_headers(status: str, present: dict[str, str]) -> tuple[tuple[str, str], ...]:
    if status.startswith(_NOT_MODIFIED):
        # The headers of a 304 replace those of the cached answer, whose kind, and policy, may be another.
        return _COMMON_HEADERS
    return _PAGE_HEADERS if present.get("Content-Type", "").startswith("text/html") else ANSWER_HEADERS
