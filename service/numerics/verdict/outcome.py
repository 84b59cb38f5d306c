"""The vocabulary of verdicts: outcomes, and causes with meaning and remedy."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, IntEnum

import numpy as np

from service.numerics.core.batching import Array, Shape


class Outcome(IntEnum):
    """Outcomes, in the order in which one prevails over another."""

    PASS = 0
    INCONCLUSIVE = 1
    FAIL = 2

    @property
    def wire_name(self) -> str:
        """Return the name on the wire."""
        return self.name.lower()


@dataclass(frozen=True)
class CauseDescription:
    """Outcome, meaning and remedy of a cause.

    `directional_remedy` replaces the remedy of a check along directions.
    """

    outcome: Outcome
    cause: str
    remedy: str
    directional_remedy: str | None = None


class Cause(Enum):
    """Causes of an outcome, in the order in which a reason names one of several."""

    SHAPE_DIFFERS = CauseDescription(
        Outcome.FAIL,
        "another shape than its tensor",
        "Look for a missing sum over broadcast axes, or for a transpose too many.",
    )
    NOT_FINITE = CauseDescription(
        Outcome.FAIL,
        "not a finite number, but the finite difference is",
        "Look for an overflow, a division by zero or an uninitialised buffer.",
    )
    EXCEEDS_ALLOWED_ERROR = CauseDescription(
        Outcome.FAIL,
        "farther from the finite difference than is allowed",
        "Compare the backward pass with its derivation at the elements listed in `worst`.",
        "Check every element, or a sample of them, to see which are wrong.",
    )
    GRADIENT_MISSING = CauseDescription(
        Outcome.FAIL,
        "part of a gradient of zeros, but the true gradient exceeds all rounding",
        "Look for a detached value, or for a buffer that is never written.",
    )
    NO_CONSISTENT_SUBGRADIENT = CauseDescription(
        Outcome.FAIL,
        "between the one-sided derivatives, but no single choice of subgradient at the ties explains all elements",
        "Choose once at each tie: the shares of a maximum sum to the incoming gradient, and a difference of 0 has one "
        "sign for every element that it reaches.",
    )
    SOURCES_DISAGREE = CauseDescription(
        Outcome.INCONCLUSIVE,
        "not judged, because analytic, autograd and finite difference disagree among themselves here",
        "This is a bug of this service: please report it with the request.",
    )
    OUT_OF_RANGE = CauseDescription(
        Outcome.INCONCLUSIVE,
        "not finite, or wrong, because of the range of the dtype alone",
        "Use a dtype with a larger range, or scale the loss.",
    )
    NO_REFERENCE = CauseDescription(
        Outcome.INCONCLUSIVE,
        "not judged, because no finite difference with a bound exists here",
        "Move the point to a place where the loss is finite and smooth, or try another method or step.",
    )
    OUTSIDE_KINK_SIDES = CauseDescription(
        Outcome.INCONCLUSIVE,
        "outside the one-sided derivatives, as if it took some kinks on one side and some on the other",
        "Move the point off the kinks.",
        "Move the point off the kinks, or check every element, or a sample of them.",
    )
    SUBGRADIENT_UNDECIDED = CauseDescription(
        Outcome.INCONCLUSIVE,
        "between the one-sided derivatives, but it is open whether one choice of subgradient at the ties explains all "
        "elements",
        "Move the point off the ties, or follow one convention at all of them.",
    )
    TOO_UNCERTAIN = CauseDescription(
        Outcome.INCONCLUSIVE,
        "not certain: error bound and rounding allow more than half of the smallest error that a check must find",
        "Use a more precise arithmetic, or a point at which the loss is better conditioned.",
    )
    TOLERANCE_TOO_FINE = CauseDescription(
        Outcome.INCONCLUSIVE,
        "not certain: the error bound of the finite difference exceeds your tolerance",
        "Give a larger tolerance, or omit it to let the error bound decide.",
    )
    AGREES = CauseDescription(
        Outcome.PASS,
        "within its error bound",
        "Nothing to fix.",
    )

    @property
    def description(self) -> CauseDescription:
        """Return outcome, meaning and remedy."""
        return self.value

    @property
    def outcome(self) -> Outcome:
        """Return the outcome of an element with this cause."""
        return self.description.outcome


CAUSES: tuple[Cause, ...] = tuple(Cause)
"""Causes in their order: arrays of causes hold positions in this tuple."""

_POSITIONS = {cause: position for position, cause in enumerate(CAUSES)}
_OUTCOME_BY_CAUSE = np.array([cause.outcome for cause in CAUSES])


def assign_causes(shape: Shape, rules: Iterable[tuple[Array | None, Cause]]) -> Array:
    """Return the cause of each entry as positions in `CAUSES`.

    Parameters
    ----------
    shape
        Shape of the entries.
    rules
        Masks with the cause of their entries; a later rule overrides an earlier one, and a mask of None is skipped.
    """
    causes = np.full(shape, _POSITIONS[Cause.AGREES])
    for mask, cause in rules:
        if mask is not None:
            causes[mask] = _POSITIONS[cause]
    return causes


def find_outcomes(causes: Array) -> Array:
    """Return the outcome of each entry, given positions in `CAUSES`."""
    return _OUTCOME_BY_CAUSE[causes]
