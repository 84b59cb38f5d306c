"""Limits on a worker's connections, so that descriptors remain for its files."""

import errno
import resource
import socket

SHORTAGE_ERRORS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
"""Errors of accepting a connection when descriptors or memory of the kernel have run out."""
_TARGET_LIMIT = 2**16
_RESERVED_DESCRIPTORS = 64
"""Descriptors of a worker beside those of connections and the brief ones of its threads."""
_MAX_CONNECTIONS = 1000
_MAX_SPARE_DESCRIPTORS = 32
"""The most descriptors that accepting leaves to files: those of metrics, and brief ones."""


def raise_descriptor_limit() -> int:
    """Raise the soft limit on descriptors to the hard one or to plenty; return it."""
    soft_limit, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted_limit = _TARGET_LIMIT if hard_limit == resource.RLIM_INFINITY else min(hard_limit, _TARGET_LIMIT)
    if soft_limit == resource.RLIM_INFINITY:
        return _TARGET_LIMIT
    if soft_limit < wanted_limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted_limit, hard_limit))
    return max(soft_limit, wanted_limit)


def compute_max_lingering(limit: int) -> int:
    """Return the most lingering connections for a limit on descriptors."""
    return max(1, min(256, limit // 4))


def compute_max_connections(limit: int, threads: int) -> int:
    """Return the most connections of a worker beside the lingering ones.

    At least one, however low the limit is: a shortage is reported later, at the call that fails.

    Parameters
    ----------
    limit
        Limit on descriptors.
    threads
        Number of threads, each of which may open a file.
    """
    return max(1, min(_MAX_CONNECTIONS, limit - compute_max_lingering(limit) - _RESERVED_DESCRIPTORS - threads))


def raise_if_few_are_left(limit: int) -> None:
    """Raise the error of a shortage while there are still descriptors for files.

    The kernel gives the lowest free descriptor, so that a high one says that few are left.

    Parameters
    ----------
    limit
        Limit on descriptors.

    Raises
    ------
    OSError
        ``EMFILE``: an eighth of the descriptors or less is left, or 32 or fewer of many.
    """
    with socket.socket() as probe:
        lowest_free = probe.fileno()
    if lowest_free >= limit - min(_MAX_SPARE_DESCRIPTORS, limit // 8):
        raise OSError(errno.EMFILE, "the last descriptors are kept for files")
