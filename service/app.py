"""The application: the one place that joins the parts of the service."""

from collections.abc import Iterable
from typing import Any

from flask import Flask, Response

from service.checks.common.check_kind import CheckKind
from service.checks.kinds import CHECK_KINDS
from service.http import arrival, metrics
from service.http.middleware import (
    auth,
    concurrency,
    cors,
    disconnect,
    job_access,
    memory_quota,
    request_log,
    shutdown,
)
from service.http.response import problem_details, security_headers
from service.http.response.send_deadline import enforce_send_deadline
from service.http.routes import catalogue, checks, health, importing, jobs, openapi, pages
from service.settings import Settings


class _Application(Flask):
    """A Flask application with security headers, deadlines for sending, and bare answers to OPTIONS."""

    def wsgi_app(self, environ: dict[str, Any], start_response: security_headers.StartResponse) -> Iterable[bytes]:
        """Answer a request of the server by the protocol of WSGI."""
        settings: Settings = self.extensions["gradcheckd"]
        arrival.record_arrival(environ)
        answer = super().wsgi_app(environ, security_headers.add_security_headers(start_response))
        ends = arrival.compute_answer_deadline(environ, settings.max_seconds)
        return enforce_send_deadline(answer, environ, settings.send_timeout_seconds, ends)

    def make_default_options_response(self) -> Response:
        """Answer OPTIONS with the header `Allow` alone."""
        response = super().make_default_options_response()
        response.status_code = 204
        del response.headers["Content-Type"]
        return response


def create_app(
    settings: Settings | None = None, kinds: Iterable[CheckKind[Any]] = CHECK_KINDS, *, keeps_records: bool = True
) -> Flask:
    """Make the WSGI application.

    Parameters
    ----------
    settings
        Settings of the service; those of the environment by default.
    kinds
        Kinds of check, each of which gets a route; all that the service has by default.
    keeps_records
        False to write no log and to count nothing, in the process of another program.
    """
    app = _Application("gradcheckd", static_folder=None)
    app.url_map.strict_slashes = True
    # A redirect would be a page of HTML, and a POST would lose its body.
    app.url_map.merge_slashes = False
    app.extensions["gradcheckd"] = settings = settings or Settings()
    for kind in kinds:
        app.register_blueprint(checks.build_blueprint(kind))
    for part in (catalogue, health, importing, jobs, metrics, openapi, pages):
        app.register_blueprint(part.blueprint)
    _register_middleware(app, settings, keeps_records=keeps_records)
    return app


def _register_middleware(app: Flask, settings: Settings, *, keeps_records: bool) -> None:
    """Register the middleware of all routes: the first acts first before a view, and last after it."""
    if keeps_records:
        # The process of another program needs neither this module nor structlog.
        from service import logs

        logs.configure_logging()
    request_log.register(app, keeps_records=keeps_records)
    cors.register(app, settings)
    auth.register(app, settings)
    shutdown.register(app)
    concurrency.register(app, settings, is_measured=keeps_records)
    memory_quota.register(app, settings, is_measured=keeps_records)
    problem_details.register(app, answers_unexpected=keeps_records)
    disconnect.register(app)
    if keeps_records:
        job_access.register(app, settings)
