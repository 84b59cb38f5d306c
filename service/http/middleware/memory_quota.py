"""Bytes of bodies that are not parsed yet, and of answers that are not sent yet.

A worker holds so many of either, whatever the number of its clients and however slowly they send or read.
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
"""Bytes up to which an answer is held without counting: there are never more of them than threads."""


class ByteQuota:
    """Room for so many bytes.

    Parameters
    ----------
    most
        How many.
    of
        What they are of, in the plural.
    gauge
        Tells how many are held.
    """

    def __init__(self, limit: int, content: str = "bodies", gauge: Gauge = metrics.BUFFERED_BODY_BYTES) -> None:
        self._limit, self._content, self._gauge, self._reserved_bytes = limit, content, gauge, 0
        self._lock = threading.Lock()

    @property
    def reserved_bytes(self) -> int:
        """How many bytes are held."""
        return self._reserved_bytes

    def reserve(self, count: int) -> None:
        """Take room for further bytes.

        Raises
        ------
        FullError
            If there is not as much.
        """
        with self._lock:
            if self._reserved_bytes + count > self._limit:
                detail = (
                    f"Of the {self._limit} bytes of {self._content} that are held here at once, {self._reserved_bytes} are taken by "
                    f"requests under way. Try again in {_RETRY_SECONDS} s."
                )
                raise CapacityError(detail, retry_after=_RETRY_SECONDS)
            self._change_reserved(count)

    def release(self, count: int) -> None:
        """Leave room for others."""
        with self._lock:
            self._change_reserved(-count)

    def _change_reserved(self, change: int) -> None:
        self._reserved_bytes += change
        self._gauge.inc(change)


class Reservation:
    """What one body, or answer, takes: until it is closed; a second time is nothing."""

    def __init__(self, quota: ByteQuota) -> None:
        self._quota, self._bytes = quota, 0

    def grow(self, count: int) -> None:
        """Hold further bytes.

        Raises
        ------
        FullError
            If there is no room for them.
        """
        self._quota.reserve(count)
        self._bytes += count

    def resize(self, count: int) -> None:
        """Hold so many bytes in all.

        Raises
        ------
        FullError
            If that is more, and there is no room for it.
        """
        if count > self._bytes:
            self.grow(count - self._bytes)
        else:
            self._quota.release(self._bytes - count)
            self._bytes = count

    def close(self) -> None:
        """Give the room back, unless that was done."""
        count, self._bytes = self._bytes, 0
        self._quota.release(count)


_BODY_QUOTA, _ANSWER_QUOTA = "gradcheckd.room", "gradcheckd.answers"


def register(app: Flask, settings: Settings) -> None:
    """Give an application its room for bodies, and that for answers."""
    app.extensions[_BODY_QUOTA] = ByteQuota(settings.max_buffered_body_bytes)
    app.extensions[_ANSWER_QUOTA] = ByteQuota(settings.max_answer_bytes, "answers", metrics.BUFFERED_ANSWER_BYTES)


def reserve_body() -> Reservation:
    """Begin to hold a body."""
    return Reservation(current_app.extensions[_BODY_QUOTA])


class AnswerReservation(Reservation):
    """What one answer takes: nothing if it is small."""

    def resize(self, count: int) -> None:
        """Hold so many bytes in all, as `Held` does."""
        super().resize(count if count > SMALL_ANSWER_BYTES else 0)


@contextmanager
def reserve_answer() -> Generator[AnswerReservation]:
    """Make an answer inside; where that fails, nothing is held of it."""
    answer = AnswerReservation(current_app.extensions[_ANSWER_QUOTA])
    try:
        yield answer
    except BaseException:
        answer.close()
        raise
