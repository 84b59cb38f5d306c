"""What a service found, typed and not to be changed."""

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
"""Asks the service for a report in another form, by its media type."""


@dataclass(frozen=True, eq=False)
class _BaseReport:
    """What reports have in common.

    Attributes
    ----------
    outcome
        "pass", "fail" or "inconclusive".
    summary
        It in a sentence.
    verdicts
        By name of the tensor.
    raw
        The report as it came: numbers that are not finite are strings, tensors arrays.
    """

    outcome: Outcome
    summary: str
    verdicts: Mapping[str, Verdict]
    raw: Mapping[str, Any] = field(repr=False)
    _renderer: RenderReport = field(repr=False)
    _text: str | None = field(repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        # Views of mappings do not go to another process; all of a report follows from what came.
        return type(self).read, (dict(self.raw), self._renderer, self._text)

    @classmethod
    def read(cls, raw: Mapping[str, Any], renderer: RenderReport, text: str | None = None) -> Self:
        """Read what came, and its text if that came beside."""
        raise NotImplementedError

    @property
    def passed(self) -> bool:
        """Whether every gradient is right, as far as could be told."""
        return self.outcome == "pass"

    @property
    def diagnoses(self) -> Mapping[str, tuple[Diagnosis, ...]]:
        """Probable bugs, by name of the tensor; names without any are left out."""
        return {name: verdict.diagnoses for name, verdict in self.verdicts.items() if verdict.diagnoses}

    def text(self) -> str:
        """The report for a terminal, as the service writes it."""
        return self._text or self._renderer(TEXT)

    def markdown(self) -> str:
        """The report for a pull request, as the service writes it: it is asked again, and answers the same."""
        return self._renderer(MARKDOWN)

    def __str__(self) -> str:
        return self.summary


@dataclass(frozen=True, eq=False)
class Report(_BaseReport):
    """The report of a check.

    Attributes
    ----------
    loss
        By two routes.
    gradients
        By name, each by every route; empty where `include` leaves them out.
    discrepancies
        By name and pair of routes, such as "candidate_vs_finite_difference".
    intermediates
        By name of a node, its `value` and its gradients; with "intermediates" in `include`.
    """

    loss: Loss
    gradients: Mapping[str, Gradient]
    discrepancies: Mapping[str, Mapping[str, Discrepancy]]
    intermediates: Mapping[str, Mapping[str, Array]]

    @classmethod
    def read(cls, raw: Mapping[str, Any], renderer: RenderReport, text: str | None = None) -> Self:
        """Read what came, of which the tensors are arrays, and its text if that came beside."""
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
        Whether the loss was the same each time at the point.
    evaluations
        How many losses it follows from.
    taylor, missed
        Of the tensor where they are worst: the remainder along one direction, and how probably an error was missed.
    """

    noise: float
    deterministic: bool
    evaluations: int
    taylor: Mapping[str, Any]
    missed: Mapping[str, Any]

    @classmethod
    def read(cls, raw: Mapping[str, Any], renderer: RenderReport, text: str | None = None) -> Self:
        """Read what came, and its text if that came beside."""
        kept = {name: raw[name] for name in ("deterministic", "evaluations", "taylor", "missed")}
        return cls(**_read_common_fields(raw, renderer, text), noise=float(raw["noise"]), **kept)


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
    return MappingProxyType({name: read(each) for name, each in raw.items()})
