import socket
import time

import pytest

from service.checks.common.background_job import CancelledError
from service.http.middleware import disconnect


@pytest.fixture
def connection_ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def always_polled(monkeypatch):
    monkeypatch.setattr(disconnect, "_POLL_SECONDS", 0.0)


@pytest.mark.usefixtures("always_polled")
def test_connected_client_gets_its_answer(socket_pair):
    ours, theirs = socket_pair
    told = disconnect.cancel_on_disconnect(ours)
    told()
    theirs.sendall(b"GET")
    told()
    assert ours.recv(10) == b"GET", "a next request is left where it is"


@pytest.mark.usefixtures("always_polled")
@pytest.mark.parametrize("leave", [lambda ours, theirs: theirs.close(), lambda ours, theirs: ours.close()])
def test_work_for_a_disconnected_client_ends(socket_pair, leave):
    told = disconnect.cancel_on_disconnect(socket_pair[0])
    leave(*socket_pair)
    with pytest.raises(CancelledError):
        told()


def test_connection_is_polled_at_intervals(socket_pair, monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    ours, theirs = socket_pair
    told = disconnect.cancel_on_disconnect(ours)
    theirs.close()
    told()
    now += disconnect._POLL_SECONDS + 0.01
    with pytest.raises(CancelledError):
        told()


def test_unknown_connection_counts_as_connected():
    assert disconnect.cancel_on_disconnect(None) is None
