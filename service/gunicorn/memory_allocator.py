"""How the C library's allocator gives memory back.

It takes what is smaller than a threshold from one growing heap, and raises that threshold of itself, up to 32 MiB. The
copies that a blocked convolution makes in PyTorch, some megabytes for each block, then leave holes there: small results
that live on are put into them, so that the next copy needs new memory. What is mapped by itself leaves no hole.

What is smaller is freed into the heap, and is not given back while anything above it lives. A worker that has made some
large checks kept 50 MB and more so, in vain.
"""

import ctypes
import os
from pathlib import Path

MMAP_THRESHOLD_BYTES = 2**20
"""Bytes from which on memory is mapped by itself, and given back at once."""
_M_MMAP_THRESHOLD = -3
_THRESHOLD_VARIABLE = "MALLOC_MMAP_THRESHOLD_"
GROWTH_BYTES = 2**24
"""Bytes by which a process has to grow for it to be worth some milliseconds to look for what is free."""


def configure_malloc() -> bool:
    """Map what is large by itself, here and in processes forked later; false where it is settled or cannot be."""
    if _THRESHOLD_VARIABLE in os.environ:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES))


class FreeHeapPages:
    """Pages within the heap that are free: given back to the system whenever the process has grown."""

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._least = read_resident_bytes()

    def give_back(self) -> bool:
        """Give them back, and tell whether that was worth it.

        Several threads may do so at once: the least is then that of one of them, and the next one sees to it.
        """
        held = read_resident_bytes()
        if held is None or self._least is None or self._trim is None:
            return False
        if held < self._least + GROWTH_BYTES:
            self._least = min(held, self._least)
            return False
        self._trim(0)
        self._least = read_resident_bytes()
        return True


def read_resident_bytes() -> int | None:
    """Bytes of memory that this process holds; None where the kernel does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
