"""A helper process keeps to its memory, and ends with its worker."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.helper_processes.pool import HelperPool
from tests.service.helper_processes import calls
from tests.service.helper_processes.conftest import (
    has_ended,
    map_in_helpers,
    wait_until,
)


def test_a_helper_has_no_more_memory_than_its_job(pool: HelperPool) -> None:
    with pool.share_work(1, 1, 2**28) as work:
        helper = map_in_helpers(work, calls.fill_memory, [16, 16])
        assert os.getpid() not in helper
        # Beyond the limit the call fails there, and is made here.
        results = work.map(calls.fill_memory, [512, 512])
        wait_until(lambda: not pool.helpers)
        assert set(results) == {os.getpid()}


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
