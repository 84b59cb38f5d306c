"""When the head of a request was whole: from then on it has its time, to the last byte of its answer."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_KEY = "gradcheckd.arrived"
_ARRIVED: ContextVar[float | None] = ContextVar("arrived", default=None)
LEAST_SECONDS = 5.0
"""What a client has in any case to send a body, and to take a piece of an answer, however late it has become."""
_WHOLE = 1.5
"""Times the limit in which an answer has to be taken: a quarter is for what would fit, a quarter for taking it."""


@contextmanager
def arrived_at(moment: float | None) -> Generator[None]:
    """Answer inside a request whose head was whole at a moment by `time.monotonic`, or begins to count here."""
    token = _ARRIVED.set(moment)
    try:
        yield
    finally:
        _ARRIVED.reset(token)


def note(environ: dict[str, Any]) -> None:
    """Take down in the environment of a request when it arrived: now, where the server does not say."""
    moment = _ARRIVED.get()
    environ[_KEY] = time.monotonic() if moment is None else moment


def since_arrival(environ: dict[str, Any]) -> float:
    """Seconds since a request arrived."""
    return time.monotonic() - environ[_KEY]


def last_byte_in(environ: dict[str, Any], seconds: float) -> float:
    """When, by `time.monotonic`, the body has to be there of a request that may take so many seconds."""
    return max(environ[_KEY] + seconds, time.monotonic() + LEAST_SECONDS)


def last_byte_out(environ: dict[str, Any], seconds: float) -> float:
    """When, by `time.monotonic`, its answer has to be taken."""
    return environ[_KEY] + _WHOLE * seconds
