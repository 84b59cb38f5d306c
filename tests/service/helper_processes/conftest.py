"""A pool of helpers, and executors that leave all calls to them."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.helper_processes.pool import HelperPool
from service.helper_processes.shared_work import SharedExecutor

PATIENCE = 120
BYTES = 2**28
NUMBERS = list(range(20))
SQUARES = [number * number for number in NUMBERS]


def wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def pool() -> Iterator[HelperPool]:
    pool = HelperPool()
    yield pool
    for helper in pool.helpers:
        helper.give_up()
    pool.close()
    assert not pool.helpers


def is_idle(work: SharedExecutor) -> bool:
    """Whether no call waits, and none is being computed."""
    return not work._waiting and not work._taken


def map_in_helpers(work: SharedExecutor, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """The results of calls of which helpers make all that they can."""
    results = work.map(function, *arguments)
    wait_until(lambda: is_idle(work))
    return list(results)


def map_in_helpers_until_it_ends(pool: HelperPool, work: SharedExecutor, function) -> list[int]:
    results = work.map(function, NUMBERS)
    wait_until(lambda: not pool.helpers)
    return list(results)


def has_ended(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()
