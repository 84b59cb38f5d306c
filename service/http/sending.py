"""Answers are sent for so long: who takes them in drops holds a thread, and threads are few."""

import time
from collections.abc import Generator, Iterable, Iterator
from typing import Any

from service.http import metrics
from service.http.overdue import LEAST_RATE, ended_sending

_MOST = 2**18
"""Bytes that are handed to the server at a time."""


def sent(answer: Iterable[bytes], environ: dict[str, Any], seconds: float) -> Iterable[bytes]:
    """Hand out what the server sends, each piece with a deadline, if it is sent over a connection that is known.

    Parameters
    ----------
    answer
        Pieces, as WSGI has them.
    environ
        Of the request.
    seconds
        What any piece is given.
    """
    connection = environ.get("gunicorn.socket")
    return answer if connection is None else _Sent(answer, connection, seconds)


class _Sent:
    def __init__(self, answer: Iterable[bytes], connection: Any, seconds: float) -> None:
        self._answer, self._connection, self._seconds = answer, connection, seconds
        self._pieces, self._whole = self._watched(), False

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def _watched(self) -> Generator[bytes]:
        for piece in self._answer:
            with ended_sending(self._connection, time.monotonic() + self._seconds + len(piece) / LEAST_RATE):
                # The server copies what it sends as a chunk, in which an answer may be whole.
                for start in range(0, len(piece), _MOST):
                    yield piece[start : start + _MOST]
        self._whole = True

    def close(self) -> None:
        """Close the answer, even one that was never begun."""
        answer: Any = self._answer
        if not self._whole:
            metrics.UNFINISHED.inc()
        try:
            self._pieces.close()
        finally:
            if hasattr(answer, "close"):
                answer.close()
