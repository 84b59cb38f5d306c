"""The application of the service in this process, where it is installed beside the client."""

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx

from gradcheckd.errors import GradcheckdError, describe_error, hide_frames

__tracebackhide__ = hide_frames

IN_PROCESS = "in this process"
"""Address of the application in this process."""
HOW_TO_INSTALL = (
    "The service is not installed here. Any of these brings one:\n"
    "  pip install .                                  in a checkout of gradcheckd, beside this client\n"
    "  make serve                                     in a checkout: sets itself up\n"
    "  docker run --rm -p 8000:8000 gradcheckd        once `docker build -t gradcheckd .` has made the image"
)
_HOST = "localhost"
_APPLICATION_MODULE = "service.in_process"
# Packages of other projects have these names too: a file tells ours.
_FILE_BY_PACKAGE = {"service": "in_process.py", "schemas": "safetensors_body.py"}
_REQUIRED_PACKAGES = ("flask", "pydantic_settings", "orjson", "prometheus_client", "safetensors", "scipy", "structlog")
# By the number of the process: a lock of an application may be held by a thread that no fork has taken along.
_APPLICATIONS: dict[int, Any] = {}


def is_installed() -> bool:
    """Tell whether the application can run in this process. Nothing of it is imported."""
    return _are_found(tuple(sys.path))


@cache
def _are_found(path: tuple[str, ...]) -> bool:
    return all(_is_ours(_find_spec(name), file) for name, file in _FILE_BY_PACKAGE.items()) and all(
        _find_spec(name) is not None for name in _REQUIRED_PACKAGES
    )


def _find_spec(name: str) -> ModuleSpec | None:
    try:
        return find_spec(name)
    except ValueError:
        # The module is one that somebody has made, without a file.
        return None


def _is_ours(spec: ModuleSpec | None, file: str) -> bool:
    places = spec.submodule_search_locations if spec else None
    return any((Path(place) / file).is_file() for place in places or ())


class InProcessClient:
    """Sends requests to the application in this process, which it loads for the first of them.

    It calls the application by WSGI itself: a client of HTTP takes half a millisecond for addresses, cookies and
    redirects, of which there are none here.

    Parameters
    ----------
    seconds
        Time that an answer may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """Tell whether the client was closed."""
        return self._is_closed

    def send(self, method: str, path: str, headers: Mapping[str, str], content: bytes | None) -> httpx.Response:
        """Send a request; return the answer, which the caller reads and closes."""
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Callable[[bytes], None]:
            started.append((status, headers))
            return _refuse_write

        environ = _make_environ(method, path, headers, content)
        pieces = _call_application(lambda application: application(environ, start_response, self._seconds))
        status, answer_headers = started[-1]
        return httpx.Response(int(status.split(" ", 1)[0]), headers=answer_headers, stream=_AnswerStream(pieces))

    def answer_directly(self, path: str, content: bytes, media_type: str, accept: str) -> bytes | None:
        """Have the application answer without a request by WSGI; None where it takes one."""
        return _call_application(
            lambda application: application.answer_directly(path, content, media_type, accept, self._seconds)
        )

    def close(self) -> None:
        """Send no more requests."""
        self._is_closed = True


class _AnswerStream(httpx.SyncByteStream):
    """The pieces of an answer of WSGI."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    def close(self) -> None:
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()


def _refuse_write(_: bytes) -> None:
    raise NotImplementedError("an application of Flask yields its answers")


def _make_environ(method: str, path: str, headers: Mapping[str, str], content: bytes | None) -> dict[str, Any]:
    """Make the environment of a request, as PEP 3333 has it."""
    place, _, query = path.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote(place),
        "QUERY_STRING": query,
        "SERVER_NAME": _HOST,
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": _HOST,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(content or b""),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if content is not None:
        environ["CONTENT_LENGTH"] = str(len(content))
    for name, value in headers.items():
        key = name.upper().replace("-", "_")
        environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
    return environ


def _call_application(call: Callable[[Any], Any]) -> Any:
    process = os.getpid()
    application = _APPLICATIONS.get(process) or _APPLICATIONS.setdefault(process, _load_application())
    try:
        return call(application)
    except TimeoutError:
        raise httpx.ReadTimeout("the answer takes too long") from None


def _load_application() -> Any:
    """Load the application.

    Raises
    ------
    GradcheckdError
        The service is not installed here, or it cannot run.
    """
    if not is_installed():
        raise GradcheckdError(HOW_TO_INSTALL)
    try:
        return importlib.import_module(_APPLICATION_MODULE).InProcessApplication()
    except (ImportError, ValueError) as error:
        raise GradcheckdError(
            f"The service is installed here, and cannot run in this process: {describe_error(error)}. To use a service "
            "that runs elsewhere, name it: url=..., `--url`, or the environment variable GRADCHECKD_URL."
        ) from error
