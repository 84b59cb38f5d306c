"""Errors of HTTP as errors of this package."""

from types import TracebackType

import httpx

from gradcheckd.errors import (
    AnswerTimeoutError,
    GradcheckdError,
    RequestError,
    UnexpectedAnswerError,
    UnreachableError,
    describe_error,
    hide_frames,
)
from gradcheckd.in_process import IN_PROCESS

__tracebackhide__ = hide_frames

DEFAULT_URL = "http://127.0.0.1:8000"
_REDUCTION_HINT = ', or ask for a part: finite_difference={"sample": 20} or {"projections": 5}.'


class ErrorExplainer:
    """A context that replaces errors of httpx by errors of this package, which say as much and the remedy."""

    def __init__(self, url: str, path: str, timeout: float) -> None:
        self._url, self._path, self._timeout = url, path, timeout

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, httpx.HTTPError | httpx.InvalidURL):
            raise self._to_client_error(error) from None

    def _to_client_error(self, error: httpx.HTTPError | httpx.InvalidURL) -> GradcheckdError:
        if isinstance(error, httpx.InvalidURL):
            return RequestError(
                f"The address of a service is like {DEFAULT_URL}; {self._url!r} is not: {describe_error(error)}."
            )
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.UnsupportedProtocol):
            return UnreachableError(self._url, str(error) or "no connection in time")
        if isinstance(error, httpx.TimeoutException):
            subject = f"The service {IN_PROCESS}" if self._url == IN_PROCESS else self._url
            return AnswerTimeoutError(
                f"{subject} did not answer within {self._timeout:g} s. Give it longer (timeout=..., `--timeout`)"
                f"{_REDUCTION_HINT if self._path == '/v1/check' else '.'}"
            )
        return UnexpectedAnswerError(
            f"The answer of {self._url} broke off: {describe_error(error)}. See the log of the service."
        )
