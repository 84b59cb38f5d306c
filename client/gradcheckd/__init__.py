"""A second opinion for gradients: the client of gradcheckd.

    report = gradcheckd.check(tensors={"x": x, "y": y}, weights={"w1": w1}, candidate={"w1": my_gradient})

Functions here ask the service at `url`, by default that in the environment variable GRADCHECKD_URL. Without either,
the service runs in this process if it is installed here, and else it is expected at http://127.0.0.1:8000. `key`, by
default that in GRADCHECKD_API_KEY, is a key of the service. The functions share one connection; a `Service` has one of
its own, and the functions as methods.
"""

from collections.abc import Callable
from importlib import metadata
from typing import Any, Unpack

from gradcheckd.errors import (
    AnswerTimeoutError,
    GradcheckdError,
    GradientError,
    ProblemError,
    RequestError,
    TensorError,
    UnexpectedAnswerError,
    UnreachableError,
    hide_frames,
)
from gradcheckd.report import BlackBoxReport, Report
from gradcheckd.report_parts import Diagnosis, Discrepancy, Elements, Gradient, Judged, Kink, Loss, Verdict
from gradcheckd.service import Service
from gradcheckd.shared_connections import share_connection
from gradcheckd.signatures import CheckParameters, FunctionParameters, copy_signature

try:
    __version__ = metadata.version("gradcheckd")
except metadata.PackageNotFoundError:
    # It is imported from its source, and not installed.
    __version__ = "unknown"
__tracebackhide__ = hide_frames

__all__ = [
    "AnswerTimeoutError",
    "BlackBoxReport",
    "Diagnosis",
    "Discrepancy",
    "Elements",
    "GradcheckdError",
    "Gradient",
    "GradientError",
    "Judged",
    "Kink",
    "Loss",
    "ProblemError",
    "Report",
    "RequestError",
    "Service",
    "TensorError",
    "UnexpectedAnswerError",
    "UnreachableError",
    "Verdict",
    "__version__",
    "assert_function",
    "assert_gradients",
    "check",
    "check_function",
]


@copy_signature(Service.check)
def check(*, url: str | None = None, key: str | None = None, **request: Unpack[CheckParameters]) -> Report:
    """Check gradients by three independent routes; further parameters are those of `Service.check`."""
    return Service.from_connection(share_connection(url, key)).check(**request)


@copy_signature(Service.assert_gradients)
def assert_gradients(*, url: str | None = None, key: str | None = None, **request: Unpack[CheckParameters]) -> Report:
    """Raise an AssertionError unless gradients pass; further parameters are those of `Service.check`."""
    return Service.from_connection(share_connection(url, key)).assert_gradients(**request)


@copy_signature(Service.check_function)
def check_function(
    loss: Callable[[Any], Any],
    point: Any,
    gradient: Any,
    *,
    url: str | None = None,
    key: str | None = None,
    **options: Unpack[FunctionParameters],
) -> BlackBoxReport:
    """Judge the gradient of a function that stays here; further parameters are those of `Service.check_function`."""
    return Service.from_connection(share_connection(url, key)).check_function(loss, point, gradient, **options)


@copy_signature(Service.assert_function)
def assert_function(
    loss: Callable[[Any], Any],
    point: Any,
    gradient: Any,
    *,
    url: str | None = None,
    key: str | None = None,
    **options: Unpack[FunctionParameters],
) -> BlackBoxReport:
    """Raise an AssertionError unless the gradient of a function passes; as `check_function`."""
    return Service.from_connection(share_connection(url, key)).assert_function(loss, point, gradient, **options)
