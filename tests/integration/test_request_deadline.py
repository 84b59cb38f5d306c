"""The time of a request goes by from when its head has come, over a real gunicorn, to the last byte of its answer."""

import json
from collections.abc import Callable

import pytest

from tests.integration import raw_http
from tests.integration.conftest import Server
from tests.integration.raw_http import has_input, wait_until
from tests.integration.test_slow_readers import count_unfinished_answers, open_slow_reader

REST = raw_http.EXAMPLE_BODY[len(raw_http.EXAMPLE_BODY) // 2 :]
HALF = raw_http.WHOLE_REQUEST[: -len(REST)]
PATIENCE = {f"GRADCHECKD_{limit}_SECONDS": "3600" for limit in ("MAX_STALL", "MAX_HEAD", "MAX_BODY", "SEND_TIMEOUT")}


@pytest.fixture(scope="module")
def hurried_server(start_server: Callable[..., Server]) -> Server:
    """A service with no limit that counts but that of the whole request."""
    return start_server(**PATIENCE, GRADCHECKD_MAX_SECONDS="6")


@pytest.fixture(scope="module")
def patient_server(start_server: Callable[..., Server]) -> Server:
    """The same without that."""
    return start_server(**PATIENCE, GRADCHECKD_MAX_SECONDS="3600")


def test_a_body_has_no_more_time_than_its_request(hurried_server: Server, patient_server: Server) -> None:
    with raw_http.open_connection(patient_server) as kept, raw_http.open_connection(hurried_server) as connection:
        kept.sendall(HALF)
        connection.sendall(HALF)
        status, body = raw_http.read_answer(connection)
        assert status == 408
        assert "within the 6 s that all of the request may take" in json.loads(body)["detail"]
        assert not has_input(kept)
        kept.sendall(REST)
        raw_http.check_reference_answer(*raw_http.read_answer(kept))


def test_an_answer_has_no_more_time_than_its_request(hurried_server: Server, patient_server: Server) -> None:
    before = count_unfinished_answers(hurried_server)
    with open_slow_reader(patient_server), open_slow_reader(hurried_server):
        wait_until(lambda: count_unfinished_answers(hurried_server) > before)
        assert count_unfinished_answers(patient_server) == 0
    raw_http.send_example(hurried_server)
