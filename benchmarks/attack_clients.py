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
DRIP_BYTES, _PAUSE_SECONDS = 64, 0.2
"""Bytes that a slow reader takes, and the seconds between two such drops, and between two requests."""
_RECEIVE_BUFFER = 4096
_TIMEOUT_SECONDS = 120.0

Request = dict[str, Any]
Node = dict[str, Any]


def make_tensor(*shape: int) -> dict[str, Any]:
    """Numbers that depend on the shape alone."""
    numbers = np.random.default_rng(len(shape)).uniform(0.1, 0.9, shape)
    return {"datatype": "FP64", "shape": list(shape), "b64": base64.b64encode(numbers.tobytes()).decode()}


def add_wrong_candidate(request: Request) -> Request:
    """The same with a candidate for every weight that is wrong in every element."""
    return request | {"candidate": request["weights"]}


def build_request(nodes: list[Node], **weights: Any) -> Request:
    """A request for the sum of the squares of the last node along one direction, of which no tensor comes back."""
    last = nodes[-1]["name"]
    loss = [{"name": "s", "op": "mul", "inputs": [last, last]}, {"name": "loss", "op": "sum", "inputs": ["s"]}]
    along = {"finite_difference": {"projections": 1}, "include": []}
    return {"tensors": {}, "weights": weights, "model": {"nodes": [*nodes, *loss]}, **along}


def build_convolution(op: str, kernel: int, side: int) -> Request:
    """One convolution with a large kernel."""
    node = {"name": "y", "op": op, "inputs": ["x", "k"]}
    return build_request([node], x=make_tensor(1, 1, side, side), k=make_tensor(1, 1, kernel, kernel))


def build_pooling(side: int) -> Request:
    """Windows of 120 x 120 around every element."""
    node = {"name": "y", "op": "max_pool2d", "inputs": ["x"], "kernel_size": 120, "stride": 1, "padding": 60}
    return build_request([node], x=make_tensor(1, 1, side, side))


def build_chain(length: int, elements: int) -> Request:
    """Nodes one behind the other, differenced by element."""
    names = ["w", *(f"n{number}" for number in range(length))]
    nodes: list[Node] = [{"name": name, "op": "tanh", "inputs": [before]} for before, name in pairwise(names)]
    return build_request(nodes, w=make_tensor(elements)) | {"finite_difference": {}}


def build_norm(elements: int) -> Request:
    """Layer normalisation of long rows, with its weight and bias."""
    length = elements // 8
    node = {"name": "y", "op": "layer_norm", "inputs": ["x", "g", "b"], "normalized_shape": [length]}
    return build_request([node], x=make_tensor(8, length), g=make_tensor(length), b=make_tensor(length))


def build_large_answer(elements: int = 60_000) -> Request:
    """A small check with an answer of megabytes."""
    return build_chain(1, elements) | {"include": ["gradients"]}


@dataclass
class AttackClients:
    """Clients of a port, each in a thread, and how often they got which status."""

    port: int
    statuses: Counter[int] = field(default_factory=Counter[int])
    _ended: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _open_sockets: set[socket.socket] = field(default_factory=set[socket.socket])

    def send_repeatedly(self, body: bytes, drop: int | None = None) -> None:
        """Send a request again and again, and take each answer as it comes, or in drops of so many bytes."""
        while not self._ended.is_set():
            # Who is cut off comes again.
            with contextlib.suppress(OSError, http.client.HTTPException), self._open_connection(drop) as connection:
                connection.request("POST", PATH, body, _HEADERS)
                answer = connection.getresponse()
                self._count_status(answer.status)
                while answer.read(drop) and not self._ended.wait(_PAUSE_SECONDS):
                    pass
                # Who is refused obeys: what is measured is memory, not a flood.
                self._ended.wait(float(answer.headers.get("Retry-After", 0)))

    def stop(self) -> None:
        """Hang up: what runs for nobody is stopped."""
        self._ended.set()
        with self._lock:
            for connection in self._open_sockets:
                connection.shutdown(socket.SHUT_RDWR)

    def _count_status(self, status: int) -> None:
        with self._lock:
            self.statuses[status] += 1

    @contextlib.contextmanager
    def _open_connection(self, drop: int | None) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        with socket.socket() as connection.sock:
            if drop is not None:
                connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            connection.sock.settimeout(_TIMEOUT_SECONDS)
            connection.sock.connect(("127.0.0.1", self.port))
            with self._lock:
                self._open_sockets.add(connection.sock)
            try:
                yield connection
            finally:
                with self._lock:
                    self._open_sockets.discard(connection.sock)


@contextlib.contextmanager
def run_attackers(port: int, requests: Sequence[Request], readers: int = 0) -> Iterator[AttackClients]:
    """Let one client send each of these requests, and so many read a large answer slowly, until the block ends."""
    attackers, slow = AttackClients(port), json.dumps(build_large_answer()).encode()
    ways = [(json.dumps(request).encode(), None) for request in requests] + [(slow, DRIP_BYTES)] * readers
    threads = [threading.Thread(target=attackers.send_repeatedly, args=way) for way in ways]
    for thread in threads:
        thread.start()
    try:
        yield attackers
    finally:
        attackers.stop()
        for thread in threads:
            thread.join()
