import socket
import time
from contextlib import ExitStack

import pytest

from service.http.io_deadlines import end_overdue_connections, limit_reading, limit_sending

MOST = 16


def test_reading_ends_when_the_time_is_over_and_writing_does_not(socket_pair):
    ours, theirs = socket_pair
    with limit_reading(ours, time.monotonic() - 1):
        end_overdue_connections(MOST)
        assert ours.recv(1) == b"", "as at the end"
    ours.sendall(b"408")
    assert theirs.recv(3) == b"408"


def test_connection_is_ended_only_while_its_deadline_applies(socket_pair):
    ours, theirs = socket_pair
    with limit_reading(ours, time.monotonic() + 60):
        end_overdue_connections(MOST)
    with limit_reading(ours, time.monotonic() - 1):
        pass
    end_overdue_connections(MOST)
    theirs.sendall(b"more")
    assert ours.recv(4) == b"more"


def test_deadline_without_a_socket_ends_no_connection():
    with limit_reading(None, time.monotonic() - 1):
        end_overdue_connections(MOST)


def test_closed_connection_is_ignored(socket_pair):
    with limit_reading(socket_pair[0], time.monotonic() - 1):
        socket_pair[0].close()
        end_overdue_connections(MOST)


@pytest.fixture
def connections():
    with ExitStack() as opened:
        yield [[opened.enter_context(end) for end in socket.socketpair()] for _ in range(4)]


def find_ended(connections):
    """Which connections have ended for who writes."""
    ended = []
    for at, (ours, _) in enumerate(connections):
        try:
            ours.send(b"x")
        except BrokenPipeError:
            ended.append(at)
    return ended


def test_sending_ends_when_the_time_is_over(connections):
    now = time.monotonic()
    with limit_sending(connections[0][0], now - 1), limit_sending(connections[1][0], now + 60):
        end_overdue_connections(MOST)
        assert find_ended(connections) == [0]


@pytest.mark.parametrize(("most", "ended"), [(3, []), (2, [0]), (1, [0, 1])])
def test_longest_slow_connections_are_closed_first(connections, monkeypatch, most, ended):
    clock = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    with ExitStack() as sending:
        for ours, _ in connections[:3]:
            sending.enter_context(limit_sending(ours, 2000.0))
            clock += 0.01
        clock += 2
        sending.enter_context(limit_sending(connections[3][0], 2000.0))  # which is not slow yet
        end_overdue_connections(most)
        assert find_ended(connections) == ended


def test_slow_sender_is_no_slow_reader(connections, monkeypatch):
    clock = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    with limit_reading(connections[0][0], 2000.0):
        clock += 2
        end_overdue_connections(0)
        assert find_ended(connections) == []
