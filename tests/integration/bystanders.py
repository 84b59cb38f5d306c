"""Clients that do nothing wrong, while something goes wrong beside them."""

import contextlib
import itertools
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.integration import raw_http
from tests.integration.conftest import PATIENCE, Server


@dataclass
class Bystander:
    """A client that sends the reference example over and over on one connection, and looks at each answer."""

    connection: socket.socket
    worker: int | None
    answers: int = 0
    error: Exception | AssertionError | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def send_once(self) -> None:
        raw_http.send_example_on(self.connection)
        self.answers += 1

    def run(self) -> None:
        self.answers = 0
        try:
            while not self.done.is_set():
                self.send_once()
        except (OSError, raw_http.IncompleteAnswerError, AssertionError) as error:
            self.error = error


def make_bystanders(server: Server, count: int) -> list[Bystander]:
    """So many, each answered once, so that a worker has its connection; asking at once spreads them."""
    connections = [raw_http.open_connection(server) for _ in range(count)]
    for connection in connections:
        connection.sendall(raw_http.WHOLE_REQUEST)
    for connection in connections:
        raw_http.read_answer(connection)
    return [Bystander(connection, raw_http.find_worker(server, connection)) for connection in connections]


@contextlib.contextmanager
def run_bystanders(bystanders: list[Bystander]) -> Iterator[None]:
    """Let them run until the block ends; each was answered at least once in it, unless it was cut off."""
    threads = [threading.Thread(target=bystander.run) for bystander in bystanders]
    for runner in threads:
        runner.start()
    try:
        yield
    finally:
        for bystander in bystanders:
            bystander.done.set()
        for thread in threads:
            thread.join(timeout=PATIENCE)
        for bystander in bystanders:
            bystander.connection.close()


@contextlib.contextmanager
def expect_undisturbed(server: Server, count: int = 2) -> Iterator[list[Bystander]]:
    """Bystanders who must not notice anything."""
    bystanders = make_bystanders(server, count)
    with run_bystanders(bystanders):
        yield bystanders
    for bystander in bystanders:
        assert bystander.error is None, bystander.error
        assert bystander.answers, "asked and was answered"


def make_bystanders_per_worker(server: Server, count: int = 2) -> list[Bystander]:
    """So many at each worker: which of them takes a connection is chance."""
    bystanders_by_worker: dict[int | None, list[Bystander]] = {worker: [] for worker in raw_http.list_workers(server)}
    for _ in range(50):
        # What is idle for long is closed.
        for bystander in list(itertools.chain(*bystanders_by_worker.values())):
            bystander.send_once()
        for bystander in make_bystanders(server, 8):
            if len(bystanders_by_worker[bystander.worker]) < count:
                bystanders_by_worker[bystander.worker].append(bystander)
            else:
                bystander.connection.close()
        if all(len(bystanders) == count for bystanders in bystanders_by_worker.values()):
            return list(itertools.chain(*bystanders_by_worker.values()))
    raise AssertionError("a worker took no connection")
