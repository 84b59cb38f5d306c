"""Helpers compute what they are given, few of them, and are kept for the next check."""

import os
import signal

import pytest

from service.helper_processes.pool import HelperPool
from tests.service.helper_processes import calls
from tests.service.helper_processes.conftest import (
    BYTES,
    NUMBERS,
    SQUARES,
    map_in_helpers,
    wait_until,
)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_calls_give_the_same_whatever_the_number_of_helpers(pool: HelperPool, count: int) -> None:
    with pool.share_work(count, 2, BYTES) as work:
        assert list(work.map(calls.square, NUMBERS)) == SQUARES
    assert len(pool.helpers) == count


def test_helpers_make_the_calls(pool: HelperPool) -> None:
    with pool.share_work(2, 2, BYTES) as work:
        processes = set(map_in_helpers(work, calls.find_process, NUMBERS))
    assert os.getpid() not in processes
    assert processes <= {helper.pid for helper in pool.helpers}


def test_helpers_are_kept_for_the_next_check(pool: HelperPool) -> None:
    processes = []
    for _ in range(2):
        with pool.share_work(1, 1, BYTES) as work:
            processes += map_in_helpers(work, calls.find_process, NUMBERS)
        wait_until(lambda: pool._idle)
    assert len(set(processes)) == 1


def test_no_more_helpers_than_allowed(pool: HelperPool) -> None:
    with pool.share_work(1, 1, BYTES) as first, pool.share_work(1, 1, BYTES) as second:
        assert len(pool.helpers) == 1
        # Without a helper of its own the second makes its calls here.
        assert set(second.map(calls.find_process, NUMBERS)) == {os.getpid()}
        assert set(map_in_helpers(first, calls.find_process, NUMBERS)) == {helper.pid for helper in pool.helpers}


def test_a_helper_that_is_killed_between_checks_is_replaced(pool: HelperPool) -> None:
    processes = []
    for _ in range(2):
        with pool.share_work(1, 1, BYTES) as work:
            processes += set(map_in_helpers(work, calls.find_process, NUMBERS))
        wait_until(lambda: pool._idle)
        (helper,) = pool.helpers
        os.kill(processes[-1], signal.SIGKILL)
        wait_until(lambda helper=helper: helper.has_ended)
    first, second = processes
    assert len({first, second, os.getpid()}) == 3
