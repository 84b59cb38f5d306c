"""Outcomes as a vocabulary: each cause with what it leads to, how it reads, and what mends it."""

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
        """As on the wire."""
        return self.name.lower()


@dataclass(frozen=True)
class CauseDescription:
    """What a cause leads to, how it reads, and what mends it; `remedy_along` where directions were looked at."""

    outcome: Outcome
    cause: str
    remedy: str
    directional_remedy: str | None = None


class Cause(Enum):
    """Why an element has its outcome. The order is that in which one is named where several elements differ."""

    SHAPE_DIFFERS = CauseDescription(
        Outcome.FAIL,
        "another shape than that of what it is the gradient of",
        "A sum over broadcast axes left out and a transpose left in are the usual causes.",
    )
    NOT_FINITE = CauseDescription(
        Outcome.FAIL,
        "not a finite number where the finite difference is one",
        "Look for an overflow, a division by zero or an uninitialised buffer.",
    )
    EXCEEDS_ALLOWED_ERROR = CauseDescription(
        Outcome.FAIL,
        "farther from the finite difference than is allowed",
        "Compare the backward pass with its derivation at the elements listed in `worst`.",
        "Difference every element, or a sample of them, to see which are wrong.",
    )
    GRADIENT_MISSING = CauseDescription(
        Outcome.FAIL,
        "part of nothing but zeros, where the gradient as a whole is more than rounding takes away",
        "Look for what keeps the gradient from being computed: a value that was detached, or a buffer never written.",
    )
    NO_CONSISTENT_SUBGRADIENT = CauseDescription(
        Outcome.FAIL,
        "between its one-sided derivatives, but no single choice of subgradient at the ties explains all of them "
        "together",
        "Choose once at each tie: the parts that share a maximum sum to what came in, and one sign serves all that a "
        "difference of 0 reaches.",
    )
    SOURCES_DISAGREE = CauseDescription(
        Outcome.INCONCLUSIVE,
        "not judged, since analytic, autograd and finite difference disagree among themselves here",
        "This is a fault of this service: please report it with the request.",
    )
    OUT_OF_RANGE = CauseDescription(
        Outcome.INCONCLUSIVE,
        "no finite number, or none that is right, because of the range of the dtype alone",
        "Give a dtype with a larger range, or scale the loss.",
    )
    NO_REFERENCE = CauseDescription(
        Outcome.INCONCLUSIVE,
        "not judged, since no finite difference with a bound could be had here",
        "Move the point away from where the loss is not finite or not smooth, or try another method or step.",
    )
    OUTSIDE_KINK_SIDES = CauseDescription(
        Outcome.INCONCLUSIVE,
        "outside the one-sided derivatives, as one may be that takes some kinks on one side and some on the other",
        "Move the point off the kinks, or difference every element, or a sample of them.",
    )
    SUBGRADIENT_UNDECIDED = CauseDescription(
        Outcome.INCONCLUSIVE,
        "between its one-sided derivatives, but whether one choice of subgradient at the ties explains all of them "
        "together could not be told",
        "Move the point off the ties, or follow one convention at all of them.",
    )
    TOO_UNCERTAIN = CauseDescription(
        Outcome.INCONCLUSIVE,
        "not certain: error bound and rounding allow more than half of the smallest error that must be found",
        "Use a more precise arithmetic, or a point at which the loss is better conditioned.",
    )
    TOLERANCE_TOO_FINE = CauseDescription(
        Outcome.INCONCLUSIVE,
        "not certain: the error bound of the finite difference exceeds the tolerance that was given",
        "Give a larger tolerance, or leave it out and let the bound decide.",
    )
    AGREES = CauseDescription(
        Outcome.PASS,
        "as near to the finite difference as its error bound and rounding ask for",
        "Nothing to mend.",
    )

    @property
    def description(self) -> CauseDescription:
        """Outcome, cause and remedy."""
        return self.value

    @property
    def outcome(self) -> Outcome:
        """The outcome of an element with this cause."""
        return self.description.outcome


CAUSES: tuple[Cause, ...] = tuple(Cause)
"""Causes in their order: arrays of causes hold positions in this tuple."""

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
    causes = np.full(shape, CAUSES.index(Cause.AGREES))
    for mask, cause in rules:
        if mask is not None:
            causes[mask] = CAUSES.index(cause)
    return causes


def find_outcomes(causes: Array) -> Array:
    """Return the outcome of each entry, given positions in `CAUSES`."""
    return _OUTCOME_BY_CAUSE[causes]
