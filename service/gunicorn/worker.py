"""The worker: a request gets a thread only once its head is complete."""

import select
import selectors
import socket
import time
from functools import partial
from http import HTTPStatus
from typing import Any, cast

from flask import Flask
from gunicorn.http.errors import ParseException
from gunicorn.workers.gthread import TConn, ThreadWorker

from service.gunicorn import file_descriptors, protocol_errors
from service.gunicorn.lingering_close import LingeringConnections
from service.http.arrival import set_arrival
from service.http.io_deadlines import end_overdue_connections
from service.http.middleware.concurrency import count_running
from service.http.middleware.shutdown import is_shutting_down
from service.settings import Settings

_MAX_PEEKED_BYTES = 2**14
"""Bytes of a head that are peeked at; gunicorn has limits for a longer one."""
_DRAIN_SECONDS = 0.1
"""Seconds in which the rest of an unread body has to come, or the connection ends."""
_TICK_SECONDS = 0.05
"""Seconds between two looks at unfinished heads."""
_ACCEPT_PAUSE_SECONDS = 0.1
"""Seconds without accepting, once descriptors or memory of the kernel have run out."""
_IDLE_CLOSE_DIVISOR = 16
"""Inverse of the part of all connections that is closed when their number is at its limit."""


class Worker(ThreadWorker):
    """A threaded worker whose loop also waits for heads and enforces deadlines."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unfinished_heads: dict[TConn, float] = {}
        self._arrived: dict[TConn, float] = {}
        self._descriptor_limit = file_descriptors.raise_descriptor_limit()
        self._lingering = LingeringConnections(
            lambda: self.poller, file_descriptors.compute_max_lingering(self._descriptor_limit)
        )
        self._settings = Settings()
        self._paused_until = 0.0

    def enqueue_req(self, conn: TConn) -> None:
        """Hand a connection to a thread once the kernel has its request's head."""
        head = b"" if _is_unpeekable(conn) else _peek_input(conn.sock)
        if head is None:
            self._await_data(conn)
        elif _is_head_complete(head):
            # Otherwise gunicorn would wait for data once more, with a selector made for that.
            conn.data_ready = True
            self._submit_connection(conn)
        else:
            self._unfinished_heads[conn] = time.monotonic() + self._settings.max_head_seconds

    def _submit_connection(self, conn: TConn) -> None:
        # The time of a request counts while it waits for a thread.
        self._arrived[conn] = time.monotonic()
        super().enqueue_req(conn)

    def _await_data(self, conn: TConn) -> None:
        """Let the loop wait for the first byte, as gunicorn does after a vain wait.

        gunicorn waits for the short time between two requests; a busy client that has just connected needs longer.
        """
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + self._settings.max_head_seconds
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Do one turn of the loop."""
        must_poll = self._unfinished_heads or self._lingering or self._is_paused()
        super().wait_for_and_dispatch_events(min(timeout, _TICK_SECONDS) if must_poll else timeout)
        self._lingering.end_overdue()
        if self.nr_conns >= self.worker_connections:
            self._close_idle_connections()
        for conn, deadline in list(self._unfinished_heads.items()):
            self._inspect_head(conn, deadline)
        end_overdue_connections(self._settings.max_sending)
        if not self.alive:
            self.set_accept_enabled(False)

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection; accept none for a while after a shortage of descriptors."""
        try:
            super().accept(listener)
            file_descriptors.raise_if_few_are_left(self._descriptor_limit)
        except OSError as error:
            if error.errno not in file_descriptors.SHORTAGE_ERRORS:
                raise
            self.log.warning("no connection is accepted for %g s: %s", _ACCEPT_PAUSE_SECONDS, error)
            self._paused_until = time.monotonic() + _ACCEPT_PAUSE_SECONDS
            self.set_accept_enabled(False)
            self._close_idle_connections()

    def _is_paused(self) -> bool:
        return time.monotonic() < self._paused_until

    def _close_idle_connections(self) -> None:
        """Close a part of the idle connections, so that they keep no client out.

        First go those that were kept alive longest, then those that were silent longest, and last those whose heads
        began longest ago.
        """
        for _ in range(max(1, self.worker_connections // _IDLE_CLOSE_DIVISOR)):
            idle_connections = self.keepalived_conns or self.pending_conns
            if idle_connections:
                conn = idle_connections.popleft()
                self.poller.unregister(conn.sock)
            elif self._unfinished_heads:
                conn = next(iter(self._unfinished_heads))
                del self._unfinished_heads[conn]
                detail = "The limit of open connections is reached, and the head of this request is incomplete."
                protocol_errors.send_problem(conn.sock, HTTPStatus.SERVICE_UNAVAILABLE, detail)
            else:
                return
            self.nr_conns -= 1
            conn.close()

    def _inspect_head(self, conn: TConn, deadline: float) -> None:
        head = _peek_input(conn.sock)
        if head is None or _is_head_complete(head) or _has_client_closed(conn.sock):
            del self._unfinished_heads[conn]
            self._submit_connection(conn)
        elif deadline < time.monotonic():
            del self._unfinished_heads[conn]
            detail = f"The head of the request did not come within {self._settings.max_head_seconds:g} s."
            protocol_errors.send_problem(conn.sock, HTTPStatus.REQUEST_TIMEOUT, detail)
            self.nr_conns -= 1
            conn.close()

    def _keepalive_after(self, conn: TConn, keepalive: bool) -> bool:
        """Tell whether the connection is kept.

        Not if an unread body does not come at once.

        gunicorn waits five seconds for the body, in a thread, and answers once more if its chunks are malformed.
        """
        parser: Any = conn.parser
        try:
            return keepalive and bool(parser.finish_body(deadline=time.monotonic() + _DRAIN_SECONDS))
        except ParseException:
            return False

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Answer input that is no request, or a request whose answer failed."""
        protocol_errors.answer_protocol_error(client, exc)

    def handle(self, conn: TConn) -> Any:
        """Handle a request in a thread; a connection that is not kept lingers."""
        with set_arrival(self._arrived.pop(conn, None)):
            is_kept_alive = super().handle(conn)
        if not is_kept_alive:
            conn.close = partial(self._lingering.add, conn.sock)
        return is_kept_alive

    def set_accept_enabled(self, enabled: bool) -> None:
        """Enable or disable accepting.

        A stopping service accepts while checks run, to refuse.
        """
        if enabled and self._is_paused():
            return
        if not (enabled or self.alive) and is_shutting_down() and count_running(cast("Flask", self.wsgi)):
            return
        super().set_accept_enabled(enabled)
        if not (enabled or self.alive):
            # Without a listener the kernel refuses clients at once, and none is left to wait.
            for listener in self.sockets:
                listener.close()


def _is_unpeekable(conn: TConn) -> bool:
    """Tell whether the input is encrypted, or was read ahead already."""
    parser: Any = conn.parser
    return conn.cfg.is_ssl or (parser is not None and bool(parser.unreader.buf.getvalue()))


def _peek_input(connection: socket.socket) -> bytes | None:
    """Return the input without consuming it.

    B"" at its end, None if none is there yet.
    """
    try:
        return connection.recv(_MAX_PEEKED_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _is_head_complete(head: bytes) -> bool:
    return not head or b"\r\n\r\n" in head or len(head) == _MAX_PEEKED_BYTES


def _has_client_closed(connection: socket.socket) -> bool:
    """Tell whether the client has closed its sending side."""
    poller = select.poll()
    poller.register(connection, select.POLLRDHUP)
    return bool(poller.poll(0))
