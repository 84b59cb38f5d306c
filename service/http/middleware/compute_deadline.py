"""The deadline of a request's computation, counted from its arrival."""

from collections.abc import Generator
from contextlib import contextmanager, nullcontext

from flask import current_app, request

from service.checks.common.deadline import SMALLER_MODEL_REMEDY, Clock
from service.http.arrival import measure_since_arrival
from service.http.middleware.disconnect import cancel_on_disconnect
from service.numerics.core.interrupts import install_interrupt_check
from service.settings import Settings


@contextmanager
def limit_compute_time(*, cancel_if_disconnected: bool = True) -> Generator[None]:
    """Compute inside the block; refuse the request when it takes too long.

    The time in which the body came counts as well; the body has a limit of its own besides.

    Parameters
    ----------
    cancel_if_disconnected
        True to stop when the client disconnects, the default. A streamed answer notices that by itself.
    """
    settings: Settings = current_app.extensions["gradcheckd"]
    clock = Clock(settings.max_seconds, spent=measure_since_arrival(request.environ))
    check = cancel_on_disconnect(request.environ.get("gunicorn.socket")) if cancel_if_disconnected else None
    with (
        nullcontext() if check is None else install_interrupt_check(check),
        clock.enforce_deadline(),
        clock.refuse_on_timeout(SMALLER_MODEL_REMEDY),
    ):
        yield
