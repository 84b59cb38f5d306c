"""Delivery of refusals to clients that are still sending.

A connection with its last answer lingers: the worker reads and drops its input until the client closes it. Otherwise a
client that is refused while it sends a large body would find its connection reset, and the answer lost (RFC 9112,
section 9.6). Lingering takes no thread, since clients may take their time, and a bounded number of connections.
"""

import selectors
import socket
import time
from collections.abc import Callable

from service.http.io_deadlines import MIN_BYTES_PER_SECOND

_LINGER_SECONDS = 10.0
_READ_BYTES = 2**18


class LingeringConnections:
    """The lingering connections of one worker, for use by its loop alone.

    Parameters
    ----------
    get_selector
        Function that returns the selector of the loop, which calls the data of a readable connection with it.
    limit
        Number of lingering connections, 256 by default; one more ends the oldest.
    """

    def __init__(self, get_selector: Callable[[], selectors.BaseSelector], limit: int = 256) -> None:
        self._get_selector, self._limit = get_selector, limit
        self._deadlines: dict[socket.socket, float] = {}
        self._discard_buffer = bytearray(_READ_BYTES)

    def __len__(self) -> int:
        return len(self._deadlines)

    def add(self, connection: socket.socket, graceful: bool = True) -> None:
        """Let a connection linger; the parameters are those of `TConn.close`."""
        try:
            connection.shutdown(socket.SHUT_WR)
            connection.setblocking(False)
        except OSError:  # gone
            connection.close()
            return
        if len(self) >= self._limit:
            self._end_connection(next(iter(self._deadlines)))
        self._deadlines[connection] = time.monotonic() + _LINGER_SECONDS
        self._get_selector().register(connection, selectors.EVENT_READ, self._discard_input)

    def _discard_input(self, connection: socket.socket) -> None:
        try:
            received_count = connection.recv_into(self._discard_buffer)
        except BlockingIOError:
            return
        except OSError:  # reset
            received_count = 0
        if received_count:
            # As for a body that is read, a client that keeps sending gets more time.
            self._deadlines[connection] += received_count / MIN_BYTES_PER_SECOND
        else:
            self._end_connection(connection)

    def end_overdue(self) -> None:
        """Close the connections whose time is over; the loop calls it at each turn."""
        now = time.monotonic()
        for connection in [connection for connection, deadline in self._deadlines.items() if deadline < now]:
            self._end_connection(connection)

    def _end_connection(self, connection: socket.socket) -> None:
        del self._deadlines[connection]
        self._get_selector().unregister(connection)
        connection.close()
