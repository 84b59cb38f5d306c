"""A second opinion for gradients: the client of gradcheckd.

    report = gradcheckd.check(tensors={"x": x, "y": y}, weights={"w1": w1}, candidate={"w1": my_gradient})

Functions here ask the service at `url`, by default that in the environment variable GRADCHECKD_URL, or else the one at
http://127.0.0.1:8000; `key`, by default that in GRADCHECKD_API_KEY, is a key of it. A `Service` keeps its connection
for many checks, and has them as methods.
"""

from collections.abc import Callable
from typing import Any

from gradcheckd.errors import (
    AnswerTimeoutError,
    GradcheckdError,
    GradientError,
    ProblemError,
    RequestError,
    TensorError,
    UnexpectedAnswerError,
    UnreachableError,
    hides,
)
from gradcheckd.findings import Diagnosis, Discrepancy, Elements, Gradient, Judged, Kink, Loss, Verdict
from gradcheckd.report import BlackBoxReport, Report
from gradcheckd.service import Service

__tracebackhide__ = hides

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
    "assert_function",
    "assert_gradients",
    "check",
    "check_function",
]


def check(*, url: str | None = None, key: str | None = None, **request: Any) -> Report:
    """Check gradients by three independent routes; further parameters are those of `Service.check`."""
    with Service(url, key) as service:
        return service.check(**request)


def assert_gradients(*, url: str | None = None, key: str | None = None, **request: Any) -> Report:
    """Raise an AssertionError unless gradients pass; further parameters are those of `Service.check`."""
    with Service(url, key) as service:
        return service.assert_gradients(**request)


def check_function(
    loss: Callable[[Any], Any],
    point: Any,
    gradient: Any,
    *,
    url: str | None = None,
    key: str | None = None,
    **options: Any,
) -> BlackBoxReport:
    """Judge the gradient of a function that stays here; further parameters are those of `Service.check_function`."""
    with Service(url, key) as service:
        return service.check_function(loss, point, gradient, **options)


def assert_function(
    loss: Callable[[Any], Any],
    point: Any,
    gradient: Any,
    *,
    url: str | None = None,
    key: str | None = None,
    **options: Any,
) -> BlackBoxReport:
    """Raise an AssertionError unless the gradient of a function passes; as `check_function`."""
    with Service(url, key) as service:
        return service.assert_function(loss, point, gradient, **options)
