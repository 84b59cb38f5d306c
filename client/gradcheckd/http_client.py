"""A client of HTTP that each process makes for itself."""

import os
from collections.abc import Callable, Mapping
from typing import Protocol

import httpx


class RequestSender(Protocol):
    """Sends requests to one service."""

    @property
    def is_closed(self) -> bool:
        """Tell whether it was closed."""
        ...

    def send(self, method: str, path: str, headers: Mapping[str, str], content: bytes | None) -> httpx.Response:
        """Send a request; return the answer, which the caller reads and closes."""
        ...

    def answer_directly(self, path: str, content: bytes, media_type: str, accept: str) -> bytes | None:
        """Return the answer to a POST if there is one without HTTP; None where it takes a request."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


class ProcessClient:
    """A client of HTTP, made anew in a process that was forked: two processes cannot share a connection.

    Parameters
    ----------
    base
        Begin of the addresses of all requests.
    make_client
        Function that makes the client of a process.
    """

    def __init__(self, base: str, make_client: Callable[[], httpx.Client]) -> None:
        self._base, self._make_client = base, make_client
        # Clients of parents are kept, so that no destructor speaks on a connection that is theirs.
        self._clients = {os.getpid(): make_client()}
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """Tell whether the client was closed."""
        return self._is_closed

    def get(self) -> httpx.Client:
        """Return the client of this process."""
        process = os.getpid()
        return self._clients.get(process) or self._clients.setdefault(process, self._make_client())

    def send(self, method: str, path: str, headers: Mapping[str, str], content: bytes | None) -> httpx.Response:
        """Send a request; return the answer, which the caller reads and closes."""
        client = self.get()
        request = client.build_request(method, self._base + path, content=content, headers=dict(headers))
        return client.send(request, stream=True)

    def answer_directly(self, path: str, content: bytes, media_type: str, accept: str) -> bytes | None:
        """Return None: the service is elsewhere."""
        return None

    def close(self) -> None:
        """Close the connections of this process."""
        self._is_closed = True
        if client := self._clients.get(os.getpid()):
            client.close()
