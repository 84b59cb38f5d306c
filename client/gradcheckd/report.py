"""Reports of a service, typed and immutable."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

from gradcheckd import report_parts
from gradcheckd.arrays import Array
from gradcheckd.errors import hide_frames
from gradcheckd.report_parts import Diagnosis, Discrepancy, Gradient, Loss, Outcome, Verdict
from gradcheckd.wire import MARKDOWN, TEXT

__tracebackhide__ = hide_frames

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
    """

    loss: Loss
    gradients: Mapping[str, Gradient]
    discrepancies: Mapping[str, Mapping[str, Discrepancy]]
    intermediates: Mapping[str, Mapping[str, Array]]

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
        )


@dataclass(frozen=True, eq=False)
class BlackBoxReport(_BaseReport):
    """The report on a gradient of a loss that only the caller can evaluate.

    Attributes
    ----------
    noise
        Standard deviation of one evaluation of the loss, absolute, as estimated.
    deterministic
        True if the loss was the same each time at the point.
    evaluations
        Number of losses that the report follows from.
    taylor, missed
        Remainder along one direction, and probability that an error was missed, of the tensor where they are worst.
    """

    noise: float
    deterministic: bool
    evaluations: int
    taylor: Mapping[str, Any]
    missed: Mapping[str, Any]

    @classmethod
    def read(cls, raw: Mapping[str, Any], renderer: RenderReport, text: str | None = None) -> Self:
        """Read a report of the service, and its text if that came beside."""
        copied_fields = {name: raw[name] for name in ("deterministic", "evaluations", "taylor", "missed")}
        return cls(**_read_common_fields(raw, renderer, text), noise=float(raw["noise"]), **copied_fields)


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
