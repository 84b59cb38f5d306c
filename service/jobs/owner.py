"""The process that jobs without a database of their own end with, and its directory for them."""

import os

_VARIABLE = "_GRADCHECKD_JOBS_OWNER"


def set_owner(pid: int, directory: str) -> None:
    """Tell the processes that this one starts of the owner of their jobs.

    Parameters
    ----------
    pid
        Process that the jobs end with.
    directory
        Directory for the jobs; empty if none can be written.
    """
    os.environ[_VARIABLE] = f"{pid}:{directory}"


def find_owner() -> tuple[int, str]:
    """Return the process that jobs end with, and its directory for them; this process and none if none was told."""
    pid, _, directory = os.environ.get(_VARIABLE, "").partition(":")
    return (int(pid), directory) if pid else (os.getpid(), "")
