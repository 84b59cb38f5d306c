"""The heartbeat file of a worker, in memory instead of in a file system.

A full or slow file system cannot stall it.
"""

import os
import time
from typing import Any

from gunicorn.workers import base

_gunicorn_base: Any = base


class Heartbeat:
    """A replacement of gunicorn's `WorkerTmp` without a file system.

    Parameters
    ----------
    cfg
        gunicorn's configuration, with the directory of such files; unused.
    """

    def __init__(self, cfg: Any) -> None:
        self._file = os.fdopen(os.memfd_create("gradcheckd-heartbeat"), "w+b", 0)

    def notify(self) -> None:
        """Record that the worker is alive."""
        now = time.monotonic()
        os.utime(self._file.fileno(), (now, now))

    def last_update(self) -> float:
        """Return the time of the last `notify` by `time.monotonic`."""
        return os.fstat(self._file.fileno()).st_mtime

    def fileno(self) -> int:
        """Return the descriptor of the file."""
        return self._file.fileno()

    def close(self) -> None:
        """Close the file; idempotent."""
        self._file.close()


def install_heartbeat() -> None:
    """Give every worker such a heartbeat, if the system has files in memory."""
    if hasattr(os, "memfd_create"):
        _gunicorn_base.WorkerTmp = Heartbeat
