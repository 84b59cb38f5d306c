import time

import pytest

from service.http import arriving
from service.http.arriving import arrived_at, last_byte_in, last_byte_out, note, since_arrival


def noted(moment):
    environ = {}
    with arrived_at(moment):
        note(environ)
    return environ


def test_a_request_has_its_time_from_when_its_head_was_whole():
    environ = noted(time.monotonic() - 100.0)
    assert since_arrival(environ) >= 100.0
    begun = time.monotonic() - since_arrival(environ)
    assert last_byte_in(environ, 60.0) - begun == pytest.approx(60.0, abs=1.0)
    assert last_byte_out(environ, 60.0) - begun == pytest.approx(90.0, abs=1.0)


def test_where_nobody_says_when_that_was_it_is_now():
    before = time.monotonic()
    for environ in (noted(None), {}):
        note(environ)
        assert last_byte_in(environ, 0.0) >= before


def test_what_was_said_of_one_request_is_not_said_of_the_next():
    with arrived_at(1.0):
        pass
    assert arriving._ARRIVED.get() is None
