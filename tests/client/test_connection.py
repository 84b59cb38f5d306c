"""When it is tried again, what is said when nobody answers, and keys."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

import gradcheckd
from gradcheckd import (
    AnswerTimeoutError,
    GradcheckdError,
    ProblemError,
    RequestError,
    Service,
    UnexpectedAnswerError,
    UnreachableError,
)
from gradcheckd.connection import KEY_VARIABLE, URL_VARIABLE, Connection, parse_retry_after
from gradcheckd.wire import to_safetensors
from tests.integration.conftest import Server

Answer = tuple[int, dict[str, str], bytes]
FULL: Answer = (
    503,
    {"Content-Type": "application/problem+json", "Retry-After": "0"},
    json.dumps(
        {"type": "t", "title": "Service Unavailable", "status": 503, "detail": "All places are taken."}
    ).encode(),
)
MODELS: Answer = (200, {"Content-Type": "application/json"}, b'{"models": []}')


@contextmanager
def serve_answers(answer: Callable[[int], Answer]) -> Iterator[tuple[str, list[int]]]:
    """A server of no gradcheckd: its answer to each request by its number; and the numbers of those that came."""
    request_numbers: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            request_numbers.append(len(request_numbers) + 1)
            status, headers, content = answer(len(request_numbers))
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(content))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            # Who did not wait for it is gone.
            with suppress(BrokenPipeError):
                self.wfile.write(content)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", request_numbers
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Clock:
    """A clock that only its sleepers move, and that keeps how long each slept."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("gradcheckd.connection.time", clock)
    return clock


def test_a_full_service_is_asked_again(clock: Clock) -> None:
    with (
        serve_answers(lambda number: FULL if number < 3 else MODELS) as (url, request_numbers),
        Service(url) as service,
    ):
        assert service.models() == []
    assert request_numbers == [1, 2, 3]
    first, second = clock.slept
    assert second >= first > 0, "the pauses grow"


def test_retry_waits_as_long_as_the_service_asks(clock: Clock) -> None:
    waiting = (503, FULL[1] | {"Retry-After": "1"}, FULL[2])
    with serve_answers(lambda number: waiting if number == 1 else MODELS) as (url, _), Service(url) as service:
        service.models()
    assert clock.slept == [1.0]


@pytest.mark.parametrize(("header", "patience", "least", "most"), [("0", 0.6, 2, 6), ("3600", 30.0, 1, 1)])
def test_retries_end_with_the_retry_seconds(clock: Clock, header: str, patience: float, least: int, most: int) -> None:
    full = (503, FULL[1] | {"Retry-After": header}, FULL[2])
    with (
        serve_answers(lambda _: full) as (url, request_numbers),
        Service(url, retry_seconds=patience) as service,
        pytest.raises(ProblemError, match="Try again later") as caught,
    ):
        service.models()
    assert caught.value.status == 503
    assert least <= len(request_numbers) <= most
    assert clock.monotonic() <= patience


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 429, 500, 502])
def test_other_errors_are_not_retried(status: int) -> None:
    problem = json.dumps({"type": "t", "title": "T", "status": status, "detail": "D"}).encode()
    with (
        serve_answers(lambda _: (status, FULL[1], problem)) as (url, request_numbers),
        Service(url) as service,
        pytest.raises(ProblemError, match="D") as caught,
    ):
        service.models()
    assert (caught.value.status, len(request_numbers)) == (status, 1)


def test_how_long_to_wait_is_read_as_seconds_and_as_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert parse_retry_after(soon) == pytest.approx(30, abs=2)
    assert parse_retry_after("7") == 7
    for said in (None, "", "soon", "-5", "Thu, 01 Jan 1970 00:00:00 GMT"):
        assert parse_retry_after(said) == 0


def test_refused_connection_says_how_to_start_a_service() -> None:
    with pytest.raises(UnreachableError) as caught:
        gradcheckd.check(url="http://127.0.0.1:1")
    assert "No gradcheckd answers at http://127.0.0.1:1" in str(caught.value)
    for way in ("gradcheckd serve", "make serve", "docker run", URL_VARIABLE):
        assert way in str(caught.value)


OTHERS = {
    "a page": (200, {"Content-Type": "text/html"}, b"<p>hello"),
    "an error of a proxy": (502, {"Content-Type": "text/html"}, b"<p>bad gateway"),
    "nothing": (200, {}, b""),
}


@pytest.mark.parametrize("answer", OTHERS.values(), ids=OTHERS)
def test_other_servers_are_recognised(answer: Answer) -> None:
    with (
        serve_answers(lambda _: answer) as (url, _),
        Service(url) as service,
        pytest.raises(UnexpectedAnswerError, match="which is not as gradcheckd answers"),
    ):
        service.models()


NOT_OURS = {"other JSON": b'{"hello": 1}', "an empty body": b"", "a list": b"[1]", "other models": b'{"models": [1]}'}


@pytest.mark.parametrize("content", NOT_OURS.values(), ids=NOT_OURS)
def test_foreign_json_is_reported(content: bytes) -> None:
    with (
        serve_answers(lambda _: (200, MODELS[1], content)) as (url, _),
        Service(url) as service,
        pytest.raises(UnexpectedAnswerError, match="answer is not as it should be"),
    ):
        service.models()


BINARY = {
    "nothing": b"",
    "other JSON": b'{"hello": 1}',
    "no report": to_safetensors({}, {}),
    "other": to_safetensors({}, {"report": "{}"}),
}


@pytest.mark.parametrize("content", BINARY.values(), ids=BINARY)
def test_malformed_report_is_reported(content: bytes) -> None:
    answer = (200, {"Content-Type": "application/vnd.safetensors"}, content)
    with serve_answers(lambda _: answer) as (url, _), Service(url) as service:
        for ask in (lambda: service.check(weights={}), lambda: service.check_function(sum, [1.0], [1.0])):
            with pytest.raises(UnexpectedAnswerError, match="answer is not as it should be"):
                ask()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"title": "T"}', b'{"status": 1, "title": "T", "errors": [{}]}'])
def test_malformed_problem_document_is_reported(content: bytes) -> None:
    with (
        serve_answers(lambda _: (422, FULL[1], content)) as (url, _),
        Service(url) as service,
        pytest.raises(UnexpectedAnswerError, match="answer is not as it should be"),
    ):
        service.models()


@pytest.mark.parametrize("timeout", [-1, 0, float("nan"), float("inf"), 1e300, "5", None], ids=repr)
def test_a_timeout_that_is_none_is_refused(timeout: Any) -> None:
    with pytest.raises(RequestError, match=r"timeout is a positive number of seconds, of 1,000,000 at most; .* given"):
        Service(timeout=timeout)


@pytest.mark.parametrize("seconds", [-1, float("nan"), "5"], ids=repr)
def test_invalid_retry_seconds_are_refused(seconds: Any) -> None:
    with pytest.raises(RequestError, match="retry_seconds is a number of seconds, 0 or more"):
        Service(retry_seconds=seconds)


def test_truncated_answer_is_reported() -> None:
    cut = (200, MODELS[1] | {"Content-Length": "1000"}, b"{")
    with (
        serve_answers(lambda _: cut) as (url, _),
        Service(url) as service,
        pytest.raises(UnexpectedAnswerError, match="broke off"),
    ):
        service.models()


def answer_slowly(_: int) -> Answer:
    time.sleep(0.3)
    return MODELS


def test_late_answer_is_reported() -> None:
    with (
        serve_answers(answer_slowly) as (url, _),
        Service(url, timeout=0.05) as service,
        pytest.raises(AnswerTimeoutError, match=r"did not answer within 0\.05 s") as caught,
    ):
        service.models()
    assert isinstance(caught.value, GradcheckdError)
    assert isinstance(caught.value, TimeoutError)
    assert "finite_difference" not in str(caught.value), "it is no check"


def test_a_slow_check_may_be_made_smaller() -> None:
    with (
        serve_answers(answer_slowly) as (url, _),
        Service(url, timeout=0.05) as service,
        pytest.raises(AnswerTimeoutError, match=r"`--timeout`\), or ask for a part: finite_difference="),
    ):
        service.check()


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://", "http://[::", "http://a:b"])
def test_invalid_address_is_refused(url: str) -> None:
    with pytest.raises(RequestError, match="address of a service is like"), Service(url) as service:
        service.models()


def test_the_address_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL_VARIABLE, "http://example.test/prefix/")
    with Connection() as connection:
        assert connection.url == "http://example.test/prefix"


@pytest.fixture(scope="module")
def server_with_key(start_server: Callable[..., Server]) -> Server:
    return start_server(GRADCHECKD_KEYS="open-sesame")


def test_valid_key_opens_the_service(
    server_with_key: Server, reference_arrays: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ProblemError, match="Unauthorized") as caught:
        gradcheckd.check(url=server_with_key.url, **reference_arrays)
    assert KEY_VARIABLE in str(caught.value)
    report = gradcheckd.check(url=server_with_key.url, key="open-sesame", **reference_arrays)
    assert report.markdown().startswith("## gradcheckd: pass"), "it is asked for with the key"
    monkeypatch.setenv(KEY_VARIABLE, "open-sesame")
    assert gradcheckd.check(url=server_with_key.url, **reference_arrays).passed


@pytest.mark.parametrize("key", ["two words", "ключ", "line\nbreak"])
def test_invalid_key_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(RequestError, match="key is not made of") as caught:
        Service("http://127.0.0.1:1", key)
    assert key not in str(caught.value)
