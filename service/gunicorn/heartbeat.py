"""The file whose time says that a worker is alive: in memory alone, where no full or slow file system is in its way."""

import os
import time
from typing import Any

from gunicorn.workers import base

_gunicorn_base: Any = base


class Heartbeat:
    """What gunicorn's `WorkerTmp` is, without a file system.

    Parameters
    ----------
    cfg
        gunicorn's configuration, which says where such files are; it is not needed.
    """

    def __init__(self, cfg: Any) -> None:
        self._file = os.fdopen(os.memfd_create("gradcheckd-heartbeat"), "w+b", 0)

    def notify(self) -> None:
        """Say that the worker is alive."""
        now = time.monotonic()
        os.utime(self._file.fileno(), (now, now))

    def last_update(self) -> float:
        """When it last said so, by `time.monotonic`."""
        return os.fstat(self._file.fileno()).st_mtime

    def fileno(self) -> int:
        """Descriptor of the file."""
        return self._file.fileno()

    def close(self) -> None:
        """Close it; a second time is nothing."""
        self._file.close()


def install_heartbeat() -> None:
    """Have every worker use it, where the system has such files."""
    if hasattr(os, "memfd_create"):
        _gunicorn_base.WorkerTmp = Heartbeat
