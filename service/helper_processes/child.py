"""The program of a helper process: it computes the parts of jobs, until its worker ends.

The worker sends a job once and then the index of each part. A job is a function and the arguments of its parts, pickled
by our own worker and sent over a pair of sockets that no other process has.
"""

import ctypes
import os
import pickle
import signal
import struct
import sys
from collections.abc import Sequence
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from service.helper_processes.oom_score import raise_oom_score

HEADER = struct.Struct("<qq")
"""The index of a part and 0; or `JOB`, and the bytes that the job may take. The job follows."""
JOB = -1
READY = b"ready"
"""The first message: no call waits for the start of a process."""
_PR_SET_PDEATHSIG = 1


def main(descriptor: int, worker_pid: int, modules: Sequence[str]) -> None:
    """Serve one worker until it closes the connection.

    Parameters
    ----------
    descriptor
        Descriptor of the connection.
    worker_pid
        Process id of the worker.
    modules
        Names of modules to import before the first job, so that its memory limit does not count them.
    """
    _end_with(worker_pid)
    # A terminal sends it to the workers as well, and these end their helpers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for module in modules:
        import_module(module)
    own_bytes = _read_data_bytes()
    # As in the worker, whose results show what is not finite.
    with np.errstate(all="ignore"), Connection(descriptor) as connection:
        connection.send_bytes(READY)
        _serve(connection, own_bytes)


def _serve(connection: "Connection[Any, Any]", own_bytes: int | None) -> None:
    function, arguments = None, []
    try:
        while True:
            index, job_bytes = HEADER.unpack(connection.recv_bytes())
            if index == JOB:
                # The last job makes room first.
                function, arguments = None, []
                _limit_memory(own_bytes, job_bytes)
                function, arguments = _load_job(connection.recv_bytes())
            else:
                connection.send_bytes(_compute_part(function, arguments, index))
    except (EOFError, ConnectionError):
        return


def _load_job(job: bytes) -> tuple[Any, list[Any]]:
    """Return the function and the arguments of its parts; None without room for them."""
    try:
        return pickle.loads(job)
    except MemoryError:
        return None, []


def _compute_part(function: Any, arguments: Sequence[Any], index: int) -> bytes:
    """Return the pickled result of a part; nothing if it failed, and the worker then computes it."""
    try:
        return pickle.dumps(function(*arguments[index]), pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001  # the worker meets the same error, or has more memory
        return b""


def _end_with(worker_pid: int) -> None:
    """Have the kernel end this process with the thread that started it, and be the first to end without memory."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != worker_pid:
        raise SystemExit
    raise_oom_score()


def _limit_memory(own_bytes: int | None, job_bytes: int) -> None:
    """Limit the data of this process to its own and those of a job, where the kernel tells the former."""
    import resource  # not on every system, and workers of any system import this module

    if own_bytes is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = own_bytes + job_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _read_data_bytes() -> int | None:
    """Read the bytes of data of this process, as the limit counts them; None if the kernel does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None
