"""Clients below every limit that take what they can: one large check after the other, and answers that nobody reads."""

import base64
import contextlib
import http.client
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

PATH = "/v1/check"
_HEADERS = {"Content-Type": "application/json"}
DROP, _PAUSE = 64, 0.2
"""Bytes that a slow reader takes, and the seconds between two such drops, and between two requests."""
_BUFFER = 4096
_PATIENCE = 120.0

Request = dict[str, Any]
Node = dict[str, Any]


def tensor(*shape: int) -> dict[str, Any]:
    """Numbers that depend on the shape alone."""
    numbers = np.random.default_rng(len(shape)).uniform(0.1, 0.9, shape)
    return {"datatype": "FP64", "shape": list(shape), "b64": base64.b64encode(numbers.tobytes()).decode()}


def wrong(request: Request) -> Request:
    """The same with a candidate for every weight that is wrong in every element."""
    return request | {"candidate": request["weights"]}


def of(nodes: list[Node], **weights: Any) -> Request:
    """A request for the sum of the squares of the last node along one direction, of which no tensor comes back."""
    last = nodes[-1]["name"]
    loss = [{"name": "s", "op": "mul", "inputs": [last, last]}, {"name": "loss", "op": "sum", "inputs": ["s"]}]
    along = {"finite_difference": {"projections": 1}, "include": []}
    return {"tensors": {}, "weights": weights, "model": {"nodes": [*nodes, *loss]}, **along}


def convolution(op: str, kernel: int, side: int) -> Request:
    """One convolution with a large kernel."""
    node = {"name": "y", "op": op, "inputs": ["x", "k"]}
    return of([node], x=tensor(1, 1, side, side), k=tensor(1, 1, kernel, kernel))


def pooling(side: int) -> Request:
    """Windows of 120 x 120 around every element."""
    node = {"name": "y", "op": "max_pool2d", "inputs": ["x"], "kernel_size": 120, "stride": 1, "padding": 60}
    return of([node], x=tensor(1, 1, side, side))


def chain(length: int, elements: int) -> Request:
    """Nodes one behind the other, differenced by element."""
    names = ["w", *(f"n{number}" for number in range(length))]
    nodes: list[Node] = [{"name": name, "op": "tanh", "inputs": [before]} for before, name in pairwise(names)]
    return of(nodes, w=tensor(elements)) | {"finite_difference": {}}


def norm(elements: int) -> Request:
    """Layer normalisation of long rows, with its weight and bias."""
    length = elements // 8
    node = {"name": "y", "op": "layer_norm", "inputs": ["x", "g", "b"], "normalized_shape": [length]}
    return of([node], x=tensor(8, length), g=tensor(length), b=tensor(length))


def large_answer(elements: int = 60_000) -> Request:
    """A small check with an answer of megabytes."""
    return chain(1, elements) | {"include": ["gradients"]}


@dataclass
class Attackers:
    """Clients of a port, each in a thread, and how often they got which status."""

    port: int
    statuses: Counter[int] = field(default_factory=Counter[int])
    _over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _open: set[socket.socket] = field(default_factory=set[socket.socket])

    def ask(self, body: bytes, drop: int | None = None) -> None:
        """Send a request again and again, and take each answer as it comes, or in drops of so many bytes."""
        while not self._over.is_set():
            # Who is cut off comes again.
            with contextlib.suppress(OSError, http.client.HTTPException), self._connected(drop) as connection:
                connection.request("POST", PATH, body, _HEADERS)
                answer = connection.getresponse()
                self._count(answer.status)
                while answer.read(drop) and not self._over.wait(_PAUSE):
                    pass
                # Who is refused obeys: what is measured is memory, not a flood.
                self._over.wait(float(answer.headers.get("Retry-After", 0)))

    def stop(self) -> None:
        """Hang up: what runs for nobody is stopped."""
        self._over.set()
        with self._lock:
            for each in self._open:
                each.shutdown(socket.SHUT_RDWR)

    def _count(self, status: int) -> None:
        with self._lock:
            self.statuses[status] += 1

    @contextlib.contextmanager
    def _connected(self, drop: int | None) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        with socket.socket() as connection.sock:
            if drop is not None:
                connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            connection.sock.settimeout(_PATIENCE)
            connection.sock.connect(("127.0.0.1", self.port))
            with self._lock:
                self._open.add(connection.sock)
            try:
                yield connection
            finally:
                with self._lock:
                    self._open.discard(connection.sock)


@contextlib.contextmanager
def attacking(port: int, requests: Sequence[Request], readers: int = 0) -> Iterator[Attackers]:
    """Let one client send each of these requests, and so many read a large answer slowly, until the block ends."""
    attackers, slow = Attackers(port), json.dumps(large_answer()).encode()
    ways = [(json.dumps(each).encode(), None) for each in requests] + [(slow, DROP)] * readers
    threads = [threading.Thread(target=attackers.ask, args=way) for way in ways]
    for each in threads:
        each.start()
    try:
        yield attackers
    finally:
        attackers.stop()
        for each in threads:
            each.join()
