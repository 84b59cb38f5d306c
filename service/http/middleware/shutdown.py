"""Shutdown: running requests are finished, new ones are refused."""

import mmap
from typing import ClassVar

from flask import Flask, current_app, request
from werkzeug.exceptions import ServiceUnavailable

from service.http.operations import get_operation

# One byte of memory that the master and its workers share. A signal does not tell: a worker gets it as well when it
# alone is to stop and others go on.
_SHUTDOWN_FLAG = mmap.mmap(-1, 1)


class ShutdownError(ServiceUnavailable):
    """A refusal since the service is stopping."""

    reason: ClassVar = "stopping"


def request_shutdown(requested: bool = True) -> None:
    """Request the shutdown of this process and of the processes that it forked."""
    _SHUTDOWN_FLAG[0] = requested


def is_shutting_down() -> bool:
    """Tell whether the service is stopping."""
    return bool(_SHUTDOWN_FLAG[0])


def register(app: Flask) -> None:
    """Refuse new work during the shutdown."""
    app.before_request(_refuse_new_work)


def _refuse_new_work() -> None:
    # Before the body is read: a request that was running when the signal came is finished.
    if is_shutting_down() and request.endpoint:
        operation = get_operation(current_app.view_functions[request.endpoint])
        if operation is not None and operation.load_body_type is not None:
            raise ShutdownError("The service is stopping and takes no new requests. Try again in 1 s.", retry_after=1)
