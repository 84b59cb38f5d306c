"""The arrival of a request.

The moment when its head is complete, from which its time counts.
"""

import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_ENVIRON_KEY = "gradcheckd.arrived"
_ARRIVAL: ContextVar[float | None] = ContextVar("arrived", default=None)
MIN_TRANSFER_SECONDS = 5.0
"""Seconds that any client has to send a body, and to take a piece of an answer, however late it is."""
_ANSWER_LIMIT_RATIO = 1.5
"""Time until an answer must be taken, as a multiple of the limit: a quarter for suggestions, a quarter for sending."""


@contextmanager
def set_arrival(moment: float | None) -> Generator[None]:
    """Answer, inside the block, a request that arrived at a moment.

    Parameters
    ----------
    moment
        Arrival by `time.monotonic`; None if the time of the request begins with the application.
    """
    token = _ARRIVAL.set(moment)
    try:
        yield
    finally:
        _ARRIVAL.reset(token)


def record_arrival(environ: dict[str, Any]) -> None:
    """Record the arrival of a request in its environment, or now without one."""
    moment = _ARRIVAL.get()
    environ[_ENVIRON_KEY] = time.monotonic() if moment is None else moment


def measure_since_arrival(environ: dict[str, Any]) -> float:
    """Return the seconds since a request arrived."""
    return time.monotonic() - environ[_ENVIRON_KEY]


def compute_body_deadline(environ: dict[str, Any], seconds: float) -> float:
    """Return the deadline of a body by `time.monotonic`, for a limit in seconds."""
    return max(environ[_ENVIRON_KEY] + seconds, time.monotonic() + MIN_TRANSFER_SECONDS)


def compute_answer_deadline(environ: dict[str, Any], seconds: float) -> float:
    """Return the deadline of an answer by `time.monotonic`, for a limit in seconds."""
    return environ[_ENVIRON_KEY] + _ANSWER_LIMIT_RATIO * seconds
