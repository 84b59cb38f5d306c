import io
import socket
import time
from types import SimpleNamespace

import pytest
from gunicorn.http.body import Body, LengthReader
from gunicorn.http.errors import InvalidChunkSize
from gunicorn.http.unreader import SocketUnreader

from service.app import create_app
from service.http import arrival
from service.http.arrival import set_arrival
from service.http.body import body_reader
from service.settings import Settings

CLIENT = create_app(Settings(max_body_bytes=1000, max_binary_bytes=2000)).test_client()


def post_check(data, content_type="application/json", **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return CLIENT.post("/v1/check", data=data, content_type=content_type, headers=headers)


@pytest.mark.parametrize(("size", "status"), [(999, 422), (1000, 422), (1001, 413), (10**6, 413)])
def test_the_limit_is_the_limit(size, status):
    response = post_check(b"{}" + b" " * (size - 2))
    assert response.status_code == status
    if status == 413:
        assert "the 1000 bytes that are taken as application/json" in response.json["detail"]


@pytest.mark.parametrize(("size", "status"), [(1001, 400), (2000, 400), (2001, 413), (10**6, 413)])
def test_a_binary_body_has_a_limit_of_its_own(size, status):
    response = post_check(bytes(size), "application/vnd.safetensors")
    assert response.status_code == status
    if status == 413:
        assert "the 2000 bytes that are taken as application/vnd.safetensors" in response.json["detail"]


@pytest.mark.parametrize("size", [1001, 2001])
@pytest.mark.parametrize("content_type", ["application/json", "application/vnd.safetensors"])
def test_limits_hold_without_a_content_length(size, content_type):
    """As a chunked body comes, its end marked by the server."""
    response = CLIENT.post(
        "/v1/check",
        input_stream=io.BytesIO(b" " * size),
        content_type=content_type,
        environ_overrides={"wsgi.input_terminated": True},
    )
    limit = 1000 if content_type == "application/json" else 2000
    assert response.status_code == (413 if size > limit else 400)


@pytest.mark.parametrize(
    ("sent", "announced", "is_at_hand"), [(10, 10, True), (9, 10, False), (0, 10, False), (2**16 + 1, 2**16 + 1, False)]
)
@pytest.mark.parametrize("read_ahead", [0, 5])
def test_a_small_body_that_has_come_needs_no_place(sent, announced, is_at_hand, read_ahead):
    here, there = socket.socketpair()
    with here, there:
        there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        there.sendall(b" " * sent)
        unreader = SocketUnreader(here)
        unreader.buf.write(here.recv(read_ahead) if sent and read_ahead else b"")
        environ = {"wsgi.input": Body(LengthReader(unreader, announced)), "gunicorn.socket": here}
        assert body_reader._comes_at_once(SimpleNamespace(environ=environ)) == is_at_hand
        assert not body_reader._comes_at_once(SimpleNamespace(environ=environ | {"wsgi.input": io.BytesIO(b" " * 10)}))
        there.shutdown(socket.SHUT_WR)
        left = b"".join(iter(lambda: here.recv(2**20), b""))
        assert len(unreader.buf.getvalue()) + len(left) == sent, "a look takes nothing"


def test_a_body_of_a_client_that_has_gone_has_not_come():
    here, there = socket.socketpair()
    there.close()
    here.close()
    environ = {"wsgi.input": Body(LengthReader(SocketUnreader(here), 10)), "gunicorn.socket": here}
    assert not body_reader._comes_at_once(SimpleNamespace(environ=environ))


class Slow(io.RawIOBase):
    """A body of which a piece comes now and then."""

    def __init__(self, wait, error=None, pieces=100, size=1):
        self.wait, self.error, self.pieces, self.size = wait, error, pieces, size

    def readable(self):
        return True

    def readinto(self, buffer):
        time.sleep(self.wait)
        if self.error:
            raise self.error
        self.pieces -= 1
        size = min(self.size, len(buffer))
        buffer[:size] = b" " * size
        return size if self.pieces > 0 else 0


def post_stream(stream, length=1000, ago=0.0, **settings):
    client = create_app(Settings(**settings)).test_client()
    environ = {"wsgi.input": stream, "wsgi.input_terminated": True, "CONTENT_LENGTH": str(length)}
    with set_arrival(time.monotonic() - ago):
        return client.post("/v1/check", content_type="application/json", environ_overrides=environ)


def test_steadily_slow_body_is_refused_at_its_deadline():
    response = post_stream(Slow(0.01), max_body_seconds=0.05)
    assert (response.status_code, response.mimetype) == (408, "application/problem+json")
    assert "within the 0.05 s" in response.json["detail"]
    assert post_stream(Slow(0.001), max_body_seconds=60).status_code == 400, "what comes in time is looked at"


def test_body_shares_the_deadline_of_its_request(monkeypatch):
    large = {"pieces": 9, "size": 2**16}
    assert post_stream(Slow(0, **large), length=2**19, ago=1000.0, max_seconds=900.0).status_code == 400, "it was read"
    monkeypatch.setattr(arrival, "MIN_TRANSFER_SECONDS", 0.0)
    late = post_stream(Slow(0, **large), length=2**19, ago=1000.0, max_seconds=900.0)
    assert (late.status_code, late.mimetype) == (408, "application/problem+json")
    assert "within the 900 s that all of the request may take" in late.json["detail"]
    assert post_stream(Slow(0, **large), length=2**19, ago=1000.0, max_seconds=9000.0).status_code == 400, "it was read"


def test_received_bytes_extend_the_time_of_a_body():
    large = {"pieces": 9, "size": 2**16}
    assert post_stream(Slow(0.05, **large), length=2**19, max_body_seconds=0.1).status_code == 400, "it was read"


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (BlockingIOError(11, "Resource temporarily unavailable"), 408, "stopped coming"),
        (ConnectionResetError(), 400, "broke off"),
        (OSError("Invalid chunk size"), 400, "cut into chunks"),
        (InvalidChunkSize(b"ZZ"), 400, "cut into chunks"),
    ],
)
@pytest.mark.parametrize("seconds", [60, 1e-6])
def test_body_that_stalls_or_breaks_off_is_refused(error, status, words, seconds):
    response = post_stream(Slow(0.001, error), max_body_seconds=seconds)
    assert response.status_code == (status if seconds == 60 else 408)
    assert (words in response.json["detail"]) is (seconds == 60)


def test_a_body_shorter_than_it_says_broke_off():
    environ = {"wsgi.input": io.BytesIO(b"{}"), "CONTENT_LENGTH": "9"}
    response = CLIENT.post("/v1/check", content_type="application/json", environ_overrides=environ)
    assert (response.status_code, response.mimetype) == (400, "application/problem+json")
