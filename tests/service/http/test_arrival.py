import time

from service.http import arrival
from service.http.arrival import (
    compute_answer_deadline,
    compute_body_deadline,
    measure_since_arrival,
    record_arrival,
    set_arrival,
)


def noted(moment):
    environ = {}
    with set_arrival(moment):
        record_arrival(environ)
    return environ


def test_a_request_has_its_time_from_when_its_head_was_whole():
    moment = time.monotonic() - 100.0
    environ = noted(moment)
    assert measure_since_arrival(environ) >= 100.0
    assert compute_body_deadline(environ, 6000.0) == moment + 6000.0
    assert compute_answer_deadline(environ, 6000.0) == moment + 9000.0


def test_unknown_arrival_is_now():
    before = time.monotonic()
    for environ in (noted(None), {}):
        record_arrival(environ)
        assert compute_answer_deadline(environ, 0.0) >= before


def test_a_body_has_some_seconds_however_late_its_request_is():
    before = time.monotonic()
    found = compute_body_deadline(noted(before - 1000.0), 60.0)
    assert before + arrival.MIN_TRANSFER_SECONDS <= found <= time.monotonic() + arrival.MIN_TRANSFER_SECONDS


def test_arrival_of_one_request_does_not_leak_into_the_next():
    with set_arrival(1.0):
        pass
    assert arrival._ARRIVAL.get() is None
