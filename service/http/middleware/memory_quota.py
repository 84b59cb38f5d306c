"""Quotas for the bytes of unparsed bodies and of unsent answers.

The quotas bound the memory of a worker for any number of clients, however slowly they send or read.
"""

import threading
from collections.abc import Generator
from contextlib import contextmanager

from flask import Flask, current_app
from prometheus_client import Gauge

from service.http import metrics
from service.http.middleware.concurrency import CapacityError
from service.settings import Settings

_RETRY_SECONDS = 1
SMALL_ANSWER_BYTES = 2**18
"""Bytes up to which an answer is not counted: there are never more such answers than threads."""


class ByteQuota:
    """A limited number of bytes.

    Parameters
    ----------
    limit
        Number of bytes.
    content
        Content of the bytes, a plural noun; "bodies" by default.
    gauge
        Gauge of the reserved bytes; that of bodies by default.
    """

    def __init__(
        self, limit: int, content: str = "bodies", gauge: Gauge | metrics.UnseenGauge = metrics.BUFFERED_BODY_BYTES
    ) -> None:
        self._limit, self._content, self._gauge, self._reserved_bytes = limit, content, gauge, 0
        self._lock = threading.Lock()

    @property
    def reserved_bytes(self) -> int:
        """Number of reserved bytes."""
        return self._reserved_bytes

    def reserve(self, count: int) -> None:
        """Reserve further bytes.

        Raises
        ------
        CapacityError
            If the quota has not as many left.
        """
        with self._lock:
            if self._reserved_bytes + count > self._limit:
                detail = (
                    f"Other requests take {self._reserved_bytes} of the {self._limit} bytes for {self._content}. "
                    f"Try again in {_RETRY_SECONDS} s."
                )
                raise CapacityError(detail, retry_after=_RETRY_SECONDS)
            self._change_reserved(count)

    def release(self, count: int) -> None:
        """Release bytes for other requests."""
        with self._lock:
            self._change_reserved(-count)

    def _change_reserved(self, change: int) -> None:
        self._reserved_bytes += change
        self._gauge.inc(change)


class Reservation:
    """The reserved bytes of one body or answer; `close()` is idempotent."""

    def __init__(self, quota: ByteQuota) -> None:
        self._quota, self._bytes = quota, 0

    def grow(self, count: int) -> None:
        """Reserve further bytes.

        Raises
        ------
        CapacityError
            If there is no room for them.
        """
        self._quota.reserve(count)
        self._bytes += count

    def resize(self, count: int) -> None:
        """Change the reservation to a number of bytes.

        Raises
        ------
        CapacityError
            If the number is larger than before, and there is no room for it.
        """
        if count > self._bytes:
            self.grow(count - self._bytes)
        else:
            self._quota.release(self._bytes - count)
            self._bytes = count

    def close(self) -> None:
        """Release all bytes, unless that was done."""
        count, self._bytes = self._bytes, 0
        self._quota.release(count)


_BODY_QUOTA, _ANSWER_QUOTA = "gradcheckd.room", "gradcheckd.answers"


def register(app: Flask, settings: Settings, *, is_measured: bool = True) -> None:
    """Create the quotas of an application for bodies and for answers, which the metrics show by default."""
    unseen = None if is_measured else metrics.UnseenGauge()
    app.extensions[_BODY_QUOTA] = ByteQuota(
        settings.max_buffered_body_bytes, gauge=unseen or metrics.BUFFERED_BODY_BYTES
    )
    app.extensions[_ANSWER_QUOTA] = ByteQuota(
        settings.max_answer_bytes, "answers", unseen or metrics.BUFFERED_ANSWER_BYTES
    )


def reserve_body() -> Reservation:
    """Begin the reservation of a body."""
    return Reservation(current_app.extensions[_BODY_QUOTA])


class AnswerReservation(Reservation):
    """The reserved bytes of one answer: none if it is small."""

    def resize(self, count: int) -> None:
        """Change the reservation, which is 0 for a small answer; see `Reservation`."""
        super().resize(count if count > SMALL_ANSWER_BYTES else 0)


@contextmanager
def reserve_answer() -> Generator[AnswerReservation]:
    """Make an answer inside the block; release its bytes if that fails."""
    answer = AnswerReservation(current_app.extensions[_ANSWER_QUOTA])
    try:
        yield answer
    except BaseException:
        answer.close()
        raise
