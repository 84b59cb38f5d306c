"""Files of metrics with allocated blocks.

The client of Prometheus maps sparse files into memory. If the file system is full at the first write to a page, the
kernel sends SIGBUS, which no handler survives. This module allocates the blocks first. If that fails, the process
counts in its own memory, which no other process sees, and logs that once.
"""

import logging
import mmap
import os
from typing import Any

from prometheus_client import mmap_dict, values

from service.gunicorn.private_directory import allocate_file

_log = logging.getLogger("gradcheckd")
_prometheus_dict: Any = mmap_dict
_MmapedDict: Any = _prometheus_dict.MmapedDict
_prometheus_values: Any = values
_INITIAL_BYTES: int = _prometheus_dict._INITIAL_MMAP_SIZE
_HEADER_BYTES = 4
"""Bytes at the beginning of a file, which hold the number of used bytes."""


class AllocatedDict(_MmapedDict):
    """The client's dict, on allocated blocks or else in memory.

    Attributes
    ----------
    in_memory
        True if the dict is in memory.
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
        """Begin with an empty dict in memory."""
        self._f, self._fname, self._capacity = None, filename, _INITIAL_BYTES
        self._m = mmap.mmap(-1, self._capacity)
        self._positions: dict[str, int] = {}
        self._used = 8
        self._m[:_HEADER_BYTES] = self._used.to_bytes(_HEADER_BYTES, "little")
        self.in_memory = True
        _warn_once(filename)

    def _init_value(self, key: str) -> None:
        # The client would double a file that is too small; here it is large enough before.
        needed_bytes = self._used + 4 * (len(key.encode()) + 32)
        while needed_bytes > self._capacity:
            self._grow(2 * self._capacity)
        _MmapedDict._init_value(self, key)

    def _grow(self, capacity: int) -> None:
        if not self.in_memory:
            if allocate_file(self._f.fileno(), capacity):
                self._capacity = capacity
                self._m = mmap.mmap(self._f.fileno(), capacity)
                return
            # The file keeps its counts for the other processes; this one goes on from them in memory.
            self.in_memory = True
            _warn_once(self._fname)
        content = bytes(self._m)
        self._m = mmap.mmap(-1, capacity)
        self._m[: len(content)] = content
        self._capacity = capacity

    def close(self) -> None:
        """Close the dict; idempotent."""
        if self._f is None and self._m is not None:
            self._m.close()
            self._m = None
        _MmapedDict.close(self)


def _prepare_file(filename: str) -> bool:
    """Make a file with room for the first values.

    Leave none and return False if that fails.
    """
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
        _log.warning("no room for %s: no other process reports the counts of this one from now on", filename)


def install_allocated_dict() -> None:
    """Install the dict for all metrics of this process, before the first of them."""
    _prometheus_values.MmapedDict = AllocatedDict
