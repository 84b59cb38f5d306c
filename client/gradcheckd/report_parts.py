"""The parts of a report on one gradient, as types."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, cast

import numpy as np

from gradcheckd.arrays import Array

Outcome = Literal["pass", "fail", "inconclusive"]
Index = tuple[int, ...]


@dataclass(frozen=True)
class Loss:
    """The loss by two routes."""

    analytic: float
    autograd: float


@dataclass(frozen=True, eq=False)
class Gradient:
    """One gradient by every route, each of the shape of its tensor; a candidate may have another.

    `error_bound` is that of `finite_difference`. A bfloat16 route comes in the float32 that holds it.
    """

    analytic: Array
    autograd: Array
    finite_difference: Array
    error_bound: Array
    candidate: Array | None = None
    allowed: Array | None = None


@dataclass(frozen=True)
class Discrepancy:
    """The distance of two gradients; the second is the reference."""

    max_abs: float
    max_rel: float
    rms: float
    relative_l2: float
    cosine: float
    max_ulp: float
    worst_index: Index


METRIC_NAMES = tuple(field.name for field in fields(Discrepancy) if field.name != "worst_index")
"""Names of the numbers of a discrepancy."""


@dataclass(frozen=True)
class Elements:
    """Counts of elements by outcome; `negligible` are those that pass without any promise."""

    total: int
    passed: int
    failed: int
    inconclusive: int
    not_examined: int
    negligible: int = 0


@dataclass(frozen=True)
class Judged:
    """An element or a direction, with the numbers that its outcome follows from.

    `index` is that of the element, None of a random direction; `reference` the finite difference.
    """

    index: Index | None
    route: str
    reference: float
    judged: float
    error_bound: float
    allowed: float
    outcome: Outcome

    @property
    def ratio(self) -> float:
        """Return the error over the allowed error."""
        distance = abs(self.judged - self.reference)
        if not distance or not self.allowed:
            return 0.0 if not distance else np.inf
        return distance / self.allowed


@dataclass(frozen=True)
class JointDirection(Judged):
    """A random direction of several tensors together; `names` are those that move.

    Its outcome is "pass", or "inconclusive" where tensors had to be told apart.
    """

    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kink:
    """An element at which the loss has no derivative, with both one-sided ones."""

    index: Index
    left: float
    right: float


@dataclass(frozen=True)
class Diagnosis:
    """A bug that would have produced the candidate."""

    name: str
    explanation: str
    fit: float


@dataclass(frozen=True)
class Scale:
    """The factor by which a candidate fits the right gradient best, and the distance from 1 that rounding explains."""

    factor: float
    allowed: float


@dataclass(frozen=True)
class Repeatability:
    """How far the runs of a candidate are apart.

    `runs` is their number, that of the candidate included, `max_abs` the largest distance of two runs of an element,
    and `explained` whether roundings in another order explain it.
    """

    runs: int
    max_abs: float
    explained: bool


@dataclass(frozen=True)
class Verdict:
    """The verdict on one gradient.

    `pattern` says in words which elements are wrong, and what they have in common; None where none fails. `missed` is
    the probability that an error was missed where not all elements were looked at; `taylor` is the remainder test of a
    black box. Both are as the service sent them. `noise` is the standard deviation of one evaluation of a black box,
    absolute, and `without_value` the number of points at which it has no value. `scale` judges the factor of a
    candidate as a whole, with a recipe or the name of a narrow arithmetic, and `repeatability` its further runs.
    """

    outcome: Outcome
    reason: str
    elements: Elements
    smallest_detectable_error: float
    worst: tuple[Judged, ...]
    kinks: tuple[Kink, ...]
    diagnoses: tuple[Diagnosis, ...]
    directions: tuple[Judged, ...]
    missed: Mapping[str, Any] | None = None
    taylor: Mapping[str, Any] | None = None
    pattern: str | None = None
    noise: float | None = None
    without_value: int = 0
    scale: Scale | None = None
    repeatability: Repeatability | None = None


@dataclass(frozen=True)
class DotTestResult:
    """A vector-Jacobian product against a Jacobian-vector product: both contracted with the same pair of vectors.

    Attributes
    ----------
    name
        Names of output and tensor, "y/x".
    direction
        Number of the direction, the worst one.
    vjp, jvp
        Contraction by each product; they are equal to rounding in correct code.
    allowed
        Allowed difference.
    outcome
        "pass", "fail", or "inconclusive" where a product is not finite.
    """

    name: str
    direction: int
    vjp: float
    jvp: float
    allowed: float
    outcome: Outcome


def read_verdict(raw: Mapping[str, Any]) -> Verdict:
    """Read a verdict."""
    counts = cast("Mapping[str, int]", raw["elements"])
    return Verdict(
        outcome=raw["outcome"],
        reason=raw["reason"],
        elements=Elements(
            counts["total"],
            counts["pass"],
            counts["fail"],
            counts["inconclusive"],
            counts["not_examined"],
            counts.get("negligible", 0),
        ),
        smallest_detectable_error=float(raw["smallest_detectable_error"]),
        worst=tuple(map(_read_judged, raw["worst"])),
        kinks=tuple(
            Kink(tuple(kink["index"]), float(kink["left"]), float(kink["right"])) for kink in raw.get("kinks", ())
        ),
        diagnoses=tuple(
            Diagnosis(diagnosis["name"], diagnosis["explanation"], float(diagnosis["fit"]))
            for diagnosis in raw["diagnoses"]
        ),
        directions=tuple(map(_read_judged, raw.get("directions", ()))),
        missed=raw.get("missed"),
        taylor=raw.get("taylor"),
        pattern=raw.get("pattern"),
        noise=float(raw["noise"]) if "noise" in raw else None,
        without_value=raw.get("without_value", 0),
        scale=Scale(**{name: float(raw["scale"][name]) for name in ("factor", "allowed")}) if "scale" in raw else None,
        repeatability=_read_repeatability(raw["repeatability"]) if "repeatability" in raw else None,
    )


def _read_repeatability(raw: Mapping[str, Any]) -> Repeatability:
    return Repeatability(raw["runs"], float(raw["max_abs"]), raw["explained"])


def _read_judged(raw: Mapping[str, Any]) -> Judged:
    return Judged(**_read_comparison(raw))


def _read_comparison(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "index": tuple(raw["index"]) if "index" in raw else None,
        "route": raw["route"],
        "outcome": raw["outcome"],
        **{name: float(raw[name]) for name in ("reference", "judged", "error_bound", "allowed")},
    }


def read_joint_direction(raw: Mapping[str, Any]) -> JointDirection:
    """Read a direction of several tensors together."""
    return JointDirection(**_read_comparison(raw), names=tuple(raw["names"]))


def read_dot_test(raw: Mapping[str, Any]) -> DotTestResult:
    """Read a test of two products."""
    numbers = {name: float(raw[name]) for name in ("vjp", "jvp", "allowed")}
    return DotTestResult(raw["name"], raw["direction"], **numbers, outcome=raw["outcome"])


def read_discrepancy(raw: Mapping[str, Any]) -> Discrepancy:
    """Read the distance of two gradients."""
    numbers = {name: float(number) for name, number in raw.items() if name in METRIC_NAMES}
    return Discrepancy(**numbers, worst_index=tuple(raw["worst_index"]))


def read_gradient(raw: Mapping[str, Array]) -> Gradient:
    """Read the arrays of one name."""
    return Gradient(
        **{name: array for name, array in make_read_only(raw).items() if name in Gradient.__dataclass_fields__}
    )


def make_read_only(arrays: Mapping[str, Array]) -> Mapping[str, Array]:
    """Make arrays read-only; those from another process are not."""
    for array in arrays.values():
        array.flags.writeable = False
    return arrays
