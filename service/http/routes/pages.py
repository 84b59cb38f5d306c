"""`GET /` and `GET /docs`: the pages, and their files."""

from mimetypes import guess_type
from pathlib import Path

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from service.http.operations import Operation, describe_operation

blueprint = Blueprint("playground", __name__)

_PAGE_DIRECTORY = Path(__file__).parents[2] / "page"
_FILE_CONTENTS = {
    path.relative_to(_PAGE_DIRECTORY).as_posix(): path.read_bytes()
    for path in _PAGE_DIRECTORY.rglob("*")
    if path.is_file()
}
"""Every file, read once: the disk is never searched for a path of a request."""


@blueprint.get("/")
@describe_operation(
    Operation("The page on which to see a check", answer_type=str, media_type="text/html", is_open=True)
)
def get_page() -> Response:
    """Answer with the page."""
    return _send_page_file("index.html")


@blueprint.get("/docs")
@describe_operation(Operation("This description, for reading", answer_type=str, media_type="text/html", is_open=True))
def get_docs() -> Response:
    """Answer with the page that reads `/openapi.json`."""
    return _send_page_file("docs.html")


@blueprint.get("/page/<path:name>")
@describe_operation(
    Operation("A file of the pages", answer_type=bytes, media_type="*/*", is_open=True, is_listed=False)
)
def get_file(name: str) -> Response:
    """Answer with a file of the pages, which needs no key, like the pages."""
    if name not in _FILE_CONTENTS:
        raise NotFound
    return _send_page_file(name)


def _send_page_file(name: str) -> Response:
    media_type, _ = guess_type(name)
    response = Response(_FILE_CONTENTS[name], mimetype=media_type or "text/plain")
    # A browser keeps the file, and asks each time whether its tag is still current.
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    response.make_conditional(request)
    return response
