import time

from service.http import arrival
from service.http.arrival import (
    compute_answer_deadline,
    compute_body_deadline,
    measure_since_arrival,
    record_arrival,
    set_arrival,
)


def record_moment(moment):
    environ = {}
    with set_arrival(moment):
        record_arrival(environ)
    return environ


def test_a_request_has_its_time_from_when_its_head_was_whole():
    moment = time.monotonic() - 100.0
    environ = record_moment(moment)
    assert measure_since_arrival(environ) >= 100.0
    assert compute_body_deadline(environ, 6000.0) == moment + 6000.0
    assert compute_answer_deadline(environ, 6000.0) == moment + 9000.0


def test_unknown_arrival_is_now():
    before = time.monotonic()
    for environ in (record_moment(None), {}):
        record_arrival(environ)
        assert compute_answer_deadline(environ, 0.0) >= before


def test_body_of_a_late_request_has_a_minimum_of_time():
    before = time.monotonic()
    deadline = compute_body_deadline(record_moment(before - 1000.0), 60.0)
    assert before + arrival.MIN_TRANSFER_SECONDS <= deadline <= time.monotonic() + arrival.MIN_TRANSFER_SECONDS


def test_arrival_of_one_request_does_not_leak_into_the_next():
    with set_arrival(1.0):
        pass
    assert arrival._ARRIVAL.get() is None
