"""What can go wrong between a caller and a service; each error says what to do about it."""

from collections.abc import Mapping, Sequence
from typing import Any

_REMEDY_BY_STATUS = {
    400: "The body is not of the form that it is said to have: see the detail above.",
    401: "Give a key that the service knows: key=..., `--key`, or the environment variable GRADCHECKD_API_KEY.",
    404: "The service has no such address: is GRADCHECKD_URL the address of a gradcheckd, of this version or later?",
    408: "The body came too slowly. Send less: a smaller model, float32, or arrays instead of lists.",
    413: "Send less: arrays instead of lists, float32 instead of float64, a smaller model; or have the service take "
    "more (GRADCHECKD_MAX_BINARY_BYTES, GRADCHECKD_MAX_BODY_BYTES, where it runs).",
    422: "Mend the request at the places that are listed.",
    500: "This is a fault of the service, not of your request: report it with the number above.",
    503: "Try again later, or give the service more workers (WEB_CONCURRENCY, where it runs).",
}


class GradcheckdError(Exception):
    """Whatever keeps a gradient from being judged."""


class TensorError(GradcheckdError, TypeError):
    """Something was given for a tensor that cannot be sent."""


class RequestError(GradcheckdError, ValueError):
    """A request that cannot be put together: a file that is none, an address that is none."""


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
        # An error is made anew of its message, unless it says of what else.
        return type(self), self._arguments, vars(self)


class AnswerTimeoutError(GradcheckdError, TimeoutError):
    """The service did not answer in time."""


class UnexpectedAnswerError(GradcheckdError):
    """Something else than gradcheckd answers, or an answer broke off."""


class ProblemError(GradcheckdError):
    """The service refused a request (RFC 9457).

    Attributes
    ----------
    problem
        The document as it came.
    status, title, detail
        Of it.
    errors
        Places of the request that are wrong: a JSON pointer and a detail each.
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
            lines += [f"  {each['pointer'] or 'the request'}: {each['detail']}" for each in self.errors]
        else:
            lines.append(f"  {self.detail}")
        if more := self.problem.get("total_errors", 0) - len(self.errors):
            lines.append(f"  ... and {more} more")
        return [*lines, *([_REMEDY_BY_STATUS[self.status]] if self.status in _REMEDY_BY_STATUS else [])]


class GradientError(AssertionError):
    """A gradient that is not right, or of which that could not be told.

    Its message is a line that says which, and what the bug may be, and the report for reading.

    Attributes
    ----------
    report
        The report.
    """

    def __init__(self, report: Any, text: str) -> None:
        self.report = report
        self._text = text
        super().__init__(f"{_summarize_report(report)}\n\n{text}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.report, self._text), vars(self)


def _summarize_report(report: Any) -> str:
    """What a list of failed tests has room for."""
    bugs = [f"{name} {' or '.join(each.name for each in found)}" for name, found in report.diagnoses.items()]
    # Lists of failed tests cut the end off.
    return f"{'; '.join(bugs)}: {report.summary}" if bugs else report.summary


def describe_error(error: BaseException) -> str:
    """What an error says, to be followed by a full stop."""
    return str(error).rstrip().removesuffix(".")


def hide_frames(excinfo: Any) -> bool:
    """Whether pytest is to leave out the frames of a module that has this as `__tracebackhide__`.

    What an error of ours says is for the caller to mend; of any other error each frame may matter.
    """
    return excinfo is not None and isinstance(excinfo.value, GradcheckdError | GradientError)
