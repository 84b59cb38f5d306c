"""Parts of the worker; tests/integration/test_many_and_slow_clients.py has it at work."""

import socket

import pytest

from service.gunicorn import worker


def test_received_bytes_are_peeked_at_and_stay(socket_pair):
    ours, theirs = socket_pair
    assert worker._peek_input(ours) is None
    theirs.sendall(b"GET")
    assert worker._peek_input(ours) == worker._peek_input(ours) == b"GET"
    theirs.close()
    assert ours.recv(3) == b"GET"
    assert worker._peek_input(ours) == b"", "the end"
    ours.close()
    assert worker._peek_input(ours) == b""


def test_a_client_that_has_closed_its_side_sends_no_more(socket_pair):
    ours, theirs = socket_pair
    theirs.sendall(b"GET / HT")
    assert not worker._has_client_closed(ours)
    theirs.shutdown(socket.SHUT_WR)
    assert worker._has_client_closed(ours)
    assert worker._peek_input(ours) == b"GET / HT"


@pytest.mark.parametrize(
    ("head", "whole"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", True),
        (b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n{", True),
        (b"", True),
        (b"x" * worker._MAX_PEEKED_BYTES, True),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", False),
        (b"G", False),
    ],
)
def test_a_head_is_whole_at_its_empty_line_or_where_gunicorn_will_say_what_is_wrong(head, whole):
    assert worker._is_head_complete(head) is whole
