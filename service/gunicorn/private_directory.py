"""Directories of the master for files that its workers share and that end with it, in memory if possible."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

_MIN_FREE_BYTES = 2**20
"""Free bytes that a directory needs: the first files of a master and some workers."""


def make_private_directory() -> Path | None:
    """Make a directory; return None if none can be written or has room."""
    for parent in ("/dev/shm", tempfile.gettempdir()):
        with contextlib.suppress(OSError):
            directory = Path(tempfile.mkdtemp(prefix="gradcheckd-", dir=parent))
            if _has_room(directory):
                return directory
            shutil.rmtree(directory, ignore_errors=True)
    return None


def _has_room(directory_path: Path) -> bool:
    with tempfile.TemporaryFile(dir=directory_path) as file:
        return allocate_file(file.fileno(), _MIN_FREE_BYTES)


def allocate_file(descriptor: int, size: int) -> bool:
    """Allocate the first bytes of a file; return False if there is no room."""
    if not hasattr(os, "posix_fallocate"):
        return os.fstat(descriptor).st_size >= size or os.ftruncate(descriptor, size) is None
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError:
        return False
    return True


def remove_private_directory(directory_path: Path, owner: int) -> None:
    """Remove the directory at the exit of the process that made it, and of no other.

    Workers inherit the exit handler, and must not remove the directory.
    """
    if os.getpid() == owner:
        shutil.rmtree(directory_path, ignore_errors=True)
