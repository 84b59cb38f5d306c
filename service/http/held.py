"""Bytes of bodies that have come and are not parsed yet: a worker holds so many, whatever the number of its clients."""

import threading

from flask import Flask, current_app

from service.http import metrics
from service.http.slots import FullError
from service.settings import Settings

_RETRY_SECONDS = 1


class Room:
    """Room for so many bytes."""

    def __init__(self, most: int) -> None:
        self._most, self._taken = most, 0
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
                    f"Of the {self._most} bytes of bodies that are held here at once, {self._taken} are taken by "
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
        metrics.HELD.inc(change)


class Held:
    """What one body takes: until it is closed; a second time is nothing."""

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

    def close(self) -> None:
        """Give the room back, unless that was done."""
        count, self._bytes = self._bytes, 0
        self._room.give_back(count)


_ROOM = "gradcheckd.room"


def register(app: Flask, settings: Settings) -> None:
    """Give an application its room for bodies."""
    app.extensions[_ROOM] = Room(settings.max_held_bytes)


def held() -> Held:
    """Begin to hold a body."""
    return Held(current_app.extensions[_ROOM])
