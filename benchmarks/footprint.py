"""Memory of a process and of all that it has begun, and the most of it while a block runs."""

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving import children

PAUSE = 0.02
"""Seconds between two looks."""


def held(process: int) -> int:
    """Bytes that a process and its children hold: what several of them share is counted once (PSS)."""
    return _share(process) + sum(map(held, _begun(process)))


def _begun(process: int) -> list[int]:
    try:
        return children(process)
    except OSError:
        return []


def _share(process: int) -> int:
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        # It has ended between two looks.
        return 0
    return 1024 * sum(map(int, re.findall(r"^Pss:\s+(\d+) kB$", text, re.MULTILINE)))


@dataclass
class Most:
    """The most bytes that were seen."""

    bytes: int = 0

    def see(self, process: int) -> None:
        """Look at a process and its children."""
        self.bytes = max(self.bytes, held(process))


@contextlib.contextmanager
def watched(process: int) -> Iterator[Most]:
    """Look again and again at a process and its children, at the end of the block too."""
    most, over = Most(), threading.Event()

    def look() -> None:
        while not over.wait(PAUSE):
            most.see(process)

    thread = threading.Thread(target=look)
    most.see(process)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()
        most.see(process)
