"""The factor of a gradient in low precision.

A gradient that is 2 % too large as a whole may pass element by element, if each is allowed to be off by percents.
Roundings go both ways and cancel along the gradient, so that the factor

    c = sum(g r) / sum(r^2)

that fits c r to the judged gradient g, r the reference, is known far better than any element. Its allowance is the
spread of c over the runs of the recipe, and what the error bounds b of the differences may make of it, sum(b abs(r)) /
sum(r^2).
"""

from dataclasses import dataclass

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.verdict.reference import Reference


@dataclass(frozen=True)
class ScaleResult:
    """The factor by which a gradient exceeds its reference, and how far from 1 it may be."""

    factor: float
    allowed: float

    @property
    def is_wrong(self) -> bool:
        """True if the factor is farther from 1 than rounding explains."""
        return abs(self.factor - 1) > self.allowed


def measure_scale(judged: Array, reference: Reference, allowed: float) -> ScaleResult | None:
    """Return the factor of a gradient.

    Parameters
    ----------
    judged
        Gradient, of the reference's shape.
    reference
        Differences by element.
    allowed
        Allowance of the factor by rounding.

    Returns
    -------
    None where nothing of the reference is known to differ from 0, or where rounding may make any factor.
    """
    known = ~reference.is_missing & ~reference.is_kink & np.isfinite(judged)
    largest = float(np.abs(reference.value[known]).max(initial=0))
    if not largest or not np.isfinite(allowed):
        return None
    r, g, bound = (array[known] / largest for array in (reference.value, judged, reference.error_bound))
    square = float((r * r).sum())
    allowed += float((bound * np.abs(r)).sum()) / square
    return ScaleResult(float((g * r).sum()) / square, allowed) if allowed < 1 else None
