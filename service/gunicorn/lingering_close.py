"""Connections that have had their last answer: each is read on until its client closes it, and what comes is dropped.

Who is refused while it still sends a large body would else find its connection reset, and the answer lost with it (RFC
9112, section 9.6). It takes no thread, since clients may take their time, and no more than so many connections.
"""

import selectors
import socket
import time
from collections.abc import Callable

from service.http.io_deadlines import MIN_BYTES_PER_SECOND

_LINGER_SECONDS = 10.0
_READ_BYTES = 2**18


class LingeringConnections:
    """Such connections of one worker, of which the loop alone may ask anything.

    Parameters
    ----------
    poller
        Calls, with the connection, what is registered for one that has something to read.
    most
        How many there may be; of more, the first ends.
    """

    def __init__(self, make_selector: Callable[[], selectors.BaseSelector], limit: int = 256) -> None:
        self._poller, self._limit = make_selector, limit
        self._deadlines: dict[socket.socket, float] = {}
        self._discard_buffer = bytearray(_READ_BYTES)

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
        if len(self) >= self._limit:
            self._end(next(iter(self._deadlines)))
        self._deadlines[connection] = time.monotonic() + _LINGER_SECONDS
        self._poller().register(connection, selectors.EVENT_READ, self._discard_input)

    def _discard_input(self, connection: socket.socket) -> None:
        try:
            more = connection.recv_into(self._discard_buffer)
        except BlockingIOError:
            return
        except OSError:  # reset
            more = 0
        if more:
            # As for a body that is read: who keeps sending has the time to.
            self._deadlines[connection] += more / MIN_BYTES_PER_SECOND
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
