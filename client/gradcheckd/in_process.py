"""The application of the service in this process, where it is installed beside the client."""

import importlib
import os
import sys
from collections.abc import Callable, Iterable
from functools import cache, partial
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Any

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


def make_transport(seconds: float) -> httpx.BaseTransport:
    """Make a transport that calls the application, which it loads for the first request; an answer may take seconds."""
    return httpx.WSGITransport(partial(_call_application, seconds))


def _call_application(seconds: float, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    process = os.getpid()
    application = _APPLICATIONS.get(process) or _APPLICATIONS.setdefault(process, _load_application())
    try:
        return application(environ, start_response, seconds)
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
