"""Settings of the C library's allocator that return memory to the system when it is worth it.

The allocator takes blocks below a threshold from one growing heap, and raises that threshold by itself, up to 32 MiB
(mallopt(3), M_MMAP_THRESHOLD). The copies of a blocked convolution in PyTorch, some megabytes for each block, then
leave holes in the heap. Small results that live on fill the holes, so that the next copy needs new memory. A block that
is mapped by itself leaves no hole.

Smaller blocks are freed into the heap, which is not returned while any block above them lives. After some large checks
a worker kept 50 MB and more in vain.

Free memory at the end of the heap goes back as soon as there are 128 KiB of it unless the threshold is set (mallopt(3),
M_TRIM_THRESHOLD). A check takes and frees arrays of some megabytes many times over, and each time the kernel cleared
their pages anew: a third of the time of a check of 128,000 weights. So much stays until the request ends as the arrays
of one evaluation take.
"""

import ctypes
import os
from pathlib import Path

MMAP_THRESHOLD_BYTES = 2**20
"""Bytes from which on a block is mapped by itself, and returned at once."""
TRIM_THRESHOLD_BYTES = 2**24
"""Free bytes at the end of the heap up to which they stay. `FreeHeapPages` returns them after the request."""
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1
_THRESHOLD_VARIABLE = "MALLOC_MMAP_THRESHOLD_"
GROWTH_BYTES = 2**24
"""Growth of a process that is worth some milliseconds of search for free pages."""


def configure_malloc() -> bool:
    """Map large blocks by themselves, and keep small ones a while, in this process and in later forks.

    Return False if the environment settles the threshold, or the library cannot set it.
    """
    if _THRESHOLD_VARIABLE in os.environ:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    settings = ((_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES), (_M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES))
    return mallopt is not None and all(mallopt(parameter, value) for parameter, value in settings)


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
