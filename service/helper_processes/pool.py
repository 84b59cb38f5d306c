"""The helpers of a worker: few, started when a check needs them, and ended when none does for a while."""

import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from service.helper_processes.helper import Helper
from service.helper_processes.shared_work import SharedExecutor

_IDLE_SECONDS = 60.0


class HelperPool:
    """The helpers of this process.

    Parameters
    ----------
    modules
        Modules that helpers import before their first job.
    idle_seconds
        Seconds without work after which a helper ends; a minute by default.
    """

    def __init__(self, modules: Sequence[str] = (), idle_seconds: float = _IDLE_SECONDS) -> None:
        self._modules, self._idle_seconds = tuple(modules), idle_seconds
        self._lock = threading.Lock()
        self._helpers: set[Helper] = set()
        self._idle: list[Helper] = []

    @property
    def helpers(self) -> frozenset[Helper]:
        """Return the helpers that have not ended."""
        with self._lock:
            return frozenset(self._helpers)

    @contextmanager
    def share_work(self, count: int, most: int, job_bytes: int) -> Generator[SharedExecutor]:
        """Make an executor that helpers share within the block.

        Parameters
        ----------
        count
            Most helpers for this executor.
        most
            Most helpers of the whole process. Those that work for others are not taken: with none free, the executor
            makes all calls in its own thread.
        job_bytes
            Bytes that a helper may take for a job.
        """
        work = SharedExecutor(job_bytes)
        for helper in self._take_helpers(count, most):
            helper.assign(work)
        try:
            yield work
        finally:
            work.shutdown()

    def close(self) -> None:
        """End all helpers, each after the work that it has, and wait for their ends."""
        helpers = self.helpers
        for helper in helpers:
            helper.assign(None)
        for helper in helpers:
            helper.join()

    def _take_helpers(self, count: int, most: int) -> list[Helper]:
        """Return free helpers, new ones among them."""
        with self._lock:
            self._release_ended()
            taken = [self._idle.pop() for _ in range(min(count, len(self._idle)))]
            for _ in range(min(count - len(taken), most - len(self._helpers))):
                helper = Helper(self._modules, self._idle_seconds, self._add_idle, self._leave, self._forget)
                self._helpers.add(helper)
                helper.start()
                taken.append(helper)
            return taken

    def _release_ended(self) -> None:
        """Let the threads of idle helpers end whose processes have been killed."""
        for helper in [helper for helper in self._idle if helper.has_ended]:
            self._idle.remove(helper)
            self._helpers.discard(helper)
            helper.assign(None)

    def _add_idle(self, helper: Helper) -> None:
        with self._lock:
            self._idle.append(helper)

    def _leave(self, helper: Helper) -> bool:
        """Let a helper end that is idle; return False if it was taken at this moment."""
        with self._lock:
            if helper not in self._idle:
                return False
            self._idle.remove(helper)
            return True

    def _forget(self, helper: Helper) -> None:
        with self._lock:
            self._helpers.discard(helper)
            if helper in self._idle:
                self._idle.remove(helper)
