import time

from service.http import arriving
from service.http.arriving import arrived_at, last_byte_in, last_byte_out, note, since_arrival


def noted(moment):
    environ = {}
    with arrived_at(moment):
        note(environ)
    return environ


def test_a_request_has_its_time_from_when_its_head_was_whole():
    moment = time.monotonic() - 100.0
    environ = noted(moment)
    assert since_arrival(environ) >= 100.0
    assert last_byte_in(environ, 6000.0) == moment + 6000.0
    assert last_byte_out(environ, 6000.0) == moment + 9000.0


def test_where_nobody_says_when_that_was_it_is_now():
    before = time.monotonic()
    for environ in (noted(None), {}):
        note(environ)
        assert last_byte_out(environ, 0.0) >= before


def test_a_body_has_some_seconds_however_late_its_request_is():
    before = time.monotonic()
    found = last_byte_in(noted(before - 1000.0), 60.0)
    assert before + arriving.LEAST_SECONDS <= found <= time.monotonic() + arriving.LEAST_SECONDS


def test_what_was_said_of_one_request_is_not_said_of_the_next():
    with arrived_at(1.0):
        pass
    assert arriving._ARRIVED.get() is None
