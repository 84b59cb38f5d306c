"""The clock of a request: of all that is computed for it, from when its head has come."""

from collections.abc import Generator
from contextlib import contextmanager, nullcontext

from flask import current_app, request

from service.checking.deadline import Clock
from service.checking.fitting import SMALLER
from service.http.arriving import since_arrival
from service.http.leaving import until_left
from service.numerics.pausing import watched
from service.settings import Settings


@contextmanager
def timed(*, while_there: bool = True) -> Generator[None]:
    """Compute inside; the request is refused where that takes too long, and left alone where its client has left.

    What the body took to come has gone by then. It has a limit of its own beside.

    Parameters
    ----------
    while_there
        Whether to look at the connection: not where what is sent over it tells that already.
    """
    settings: Settings = current_app.extensions["gradcheckd"]
    clock = Clock(settings.max_seconds, spent=since_arrival(request.environ))
    left = until_left(request.environ.get("gunicorn.socket")) if while_there else None
    with nullcontext() if left is None else watched(left), clock.watching(), clock.refusing(SMALLER):
        yield
