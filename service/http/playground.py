"""`GET /`: the page, and the files that it is made of."""

from mimetypes import guess_type
from pathlib import Path

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from service.http.operation import Operation, documented

blueprint = Blueprint("playground", __name__)

_PLACE = Path(__file__).parents[1] / "page"
_FILES = {path.relative_to(_PLACE).as_posix(): path.read_bytes() for path in _PLACE.rglob("*") if path.is_file()}
"""Every file, read once: no path of a request is ever looked up on the disk."""


@blueprint.get("/")
@documented(Operation("The page on which to see a check", answer=str, media_type="text/html", open=True))
def get_page() -> Response:
    """Answer with the page."""
    return _file("index.html")


@blueprint.get("/docs")
@documented(Operation("This description, for reading", answer=str, media_type="text/html", open=True))
def get_docs() -> Response:
    """Answer with the page that reads `/openapi.json`."""
    return _file("docs.html")


@blueprint.get("/page/<path:name>")
@documented(Operation("A file of the pages", answer=bytes, media_type="*/*", open=True, listed=False))
def get_file(name: str) -> Response:
    """Answer with a file of the page; open, as the page is."""
    if name not in _FILES:
        raise NotFound
    return _file(name)


def _file(name: str) -> Response:
    kind, _ = guess_type(name)
    response = Response(_FILES[name], mimetype=kind or "text/plain")
    # Kept by a browser, and asked for again each time, which takes no more than its mark.
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    response.make_conditional(request)
    return response
