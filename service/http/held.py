"""Bytes of bodies that are not parsed yet, and of answers that are not sent yet.

A worker holds so many of either, whatever the number of its clients and however slowly they send or read.
"""

import threading
from collections.abc import Generator
from contextlib import contextmanager

from flask import Flask, current_app
from prometheus_client import Gauge

from service.http import metrics
from service.http.slots import FullError
from service.settings import Settings

_RETRY_SECONDS = 1
SMALL = 2**18
"""Bytes up to which an answer is held without counting: there are never more of them than threads."""


class Room:
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

    def __init__(self, most: int, of: str = "bodies", gauge: Gauge = metrics.HELD) -> None:
        self._most, self._of, self._gauge, self._taken = most, of, gauge, 0
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        """How many bytes are held."""
        return self._taken

    def take(self, count: int) -> None:
        """Take room for further bytes.

        Raises
        ------
        FullError
            If there is not as much.
        """
        with self._lock:
            if self._taken + count > self._most:
                detail = (
                    f"Of the {self._most} bytes of {self._of} that are held here at once, {self._taken} are taken by "
                    f"requests under way. Try again in {_RETRY_SECONDS} s."
                )
                raise FullError(detail, retry_after=_RETRY_SECONDS)
            self._count(count)

    def give_back(self, count: int) -> None:
        """Leave room for others."""
        with self._lock:
            self._count(-count)

    def _count(self, change: int) -> None:
        self._taken += change
        self._gauge.inc(change)


class Held:
    """What one body, or answer, takes: until it is closed; a second time is nothing."""

    def __init__(self, room: Room) -> None:
        self._room, self._bytes = room, 0

    def add(self, count: int) -> None:
        """Hold further bytes.

        Raises
        ------
        FullError
            If there is no room for them.
        """
        self._room.take(count)
        self._bytes += count

    def settle(self, count: int) -> None:
        """Hold so many bytes in all.

        Raises
        ------
        FullError
            If that is more, and there is no room for it.
        """
        if count > self._bytes:
            self.add(count - self._bytes)
        else:
            self._room.give_back(self._bytes - count)
            self._bytes = count

    def close(self) -> None:
        """Give the room back, unless that was done."""
        count, self._bytes = self._bytes, 0
        self._room.give_back(count)


_ROOM, _ANSWERS = "gradcheckd.room", "gradcheckd.answers"


def register(app: Flask, settings: Settings) -> None:
    """Give an application its room for bodies, and that for answers."""
    app.extensions[_ROOM] = Room(settings.max_held_bytes)
    app.extensions[_ANSWERS] = Room(settings.max_answer_bytes, "answers", metrics.ANSWERS_HELD)


def held() -> Held:
    """Begin to hold a body."""
    return Held(current_app.extensions[_ROOM])


class HeldAnswer(Held):
    """What one answer takes: nothing if it is small."""

    def settle(self, count: int) -> None:
        """Hold so many bytes in all, as `Held` does."""
        super().settle(count if count > SMALL else 0)


@contextmanager
def answering() -> Generator[HeldAnswer]:
    """Make an answer inside; where that fails, nothing is held of it."""
    answer = HeldAnswer(current_app.extensions[_ANSWERS])
    try:
        yield answer
    except BaseException:
        answer.close()
        raise
