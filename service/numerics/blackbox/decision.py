"""What is decided of each line of a tensor, from what the candidate is off by and what it may be off by.

Beyond what is allowed a line fails. It passes within what is certain (allowance.py), but for two cases, in which it
is not decided:

- an error that must be found could pass, with m and k of `precision.py`: of an element where more is allowed than k / 2
  of its derivative D and than m times the tensor's largest; along a random direction, whose own size is chance, where
  more is certain than k |c| / 2;
- what is allowed is no less than the derivative of an element, whose sign or absence then does not show.

A line of which one of these is so is not called wrong within four times what is allowed either: there the loss is too
noisy for its differences to be more than an indication. Neither is one along which the loss may have a kink, of which
no bound is known that holds beside noise: the difference is the mean of both sides there, and what agrees with it
passes. Nor is a 0 beside a staircase (stairs.py).

**Negligible** is an element, with s the sizes of the moves, of which

    (|D_i| + allowed_i) s_i <= m max_j (|D_j| - allowed_j) s_j                                                       (1)

with m = `matters`. It passes within what is allowed, and no promise covers it. So is one that is **zero**, as far as
its loss and its candidate can tell: with L the size of the loss at the base, or of what it changes by over s as its
curvature has it, u' the unit roundoff of the losses' format and u that of the candidate,

    |D_i| <= allowed_i,    allowed_i s_i <= 4096 u' L,    |c_i| s_i <= 64 u L.                                       (2)

The loss then changes over the whole move by no more than rounding, and so the candidate says. It is so all over the
sum of a softmax, and at a minimum. A bound that is made by the rounding of the loss alone is some 100 u' L / s_i; noise
beyond that exceeds (2): a gradient that drowns in it is not 0. Nor is one of elements that are moved by no more than
8 u themselves, as what is left of 1 - 1 is: over those nothing would be seen to change. Random directions are zero
where all of them are, and the norm of the candidate.
"""

from dataclasses import dataclass, replace

import numpy as np

from service.numerics.blackbox import allowance
from service.numerics.blackbox.allowance import Allowance, units
from service.numerics.blackbox.difference import Along
from service.numerics.blackbox.kinks import Shape
from service.numerics.blackbox.lines import Lines, Point
from service.numerics.outcome import Cause, Outcome
from service.numerics.precision import Precision
from service.numerics.projection import norm
from service.numerics.reference import Tolerance
from service.numerics.tiles import Array

CAUSES: tuple[Cause, ...] = tuple(Cause)
OUTCOMES = np.array([cause.outcome for cause in CAUSES])
_MARGIN = 4.0
_ZERO = 4096.0
_SAYS_ZERO = 64.0
_MOVED = 8.0


@dataclass(frozen=True)
class Held:
    """A candidate held against differences.

    Attributes
    ----------
    reference, allowance
        The derivatives, and what the candidate is along each line and may be off by.
    uncertain
        Which of them could not have told an error that must be found, (k,).
    negligible, zero
        Which pass without a promise, and which of these as 0, (k,).
    precision, tolerance
        By which the allowance was stated.
    """

    reference: Along
    allowance: Allowance
    uncertain: Array
    negligible: Array
    zero: Array
    precision: Precision
    tolerance: Tolerance | None = None

    @property
    def judged(self) -> Array:
        """The candidate along each line, (k,)."""
        return self.allowance.judged

    @property
    def share(self) -> float:
        """Part of the candidate that it may be off by itself."""
        return 0.0 if self.tolerance is not None else units(self.precision) * self.precision.unit_roundoff

    @property
    def off(self) -> Array:
        """What it is off by, (k,)."""
        with np.errstate(invalid="ignore", over="ignore"):
            return np.abs(self.judged - self.reference.value)

    @property
    def right(self) -> Array:
        """Up to what a line may be off and is not called wrong, (k,)."""
        if self.tolerance is not None:
            return self.allowance.allowed
        margin = np.where(self.uncertain | self.reference.suspected, _MARGIN, 1.0)
        most = np.maximum(margin * self.allowance.allowed, self.allowance.allowed + self.allowance.doubtful)
        return np.where((self.reference.shape == Shape.STAIRS) & (self.judged == 0), np.inf, most)

    @property
    def passing(self) -> Array:
        """Up to what a line may be off and pass, (k,)."""
        return np.where(self.negligible, self.allowance.allowed, self.allowance.certain)

    @property
    def unnoticed(self) -> Array:
        """What a line may be off by without being called wrong or, where it is decided, without being seen, (k,)."""
        return np.where(self.uncertain | self.reference.suspected, self.right, self.passing)

    @property
    def causes(self) -> Array:
        """Positions in `Cause`; of several the last that is written counts."""
        off, allowed = self.off, self.allowance.allowed
        doubtful = Cause.TOO_UNCERTAIN if self.tolerance is None else Cause.TOLERANCE_TOO_FINE
        found = np.full(self.judged.shape, CAUSES.index(Cause.AGREES))
        for mask, cause in (
            (~(off <= self.passing), Cause.TOO_UNCERTAIN),
            (self.uncertain, doubtful),
            (~(off <= self.right), Cause.EXCEEDS),
            (self.uncertain & (self.tolerance is not None), doubtful),
            (~np.isfinite(self.judged), Cause.NOT_FINITE),
            (~np.isfinite(self.reference.value) | ~np.isfinite(allowed), Cause.NO_REFERENCE),
        ):
            found[mask] = CAUSES.index(cause)
        return found

    @property
    def outcomes(self) -> list[Outcome]:
        """Of each line."""
        return [Outcome(int(each)) for each in OUTCOMES[self.causes]]

    @property
    def ratios(self) -> Array:
        """What it is off by in units of what is allowed, (k,); infinite where that is not known."""
        with np.errstate(all="ignore"):
            ratios = self.off / self.allowance.allowed
        return np.where(np.isnan(ratios), np.where(self.off == 0, 0.0, np.inf), ratios)


def held(
    lines: Lines,
    point: Point,
    gradient: Array,
    reference: Along,
    precision: Precision,
    tolerance: Tolerance | None = None,
) -> Held:
    """Hold a candidate, float64, (n,), against the derivatives of its tensor."""
    if lines.elements is None:
        allowed = allowance.of_directions(lines, point, gradient, reference, precision, tolerance)
        found = _of_directions(allowed, point, gradient, reference, precision)
    else:
        allowed = allowance.of_elements(lines, point, gradient, reference, precision, tolerance)
        found = _of_elements(allowed, point, reference, precision)
    if tolerance is None:
        return found
    nothing = np.zeros(found.judged.shape, bool)
    return replace(
        found, uncertain=reference.bound > allowed.allowed, negligible=nothing, zero=nothing, tolerance=tolerance
    )


def _of_elements(allowed: Allowance, point: Point, reference: Along, precision: Precision) -> Held:
    with np.errstate(all="ignore"):
        sizes = np.where(np.isfinite(reference.value), np.abs(reference.value), 0.0)
        effect, most = sizes * allowed.weights, allowed.allowed * allowed.weights
        known = effect - most
        largest = float(known.max(initial=0.0, where=np.isfinite(known)))
        zero = _zero(allowed, np.abs(allowed.judged), point, reference, precision)
        negligible = (effect + most <= precision.matters * largest) | zero
        enough = np.maximum(precision.detects * effect / 2, precision.matters * largest)
        uncertain = ((most > enough) | (allowed.allowed >= sizes)) & ~negligible
    return Held(reference, allowed, uncertain, negligible, zero, precision)


def _of_directions(allowed: Allowance, point: Point, gradient: Array, reference: Along, precision: Precision) -> Held:
    size = norm(np.where(np.isfinite(gradient), gradient, 0.0))
    zero = np.full(allowed.judged.shape, _zero(allowed, size, point, reference, precision).all())
    uncertain = (allowed.certain > precision.detects * size / 2) & ~zero
    return Held(reference, allowed, uncertain, zero, zero, precision)


def _zero(allowed: Allowance, candidate: Array | float, point: Point, reference: Along, precision: Precision) -> Array:
    """Which lines are 0 as far as can be told: (2)."""
    least = _MOVED * min(point.schedule.precision.unit_roundoff, 2.0**-24)
    told = (np.abs(reference.value) <= allowed.allowed) & (allowed.weights > least)
    told &= allowed.allowed * allowed.weights <= _ZERO * reference.resolution
    told &= candidate * allowed.weights <= _SAYS_ZERO * precision.unit_roundoff * reference.size
    return told | (reference.constant & (np.equal(candidate, 0)))
