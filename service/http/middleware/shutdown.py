"""While the service stops: what runs is finished, what is new is refused."""

import mmap
from typing import ClassVar

from flask import Flask, current_app, request
from werkzeug.exceptions import ServiceUnavailable

from service.http.operations import get_operation

# One byte of memory that the master and its workers share: a worker is told to stop too where only it is to go, and
# others go on.
_SHUTDOWN_FLAG = mmap.mmap(-1, 1)


class ShutdownError(ServiceUnavailable):
    """Too late."""

    reason: ClassVar = "stopping"


def request_shutdown(requested: bool = True) -> None:
    """Take down that the service is to stop, for this process and those that it forked."""
    _SHUTDOWN_FLAG[0] = requested


def is_shutting_down() -> bool:
    """Whether the service is to stop."""
    return bool(_SHUTDOWN_FLAG[0])


def register(app: Flask) -> None:
    """Refuse new work while stopping."""
    app.before_request(_refuse_new_work)


def _refuse_new_work() -> None:
    # Asked before the body is read: a request that was under way when the signal came is finished.
    if is_shutting_down() and request.endpoint:
        operation = get_operation(current_app.view_functions[request.endpoint])
        if operation is not None and operation.body_type is not None:
            raise ShutdownError("The service is stopping, and takes no new work. Try again in 1 s.", retry_after=1)
