"""The one place where the parts of the service are put together."""

from collections.abc import Iterable
from typing import Any

from flask import Flask, Response

from service import logs
from service.http import (
    access,
    arriving,
    blackbox,
    bugs,
    catalogue,
    check,
    cors,
    curve,
    headers,
    health,
    held,
    leaving,
    metrics,
    observed,
    openapi,
    playground,
    problems,
    slots,
    stopping,
)
from service.http.sending import sent
from service.settings import Settings


class _Application(Flask):
    """Flask, but that what an address takes is answered in the header alone, and every answer has headers of ours."""

    def wsgi_app(self, environ: dict[str, Any], start_response: headers.StartResponse) -> Iterable[bytes]:
        """Answer as WSGI has it."""
        settings: Settings = self.extensions["gradcheckd"]
        arriving.note(environ)
        answer = super().wsgi_app(environ, headers.protecting(start_response))
        ends = arriving.last_byte_out(environ, settings.max_seconds)
        return sent(answer, environ, settings.max_unread_seconds, ends)

    def make_default_options_response(self) -> Response:
        """Answer OPTIONS."""
        response = super().make_default_options_response()
        response.status_code = 204
        del response.headers["Content-Type"]
        return response


def create_app(settings: Settings | None = None) -> Flask:
    """Make the WSGI application.

    Parameters
    ----------
    settings
        Taken from the environment if left out.
    """
    app = _Application("gradcheckd", static_folder=None)
    app.url_map.strict_slashes = True
    # A redirect would be a page of HTML, and a POST would lose its body on the way.
    app.url_map.merge_slashes = False
    app.extensions["gradcheckd"] = settings = settings or Settings()
    for part in (check, curve, bugs, blackbox, catalogue, health, metrics, openapi, playground):
        app.register_blueprint(part.blueprint)
    _guard(app, settings)
    return app


def _guard(app: Flask, settings: Settings) -> None:
    """Put around the views what is there for all of them; the first comes first before a view, and last behind it."""
    logs.configure()
    observed.register(app)
    cors.register(app, settings)
    access.register(app, settings)
    stopping.register(app)
    slots.register(app, settings)
    held.register(app, settings)
    problems.register(app)
    leaving.register(app)
