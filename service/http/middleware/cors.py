"""Cross-origin requests.

A page may read answers only if a setting allows its origin.
"""

import re
from functools import partial

from flask import Flask, Request, Response, request

from service.settings import PREFIX, Settings

_ORIGIN_PATTERN = re.compile(r"\*|https?://[a-z0-9.-]+(:\d+)?|https?://\[[0-9a-f:]+\](:\d+)?")
_ALLOWED_REQUEST_HEADERS = "Authorization, Content-Type, X-Request-ID"
_EXPOSED_HEADERS = "Gradcheckd-Note, Retry-After, Server-Timing, WWW-Authenticate, X-Request-ID"


def register(app: Flask, settings: Settings) -> None:
    """Allow the origins of the setting, if there are any."""
    origins = parse_origins(settings)
    if origins:
        app.after_request(partial(_add_cors_headers, origins))


def parse_origins(settings: Settings) -> frozenset[str]:
    """Parse the origins of the setting.

    Raises
    ------
    ValueError
        If a text is not an origin as browsers send it.
    """
    origins = frozenset(text.strip() for text in settings.allowed_origins.split(",") if text.strip())
    for origin in origins:
        if not _ORIGIN_PATTERN.fullmatch(origin):
            raise ValueError(
                f"{PREFIX}ALLOWED_ORIGINS: {origin!r} is not an origin, such as https://example.org:8443, or *"
            )
    return origins


def is_preflight(incoming: Request) -> bool:
    """Tell whether a request is a browser's preflight, which bears no key."""
    return (
        incoming.method == "OPTIONS"
        and "Origin" in incoming.headers
        and "Access-Control-Request-Method" in incoming.headers
    )


def _add_cors_headers(origins: frozenset[str], response: Response) -> Response:
    origin = request.headers.get("Origin", "")
    response.vary.add("Origin")
    if origin not in origins and not (origin and "*" in origins):
        return response
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Expose-Headers"] = _EXPOSED_HEADERS
    if is_preflight(request):
        response.headers["Access-Control-Allow-Methods"] = response.headers.get("Allow", "")
        response.headers["Access-Control-Allow-Headers"] = _ALLOWED_REQUEST_HEADERS
        response.headers["Access-Control-Max-Age"] = "600"
    return response
