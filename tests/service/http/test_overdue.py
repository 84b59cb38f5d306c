import time

from service.http.overdue import due, end_overdue


def test_reading_ends_when_the_time_is_over_and_writing_does_not(pair):
    ours, theirs = pair
    with due(ours, time.monotonic() - 1):
        end_overdue()
        assert ours.recv(1) == b"", "as at the end"
    ours.sendall(b"408")
    assert theirs.recv(3) == b"408"


def test_not_before_and_not_after(pair):
    ours, theirs = pair
    with due(ours, time.monotonic() + 60):
        end_overdue()
    with due(ours, time.monotonic() - 1):
        pass
    end_overdue()
    theirs.sendall(b"more")
    assert ours.recv(4) == b"more"


def test_without_a_socket_nobody_can_end_it():
    with due(None, time.monotonic() - 1):
        end_overdue()


def test_what_is_closed_already_is_no_matter(pair):
    with due(pair[0], time.monotonic() - 1):
        pair[0].close()
        end_overdue()
