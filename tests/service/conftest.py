import socket

import pytest


@pytest.fixture
def socket_pair():
    """Two ends of one connection: that of the service, and that of its client."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs
