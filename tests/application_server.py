"""The application on a port of its own, for clients in other languages."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask
from werkzeug.serving import make_server

from service.app import create_app
from service.settings import Settings


@contextmanager
def serve_application(settings: Settings | None = None) -> Iterator[str]:
    """Serve; the address."""
    with run_application(settings) as (url, _):
        yield url


@contextmanager
def run_application(settings: Settings | None = None) -> Iterator[tuple[str, Flask]]:
    """Serve; the address and the application."""
    app = create_app(settings)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}", app
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
