"""A dask cluster that computes the differences of large jobs."""

import logging
import pickle
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

from service.numerics.core.interrupts import check_interrupt
from service.numerics.gradients.finite_difference.inline_executor import InlineExecutor

ResultT = TypeVar("ResultT")

_CONNECT_SECONDS = 5
_ANSWER_SECONDS = 15
"""Seconds within which a scheduler answers, however busy it is."""
_POLL_SECONDS = 0.1
"""Seconds between two looks at the clock and for a cancellation, while a result is awaited."""
_STEP_SECONDS = 0.005
"""Seconds between two looks at a result: a wait of dask with a limit of time can end in an error of its own."""
_FETCH_SECONDS = 10.0
"""Longest time in which a result is fetched at once; then a look at the clock, and another attempt."""
_FEWEST_SHARED_CALLS = 2
_MAX_LOSSES = 8
"""Losses of a worker with the function of a map, after which the job begins anew."""
_log = logging.getLogger("gradcheckd")


class ClusterLostError(Exception):
    """The scheduler, or all that it had of a job, is gone: the job begins anew.

    Parameters
    ----------
    reason
        Reason, for the log.
    has_ended_workers
        True if workers ended with a part of the job, one after the other: the job may be the cause. False by default.
    """

    def __init__(self, reason: str, *, has_ended_workers: bool = False) -> None:
        super().__init__(reason)
        self.has_ended_workers = has_ended_workers


class Cluster:
    """The connection to a scheduler, made anew when it is lost.

    Parameters
    ----------
    address
        Address of the scheduler. Certificates are those of dask's own configuration.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._client: Any = None
        self._lock = threading.Lock()

    def describe_absence(self) -> str | None:
        """Return why no job can be computed now, a clause; None if one can."""
        with self._lock:
            try:
                self._connect()
                # A scheduler that has stopped takes messages, and never answers.
                client = self._client
                identity = client.sync(client.scheduler.identity, n_workers=1, callback_timeout=_ANSWER_SECONDS)
            except (OSError, TimeoutError, TypeError, ValueError) as error:
                # dask raises TypeError for an address of TLS without certificates.
                _log.warning("no connection to the scheduler %s: %r", self._address, error)
                return f"the scheduler {self._address} does not answer"
            return None if identity["workers"] else "the cluster has no workers"

    @contextmanager
    def share_work(self) -> Generator["ClusterExecutor"]:
        """Make the executor of one job within the block; at its end no worker computes for the job.

        Raises
        ------
        ClusterLostError
            There is no connection now.
        """
        client = self._client
        if client is None or client.status != "running":
            raise ClusterLostError("there is no connection to the scheduler")
        executor = ClusterExecutor(client)
        try:
            yield executor
        finally:
            executor.shutdown()

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._disconnect()

    def _connect(self) -> None:
        from distributed import Client

        if self._client is not None and self._client.status == "running":
            return
        self._disconnect()
        self._client = Client(self._address, timeout=_CONNECT_SECONDS, set_as_default=False, name="gradcheckd")

    def _disconnect(self) -> None:
        if self._client is not None:
            self._client.close(timeout=1)
            self._client = None


class ClusterExecutor(InlineExecutor):
    """The calls of one job on a cluster.

    Parameters
    ----------
    client
        Client of dask.
    """

    runs_ahead = True

    def __init__(self, client: Any) -> None:
        self._client = client
        self._maps: list[_ClusterMap] = []

    def map(
        self, fn: Callable[..., ResultT], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[ResultT]:
        """Hand all calls to the cluster at once, and return an iterator of their results, in order.

        A single call is made here, on request: it would take longer to send. `chunksize` of several go together.
        """
        arguments = list(zip(*iterables, strict=False))
        if len(arguments) < _FEWEST_SHARED_CALLS:
            return (fn(*values) for values in arguments)
        chunks = [arguments[start : start + chunksize] for start in range(0, len(arguments), chunksize)]
        cluster_map = _ClusterMap(self._client, fn, chunks)
        self._maps.append(cluster_map)
        cluster_map.submit()
        return cluster_map.iterate_results()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Withdraw all calls whose results nobody has taken."""
        futures = [future for cluster_map in self._maps for future in cluster_map.list_futures()]
        self._maps.clear()
        if futures and self._client.status == "running":
            self._client.cancel(futures, force=True)


class _ClusterMap:
    """The calls of one map.

    The function goes to the cluster once, and the calls in chunks, each a task of dask with one result of bytes.

    Parameters
    ----------
    client
        Client of dask.
    function
        Function to call; it and its results can be pickled.
    chunks
        Arguments of the calls of each chunk.
    """

    def __init__(self, client: Any, function: Callable[..., Any], chunks: Sequence[Sequence[tuple[Any, ...]]]) -> None:
        self._client, self._chunks = client, chunks
        self._pickled = _Pickled(uuid.uuid4().hex, pickle.dumps(function, pickle.HIGHEST_PROTOCOL))
        self._scattered: Any = None
        self._futures: dict[int, Any] = {}
        self._losses = 0

    def submit(self) -> None:
        """Hand the function and all chunks to the cluster."""
        self._submit(range(len(self._chunks)))

    def list_futures(self) -> list[Any]:
        """Return the futures of what the cluster has."""
        return [*self._futures.values(), *([] if self._scattered is None else [self._scattered])]

    def iterate_results(self) -> Iterator[Any]:
        """Yield the results of the calls, in order."""
        for index in range(len(self._chunks)):
            content = self._await_chunk(index)
            self._futures.pop(index).release()
            yield from pickle.loads(content)

    def _submit(self, indices: Iterable[int]) -> None:
        wanted = list(indices)
        with _report_loss():
            self._scattered = self._client.scatter(self._pickled, hash=False, timeout=_ANSWER_SECONDS)
            chunks = [self._chunks[index] for index in wanted]
            futures = self._client.map(_call_chunk, chunks, pickled=self._scattered, pure=False)
        self._futures.update(zip(wanted, futures, strict=True))

    def _await_chunk(self, index: int) -> bytes:
        while True:
            check_interrupt()
            if self._client.status != "running":
                raise ClusterLostError("the connection to the scheduler is lost")
            future = self._futures[index]
            if future.cancelled():
                self._submit_again()
                continue
            # A result is fetched only once it is there: a fetch that is broken off every time would never end.
            # So is one whose worker ends in that moment: the next look sees it.
            with suppress(TimeoutError, CancelledError):
                if not _wait_briefly(future):
                    continue
                with _report_loss(TimeoutError, CancelledError):
                    return future.result(timeout=_FETCH_SECONDS)

    def _submit_again(self) -> None:
        self._losses += 1
        if self._losses > _MAX_LOSSES:
            raise ClusterLostError("workers of the cluster end again and again", has_ended_workers=True)
        _log.warning("a worker of the cluster is gone, and its work goes to the others")
        try:
            self._submit([index for index, future in self._futures.items() if future.cancelled()])
        except ClusterLostError as error:
            # The scheduler answers, and no worker is left.
            raise ClusterLostError(str(error), has_ended_workers=isinstance(error.__cause__, TimeoutError)) from error


def _wait_briefly(future: Any) -> bool:
    """Wait until a future is done, for `_POLL_SECONDS` at most; tell whether it is."""
    deadline = time.monotonic() + _POLL_SECONDS
    while not future.done():
        if time.monotonic() > deadline:
            return False
        time.sleep(_STEP_SECONDS)
    return True


@contextmanager
def _report_loss(*expected: type[Exception]) -> Generator[None]:
    """Report what a lost cluster raises within the block, other errors than those expected, as its loss."""
    from distributed import KilledWorker

    try:
        yield
    except expected:
        raise
    except KilledWorker as error:
        raise ClusterLostError(repr(error), has_ended_workers=True) from error
    except (OSError, CancelledError) as error:
        raise ClusterLostError(repr(error)) from error


_KEPT_FUNCTIONS = 8
"""Functions that a worker keeps ready: some names of one job move in turns."""


@lru_cache(maxsize=_KEPT_FUNCTIONS)
def _load_function(pickled: "_Pickled") -> Callable[..., Any]:
    return pickle.loads(pickled.content)


@dataclass(frozen=True)
class _Pickled:
    """A pickled function, which a worker unpickles once.

    Only processes of the service write them: a cluster is as trusted as the service itself.
    """

    name: str
    content: bytes = field(compare=False)


def _call_chunk(chunk: Sequence[tuple[Any, ...]], pickled: _Pickled) -> bytes:
    """Make the calls of a chunk on a worker, one after the other; return their results, pickled.

    One piece of bytes goes through dask faster than many small arrays, each of which would be a message of its own.
    """
    function = _load_function(pickled)
    # As in the service, whose results show what is not finite.
    with np.errstate(all="ignore"):
        return pickle.dumps([function(*arguments) for arguments in chunk], pickle.HIGHEST_PROTOCOL)
