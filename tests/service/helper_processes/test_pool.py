"""Helpers compute what they are given; killed, failing, stuck or idle ones leave nothing behind, and no one waits."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from service.helper_processes import helper as helper_module
from service.helper_processes import shared_work
from service.helper_processes.pool import HelperPool
from service.helper_processes.shared_work import SharedExecutor
from service.numerics.core.interrupts import OutOfTimeError, install_interrupt_check
from tests.service.helper_processes import calls
from tests.service.helper_processes.conftest import map_in_helpers, wait_until

BYTES = 2**28
NUMBERS = list(range(20))
SQUARES = [number * number for number in NUMBERS]


def has_ended(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


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


def test_maps_run_ahead_of_one_another(pool: HelperPool) -> None:
    with pool.share_work(1, 1, BYTES) as work:
        first, second = (work.map(calls.square, numbers) for numbers in (NUMBERS, NUMBERS[:3]))
        assert list(second) == SQUARES[:3]
        assert list(first) == SQUARES


def test_one_call_is_made_here() -> None:
    work = SharedExecutor(BYTES)
    assert list(work.map(calls.find_process, [1])) == [os.getpid()]
    assert list(work.map(calls.find_process, [])) == []
    assert work.submit(calls.square, 3).result() == 9
    with pytest.raises(ZeroDivisionError):
        work.submit(calls.divide, 0).result()


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


@pytest.mark.parametrize("function", [calls.kill_unless, calls.fail_unless], ids=["killed", "failing"])
def test_calls_of_a_helper_that_ends_are_made_here(pool: HelperPool, function) -> None:
    with pool.share_work(1, 1, BYTES) as work:
        shared = partial(function, os.getpid())
        assert map_in_helpers_until_it_ends(pool, work, shared) == SQUARES
    wait_until(lambda: not pool.helpers)


def map_in_helpers_until_it_ends(pool: HelperPool, work: SharedExecutor, function) -> list[int]:
    results = work.map(function, NUMBERS)
    wait_until(lambda: not pool.helpers)
    return list(results)


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


def test_an_error_of_a_call_is_raised_here(pool: HelperPool) -> None:
    with pool.share_work(1, 1, BYTES) as work, pytest.raises(ZeroDivisionError):
        list(work.map(calls.divide, [1, 0, 2]))


def test_what_cannot_be_pickled_is_computed_here(pool: HelperPool, caplog: pytest.LogCaptureFixture) -> None:
    with pool.share_work(1, 1, BYTES) as work:
        assert map_in_helpers_until_it_ends(pool, work, lambda number: number * number) == SQUARES
    assert "is of no use" in caplog.text


def test_a_helper_has_no_more_memory_than_its_job(pool: HelperPool) -> None:
    with pool.share_work(1, 1, 2**28) as work:
        helper = map_in_helpers(work, calls.fill_memory, [16, 16])
        assert os.getpid() not in helper
        # Beyond the limit the call fails there, and is made here.
        results = work.map(calls.fill_memory, [512, 512])
        wait_until(lambda: not pool.helpers)
        assert set(results) == {os.getpid()}


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


_WORKER = """
import os, sys, threading
from functools import partial
from service.helper_processes.pool import HelperPool
from tests.service.helper_processes import calls
from tests.service.helper_processes.conftest import map_in_helpers, wait_until

pool = HelperPool(("numpy",))
context = pool.share_work(1, 1, 2**28)
work = context.__enter__()
pid = map_in_helpers(work, calls.find_process, range(2))[0]
results = work.map(partial(calls.sleep_unless, os.getpid()), range(9))
wait_until(lambda: work._taken)
print(pid, flush=True)
if sys.argv[1] == "waits":
    threading.Event().wait()
"""


@pytest.mark.long
@pytest.mark.parametrize("end", ["killed", "ends"])
def test_a_helper_ends_with_its_worker(end: str) -> None:
    """Even in the middle of a call that takes an hour."""
    command = [sys.executable, "-c", _WORKER, "waits" if end == "killed" else "ends"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as worker:
        assert worker.stdout is not None
        pid = int(worker.stdout.readline())
        assert pid != worker.pid
        if end == "killed":
            assert not has_ended(pid)
            worker.kill()
    wait_until(lambda: has_ended(pid))
