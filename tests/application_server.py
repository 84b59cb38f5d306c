"""The application on a port of its own, for clients in other languages."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from werkzeug.serving import make_server

from service.app import create_app
from service.settings import Settings


@contextmanager
def serve_application(settings: Settings | None = None) -> Iterator[str]:
    """Serve; the address."""
    server = make_server("127.0.0.1", 0, create_app(settings), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
