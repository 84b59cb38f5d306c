"""The deadline of sending: slow readers hold threads, and threads are few."""

import math
import time
from collections.abc import Generator, Iterable, Iterator
from typing import Any

from service.http import metrics
from service.http.arrival import MIN_TRANSFER_SECONDS
from service.http.io_deadlines import MIN_BYTES_PER_SECOND, limit_sending

_MAX_PIECE_BYTES = 2**18
"""Bytes of a piece that goes to the server at most."""


def enforce_send_deadline(
    answer: Iterable[bytes], environ: dict[str, Any], seconds: float, ends: float = math.inf
) -> Iterable[bytes]:
    """Give each piece of an answer a deadline, if the connection is known.

    Parameters
    ----------
    answer
        Pieces of the answer, as in WSGI.
    environ
        Environment of the request.
    seconds
        Seconds for any piece.
    ends
        Deadline of the whole answer by `time.monotonic`, infinite by default; a late piece still gets a few seconds.
    """
    connection = environ.get("gunicorn.socket")
    return answer if connection is None else _DeadlineResponse(answer, connection, seconds, ends)


class _DeadlineResponse:
    def __init__(self, answer: Iterable[bytes], connection: Any, seconds: float, ends: float) -> None:
        self._answer, self._connection, self._seconds, self._ends = answer, connection, seconds, ends
        self._pieces, self._is_complete = self._send_pieces(), False

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def _send_pieces(self) -> Generator[bytes]:
        for piece in self._answer:
            with limit_sending(self._connection, self._compute_deadline(len(piece))):
                # The server copies what it sends as a chunk, in which an answer may be whole.
                for start in range(0, len(piece), _MAX_PIECE_BYTES):
                    yield piece[start : start + _MAX_PIECE_BYTES]
        self._is_complete = True

    def _compute_deadline(self, size: int) -> float:
        now = time.monotonic()
        return min(now + self._seconds + size / MIN_BYTES_PER_SECOND, max(self._ends, now + MIN_TRANSFER_SECONDS))

    def close(self) -> None:
        """Close the answer, even one that never began."""
        answer: Any = self._answer
        if not self._is_complete:
            metrics.UNFINISHED_ANSWERS.inc()
        try:
            self._pieces.close()
        finally:
            if hasattr(answer, "close"):
                answer.close()
