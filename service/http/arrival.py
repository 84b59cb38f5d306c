"""When the head of a request was whole: from then on it has its time, to the last byte of its answer."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_ENVIRON_KEY = "gradcheckd.arrived"
_ARRIVAL: ContextVar[float | None] = ContextVar("arrived", default=None)
MIN_TRANSFER_SECONDS = 5.0
"""What a client has in any case to send a body, and to take a piece of an answer, however late it has become."""
_ANSWER_LIMIT_RATIO = 1.5
"""Times the limit in which an answer has to be taken: a quarter is for what would fit, a quarter for taking it."""


@contextmanager
def set_arrival(moment: float | None) -> Generator[None]:
    """Answer inside a request whose head was whole at a moment by `time.monotonic`, or begins to count here."""
    token = _ARRIVAL.set(moment)
    try:
        yield
    finally:
        _ARRIVAL.reset(token)


def record_arrival(environ: dict[str, Any]) -> None:
    """Take down in the environment of a request when it arrived: now, where the server does not say."""
    moment = _ARRIVAL.get()
    environ[_ENVIRON_KEY] = time.monotonic() if moment is None else moment


def measure_since_arrival(environ: dict[str, Any]) -> float:
    """Seconds since a request arrived."""
    return time.monotonic() - environ[_ENVIRON_KEY]


def compute_body_deadline(environ: dict[str, Any], seconds: float) -> float:
    """When, by `time.monotonic`, the body has to be there of a request that may take so many seconds."""
    return max(environ[_ENVIRON_KEY] + seconds, time.monotonic() + MIN_TRANSFER_SECONDS)


def compute_answer_deadline(environ: dict[str, Any], seconds: float) -> float:
    """When, by `time.monotonic`, its answer has to be taken."""
    return environ[_ENVIRON_KEY] + _ANSWER_LIMIT_RATIO * seconds
