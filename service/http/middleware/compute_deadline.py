"""The clock of a request: of all that is computed for it, from when its head has come."""

from collections.abc import Generator
from contextlib import contextmanager, nullcontext

from flask import current_app, request

from service.checks.common.deadline import Clock
from service.checks.graph.suggestions import SMALLER_MODEL_REMEDY
from service.http.arrival import measure_since_arrival
from service.http.middleware.disconnect import cancel_on_disconnect
from service.numerics.core.interrupts import install_interrupt_check
from service.settings import Settings


@contextmanager
def limit_compute_time(*, cancel_if_disconnected: bool = True) -> Generator[None]:
    """Compute inside; the request is refused where that takes too long, and left alone where its client has left.

    What the body took to come has gone by then. It has a limit of its own beside.

    Parameters
    ----------
    while_there
        Whether to look at the connection: not where what is sent over it tells that already.
    """
    settings: Settings = current_app.extensions["gradcheckd"]
    clock = Clock(settings.max_seconds, spent=measure_since_arrival(request.environ))
    left = cancel_on_disconnect(request.environ.get("gunicorn.socket")) if cancel_if_disconnected else None
    with (
        nullcontext() if left is None else install_interrupt_check(left),
        clock.enforce_deadline(),
        clock.refuse_on_timeout(SMALLER_MODEL_REMEDY),
    ):
        yield
