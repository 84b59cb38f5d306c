"""The cores that the processes of the service may use."""

import os
from pathlib import Path

_QUOTA_FILE = Path("/sys/fs/cgroup/cpu.max")
_MOST_PROCESSES = 4
"""Most processes of one check: its parts that no other process shares take some tenth of its time."""


def count_usable_cores(quota_file: Path = _QUOTA_FILE) -> int:
    """Count the cores that this process may run on, within the quota of its container; 1 at least."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, _read_quota(quota_file) or allowed))


def choose_process_count(cores: int, workers: int) -> int:
    """Choose the processes of one check so that all workers together have no more than there are cores."""
    return max(1, min(cores // max(1, workers), _MOST_PROCESSES))


def _read_quota(quota_file: Path) -> int | None:
    """Read how many whole cores the container may use; None without a quota."""
    try:
        quota, period = quota_file.read_text().split()
        return None if quota == "max" else max(1, int(quota) // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return None
