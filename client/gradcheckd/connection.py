"""Requests to a service: its address, its key, further attempts, and errors with their remedy."""

import os
import random
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import httpx

from gradcheckd import wire
from gradcheckd.errors import ProblemError, RequestError, UnexpectedAnswerError, hide_frames
from gradcheckd.http_client import ProcessClient, RequestSender
from gradcheckd.http_errors import DEFAULT_URL, ErrorExplainer
from gradcheckd.in_process import IN_PROCESS, InProcessClient, is_installed
from gradcheckd.wire import Body

__tracebackhide__ = hide_frames

URL_VARIABLE = "GRADCHECKD_URL"
KEY_VARIABLE = "GRADCHECKD_API_KEY"
# gunicorn closes a connection that was idle for 2 s: a request that meets the end of one would be lost.
_POOL_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=1.5)
_PROBLEM_MEDIA_TYPE = "application/problem+json"
_ACCEPTED_STATUS, _FULL_STATUS = 202, 503
_MAX_TIMEOUT_SECONDS = 1e6
"""Operating systems refuse longer times, or never end them."""
_FIRST_RETRY_SECONDS, _MAX_RETRY_PAUSE_SECONDS = 0.25, 8.0
# The characters of a bearer token, RFC 6750.
_KEY_PATTERN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")


class Connection:
    """A connection to one service.

    Parameters
    ----------
    url
        Address of the service; by default GRADCHECKD_URL. Without either, the service runs in this process if it is
        installed here, and else it is expected at http://127.0.0.1:8000.
    key
        Key of the service, if it needs one; by default GRADCHECKD_API_KEY.
    timeout
        Seconds to wait for an answer, or for the next line of one.
    retry_seconds
        Seconds for which to repeat a request while the service is full (503). No other request is repeated.

    Raises
    ------
    RequestError
        The address, the key or a number of seconds is not valid.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, timeout: float = 150.0, retry_seconds: float = 30.0
    ) -> None:
        self.url, self._key = choose_address(url), choose_key(key)
        self._retry_seconds, self._timeout = _validate_retry_seconds(retry_seconds), _validate_timeout(timeout)
        if self.url != IN_PROCESS and not re.match(r"https?://[^/]", self.url):
            raise RequestError(f"The address of a service is like {DEFAULT_URL}; {self.url!r} was given.")
        self._headers = _make_headers(self._key)
        self._client: RequestSender = (
            InProcessClient(self._timeout) if self.url == IN_PROCESS else ProcessClient(self.url, self._make_client)
        )
        self.takes_plan_requests = True
        """False once the service has refused points that were made here: it is older, or has another rule for them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _make_client(self) -> httpx.Client:
        limits = httpx.Timeout(self._timeout, connect=min(self._timeout, 10.0))
        return httpx.Client(timeout=limits, limits=_POOL_LIMITS)

    @property
    def is_closed(self) -> bool:
        """Tell whether the connection was closed."""
        return self._client.is_closed

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def get(self, path: str, accept: str) -> bytes:
        """Read the content of an address in the accepted media type; errors are those of `post`."""
        with self._explain_errors(path), closing(self._send_request("GET", path, None, accept)) as response:
            return response.read()

    def get_json(self, path: str) -> Any:
        """Read a JSON document."""
        content = self.get(path, wire.JSON)
        with wire.UnexpectedAnswerGuard():
            return wire.load_json(content)

    def delete(self, path: str) -> Any:
        """Delete what is at an address, and read the JSON document of the answer; errors are those of `post`."""
        with self._explain_errors(path), closing(self._send_request("DELETE", path, None, wire.JSON)) as response:
            content = response.read()
        with wire.UnexpectedAnswerGuard():
            return wire.load_json(content)

    def post_for_job(self, path: str, body: Body, idempotency_key: str | None) -> Any:
        """POST a request that becomes a job, and read the document of the job; errors are those of `post`.

        Raises
        ------
        UnexpectedAnswerError
            The service is older than jobs, and has answered the request itself.
        """
        headers = {"Prefer": "respond-async"} | ({"Idempotency-Key": idempotency_key} if idempotency_key else {})
        with (
            self._explain_errors(path),
            closing(self._send_request("POST", path, body, wire.JSON, headers)) as response,
        ):
            if response.status_code != _ACCEPTED_STATUS:
                raise UnexpectedAnswerError(f"{self.url} has no jobs: it is of an earlier version.")
            content = response.read()
        with wire.UnexpectedAnswerGuard():
            return wire.load_json(content)

    def post(self, path: str, body: Body, accept: str) -> bytes:
        """POST a body, and read the answer in the accepted media type.

        Raises
        ------
        ProblemError
            The service refuses the request.
        UnreachableError
            There is no service.
        AnswerTimeoutError
            The service does not answer in time.
        UnexpectedAnswerError
            The address answers otherwise than a gradcheckd.
        """
        with self._explain_errors(path):
            self._refuse_if_closed()
            answer = self._client.answer_directly(path, body.content, body.media_type, accept)
            if answer is not None:
                return answer
            with closing(self._send_request("POST", path, body, accept)) as response:
                return response.read()

    def post_for_lines(self, path: str, body: Body, accept: str) -> Iterator[str]:
        """POST a body, and read the answer line by line; errors are those of `post`."""
        with self._explain_errors(path), closing(self._send_request("POST", path, body, accept)) as response:
            yield from response.iter_lines()

    def prepare_repeat(self, path: str, body: Body) -> "RepeatableRequest":
        """Prepare a request for text that works when this connection is closed, too."""
        return RepeatableRequest(self.url, path, body, self._timeout, self._retry_seconds, self._key)

    def prepare_result(self, path: str) -> "RepeatableResult":
        """Prepare the request of a result as text that works when this connection is closed, too."""
        return RepeatableResult(self.url, path, self._timeout, self._retry_seconds, self._key)

    def _explain_errors(self, path: str) -> "ErrorExplainer":
        return ErrorExplainer(self.url, path, self._timeout)

    def _send_request(
        self, method: str, path: str, body: Body | None, accept: str, further_headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Send a request; return the answer, which the caller reads and closes."""
        self._refuse_if_closed()
        headers = {**self._headers, "Accept": accept} | ({"Content-Type": body.media_type} if body else {})
        headers |= further_headers or {}
        response = self._send_with_retries(method, path, headers, body.content if body else None)
        try:
            self._check_response(response, path, accept)
        except BaseException:
            response.close()
            raise
        return response

    def _refuse_if_closed(self) -> None:
        if self._client.is_closed:
            raise RequestError("This Service has been closed, and asks no more. Make another, or close it later.")

    def _send_with_retries(
        self, method: str, path: str, headers: Mapping[str, str], content: bytes | None
    ) -> httpx.Response:
        """Send a request until the service has room for it, or the time for further attempts ends."""
        deadline, max_pause = time.monotonic() + self._retry_seconds, _FIRST_RETRY_SECONDS
        while True:
            response = self._client.send(method, path, headers, content)
            if response.status_code != _FULL_STATUS:
                return response
            # Clients that were refused together must not come back together.
            pause = max(max_pause * random.uniform(0.5, 1.0), parse_retry_after(response.headers.get("Retry-After")))
            if time.monotonic() + pause > deadline:
                return response
            response.close()
            time.sleep(pause)
            max_pause = min(2 * max_pause, _MAX_RETRY_PAUSE_SECONDS)

    def _check_response(self, response: httpx.Response, path: str, accept: str) -> None:
        media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        if response.status_code in (200, _ACCEPTED_STATUS) and media_type == accept.partition(";")[0]:
            return
        content = response.read()
        if media_type == _PROBLEM_MEDIA_TYPE:
            with wire.UnexpectedAnswerGuard():
                problem = ProblemError(wire.load_json(content))
            raise problem
        raise UnexpectedAnswerError(
            f"{self.url}{path} answers with status {response.status_code} and {media_type or 'no content type'}, "
            "which is not as gradcheckd answers. Is that its address, and not the one of something else, or of a "
            "proxy in front of it?"
        )


@dataclass(frozen=True)
class RepeatableRequest:
    """A request, to repeat for another form of its answer.

    It may go to another process, but its key does not: there the key of the environment serves.
    """

    url: str
    path: str
    body: Body
    timeout: float
    retry_seconds: float
    key: str | None = field(default=None, repr=False)

    def __call__(self, accept: str) -> str:
        """POST for text; errors are those of `Connection.post`."""
        with Connection(self.url, self.key, timeout=self.timeout, retry_seconds=self.retry_seconds) as connection:
            content = connection.post(self.path, self.body, accept)
        with wire.UnexpectedAnswerGuard():
            return content.decode()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.url, self.path, self.body, self.timeout, self.retry_seconds)


@dataclass(frozen=True)
class RepeatableResult:
    """The address of a result, for another form of it; as for `RepeatableRequest`, its key goes to no other process."""

    url: str
    path: str
    timeout: float
    retry_seconds: float
    key: str | None = field(default=None, repr=False)

    def __call__(self, accept: str) -> str:
        """GET the text; errors are those of `Connection.get`."""
        with Connection(self.url, self.key, timeout=self.timeout, retry_seconds=self.retry_seconds) as connection:
            content = connection.get(self.path, accept)
        with wire.UnexpectedAnswerGuard():
            return content.decode()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.url, self.path, self.timeout, self.retry_seconds)


def choose_address(url: str | None) -> str:
    """Choose the given address, that of the environment, the application in this process, or else the default."""
    if named := url or os.environ.get(URL_VARIABLE):
        return named.rstrip("/")
    return IN_PROCESS if is_installed() else DEFAULT_URL


def choose_key(key: str | None) -> str | None:
    """Choose the given key, or that of the environment."""
    return key or os.environ.get(KEY_VARIABLE)


def _validate_timeout(seconds: object) -> float:
    if not isinstance(seconds, int | float) or not 0 < seconds <= _MAX_TIMEOUT_SECONDS:
        raise RequestError(
            f"A timeout is a positive number of seconds, of {_MAX_TIMEOUT_SECONDS:,.0f} at most; {seconds!r} was given."
        )
    return seconds


def _validate_retry_seconds(seconds: object) -> float:
    if not isinstance(seconds, int | float) or not seconds >= 0:
        raise RequestError(f"retry_seconds is a number of seconds, 0 or more; {seconds!r} was given.")
    return seconds


def _make_headers(key: str | None) -> dict[str, str]:
    if not key:
        return {}
    if not _KEY_PATTERN.fullmatch(key):
        raise RequestError("The key is not made of letters, digits and -._~+/ alone, and so is none of any gradcheckd.")
    return {"Authorization": f"Bearer {key}"}


def parse_retry_after(header: str | None) -> float:
    """Parse a header `Retry-After`, a number of seconds or a date, to seconds; 0 without one."""
    if not header:
        return 0.0
    if header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return 0.0
