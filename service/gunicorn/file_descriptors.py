"""How many connections a worker may have, so that it is never without a descriptor for a file of its own."""

import errno
import resource

SHORTAGE_ERRORS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
"""What accepting a connection fails with where descriptors or memory of the kernel have run out."""
_TARGET_LIMIT = 2**16
_RESERVED_DESCRIPTORS = 64
"""Descriptors of a worker beside those of connections, and those that its threads need for a moment."""
_MAX_CONNECTIONS = 1000


def raise_descriptor_limit() -> int:
    """Raise the soft limit on descriptors to the hard one, or to what is plenty, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _TARGET_LIMIT if hard == resource.RLIM_INFINITY else min(hard, _TARGET_LIMIT)
    if soft == resource.RLIM_INFINITY:
        return _TARGET_LIMIT
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)


def compute_max_lingering(limit: int) -> int:
    """Most connections that have had their last answer and are still open, given the limit."""
    return max(1, min(256, limit // 4))


def compute_max_connections(limit: int, threads: int) -> int:
    """Most connections of a worker beside those, given the limit and its threads, each of which may open a file.

    One at least, however low the limit is: what is short then is told of where it is missed.
    """
    return max(1, min(_MAX_CONNECTIONS, limit - compute_max_lingering(limit) - _RESERVED_DESCRIPTORS - threads))
