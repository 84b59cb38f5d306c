"""The connections that the functions of the package share: one a process, service and key."""

import atexit

from gradcheckd.connection import Connection, choose_address, choose_key
from gradcheckd.errors import hide_frames

__tracebackhide__ = hide_frames

_SHARED_CONNECTIONS: dict[tuple[str, str | None], Connection] = {}


def share_connection(url: str | None = None, key: str | None = None) -> Connection:
    """Return the one connection of this process to a service with a key, which is closed at the exit.

    Raises
    ------
    RequestError
        The address or the key is not valid.
    """
    service = (choose_address(url), choose_key(key))
    return _SHARED_CONNECTIONS.get(service) or _SHARED_CONNECTIONS.setdefault(service, Connection(url, key))


@atexit.register
def _close_shared_connections() -> None:
    while _SHARED_CONNECTIONS:
        _SHARED_CONNECTIONS.popitem()[1].close()
