"""The remainder test: what is left of the loss when the candidate has explained its part.

    R(h) = f(x + h v) - f(x) - h c . v = h (g - c) . v + O(h^2)

falls as h^2 where the candidate c is right and as h where it is wrong. It is what people plot, so it is told; the
verdict follows from the extrapolated derivative, whose error is known. What grows like h is told with its sign:
`intercept` = (D - c . d) / |c . d| with the derivative D, and `factor` = D / (c . d), -1 where a sign is wrong.
"""

import math
from dataclasses import dataclass

import numpy as np

from service.numerics.tiles import Array

_BEYOND = 10.0
"""Deviations of the noise beyond which a remainder is one."""


@dataclass(frozen=True)
class Remainder:
    """The test along one direction.

    Attributes
    ----------
    direction
        Its number.
    steps, remainders
        h, and R(h) with its sign, (levels,).
    slope
        Of log |R| against log h at the two smallest steps where R is beyond noise; NaN where there are no two.
    intercept, factor
        What grows like h; infinite, or NaN, where c . d is 0.
    """

    direction: int
    steps: Array
    remainders: Array
    slope: float
    intercept: float
    factor: float


def remainder(direction: int, plus: Array, steps: Array, explained: float, noise: Array) -> tuple[Array, float]:
    """R(h), (levels,), and its slope.

    Parameters
    ----------
    plus
        f(x + h v) - f(x), (levels,).
    explained
        c . v
    noise
        Deviation of what is in `plus`, (levels,).
    """
    left = plus - steps * explained
    told = np.flatnonzero(np.abs(left) > _BEYOND * noise)
    # From the coarsest step on, as far as it is beyond noise at every step.
    told = told[told == np.arange(len(told))]
    if len(told) < 2 or not np.isfinite(left).all():
        return left, math.nan
    coarse, fine = told[-2], told[-1]
    return left, float(np.log(np.abs(left[coarse] / left[fine])) / np.log(steps[coarse] / steps[fine]))


def growing(reference: float, judged: float) -> tuple[float, float]:
    """Intercept and factor."""
    if judged == 0:
        return (math.copysign(math.inf, reference) if reference else 0.0), math.nan
    return (reference - judged) / abs(judged), reference / judged
