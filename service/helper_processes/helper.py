"""A helper process, and the thread of the worker that starts it, hands it calls, and ends it."""

import json
import logging
import os
import pickle
import queue
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from service.helper_processes.child import HEADER, JOB
from service.helper_processes.shared_work import SharedCall, SharedExecutor, SharedJob

_log = logging.getLogger("gradcheckd")

_CALLS_AHEAD = 3
"""Calls that a helper has at once, so that it need not wait for this thread between two."""
_END_SECONDS = 2.0
"""Seconds that a helper gets to end by itself."""
_PROGRAM = (
    "import json, sys; path, *arguments = json.loads(sys.argv[1]); sys.path[:] = path; "
    "from service.helper_processes.child import main; main(*arguments)"
)


class Helper(threading.Thread):
    """A helper: a daemon, since its process ends with this thread and thus with the worker.

    Parameters
    ----------
    modules
        Modules that the process imports before its first job.
    idle_seconds
        Longest time without work, after which it ends.
    on_idle
        Callback when the helper has no work.
    leave
        Callback when the helper has been idle for long; returns False if it has got work meanwhile.
    on_end
        Callback when the process has ended.
    """

    def __init__(
        self,
        modules: Sequence[str],
        idle_seconds: float,
        on_idle: Callable[["Helper"], None],
        leave: Callable[["Helper"], bool],
        on_end: Callable[["Helper"], None],
    ) -> None:
        super().__init__(name="gradcheckd-helper", daemon=True)
        self._modules, self._idle_seconds = modules, idle_seconds
        self._on_idle, self._leave, self._on_end = on_idle, leave, on_end
        self._assigned: queue.SimpleQueue[SharedExecutor | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_given_up = False

    @property
    def pid(self) -> int | None:
        """Return the id of the process; None before it has started."""
        return None if self._process is None else self._process.pid

    @property
    def has_ended(self) -> bool:
        """Return whether its process has ended."""
        return self._process is not None and self._process.poll() is not None

    def assign(self, work: SharedExecutor | None) -> None:
        """Give it the work of a check; None to end it when it has no other."""
        self._assigned.put(work)

    def give_up(self) -> None:
        """Kill the process."""
        with self._lock:
            self._is_given_up = True
            if self._process is not None:
                self._process.kill()

    def run(self) -> None:
        """Start the process, and serve checks until it is given up, ends, or is idle for long."""
        try:
            self._start_and_serve()
        except (OSError, EOFError) as error:
            if not self._is_given_up:
                _log.warning("a helper process ended before its time, and its worker goes on: %r", error)
        except Exception:  # noqa: BLE001  # such as a job that cannot be pickled
            _log.exception("a helper process is of no use, and its worker goes on")
        finally:
            self._end_process()
            self._on_end(self)

    def _start_and_serve(self) -> None:
        own_end, other_end = socket.socketpair()
        with other_end:
            connection: Connection[Any, Any] = Connection(own_end.detach())
            self._start_process(other_end.fileno())
        with connection:
            # Not before now does it take calls, which would have to wait until the process has started.
            connection.recv_bytes()
            while (work := self._await_work()) is not None:
                self._serve(work, connection)
                self._on_idle(self)

    def _start_process(self, descriptor: int) -> None:
        arguments = json.dumps([sys.path, descriptor, os.getpid(), self._modules])
        with self._lock:
            if self._is_given_up:
                raise EOFError
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, arguments],
                stdin=subprocess.DEVNULL,
                # The log of the worker is no place for another format.
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(descriptor,),
                process_group=0,
            )

    def _await_work(self) -> SharedExecutor | None:
        try:
            return self._assigned.get(timeout=self._idle_seconds)
        except queue.Empty:
            return None if self._leave(self) else self._assigned.get()

    def _serve(self, work: SharedExecutor, connection: "Connection[Any, Any]") -> None:
        """Hand on calls, and take their results, until the check ends."""
        sent: deque[SharedCall] = deque()
        last_job: SharedJob | None = None
        try:
            while True:
                call = work.take(self, waits=not sent) if len(sent) < _CALLS_AHEAD else None
                if call is None:
                    if not sent:
                        return
                    self._receive(work, sent, connection)
                    continue
                sent.append(call)
                if call.job is not last_job:
                    # Two processes that both send large messages would wait for one another.
                    while len(sent) > 1:
                        self._receive(work, sent, connection)
                    connection.send_bytes(HEADER.pack(JOB, work.job_bytes))
                    connection.send_bytes(call.job.dump())
                    last_job = call.job
                connection.send_bytes(HEADER.pack(call.index, 0))
        finally:
            work.give_back(sent)

    @staticmethod
    def _receive(work: SharedExecutor, sent: "deque[SharedCall]", connection: "Connection[Any, Any]") -> None:
        """Take the result of the call that was sent first.

        Raises
        ------
        EOFError
            The process has ended, or the call failed there.
        """
        result = connection.recv_bytes()
        if not result:
            raise EOFError
        work.finish(sent.popleft(), pickle.loads(result))

    def _end_process(self) -> None:
        """Wait for the end of the process, whose connection is closed."""
        process = self._process
        if process is None:
            return
        try:
            process.wait(0 if self._is_given_up else _END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
