"""A dask cluster that computes the differences of large jobs."""

import logging
import pickle
import threading
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

from service.numerics.core.interrupts import check_interrupt
from service.numerics.gradients.finite_difference.inline_executor import InlineExecutor

ResultT = TypeVar("ResultT")

_CONNECT_SECONDS = 5
_POLL_SECONDS = 0.1
"""Seconds between two looks at the clock and for a cancellation, while a result is awaited."""
_FEWEST_SHARED_CALLS = 2
_log = logging.getLogger("gradcheckd")


class ClusterLostError(Exception):
    """The scheduler, or all that it had of a job, is gone: the job begins anew."""


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
            except (OSError, TimeoutError, TypeError, ValueError) as error:
                # dask raises TypeError for an address of TLS without certificates.
                _log.warning("no connection to the scheduler %s: %r", self._address, error)
                return f"the scheduler {self._address} does not answer"
            return None if self._client.scheduler_info(n_workers=1)["workers"] else "the cluster has no workers"

    @contextmanager
    def share_work(self) -> Generator["ClusterExecutor"]:
        """Make the executor of one job within the block; at its end no worker computes for the job."""
        with self._lock:
            client = self._client
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

    The function of a map goes to the cluster once, and the results come back in order.

    Parameters
    ----------
    client
        Client of dask.
    """

    runs_ahead = True

    def __init__(self, client: Any) -> None:
        self._client = client
        self._futures: set[Any] = set()

    def map(
        self, fn: Callable[..., ResultT], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[ResultT]:
        """Hand all calls to the cluster at once, and return an iterator of their results, in order.

        A single call is made here, on request: it would take longer to send.
        """
        arguments = list(zip(*iterables, strict=False))
        if len(arguments) < _FEWEST_SHARED_CALLS:
            return (fn(*values) for values in arguments)
        with _report_loss():
            pickled = _Pickled(uuid.uuid4().hex, pickle.dumps(fn, pickle.HIGHEST_PROTOCOL))
            function = self._client.scatter(pickled, hash=False)
            futures = [self._client.submit(_call, function, values, pure=False) for values in arguments]
        self._futures.update(futures, [function])
        return self._iterate_results(futures)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Withdraw all calls whose results nobody has taken."""
        futures = list(self._futures)
        self._futures.clear()
        if futures and self._client.status == "running":
            self._client.cancel(futures, force=True)

    def _iterate_results(self, futures: list[Any]) -> Iterator[Any]:
        for future in futures:
            result = self._await_result(future)
            self._futures.discard(future)
            future.release()
            yield result

    def _await_result(self, future: Any) -> Any:
        while True:
            check_interrupt()
            if self._client.status != "running":
                raise ClusterLostError("the connection to the scheduler is lost")
            with _report_loss():
                try:
                    return future.result(timeout=_POLL_SECONDS)
                except TimeoutError:
                    continue


@contextmanager
def _report_loss() -> Generator[None]:
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError

    try:
        yield
    except TimeoutError:
        raise
    except (OSError, KilledWorker, FutureCancelledError) as error:
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


def _call(pickled: _Pickled, arguments: tuple[Any, ...]) -> Any:
    """Make a call on a worker."""
    # As in the service, whose results show what is not finite.
    with np.errstate(all="ignore"):
        return _load_function(pickled)(*arguments)
