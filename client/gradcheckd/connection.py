"""HTTP to a service: where it is, its key, when to try again, and errors that say what to do."""

import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import httpx

from gradcheckd import wire
from gradcheckd.errors import (
    AnswerTimeoutError,
    GradcheckdError,
    ProblemError,
    RequestError,
    UnexpectedAnswerError,
    UnreachableError,
    hides,
    said,
)
from gradcheckd.wire import Body

__tracebackhide__ = hides

URL_VARIABLE = "GRADCHECKD_URL"
KEY_VARIABLE = "GRADCHECKD_API_KEY"
DEFAULT_URL = "http://127.0.0.1:8000"
_PROBLEM = "application/problem+json"
_FULL = 503
_LONGEST_TIMEOUT = 1e6
"""Seconds; of many more operating systems make an error, or none at all."""
_LESS = ', or ask for a part: finite_difference={"sample": 20} or {"projections": 5}.'
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 8.0
# What a bearer token may be made of, RFC 6750.
_KEY = re.compile(r"[A-Za-z0-9\-._~+/]+=*")


class Connection:
    """A way to one service.

    Parameters
    ----------
    url
        Its address; by default that in GRADCHECKD_URL, or else http://127.0.0.1:8000.
    key
        A key of it, where it asks for one; by default that in GRADCHECKD_API_KEY.
    timeout
        Seconds to wait for an answer, or for the next line of one.
    patience
        Seconds for which a request is tried again while the service is full (503). Nothing else is tried again.

    Raises
    ------
    RequestError
        Where address or key cannot be ones, or a number of seconds is none.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, timeout: float = 150.0, patience: float = 30.0
    ) -> None:
        self.url = (url or os.environ.get(URL_VARIABLE) or DEFAULT_URL).rstrip("/")
        self._key = key or os.environ.get(KEY_VARIABLE)
        self._patience, self._timeout = _patience(patience), _timeout(timeout)
        if not re.match(r"https?://[^/]", self.url):
            raise RequestError(f"The address of a service is like {DEFAULT_URL}; {self.url!r} was given.")
        limits = httpx.Timeout(timeout, connect=min(timeout, 10.0))
        self._client = httpx.Client(timeout=limits, headers=_headers(self._key))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what it holds."""
        self._client.close()

    def get(self, path: str) -> Any:
        """GET what is JSON."""
        with self._explained(path), closing(self._sent("GET", path, None, wire.JSON)) as response:
            content = response.read()
        with wire.expected():
            return wire.loaded(content)

    def post(self, path: str, body: Body, accept: str) -> bytes:
        """POST a body, and read the answer, which has the media type that is accepted.

        Raises
        ------
        ProblemError
            The service refuses it.
        UnreachableError
            There is no service.
        AnswerTimeoutError
            It does not answer in time.
        UnexpectedAnswerError
            What is there answers otherwise than a gradcheckd.
        """
        with self._explained(path), closing(self._sent("POST", path, body, accept)) as response:
            return response.read()

    def lines(self, path: str, body: Body, accept: str) -> Iterator[str]:
        """POST a body, and read the answer line by line; errors are those of `post`."""
        with self._explained(path), closing(self._sent("POST", path, body, accept)) as response:
            yield from response.iter_lines()

    def again(self, path: str, body: Body) -> "Again":
        """How to POST a body for text, also when this connection has been closed."""
        return Again(self.url, path, body, self._timeout, self._patience, self._key)

    def _explained(self, path: str) -> "_Explained":
        return _Explained(self.url, path, self._timeout)

    def _sent(self, method: str, path: str, body: Body | None, accept: str) -> httpx.Response:
        """Send a request; the answer, which is yet to be read, and to be closed."""
        if self._client.is_closed:
            raise RequestError("This Service has been closed, and asks no more. Make another, or close it later.")
        headers = {"Accept": accept} | ({"Content-Type": body.media_type} if body else {})
        request = self._client.build_request(
            method, self.url + path, content=body.content if body else None, headers=headers
        )
        response = self._patiently(request)
        try:
            self._demand(response, accept)
        except BaseException:
            response.close()
            raise
        return response

    def _patiently(self, request: httpx.Request) -> httpx.Response:
        """Send a request until the service has room for it, or patience ends."""
        end, pause = time.monotonic() + self._patience, _FIRST_PAUSE
        while True:
            response = self._client.send(request, stream=True)
            if response.status_code != _FULL:
                return response
            # Not all that were refused together are to come back together.
            wait = max(pause * random.uniform(0.5, 1.0), asked_to_wait(response.headers.get("Retry-After")))
            if time.monotonic() + wait > end:
                return response
            response.close()
            time.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _demand(self, response: httpx.Response, accept: str) -> None:
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
        if response.status_code == 200 and kind == accept.partition(";")[0]:
            return
        content = response.read()
        if kind == _PROBLEM:
            with wire.expected():
                problem = ProblemError(wire.loaded(content))
            raise problem
        raise UnexpectedAnswerError(
            f"{response.request.url} answers with status {response.status_code} and {kind or 'no content type'}, "
            "which is not as gradcheckd answers. Is that its address, and not the one of something else, or of a "
            "proxy in front of it?"
        )


class _Explained:
    """What goes wrong in a block with a connection, as an error of ours; it says all that the one of httpx does."""

    def __init__(self, url: str, path: str, timeout: float) -> None:
        self._url, self._path, self._timeout = url, path, timeout

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, httpx.HTTPError | httpx.InvalidURL):
            raise self._of(error) from None

    def _of(self, error: httpx.HTTPError | httpx.InvalidURL) -> GradcheckdError:
        if isinstance(error, httpx.InvalidURL):
            return RequestError(f"The address of a service is like {DEFAULT_URL}; {self._url!r} is not: {said(error)}.")
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.UnsupportedProtocol):
            return UnreachableError(self._url, str(error) or "no connection in time")
        if isinstance(error, httpx.TimeoutException):
            return AnswerTimeoutError(
                f"{self._url} did not answer within {self._timeout:g} s. Give it longer (timeout=..., `--timeout`)"
                f"{_LESS if self._path == '/v1/check' else '.'}"
            )
        return UnexpectedAnswerError(f"The answer of {self._url} broke off: {said(error)}. See the log of the service.")


@dataclass(frozen=True)
class Again:
    """What was asked, to be asked once more in another form.

    It may go to another process, but the key does not go with it: there it is that of the environment.
    """

    url: str
    path: str
    body: Body
    timeout: float
    patience: float
    key: str | None = field(default=None, repr=False)

    def __call__(self, accept: str) -> str:
        """POST for text; errors are those of `Connection.post`."""
        with Connection(self.url, self.key, timeout=self.timeout, patience=self.patience) as connection:
            content = connection.post(self.path, self.body, accept)
        with wire.expected():
            return content.decode()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.url, self.path, self.body, self.timeout, self.patience)


def _timeout(given: object) -> float:
    if not isinstance(given, int | float) or not 0 < given <= _LONGEST_TIMEOUT:
        raise RequestError(
            f"A timeout is a positive number of seconds, of {_LONGEST_TIMEOUT:,.0f} at most; {given!r} was given."
        )
    return given


def _patience(given: object) -> float:
    if not isinstance(given, int | float) or not given >= 0:
        raise RequestError(f"A patience is a number of seconds, 0 or more; {given!r} was given.")
    return given


def _headers(key: str | None) -> dict[str, str]:
    if not key:
        return {}
    if not _KEY.fullmatch(key):
        raise RequestError("The key is not made of letters, digits and -._~+/ alone, and so is none of any gradcheckd.")
    return {"Authorization": f"Bearer {key}"}


def asked_to_wait(header: str | None) -> float:
    """Seconds that a header `Retry-After` asks for, given as a number of them or as a date; 0 without."""
    if not header:
        return 0.0
    if header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return 0.0
