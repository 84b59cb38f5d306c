"""Connections that have had their last answer: each is read on until its client closes it, and what comes is dropped.

Who is refused while it still sends a large body would else find its connection reset, and the answer lost with it (RFC
9112, section 9.6). It takes no thread, since clients may take their time, and no more than so many connections.
"""

import selectors
import socket
import time
from collections.abc import Callable

from service.http.overdue import LEAST_RATE

_SECONDS = 10.0
_PIECE = 2**18


class Lingering:
    """Such connections of one worker, of which the loop alone may ask anything.

    Parameters
    ----------
    poller
        Calls, with the connection, what is registered for one that has something to read.
    most
        How many there may be; of more, the first ends.
    """

    def __init__(self, poller: Callable[[], selectors.BaseSelector], most: int = 256) -> None:
        self._poller, self._most = poller, most
        self._deadlines: dict[socket.socket, float] = {}
        self._dropped = bytearray(_PIECE)

    def __len__(self) -> int:
        return len(self._deadlines)

    def add(self, connection: socket.socket, graceful: bool = True) -> None:
        """Let a connection linger; the arguments are those of gunicorn for closing it."""
        try:
            connection.shutdown(socket.SHUT_WR)
            connection.setblocking(False)
        except OSError:  # gone
            connection.close()
            return
        if len(self) >= self._most:
            self._end(next(iter(self._deadlines)))
        self._deadlines[connection] = time.monotonic() + _SECONDS
        self._poller().register(connection, selectors.EVENT_READ, self._drop)

    def _drop(self, connection: socket.socket) -> None:
        try:
            more = connection.recv_into(self._dropped)
        except BlockingIOError:
            return
        except OSError:  # reset
            more = 0
        if more:
            # As for a body that is read: who keeps sending has the time to.
            self._deadlines[connection] += more / LEAST_RATE
        else:
            self._end(connection)

    def end_overdue(self) -> None:
        """End those whose clients do not; to be called again and again."""
        now = time.monotonic()
        for connection in [each for each, deadline in self._deadlines.items() if deadline < now]:
            self._end(connection)

    def _end(self, connection: socket.socket) -> None:
        del self._deadlines[connection]
        self._poller().unregister(connection)
        connection.close()
