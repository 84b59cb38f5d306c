"""Memory of a process and of all that it has begun, and the most of it while a block runs."""

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.local_server import list_children

SAMPLE_SECONDS = 0.02
"""Seconds between two looks."""


def measure_process_tree(process: int) -> int:
    """Bytes that a process and its children hold: what several of them share is counted once (PSS)."""
    return _read_pss(process) + sum(map(measure_process_tree, _list_children(process)))


def _list_children(process: int) -> list[int]:
    try:
        return list_children(process)
    except OSError:
        return []


def _read_pss(process: int) -> int:
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        # It has ended between two looks.
        return 0
    return 1024 * sum(map(int, re.findall(r"^Pss:\s+(\d+) kB$", text, re.MULTILINE)))


@dataclass
class PeakMemory:
    """The most bytes that were seen."""

    bytes: int = 0

    def update(self, process: int) -> None:
        """Look at a process and its children."""
        self.bytes = max(self.bytes, measure_process_tree(process))


@contextlib.contextmanager
def watch_peak(process: int) -> Iterator[PeakMemory]:
    """Look again and again at a process and its children, at the end of the block too."""
    most, over = PeakMemory(), threading.Event()

    def look() -> None:
        while not over.wait(SAMPLE_SECONDS):
            most.update(process)

    thread = threading.Thread(target=look)
    most.update(process)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()
        most.update(process)
