"""Shared calls are made once, in order, and end with their request."""

import os
from functools import partial

import pytest

from service.helper_processes import shared_work
from service.helper_processes.pool import HelperPool
from service.helper_processes.shared_work import SharedExecutor
from service.numerics.core.interrupts import OutOfTimeError, install_interrupt_check
from tests.service.helper_processes import calls
from tests.service.helper_processes.conftest import (
    BYTES,
    NUMBERS,
    SQUARES,
    has_ended,
    wait_until,
)


def test_one_call_is_made_here() -> None:
    work = SharedExecutor(BYTES)
    assert list(work.map(calls.find_process, [1])) == [os.getpid()]
    assert list(work.map(calls.find_process, [])) == []
    assert work.submit(calls.square, 3).result() == 9
    with pytest.raises(ZeroDivisionError):
        work.submit(calls.divide, 0).result()


def test_maps_run_ahead_of_one_another(pool: HelperPool) -> None:
    with pool.share_work(1, 1, BYTES) as work:
        first, second = (work.map(calls.square, numbers) for numbers in (NUMBERS, NUMBERS[:3]))
        assert list(second) == SQUARES[:3]
        assert list(first) == SQUARES


def test_an_error_of_a_call_is_raised_here(pool: HelperPool) -> None:
    with pool.share_work(1, 1, BYTES) as work, pytest.raises(ZeroDivisionError):
        list(work.map(calls.divide, [1, 0, 2]))


def test_a_stuck_helper_is_given_up(pool: HelperPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_work, "_PATIENCE_SECONDS", 0.0)
    with pool.share_work(1, 1, BYTES) as work:
        results = work.map(partial(calls.sleep_unless, os.getpid()), NUMBERS)
        wait_until(lambda: work._taken)
        assert list(results) == SQUARES
    wait_until(lambda: not pool.helpers)


def test_the_end_of_a_request_ends_its_helpers(pool: HelperPool) -> None:
    def end() -> None:
        raise OutOfTimeError

    def run() -> None:
        with pool.share_work(1, 1, BYTES) as work:
            results = work.map(partial(calls.sleep_unless, os.getpid()), NUMBERS)
            wait_until(lambda: work._taken)
            processes.extend(helper.pid for helper in pool.helpers)
            with install_interrupt_check(end):
                list(results)

    processes: list[int | None] = []
    with pytest.raises(OutOfTimeError):
        run()
    wait_until(lambda: not pool.helpers)
    (pid,) = processes
    assert pid is not None
    assert has_ended(pid)
