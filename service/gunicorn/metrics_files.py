"""The files of the workers' metrics, in a directory of the master.

The directory is in memory if possible.

The file of a worker outlives it, since a sum over the workers must not fall when one exits. The counts of all exited
workers are merged into one file, so that files do not pile up.
"""

import contextlib
import os
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Any

_MIN_FREE_BYTES = 2**20
"""Free bytes that the directory needs: the first files of a master and some workers."""

# The client of Prometheus is imported inside functions: at its import it decides whether it writes to files, and the
# directory has to be known by then.
_SUMMED_KINDS = ("counter", "histogram")


def make_metrics_directory() -> Path | None:
    """Make a directory for metrics; return None if none can be written or has room."""
    for parent in ("/dev/shm", tempfile.gettempdir()):
        with contextlib.suppress(OSError):
            directory = Path(tempfile.mkdtemp(prefix="gradcheckd-", dir=parent))
            if _has_room(directory):
                return directory
            shutil.rmtree(directory, ignore_errors=True)
    return None


def _has_room(directory_path: Path) -> bool:
    with tempfile.TemporaryFile(dir=directory_path) as file:
        return allocate_file(file.fileno(), _MIN_FREE_BYTES)


def allocate_file(descriptor: int, size: int) -> bool:
    """Allocate the first bytes of a file; return False if there is no room."""
    if not hasattr(os, "posix_fallocate"):
        return os.fstat(descriptor).st_size >= size or os.ftruncate(descriptor, size) is None
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError:
        return False
    return True


def merge_dead_worker(directory_path: Path, pid: int) -> None:
    """Remove an exited worker from the gauges, and merge its counts with the others.

    If there is no room for the sums, the worker's file stays, and scrapes add it up as well.
    """
    from prometheus_client import multiprocess

    client: Any = multiprocess
    client.mark_process_dead(pid, str(directory_path))
    for kind in _SUMMED_KINDS:
        dead_file = directory_path / f"{kind}_{pid}.db"
        if dead_file.exists():
            # A worker that was killed during a write may leave an unreadable file, which no scrape could read.
            with contextlib.suppress(RuntimeError, ValueError, struct.error):
                if not _add_counts(dead_file, directory_path / f"{kind}_dead.db"):
                    continue
            dead_file.unlink()


def _add_counts(dead: Path, total: Path) -> bool:
    """Add counts to the sums; return False if there is no room."""
    from service.gunicorn.metrics_allocation import AllocatedDict

    counts = list(AllocatedDict.read_all_values_from_file(str(dead)))
    # A copy is replaced in one move: a scrape may come at any time.
    new_total = total.with_suffix(".new")
    try:
        if total.exists():
            shutil.copy(total, new_total)
        sums = AllocatedDict(str(new_total))
    except OSError:
        new_total.unlink(missing_ok=True)
        return False
    for key, value, *_ in counts:
        sums.write_value(key, sums.read_value(key)[0] + value, 0.0)
    is_complete = not sums.in_memory
    sums.close()
    if is_complete:
        new_total.replace(total)
    else:
        new_total.unlink(missing_ok=True)
    return is_complete


def remove_metrics_directory(directory_path: Path, owner: int) -> None:
    """Remove the directory at the exit of the process that made it, and of no other.

    Workers inherit the exit handler, and must not remove the directory.
    """
    if os.getpid() == owner:
        shutil.rmtree(directory_path, ignore_errors=True)
