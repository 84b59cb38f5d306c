"""While the service stops: what runs is finished, what is new is refused."""

import mmap
from typing import ClassVar

from flask import Flask, current_app, request
from werkzeug.exceptions import ServiceUnavailable

from service.http.operation import operation_of

# One byte of memory that the master and its workers share: a worker is told to stop too where only it is to go, and
# others go on.
_TOLD = mmap.mmap(-1, 1)


class StoppingError(ServiceUnavailable):
    """Too late."""

    reason: ClassVar = "stopping"


def stop(told: bool = True) -> None:
    """Take down that the service is to stop, for this process and those that it forked."""
    _TOLD[0] = told


def stopping() -> bool:
    """Whether the service is to stop."""
    return bool(_TOLD[0])


def register(app: Flask) -> None:
    """Refuse new work while stopping."""
    app.before_request(_refuse)


def _refuse() -> None:
    # Asked before the body is read: a request that was under way when the signal came is finished.
    if stopping() and request.endpoint:
        operation = operation_of(current_app.view_functions[request.endpoint])
        if operation is not None and operation.body is not None:
            raise StoppingError("The service is stopping, and takes no new work. Try again in 1 s.", retry_after=1)
