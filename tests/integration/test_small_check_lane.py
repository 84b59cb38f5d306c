"""Small checks have places that no long check can take, over a real gunicorn."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration import raw_http
from tests.integration.conftest import Server
from tests.integration.long_check import build_long_check
from tests.integration.raw_http import list_workers, wait_until
from tests.integration.test_many_and_slow_clients import read_metric

COMPUTED_SECONDS = 0.5
"""Processor time after which the long check has evaluated its loss hundreds of times."""


def make_long_request() -> bytes:
    body = json.dumps(build_long_check()).encode()
    return raw_http.make_head(f"Content-Length: {len(body)}") + body


def count_busy_places(server: Server, of: str) -> float:
    return read_metric(server, f'gradcheckd_busy_places{{of="{of}"}}')


def start_with_lane(start: Callable[..., Server], small: int) -> Server:
    """One place, that nobody waits for, and so many for small checks; a check may take as long as the test does."""
    return start(
        GRADCHECKD_MAX_CHECKS="1",
        GRADCHECKD_MAX_SMALL_CHECKS=str(small),
        GRADCHECKD_MAX_QUEUED="0",
        GRADCHECKD_MAX_WORK=str(10**13),
        GRADCHECKD_MAX_SECONDS="3600",
    )


def measure_cpu_seconds(server: Server) -> float:
    """Return the processor time of all workers so far."""
    stats = [Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split() for worker in list_workers(server)]
    return sum(int(user) + int(system) for user, system in (stat[11:13] for stat in stats)) / os.sysconf("SC_CLK_TCK")


@contextmanager
def occupy_all_places(server: Server) -> Iterator[socket.socket]:
    """A long check runs inside, from before to behind, and is left then."""
    ended, begun = read_metric(server, "gradcheckd_loss_evaluations_total"), measure_cpu_seconds(server)
    with raw_http.open_connection(server) as connection:
        connection.sendall(make_long_request())
        wait_until(lambda: count_busy_places(server, "checks") == 1)
        yield connection
        assert not raw_http.has_input(connection)
        assert count_busy_places(server, "checks") == 1
        # On a busy machine the others may be done before it evaluates anything.
        wait_until(lambda: measure_cpu_seconds(server) > begun + COMPUTED_SECONDS)
    wait_until(lambda: count_busy_places(server, "checks") == 0)
    assert read_metric(server, "gradcheckd_loss_evaluations_total") > ended


def test_small_checks_go_on_beside_a_long_one(start_server: Callable[..., Server]) -> None:
    server = start_with_lane(start_server, 1)
    with occupy_all_places(server), raw_http.open_connection(server) as connection:
        for _ in range(20):
            connection.sendall(raw_http.WHOLE_REQUEST)
            raw_http.check_reference_answer(*raw_http.read_answer(connection))
        assert count_busy_places(server, "small checks") == 0
        connection.sendall(make_long_request())
        status, body = raw_http.read_answer(connection)
        assert (status, b"All 1 places for checks are taken" in body) == (503, True)


def test_small_checks_without_a_lane_wait(start_server: Callable[..., Server]) -> None:
    server = start_with_lane(start_server, 0)
    with occupy_all_places(server), raw_http.open_connection(server) as connection:
        connection.sendall(raw_http.WHOLE_REQUEST)
        assert raw_http.read_answer(connection)[0] == 503
