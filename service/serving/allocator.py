"""How the C library's allocator gives memory back.

It takes what is smaller than a threshold from one growing heap, and raises that threshold of itself, up to 32 MiB. The
copies that a blocked convolution makes in PyTorch, some megabytes for each block, then leave holes there: small results
that live on are put into them, so that the next copy needs new memory. What is mapped by itself leaves no hole.
"""

import ctypes
import os

MAPPED_FROM = 2**20
"""Bytes from which on memory is mapped by itself, and given back at once."""
_M_MMAP_THRESHOLD = -3
_VARIABLE = "MALLOC_MMAP_THRESHOLD_"


def use() -> bool:
    """Map what is large by itself, here and in processes forked later; false where it is settled or cannot be."""
    if _VARIABLE in os.environ:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_THRESHOLD, MAPPED_FROM))
