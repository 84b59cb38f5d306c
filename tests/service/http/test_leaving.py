import socket
import time

import pytest

from service.http import leaving
from service.http.running import CancelledError


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(leaving, "_PAUSE", 0.0)


@pytest.mark.usefixtures("always")
def test_who_is_there_is_waited_for(pair):
    ours, theirs = pair
    told = leaving.until_left(ours)
    told()
    theirs.sendall(b"GET")
    told()
    assert ours.recv(10) == b"GET", "a next request is left where it is"


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("leave", [lambda ours, theirs: theirs.close(), lambda ours, theirs: ours.close()])
def test_who_left_is_not(pair, leave):
    told = leaving.until_left(pair[0])
    leave(*pair)
    with pytest.raises(CancelledError):
        told()


def test_it_looks_now_and_then(pair, monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    ours, theirs = pair
    told = leaving.until_left(ours)
    theirs.close()
    told()
    now += leaving._PAUSE + 0.01
    with pytest.raises(CancelledError):
        told()


def test_of_a_connection_that_is_not_known_nobody_leaves():
    assert leaving.until_left(None) is None
