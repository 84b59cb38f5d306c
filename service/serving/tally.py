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

# The client of Prometheus is imported where it is needed: as it is loaded, it settles whether it writes to files, and
# the directory has to be known by then.
_SUMMED = ("counter", "histogram")


def directory() -> Path | None:
    """Make a directory of one's own; None where nothing can be written."""
    for place in ("/dev/shm", tempfile.gettempdir()):
        with contextlib.suppress(OSError):
            return Path(tempfile.mkdtemp(prefix="gradcheckd-", dir=place))
    return None


def bury(place: Path, pid: int) -> None:
    """Take a dead worker out of the gauges, and add its counts to those of the other dead."""
    from prometheus_client import multiprocess

    client: Any = multiprocess
    client.mark_process_dead(pid, str(place))
    for kind in _SUMMED:
        dead = place / f"{kind}_{pid}.db"
        if dead.exists():
            # What was killed while it wrote may be beyond reading, and would be for everyone.
            with contextlib.suppress(RuntimeError, ValueError, struct.error):
                _add(dead, place / f"{kind}_dead.db")
            dead.unlink()


def _add(dead: Path, total: Path) -> None:
    from prometheus_client import mmap_dict

    client: Any = mmap_dict
    counts = list(client.MmapedDict.read_all_values_from_file(str(dead)))
    # Beside, then in one move: a scrape may come at any time.
    beside = total.with_suffix(".new")
    if total.exists():
        shutil.copy(total, beside)
    sums = client.MmapedDict(str(beside))
    for key, value, *_ in counts:
        sums.write_value(key, sums.read_value(key)[0] + value, 0.0)
    sums.close()
    beside.replace(total)


def remove(place: Path, owner: int) -> None:
    """Leave nothing behind, at the exit of the process that made it; its workers, who inherit this, leave it alone."""
    if os.getpid() == owner:
        shutil.rmtree(place, ignore_errors=True)
