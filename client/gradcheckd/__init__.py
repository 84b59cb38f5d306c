"""A second opinion for gradients: the client of gradcheckd.

    report = gradcheckd.check(tensors={"x": x, "y": y}, weights={"w1": w1}, candidate={"w1": my_gradient})

Functions here ask the service at `url`, by default that in the environment variable GRADCHECKD_URL. Without either,
the service runs in this process if it is installed here, and else it is expected at http://127.0.0.1:8000. `key`, by
default that in GRADCHECKD_API_KEY, is a key of the service. The functions share one connection; a `Service` has one of
its own, and the functions as methods.
"""

from collections.abc import Callable
from importlib import metadata
from os import PathLike
from typing import Any, Literal, Unpack, cast, overload

from gradcheckd.derivatives import Derivatives
from gradcheckd.errors import (
    AnswerTimeoutError,
    FunctionError,
    GradcheckdError,
    GradientError,
    InconclusiveGradientWarning,
    ProblemError,
    RequestError,
    TensorError,
    UnexpectedAnswerError,
    UnreachableError,
    hide_frames,
)
from gradcheckd.function_methods import Inconclusive
from gradcheckd.imported_request import ImportedRequest
from gradcheckd.job import Job, JobProgress
from gradcheckd.report import BlackBoxReport, Report
from gradcheckd.report_parts import (
    Diagnosis,
    Discrepancy,
    DotTestResult,
    Elements,
    Gradient,
    JointDirection,
    Judged,
    Kink,
    Loss,
    Repeatability,
    Scale,
    Verdict,
)
from gradcheckd.service import Service
from gradcheckd.shared_connections import share_connection
from gradcheckd.signatures import CheckParameters, FunctionOptions, FunctionParameters, copy_signature

try:
    __version__ = metadata.version("gradcheckd")
except metadata.PackageNotFoundError:
    # It is imported from its source, and not installed.
    __version__ = "unknown"
__tracebackhide__ = hide_frames

__all__ = [
    "AnswerTimeoutError",
    "BlackBoxReport",
    "Derivatives",
    "Diagnosis",
    "Discrepancy",
    "DotTestResult",
    "Elements",
    "FunctionError",
    "GradcheckdError",
    "Gradient",
    "GradientError",
    "ImportedRequest",
    "InconclusiveGradientWarning",
    "Job",
    "JobProgress",
    "JointDirection",
    "Judged",
    "Kink",
    "Loss",
    "ProblemError",
    "Repeatability",
    "Report",
    "RequestError",
    "Scale",
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
    "check_hessian",
    "from_onnx",
    "job",
    "jobs",
]


@overload
def check(
    *,
    wait: Literal[False],
    idempotency_key: str | None = None,
    url: str | None = None,
    key: str | None = None,
    **request: Unpack[CheckParameters],
) -> Job: ...


@overload
def check(
    *, wait: Literal[True] = True, url: str | None = None, key: str | None = None, **request: Unpack[CheckParameters]
) -> Report: ...


@copy_signature(Service.check)
def check(*, url: str | None = None, key: str | None = None, **request: Any) -> Report | Job:
    """Check gradients by three independent routes; further parameters are those of `Service.check`."""
    return cast("Report | Job", Service.from_connection(share_connection(url, key)).check(**request))


def job(identifier: str, *, url: str | None = None, key: str | None = None) -> Job:
    """Return a job by its `id`; `check(..., wait=False)` returns one."""
    return Service.from_connection(share_connection(url, key)).job(identifier)


def jobs(*, url: str | None = None, key: str | None = None) -> list[Job]:
    """Return your jobs, the latest first."""
    return Service.from_connection(share_connection(url, key)).jobs()


@copy_signature(Service.from_onnx)
def from_onnx(
    path: str | PathLike[str],
    *,
    loss: str = "projection",
    seed: int = 0,
    url: str | None = None,
    key: str | None = None,
) -> ImportedRequest:
    """Make the request of a check of an ONNX file; parameters are those of `Service.from_onnx`."""
    return Service.from_connection(share_connection(url, key)).from_onnx(path, loss=loss, seed=seed)


@copy_signature(Service.assert_gradients)
def assert_gradients(*, url: str | None = None, key: str | None = None, **request: Unpack[CheckParameters]) -> Report:
    """Raise an AssertionError unless gradients pass; further parameters are those of `Service.check`."""
    return Service.from_connection(share_connection(url, key)).assert_gradients(**request)


@overload
def check_function(  # pyright: ignore[reportOverlappingOverload]
    function: Callable[..., Any],
    point: Any,
    candidate: None = None,
    *,
    vjp: None = None,
    jvp: None = None,
    jacobian: None = None,
    url: str | None = None,
    key: str | None = None,
    **options: Unpack[FunctionOptions],
) -> Derivatives: ...


@overload
def check_function(
    function: Callable[..., Any],
    point: Any,
    candidate: Any = None,
    *,
    url: str | None = None,
    key: str | None = None,
    **options: Unpack[FunctionParameters],
) -> BlackBoxReport: ...


@copy_signature(Service.check_function)
def check_function(
    function: Callable[..., Any],
    point: Any,
    candidate: Any = None,
    *,
    url: str | None = None,
    key: str | None = None,
    **options: Any,
) -> BlackBoxReport | Derivatives:
    """Judge gradients of a function that stays here; further parameters are those of `Service.check_function`."""
    service = Service.from_connection(share_connection(url, key))
    return cast("BlackBoxReport | Derivatives", service.check_function(function, point, candidate, **options))


@copy_signature(Service.assert_function)
def assert_function(
    function: Callable[..., Any],
    point: Any,
    candidate: Any = None,
    *,
    inconclusive: Inconclusive = "raise",
    url: str | None = None,
    key: str | None = None,
    **options: Unpack[FunctionParameters],
) -> BlackBoxReport:
    """Raise an AssertionError unless gradients of a function pass; as `check_function`.

    With `inconclusive="warn"` an undecided check warns instead, with an `InconclusiveGradientWarning`.
    """
    service = Service.from_connection(share_connection(url, key))
    return service.assert_function(function, point, candidate, inconclusive=inconclusive, **options)


@copy_signature(Service.check_hessian)
def check_hessian(
    gradient: Callable[..., Any],
    point: Any,
    hvp: Any = None,
    hessian: Any = None,
    *,
    url: str | None = None,
    key: str | None = None,
    **options: Unpack[FunctionOptions],
) -> BlackBoxReport | Derivatives:
    """Judge second derivatives by differences of a gradient; parameters are those of `Service.check_hessian`."""
    return Service.from_connection(share_connection(url, key)).check_hessian(gradient, point, hvp, hessian, **options)
