"""Files of the metrics whose blocks exist before they are written to.

The client of Prometheus maps sparse files into memory. Where the file system is full when a page is first written to,
the kernel sends SIGBUS, which no handler survives. Here the blocks are allocated first; where that fails, the process
counts in memory of its own, which nobody else sees, and says so in the log, once.
"""

import logging
import mmap
import os
from typing import Any

from prometheus_client import mmap_dict, values

from service.gunicorn.metrics_files import allocate_file

_log = logging.getLogger("gradcheckd")
_prometheus_dict: Any = mmap_dict
_MmapedDict: Any = _prometheus_dict.MmapedDict
_prometheus_values: Any = values
_INITIAL_BYTES: int = _prometheus_dict._INITIAL_MMAP_SIZE
_HEADER_BYTES = 4
"""Bytes at the beginning, which say how much is used."""


class AllocatedDict(_MmapedDict):
    """The dict of the client, on allocated blocks or, where there are none, in memory.

    Attributes
    ----------
    private
        Whether it is in memory.
    """

    _f: Any
    _m: Any

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        if read_mode or _prepare_file(filename):
            _MmapedDict.__init__(self, filename, read_mode)
            self.in_memory = False
        else:
            self._begin_privately(filename)

    def _begin_privately(self, filename: str) -> None:
        """Begin empty, in memory."""
        self._f, self._fname, self._capacity = None, filename, _INITIAL_BYTES
        self._m = mmap.mmap(-1, self._capacity)
        self._positions: dict[str, int] = {}
        self._used = 8
        self._m[:_HEADER_BYTES] = self._used.to_bytes(_HEADER_BYTES, "little")
        self.in_memory = True
        _warn_once(filename)

    def _init_value(self, key: str) -> None:
        # The client doubles the file by itself where it is too small: then it is large enough already.
        needed = self._used + 4 * (len(key.encode()) + 32)
        while needed > self._capacity:
            self._grow(2 * self._capacity)
        _MmapedDict._init_value(self, key)

    def _grow(self, capacity: int) -> None:
        if not self.in_memory:
            if allocate_file(self._f.fileno(), capacity):
                self._capacity = capacity
                self._m = mmap.mmap(self._f.fileno(), capacity)
                return
            # What the file has stays there for the others, as it was; here it goes on from that.
            self.in_memory = True
            _warn_once(self._fname)
        counted = bytes(self._m)
        self._m = mmap.mmap(-1, capacity)
        self._m[: len(counted)] = counted
        self._capacity = capacity

    def close(self) -> None:
        """Close it; a second time is nothing."""
        if self._f is None and self._m is not None:
            self._m.close()
            self._m = None
        _MmapedDict.close(self)


def _prepare_file(filename: str) -> bool:
    """Make a file with room for the first values, or see that it has it; false, and none is left, where it cannot."""
    try:
        with open(filename, "a+b") as file:
            size = os.fstat(file.fileno()).st_size
            if allocate_file(file.fileno(), max(size, _INITIAL_BYTES)):
                return True
            if not size:
                os.unlink(filename)
    except OSError:
        return False
    return False


_REPORTED_FILES: set[str] = set()


def _warn_once(filename: str) -> None:
    if filename not in _REPORTED_FILES:
        _REPORTED_FILES.add(filename)
        _log.warning("no room for %s: what this process counts from now on is told by nobody else", filename)


def install_allocated_dict() -> None:
    """Have the client use it, for every metric of this process; before the first of them."""
    _prometheus_values.MmapedDict = AllocatedDict
