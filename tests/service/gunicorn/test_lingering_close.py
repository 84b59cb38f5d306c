import selectors
import socket
import time

import pytest

from service.gunicorn import lingering_close
from service.gunicorn.lingering_close import LingeringConnections


class Loop:
    """What gunicorn does in its own."""

    def __init__(self, **limits):
        self.poller = selectors.DefaultSelector()
        self.lingering = LingeringConnections(lambda: self.poller, **limits)

    def turn(self):
        for key, _ in self.poller.select(0):
            key.data(key.fileobj)
        self.lingering.end_overdue()


@pytest.fixture
def loop():
    loop = Loop()
    yield loop
    loop.poller.close()


@pytest.fixture
def connection_ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_late_bytes_are_dropped_until_the_client_closes(loop, socket_pair):
    ours, theirs = socket_pair
    theirs.sendall(b"a" * 1000)
    loop.lingering.add(ours)
    assert theirs.recv(1) == b"", "it is told that nothing more comes"
    for _ in range(3):
        loop.turn()
        theirs.sendall(b"a" * 1000)
    assert len(loop.lingering) == 1
    theirs.close()
    loop.turn()
    loop.turn()
    assert len(loop.lingering) == 0
    assert ours.fileno() == -1


def test_lingering_close_ends_by_its_deadline(loop, socket_pair, monkeypatch):
    monkeypatch.setattr(lingering_close, "_LINGER_SECONDS", 0.0)
    loop.lingering.add(socket_pair[0])
    loop.turn()
    assert (len(loop.lingering), socket_pair[0].fileno()) == (0, -1)


def test_client_that_keeps_sending_has_its_time(loop, socket_pair, monkeypatch):
    ours, theirs = socket_pair
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    theirs.sendall(bytes(2**16))
    loop.lingering.add(ours)
    loop.turn()
    now += lingering_close._LINGER_SECONDS + 0.5  # and a second more for each 64 KiB
    loop.turn()
    assert len(loop.lingering) == 1
    now += 1
    loop.turn()
    assert len(loop.lingering) == 0


def test_oldest_of_too_many_connections_is_closed():
    loop = Loop(limit=2)
    pairs = [socket.socketpair() for _ in range(3)]
    for ours, _ in pairs:
        loop.lingering.add(ours)
    assert [ours.fileno() == -1 for ours, _ in pairs] == [True, False, False]
    assert len(loop.lingering) == 2
    loop.poller.close()
    for connection in (end for pair in pairs for end in pair):
        connection.close()


def test_closed_connection_is_released(loop, socket_pair):
    socket_pair[0].close()
    loop.lingering.add(socket_pair[0])
    assert len(loop.lingering) == 0


def test_reset_ends_the_lingering_close(loop):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    loop.lingering.add(ours)
    theirs.close()
    loop.turn()
    assert (len(loop.lingering), ours.fileno()) == (0, -1)
