"""The remainder test: the loss minus the part that the candidate explains.

    R(h) = f(x + h v) - f(x) - h c . v = h (g - c) . v + O(h^2)

falls as h^2 where the candidate c is right and as h where it is wrong. It is what people plot, so it is told; the
verdict follows from the extrapolated derivative, whose error is known. The part that grows like h has its
sign in the report:
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
        Number of the direction.
    steps, remainders
        h, and R(h) with its sign, (levels,).
    convergence_order
        Slope of log |R| against log h at the two smallest steps with R beyond noise; NaN without two.
    fit_intercept, fit_factor
        Part that grows like h; infinite, or NaN, where c . d is 0.
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
    remainders = loss_changes - steps * candidate_derivative
    significant_levels = np.flatnonzero(np.abs(remainders) > _SIGNIFICANT_DEVIATIONS * noise)
    # From the coarsest step on, as far as it is beyond noise at every step.
    significant_levels = significant_levels[significant_levels == np.arange(len(significant_levels))]
    if len(significant_levels) < 2 or not np.isfinite(remainders).all():
        return remainders, math.nan
    coarse, fine = significant_levels[-2], significant_levels[-1]
    return remainders, float(
        np.log(np.abs(remainders[coarse] / remainders[fine])) / np.log(steps[coarse] / steps[fine])
    )


def fit_intercept_and_factor(reference: float, judged: float) -> tuple[float, float]:
    """Return intercept and factor."""
    if judged == 0:
        return (math.copysign(math.inf, reference) if reference else 0.0), math.nan
    return (reference - judged) / abs(judged), reference / judged
