"""Reports of a service, typed and immutable."""

import math
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Self, TypeVar

from gradcheckd import report_parts
from gradcheckd.arrays import Array
from gradcheckd.errors import FunctionError, GradientError, hide_frames
from gradcheckd.function_evaluation import MissingValue, describe_exceptions
from gradcheckd.report_parts import (
    Diagnosis,
    Discrepancy,
    DotTestResult,
    Gradient,
    JointDirection,
    Loss,
    Outcome,
    Verdict,
)
from gradcheckd.wire import MARKDOWN, TEXT

__tracebackhide__ = hide_frames

ReportT = TypeVar("ReportT", bound="_BaseReport")
RenderReport = Callable[[str], str]
"""Requests a report in another form, by its media type."""


@dataclass(frozen=True, eq=False)
class _BaseReport:
    """The common part of reports.

    Attributes
    ----------
    outcome
        "pass", "fail" or "inconclusive".
    summary
        Outcome in a sentence.
    verdicts
        Verdicts by name of the tensor.
    raw
        Report of the service: numbers that are not finite are strings, tensors are arrays.
    """

    outcome: Outcome
    summary: str
    verdicts: Mapping[str, Verdict]
    raw: Mapping[str, Any] = field(repr=False)
    _renderer: RenderReport = field(repr=False)
    _text: str | None = field(repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        # Views of mappings do not go to another process; the report follows from its raw form.
        return type(self).read, (dict(self.raw), self._renderer, self._text)

    @classmethod
    def read(cls, raw: Mapping[str, Any], renderer: RenderReport, text: str | None = None) -> Self:
        """Read a report of the service, and its text if that came beside."""
        raise NotImplementedError

    @property
    def patterns(self) -> Mapping[str, str]:
        """Return the wrong elements in words, by name of the tensor, of those that fail."""
        return {name: verdict.pattern for name, verdict in self.verdicts.items() if verdict.pattern is not None}

    @property
    def passed(self) -> bool:
        """Tell whether every gradient passes."""
        return self.outcome == "pass"

    @property
    def diagnoses(self) -> Mapping[str, tuple[Diagnosis, ...]]:
        """Return the probable bugs by name of the tensor; tensors without any are left out."""
        return {name: verdict.diagnoses for name, verdict in self.verdicts.items() if verdict.diagnoses}

    def text(self) -> str:
        """Return the report for a terminal, as the service writes it."""
        return self._text or self._renderer(TEXT)

    def markdown(self) -> str:
        """Return the report for a pull request, as the service writes it in a second, equal answer."""
        return self._renderer(MARKDOWN)

    def __str__(self) -> str:
        return self.summary


@dataclass(frozen=True, eq=False)
class Report(_BaseReport):
    """The report of a check.

    Attributes
    ----------
    loss
        Loss by two routes.
    gradients
        Gradients by name, each by every route; empty where `include` leaves them out.
    discrepancies
        Distances by name and pair of routes, such as "candidate_vs_finite_difference".
    intermediates
        Value and gradients of each node by name; with "intermediates" in `include`.
    directions
        Random directions of several tensors together; with "projections", unless "joint" is False.
    judged_as
        Recipe of the candidate in words; None without a recipe.
    """

    loss: Loss
    gradients: Mapping[str, Gradient]
    discrepancies: Mapping[str, Mapping[str, Discrepancy]]
    intermediates: Mapping[str, Mapping[str, Array]]
    directions: tuple[JointDirection, ...] = ()
    judged_as: str | None = None

    @classmethod
    def read(cls, raw: Mapping[str, Any], renderer: RenderReport, text: str | None = None) -> Self:
        """Read a report of the service with tensors as arrays, and its text if that came beside."""
        return cls(
            **_read_common_fields(raw, renderer, text),
            loss=Loss(*(float(raw["loss"][route]) for route in ("analytic", "autograd"))),
            gradients=_read_mapping(raw["gradients"], report_parts.read_gradient),
            discrepancies=_read_mapping(
                raw["discrepancies"], lambda pairs: _read_mapping(pairs, report_parts.read_discrepancy)
            ),
            intermediates=_read_mapping(raw["intermediates"], report_parts.make_read_only),
            directions=tuple(map(report_parts.read_joint_direction, raw.get("directions", ()))),
            judged_as=raw.get("judged_as"),
        )


@dataclass(frozen=True, eq=False)
class BlackBoxReport(_BaseReport):
    """The report on gradients of a function that only the caller can evaluate.

    Verdicts have the names of tensors of the point for a candidate, "y/x" (output and tensor) for a vector-Jacobian
    product or a Jacobian, and "y" for a Jacobian-vector product.

    Attributes
    ----------
    noise
        Standard deviation of one evaluation, absolute, as estimated; with outputs the largest of the verdicts.
    deterministic
        True if the function was the same each time at the point.
    evaluations
        Number of points that the report follows from.
    taylor, missed
        Remainder along one direction, and probability that an error was missed, of the tensor where they are worst;
        empty with outputs, whose verdicts have their own.
    dot_tests
        Tests of vector-Jacobian products against Jacobian-vector products; empty unless both were given.
    exceptions
        Exceptions of the function, each with the number of its point.
    rounds
        Rounds of evaluations; more than one where the function had no derivative at the first scale.
    """

    noise: float
    deterministic: bool
    evaluations: int
    taylor: Mapping[str, Any]
    missed: Mapping[str, Any]
    dot_tests: tuple[DotTestResult, ...] = ()
    exceptions: tuple[MissingValue, ...] = ()
    rounds: int = 1

    @classmethod
    def read(cls, raw: Mapping[str, Any], renderer: RenderReport, text: str | None = None) -> Self:
        """Read a report of the service, and its text if that came beside."""
        common = _read_common_fields(raw, renderer, text)
        return cls(
            **common,
            noise=_read_noise(raw, common["verdicts"]),
            deterministic=raw["deterministic"],
            evaluations=raw["evaluations"],
            taylor=raw.get("taylor", {}),
            missed=raw.get("missed", {}),
            dot_tests=tuple(map(report_parts.read_dot_test, raw.get("dot_tests", ()))),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _reread_report, (super().__reduce__(), _keep_picklable(self.exceptions), self.rounds)

    def text(self) -> str:
        """Return the report for a terminal, as the service writes it, with the exceptions of the function."""
        text = super().text()
        # A pass follows from the other points.
        lines = [] if self.passed else describe_exceptions(self.exceptions)
        return "\n".join([text.rstrip("\n"), "", *lines, ""]) if lines else text


def _read_noise(raw: Mapping[str, Any], verdicts: Mapping[str, Verdict]) -> float:
    if "noise" in raw:
        return float(raw["noise"])
    return max((verdict.noise for verdict in verdicts.values() if verdict.noise is not None), default=math.nan)


def _reread_report(
    reduced: tuple[Callable[..., BlackBoxReport], tuple[Any, ...]], exceptions: tuple[MissingValue, ...], rounds: int
) -> BlackBoxReport:
    read, arguments = reduced
    return replace(read(*arguments), exceptions=exceptions, rounds=rounds)


def _keep_picklable(exceptions: tuple[MissingValue, ...]) -> tuple[MissingValue, ...]:
    """Replace exceptions that do not go to another process by their texts."""
    return tuple(
        (number, error if _is_picklable(error) else FunctionError(repr(error))) for number, error in exceptions
    )


def _is_picklable(error: Exception) -> bool:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - of any kind, since the exception is one of the caller's own
        return False
    return True


def require_pass(report: ReportT) -> ReportT:
    """Return a report that passes.

    Raises
    ------
    GradientError
        The report does not pass.
    """
    if not report.passed:
        raise GradientError(report, report.text())
    return report


def _read_common_fields(raw: Mapping[str, Any], renderer: RenderReport, text: str | None) -> dict[str, Any]:
    return {
        "outcome": raw["outcome"],
        "summary": raw["summary"],
        "verdicts": _read_mapping(raw["verdicts"], report_parts.read_verdict),
        "raw": MappingProxyType(dict(raw)),
        "_renderer": renderer,
        "_text": text,
    }


def _read_mapping(raw: Mapping[str, Any], read: Callable[[Any], Any]) -> Mapping[str, Any]:
    return MappingProxyType({name: read(value) for name, value in raw.items()})
