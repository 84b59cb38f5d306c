"""A threaded worker in which only requests whose head is complete take a thread, and which says so when it stops."""

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

from service.http.arriving import arrived_at
from service.http.overdue import end_overdue
from service.http.slots import running
from service.http.stopping import stopping
from service.serving import descriptors, unreadable
from service.serving.lingering import Lingering
from service.settings import Settings

_LOOKED_AT = 2**14
"""Bytes of a head that are looked at; a longer one is left to gunicorn, which has limits for it."""
_DRAIN = 0.1
"""Seconds in which the rest of a body that nobody wanted has to come, or the connection ends."""
_TICK = 0.05
"""Seconds between looks at unfinished heads."""
_PAUSE = 0.1
"""Seconds in which nobody is accepted, once descriptors or memory of the kernel have run out."""
_FREED = 16
"""One in so many of all connections is closed where there are as many as there may be."""


class Worker(ThreadWorker):
    """gunicorn's threaded worker; its loop does what threads cannot: wait for many, and look at the clock."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unfinished: dict[TConn, float] = {}
        self._arrived: dict[TConn, float] = {}
        self._lingering = Lingering(lambda: self.poller, descriptors.lingering(descriptors.raised()))
        self._settings = Settings()
        self._paused_until = 0.0

    def enqueue_req(self, conn: TConn) -> None:
        """Hand a connection to a thread as soon as the head of its request is there, which the kernel keeps."""
        head = b"" if _beyond_looking(conn) else _peeked(conn.sock)
        if head is None:
            self._await_data(conn)
        elif _is_whole(head):
            # Else gunicorn would wait for it once more, with a selector made for that.
            conn.data_ready = True
            self._submit(conn)
        else:
            self._unfinished[conn] = time.monotonic() + self._settings.max_head_seconds

    def _submit(self, conn: TConn) -> None:
        # Until a thread is free for it the time of the request goes by.
        self._arrived[conn] = time.monotonic()
        super().enqueue_req(conn)

    def _await_data(self, conn: TConn) -> None:
        """Let the loop wait for the first byte, as gunicorn does where a thread has waited for it in vain.

        Not for as short as between two requests, which gunicorn does too: a client that is busy has just connected.
        """
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + self._settings.max_head_seconds
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Do one turn of the loop."""
        waiting = self._unfinished or self._lingering or self._is_paused()
        super().wait_for_and_dispatch_events(min(timeout, _TICK) if waiting else timeout)
        self._lingering.end_overdue()
        if self.nr_conns >= self.worker_connections:
            self._free_idle()
        for conn, deadline in list(self._unfinished.items()):
            self._look_at(conn, deadline)
        end_overdue(self._settings.max_sending)
        if not self.alive:
            self.set_accept_enabled(False)

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection; none for a while where it takes what there is no more of."""
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in descriptors.SHORTAGES:
                raise
            self.log.warning("no connection is accepted for %g s: %s", _PAUSE, error)
            self._paused_until = time.monotonic() + _PAUSE
            self.set_accept_enabled(False)
            self._free_idle()

    def _is_paused(self) -> bool:
        return time.monotonic() < self._paused_until

    def _free_idle(self) -> None:
        """Close connections on which nothing is under way: those kept for longest, then those silent for longest.

        Last those whose heads began to come longest ago. So many that do nothing keep nobody out.
        """
        for _ in range(max(1, self.worker_connections // _FREED)):
            waiting = self.keepalived_conns or self.pending_conns
            if waiting:
                conn = waiting.popleft()
                self.poller.unregister(conn.sock)
            elif self._unfinished:
                conn = next(iter(self._unfinished))
                del self._unfinished[conn]
                detail = "As many connections are open as there may be, and the head of this request is not whole."
                unreadable.say(conn.sock, HTTPStatus.SERVICE_UNAVAILABLE, detail)
            else:
                return
            self.nr_conns -= 1
            conn.close()

    def _look_at(self, conn: TConn, deadline: float) -> None:
        head = _peeked(conn.sock)
        if head is None or _is_whole(head) or _is_all(conn.sock):
            del self._unfinished[conn]
            self._submit(conn)
        elif deadline < time.monotonic():
            del self._unfinished[conn]
            detail = f"The head of the request did not come within {self._settings.max_head_seconds:g} s."
            unreadable.say(conn.sock, HTTPStatus.REQUEST_TIMEOUT, detail)
            self.nr_conns -= 1
            conn.close()

    def _keepalive_after(self, conn: TConn, keepalive: bool) -> bool:
        """Whether the connection is kept: not where the body is left unread, and does not come at once.

        gunicorn waits five seconds for it, in a thread, and answers once more if it is not cut into chunks rightly.
        """
        parser: Any = conn.parser
        try:
            return keepalive and bool(parser.finish_body(deadline=time.monotonic() + _DRAIN))
        except ParseException:
            return False

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Answer what could not be read as a request, or could not be answered."""
        unreadable.answer(client, exc)

    def handle(self, conn: TConn) -> Any:
        """Handle a request, in a thread."""
        with arrived_at(self._arrived.pop(conn, None)):
            kept = super().handle(conn)
        if not kept:
            conn.close = partial(self._lingering.add, conn.sock)
        return kept

    def set_accept_enabled(self, enabled: bool) -> None:
        """Take new connections or not; of a service that stops, while checks run, to tell them so."""
        if enabled and self._is_paused():
            return
        if not (enabled or self.alive) and stopping() and running(cast("Flask", self.wsgi)):
            return
        super().set_accept_enabled(enabled)
        if not (enabled or self.alive):
            # Where nobody listens any more, a client is refused at once, not left to wait.
            for listener in self.sockets:
                listener.close()


def _beyond_looking(conn: TConn) -> bool:
    """Whether what comes is not to be read here: it is encrypted, or was read ahead already."""
    parser: Any = conn.parser
    return conn.cfg.is_ssl or (parser is not None and bool(parser.unreader.buf.getvalue()))


def _peeked(connection: socket.socket) -> bytes | None:
    """What has come, left where it is; nothing at the end, None if there is nothing yet."""
    try:
        return connection.recv(_LOOKED_AT, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _is_whole(head: bytes) -> bool:
    return not head or b"\r\n\r\n" in head or len(head) == _LOOKED_AT


def _is_all(connection: socket.socket) -> bool:
    """Whether nothing more will come: the client has closed its side."""
    watch = select.poll()
    watch.register(connection, select.POLLRDHUP)
    return bool(watch.poll(0))
