"""The probability that one wrong element passed, given that its losses agree.

An element j of the gradient c is off by a part r of itself, any of the n that are not 0 with the same probability.
Along a random direction d that is r c_j d_j (direction_law.py), and the finite difference is off by noise of deviation
t beside; it passes along direction i where the sum of both is within what is allowed there, a_i. So of k directions

    p = 1/n sum_j prod_i P(|r c_j d_j + N(0, t_i^2)| <= a_i).    (1)

Along elements that are moved by themselves it passes where it is not among the k that were, or else where r c_j and
the noise together are within what is allowed:

    p = 1 - 1/n sum_(moved j) (1 - P(|r c_j + N(0, t_j^2)| <= a_j)).    (2)

These are the probabilities themselves, and no bounds: of many trials, each with directions and noise of its own, so
many miss the error. `projection.missed` is a bound, for errors of any kind.
"""

import numpy as np

from service.numerics.blackbox.direction_law import compute_hiding_probabilities, evaluate_error_function
from service.numerics.core.batching import Array

_MAX_REPRESENTATIVES = 2**11
"""Elements, or representatives of them by size, over which (1) is a mean."""


def compute_random_miss_probability(
    gradient: Array, allowed_errors: Array, deviations: Array, coarseness: float, relative_error: float
) -> float:
    """Return the probability (1) that one element, off by a part of itself, passed.

    Parameters
    ----------
    gradient
        c, of finite numbers.
    allowed_errors, deviations
        a and t, (k,).
    coarseness
        Directions were rounded to multiples of this.
    """
    errors = relative_error * _select_representatives(np.abs(gradient[gradient != 0]))
    if not errors.size:
        return 1.0
    is_known = np.isfinite(allowed_errors)
    limits = allowed_errors[is_known, None] + coarseness / 2 * errors
    probabilities = compute_hiding_probabilities(limits, errors, deviations[is_known, None])
    return float(np.multiply.reduce(probabilities, axis=0).mean())


def compute_element_miss_probability(
    gradient: Array, elements: Array, allowed_errors: Array, deviations: Array, relative_error: float
) -> float:
    """Return the probability (2) for a gradient, (n,), with k moved elements."""
    nonzero_count = np.count_nonzero(gradient)
    if not nonzero_count:
        return 1.0
    errors = np.abs(relative_error * gradient[elements])
    noise_scales = np.sqrt(2.0) * np.where(deviations == 0, 5e-324, deviations)
    with np.errstate(over="ignore", invalid="ignore"):
        pass_probabilities = (
            evaluate_error_function((allowed_errors - errors) / noise_scales)
            + evaluate_error_function((allowed_errors + errors) / noise_scales)
        ) / 2
    pass_probabilities[~np.isfinite(allowed_errors) | (errors == 0)] = 1.0
    return float(1 - (1 - pass_probabilities).sum() / nonzero_count)


def _select_representatives(sizes: Array) -> Array:
    if sizes.size <= _MAX_REPRESENTATIVES:
        return sizes
    positions = ((np.arange(_MAX_REPRESENTATIVES) + 0.5) * sizes.size / _MAX_REPRESENTATIVES).astype(int)
    return np.sort(sizes)[positions]
