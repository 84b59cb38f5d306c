"""The remainder test: what is left of the loss when the candidate has explained its part.

    R(h) = f(x + h v) - f(x) - h c . v = h (g - c) . v + O(h^2)

falls as h^2 where the candidate c is right and as h where it is wrong. It is what people plot, so it is told; the
verdict follows from the extrapolated derivative, whose error is known. What grows like h is told with its sign:
`intercept` = (D - c . d) / |c . d| with the derivative D, and `factor` = D / (c . d), -1 where a sign is wrong.
"""

import math
from dataclasses import dataclass

import numpy as np

from service.numerics.core.batching import Array

_SIGNIFICANT_DEVIATIONS = 10.0
"""Deviations of the noise beyond which a remainder is one."""


@dataclass(frozen=True)
class TaylorRemainder:
    """The test along one direction.

    Attributes
    ----------
    direction
        Its number.
    steps, remainders
        h, and R(h) with its sign, (levels,).
    convergence_order
        Of log |R| against log h at the two smallest steps where R is beyond noise; NaN where there are no two.
    fit_intercept, fit_factor
        What grows like h; infinite, or NaN, where c . d is 0.
    """

    direction: int
    steps: Array
    remainders: Array
    convergence_order: float
    fit_intercept: float
    fit_factor: float


def compute_remainders(
    direction: int, loss_changes: Array, steps: Array, candidate_derivative: float, noise: Array
) -> tuple[Array, float]:
    """Return R(h), (levels,), and its slope.

    Parameters
    ----------
    loss_changes
        f(x + h v) - f(x), (levels,).
    candidate_derivative
        c . v
    noise
        Deviation of what is in `plus`, (levels,).
    """
    left = loss_changes - steps * candidate_derivative
    told = np.flatnonzero(np.abs(left) > _SIGNIFICANT_DEVIATIONS * noise)
    # From the coarsest step on, as far as it is beyond noise at every step.
    told = told[told == np.arange(len(told))]
    if len(told) < 2 or not np.isfinite(left).all():
        return left, math.nan
    coarse, fine = told[-2], told[-1]
    return left, float(np.log(np.abs(left[coarse] / left[fine])) / np.log(steps[coarse] / steps[fine]))


def fit_intercept_and_factor(reference: float, judged: float) -> tuple[float, float]:
    """Return intercept and factor."""
    if judged == 0:
        return (math.copysign(math.inf, reference) if reference else 0.0), math.nan
    return (reference - judged) / abs(judged), reference / judged
