"""Where workers write what they count: a directory of the master's own, in memory if there is such a place.

A worker's file outlives it, since a sum over the workers must not fall when one ends. So that files do not pile up
where workers end again and again, those of the dead are added up into one.
"""

import contextlib
import os
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Any

_MIN_FREE_BYTES = 2**20
"""Bytes that there has to be room for: what a master and some workers begin with."""

# The client of Prometheus is imported where it is needed: as it is loaded, it settles whether it writes to files, and
# the directory has to be known by then.
_SUMMED_KINDS = ("counter", "histogram")


def make_metrics_directory() -> Path | None:
    """Make a directory of one's own; None where nothing can be written, or there is no room for it."""
    for place in ("/dev/shm", tempfile.gettempdir()):
        with contextlib.suppress(OSError):
            made = Path(tempfile.mkdtemp(prefix="gradcheckd-", dir=place))
            if _has_room(made):
                return made
            shutil.rmtree(made, ignore_errors=True)
    return None


def _has_room(directory_path: Path) -> bool:
    with tempfile.TemporaryFile(dir=directory_path) as file:
        return allocate_file(file.fileno(), _MIN_FREE_BYTES)


def allocate_file(descriptor: int, size: int) -> bool:
    """Allocate the first bytes of a file; false where there is no room for them."""
    if not hasattr(os, "posix_fallocate"):
        return os.fstat(descriptor).st_size >= size or os.ftruncate(descriptor, size) is None
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError:
        return False
    return True


def merge_dead_worker(directory_path: Path, pid: int) -> None:
    """Take a dead worker out of the gauges, and add its counts to those of the other dead.

    Where there is no room for the sums, its own file stays, which a scrape adds up as well.
    """
    from prometheus_client import multiprocess

    client: Any = multiprocess
    client.mark_process_dead(pid, str(directory_path))
    for kind in _SUMMED_KINDS:
        dead = directory_path / f"{kind}_{pid}.db"
        if dead.exists():
            # What was killed while it wrote may be beyond reading, and would be for everyone.
            with contextlib.suppress(RuntimeError, ValueError, struct.error):
                if not _add_counts(dead, directory_path / f"{kind}_dead.db"):
                    continue
            dead.unlink()


def _add_counts(dead: Path, total: Path) -> bool:
    """Add counts to the sums; false where there is no room."""
    from service.gunicorn.metrics_allocation import AllocatedDict

    counts = list(AllocatedDict.read_all_values_from_file(str(dead)))
    # Beside, then in one move: a scrape may come at any time.
    beside = total.with_suffix(".new")
    try:
        if total.exists():
            shutil.copy(total, beside)
        sums = AllocatedDict(str(beside))
    except OSError:
        beside.unlink(missing_ok=True)
        return False
    for key, value, *_ in counts:
        sums.write_value(key, sums.read_value(key)[0] + value, 0.0)
    whole = not sums.in_memory
    sums.close()
    if whole:
        beside.replace(total)
    else:
        beside.unlink(missing_ok=True)
    return whole


def remove_metrics_directory(directory_path: Path, owner: int) -> None:
    """Leave nothing behind, at the exit of the process that made it; its workers, who inherit this, leave it alone."""
    if os.getpid() == owner:
        shutil.rmtree(directory_path, ignore_errors=True)
