"""Settings of the C library's allocator that return memory to the system.

The allocator takes blocks below a threshold from one growing heap, and raises that threshold by itself, up to 32 MiB
(mallopt(3), M_MMAP_THRESHOLD). The copies of a blocked convolution in PyTorch, some megabytes for each block, then
leave holes in the heap. Small results that live on fill the holes, so that the next copy needs new memory. A block that
is mapped by itself leaves no hole.

Smaller blocks are freed into the heap, which is not returned while any block above them lives. After some large checks
a worker kept 50 MB and more in vain.
"""

import ctypes
import os
from pathlib import Path

MMAP_THRESHOLD_BYTES = 2**20
"""Bytes from which on a block is mapped by itself, and returned at once."""
_M_MMAP_THRESHOLD = -3
_THRESHOLD_VARIABLE = "MALLOC_MMAP_THRESHOLD_"
GROWTH_BYTES = 2**24
"""Growth of a process that is worth some milliseconds of search for free pages."""


def configure_malloc() -> bool:
    """Map large blocks by themselves, in this process and in later forks.

    Return False if the environment settles the threshold, or the library cannot set it.
    """
    if _THRESHOLD_VARIABLE in os.environ:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES))


class FreeHeapPages:
    """The free pages of the heap, which are returned when the process has grown."""

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._least = read_resident_bytes()

    def give_back(self) -> bool:
        """Return the free pages to the system if the process has grown.

        Tell whether it had.

        Several threads may do so at once: one of them then sets the least size, and the next call corrects it.
        """
        resident = read_resident_bytes()
        if resident is None or self._least is None or self._trim is None:
            return False
        if resident < self._least + GROWTH_BYTES:
            self._least = min(resident, self._least)
            return False
        self._trim(0)
        self._least = read_resident_bytes()
        return True


def read_resident_bytes() -> int | None:
    """Read the resident bytes of this process, or None if the kernel does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
