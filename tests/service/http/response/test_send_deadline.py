import time

import pytest

from service.http import io_deadlines, metrics
from service.http.response.send_deadline import enforce_send_deadline


class Answer:
    """An answer that knows whether it was closed."""

    def __init__(self, *pieces):
        self.pieces, self.closed = pieces, 0

    def __iter__(self):
        return iter(self.pieces)

    def close(self):
        self.closed += 1


@pytest.fixture
def count_unfinished_answers():
    """How many answers have not been sent whole since."""
    before = metrics.UNFINISHED_ANSWERS._value.get()
    return lambda: metrics.UNFINISHED_ANSWERS._value.get() - before


def test_only_sending_has_a_deadline(socket_pair, count_unfinished_answers):
    answer = Answer(b"ab", b"c" * 2**17)
    watched = enforce_send_deadline(answer, {"gunicorn.socket": socket_pair[0]}, 30.0)
    times = []
    for _ in watched:
        state = io_deadlines._PENDING_BY_CONNECTION[socket_pair[0]]
        times.append(round(state.deadline - state.started, 2))
    assert times == [30.0, 32.0]
    assert socket_pair[0] not in io_deadlines._PENDING_BY_CONNECTION
    watched.close()
    assert (answer.closed, count_unfinished_answers()) == (1, 0)


@pytest.mark.parametrize(("left", "given"), [(1000.0, 30.0), (20.0, 20.0), (2.0, 5.0), (-1000.0, 5.0)])
def test_answer_has_until_the_deadline_or_some_seconds_to_be_taken(socket_pair, left, given):
    before = time.monotonic()
    for _ in enforce_send_deadline(Answer(b"a"), {"gunicorn.socket": socket_pair[0]}, 30.0, before + left):
        deadline = io_deadlines._PENDING_BY_CONNECTION[socket_pair[0]].deadline
        assert before + given <= deadline <= time.monotonic() + given + 1 / io_deadlines.MIN_BYTES_PER_SECOND


@pytest.mark.parametrize("begun", [False, True])
def test_answer_is_closed_wherever_it_stopped(socket_pair, begun, count_unfinished_answers):
    answer = Answer(b"a", b"b")
    watched = enforce_send_deadline(answer, {"gunicorn.socket": socket_pair[0]}, 30.0)
    if begun:
        next(iter(watched))
        assert socket_pair[0] in io_deadlines._PENDING_BY_CONNECTION
    watched.close()
    assert (answer.closed, count_unfinished_answers()) == (1, 1)
    assert socket_pair[0] not in io_deadlines._PENDING_BY_CONNECTION


def test_answer_without_close_method_is_closed(socket_pair):
    watched = enforce_send_deadline([b"a"], {"gunicorn.socket": socket_pair[0]}, 30.0)
    assert list(watched) == [b"a"]
    watched.close()


def test_answer_without_a_connection_is_unwrapped():
    answer = [b"a"]
    assert enforce_send_deadline(answer, {}, 30.0) is answer


def test_a_large_piece_is_handed_out_in_parts_within_one_deadline(socket_pair):
    whole = bytes(range(256)) * 2**12
    parts, states = [], set()
    for part in (watched := enforce_send_deadline(Answer(whole), {"gunicorn.socket": socket_pair[0]}, 30.0)):
        parts.append(part)
        states.add(io_deadlines._PENDING_BY_CONNECTION[socket_pair[0]])
    watched.close()
    assert b"".join(parts) == whole
    assert max(map(len, parts)) == 2**18
    assert len(states) == 1
