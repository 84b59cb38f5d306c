"""Errors between a caller and a service; each says what is wrong and how to fix it."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

_JOB_DETAIL = "no such job"
"""Part of a detail that says all: the address is right."""
_REMEDY_BY_STATUS = {
    400: "The body does not have the form of its content type: see the detail above.",
    401: "Give a key that the service knows: key=..., `--key`, or the environment variable GRADCHECKD_API_KEY.",
    404: "The service has no such address: is GRADCHECKD_URL the address of a gradcheckd, of this version or later?",
    408: "The body came too slowly. Send less: a smaller model, float32, or arrays instead of lists.",
    413: "Send less: arrays instead of lists, float32 instead of float64, a smaller model; or have the service take "
    "more (GRADCHECKD_MAX_BINARY_BYTES, GRADCHECKD_MAX_BODY_BYTES, where it runs).",
    422: "Fix the fields listed above.",
    500: "This is a bug of the service, not of your request: report it with the number above.",
    503: "Try again later, or give the service more workers (WEB_CONCURRENCY, where it runs).",
}


_UNKNOWN_BUG = "unknown"
_MAX_SUMMARIZED = 3
_MAX_MESSAGE = 200


class GradcheckdError(Exception):
    """An error that keeps a gradient from being judged."""


class TensorError(GradcheckdError, TypeError):
    """A value that cannot be sent as a tensor."""


class FunctionError(GradcheckdError):
    """A function that is not one of its point alone: it changes its input, or the names or shapes of its outputs."""


class RequestError(GradcheckdError, ValueError):
    """A request that is not valid: an unreadable file, an address that is none."""


class UnreachableError(GradcheckdError):
    """There is no service at the address."""

    def __init__(self, url: str, reason: str) -> None:
        self._arguments = (url, reason)
        super().__init__(
            f"No gradcheckd answers at {url}: {reason}.\n"
            "Start one with `gradcheckd serve` where the service is installed, with `make serve` in a checkout, or "
            "with `docker run --rm -p 8000:8000 gradcheckd`; if one runs elsewhere, say where: url=..., `--url`, or "
            "the environment variable GRADCHECKD_URL."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickle makes an error anew of its message, unless it names other arguments.
        return type(self), self._arguments, vars(self)


class AnswerTimeoutError(GradcheckdError, TimeoutError):
    """The service did not answer in time."""


class UnexpectedAnswerError(GradcheckdError):
    """An answer of something else than gradcheckd, or one that broke off."""


class ProblemError(GradcheckdError):
    """The service refused a request (RFC 9457).

    Attributes
    ----------
    problem
        Problem document of the service.
    status, title, detail
        Parts of the document.
    errors
        Wrong places of the request: a JSON pointer and a detail each.
    """

    def __init__(self, problem: Mapping[str, Any]) -> None:
        self.problem = problem
        self.status: int = problem["status"]
        self.title: str = problem["title"]
        self.detail: str = problem.get("detail", "")
        self.errors: Sequence[Mapping[str, str]] = problem.get("errors", ())
        super().__init__("\n".join(self._format_lines()))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problem,), vars(self)

    def _format_lines(self) -> list[str]:
        lines = [f"{self.title} ({self.status})"]
        if self.errors:
            lines += [f"  {error['pointer'] or 'the request'}: {error['detail']}" for error in self.errors]
        else:
            lines.append(f"  {self.detail}")
        if omitted_count := self.problem.get("total_errors", 0) - len(self.errors):
            lines.append(f"  ... and {omitted_count} more")
        remedy = None if _JOB_DETAIL in self.detail else _REMEDY_BY_STATUS.get(self.status)
        return [*lines, *([remedy] if remedy else [])]


class GradientError(AssertionError):
    """A gradient that is wrong, or for which the check was inconclusive.

    Its message is a line with the tensor and its probable bug, and below it the report for reading, of which the last
    line of a long one names the rest.

    Attributes
    ----------
    report
        Report of the check.
    """

    def __init__(self, report: Any, text: str) -> None:
        self.report = report
        self._text = text
        super().__init__(f"{_summarize_report(report)}\n\n{shorten_text(_drop_first_section(text))}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.report, self._text), vars(self)


class InconclusiveGradientWarning(UserWarning):
    """A gradient that is neither confirmed nor refuted; the message says why."""


def _summarize_report(report: Any) -> str:
    """Return the line for a list of failed tests, which cuts its end off: what is wrong stands first."""
    findings = [
        _describe_verdict(name, verdict) for name, verdict in report.verdicts.items() if verdict.outcome == "fail"
    ]
    known_findings = list(filter(None, findings))
    omission_note = (
        f" and {len(known_findings) - _MAX_SUMMARIZED} more" if len(known_findings) > _MAX_SUMMARIZED else ""
    )
    return (
        f"{'; '.join(known_findings[:_MAX_SUMMARIZED])}{omission_note}: {report.summary}"
        if known_findings
        else report.summary
    )


def _describe_verdict(name: str, verdict: Any) -> str:
    bugs = [diagnosis.name for diagnosis in verdict.diagnoses if diagnosis.name != _UNKNOWN_BUG]
    if bugs or verdict.pattern is None:
        return f"{name} {' or '.join(bugs)}" if bugs else ""
    return f"{name}: {verdict.pattern}"


def _drop_first_section(text: str) -> str:
    """Return a report without its outcome and summary, which stand above it."""
    first_section, separator, other_sections = text.partition("\n\n")
    return other_sections if separator else first_section


def shorten_text(text: str, max_lines: int = 20) -> str:
    """Return the first lines of a report, so that an assertion fits on a screen; its end is the least of it."""
    lines = text.rstrip("\n").split("\n")
    if len(lines) <= max_lines:
        return "\n".join(lines)
    kept_lines = lines[: max_lines - 1]
    while not kept_lines[-1].strip():
        kept_lines.pop()
    return "\n".join([*kept_lines, f"... {len(lines) - len(kept_lines)} more lines in the report's text()"])


def describe_exception(error: BaseException) -> str:
    """Return an exception of a caller's function with the first line of its message, or 200 characters of that."""
    try:
        message = str(error).strip().partition("\n")[0]
    except Exception:  # noqa: BLE001 - of any kind: the exception is of the caller's making
        message = "(its message cannot be read)"
    name = type(error).__name__
    return f"{name}: {message[:_MAX_MESSAGE]}{'...' if len(message) > _MAX_MESSAGE else ''}" if message else name


def describe_error(error: BaseException) -> str:
    """Return the message of an error, without its full stop."""
    return str(error).rstrip().removesuffix(".")


def hide_frames(excinfo: Any) -> bool:
    """Tell pytest to leave out the frames of a module that has this as `__tracebackhide__`.

    The caller fixes the errors of this package by their message; in any other error each frame may matter.
    """
    return excinfo is not None and type(excinfo.value).__module__.partition(".")[0] == __package__


def count_own_frames() -> int:
    """Count the frames of this package from the caller of this function on, and the first one of another."""
    frame, count = inspect.currentframe(), 0
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
        frame, count = frame.f_back, count + 1
    return count
