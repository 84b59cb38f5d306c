"""The files of the workers' metrics, in a directory of the master.

The directory is in memory if possible.

The file of a worker outlives it, since a sum over the workers must not fall when one exits. The counts of all exited
workers are merged into one file, so that files do not pile up.
"""

import contextlib
import shutil
import struct
from pathlib import Path
from typing import Any

# The client of Prometheus is imported inside functions: at its import it decides whether it writes to files, and the
# directory has to be known by then.
_SUMMED_KINDS = ("counter", "histogram")


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
