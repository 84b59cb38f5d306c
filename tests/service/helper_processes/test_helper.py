"""A helper that is killed, fails, is stuck or idle leaves nothing behind, and no one waits for it."""

import os
import signal
from functools import partial

import pytest

from service.helper_processes import helper as helper_module
from service.helper_processes.pool import HelperPool
from tests.service.helper_processes import calls
from tests.service.helper_processes.conftest import (
    BYTES,
    NUMBERS,
    SQUARES,
    has_ended,
    map_in_helpers,
    map_in_helpers_until_it_ends,
    wait_until,
)


@pytest.mark.parametrize("function", [calls.kill_unless, calls.fail_unless], ids=["killed", "failing"])
def test_calls_of_a_helper_that_ends_are_made_here(pool: HelperPool, function) -> None:
    with pool.share_work(1, 1, BYTES) as work:
        shared = partial(function, os.getpid())
        assert map_in_helpers_until_it_ends(pool, work, shared) == SQUARES
    wait_until(lambda: not pool.helpers)


def test_what_cannot_be_pickled_is_computed_here(pool: HelperPool, caplog: pytest.LogCaptureFixture) -> None:
    with pool.share_work(1, 1, BYTES) as work:
        assert map_in_helpers_until_it_ends(pool, work, lambda number: number * number) == SQUARES
    assert "is of no use" in caplog.text


def test_an_idle_helper_ends() -> None:
    pool = HelperPool(idle_seconds=0.01)
    with pool.share_work(1, 1, BYTES) as work:
        (pid,) = set(map_in_helpers(work, calls.find_process, NUMBERS))
    wait_until(lambda: not pool.helpers)
    assert has_ended(pid)


def test_a_helper_that_does_not_end_by_itself_is_killed(monkeypatch: pytest.MonkeyPatch, pool: HelperPool) -> None:
    monkeypatch.setattr(helper_module, "_END_SECONDS", 0.0)
    with pool.share_work(1, 1, BYTES) as work:
        (pid,) = set(map_in_helpers(work, calls.find_process, NUMBERS))
    os.kill(pid, signal.SIGSTOP)
    pool.close()
    assert has_ended(pid)
