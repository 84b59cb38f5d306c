"""The law of inner products with a random direction: how likely an error hides along it.

Each element of a direction d is the sum of three independent numbers, uniform in (-1, 1) (random_numbers.py). Its
density is (3 - x^2) / 8 up to 1 and (3 - |x|)^2 / 16 from there to 3, its variance 1. Moments of d are those of a
standard Gaussian direction up to the third: d . v has mean 0 and variance |v|^2 for every v.

**Any error.** An error v of the gradient hides along d if |d . v| <= a. For every v the density of d . v is at most
that of N(0, |v|^2) at 0, so that

    P(|d . v| <= a) <= min(1, sqrt(2 / pi) a / |v|).                                                                 (1)

A Gaussian direction has P = erf(a / (sqrt(2) |v|)), which is less by a part a^2 / (6 |v|^2) for small a: 0.8 % where
four directions find an error with probability 0.999.

**Tails.** sinh(x) / x <= exp(x^2 / 6) makes E exp(y d . v) <= exp(y^2 |v|^2 / 2), so that |d . v| exceeds six times |v|
with probability 2 exp(-18) = 3e-8 at most.

**One side.** Where elements move to one side alone, d has |d_j| there. Its variance is 1 - (13/16)^2 = 0.3398 at least,
and the sum is log-concave. The density of such a one is 1 over its deviation at most (Bobkov and Chistyakov 2015),
which is 1.72 / |v|, 4.3 times as much as (1) has.

**One element with noise.** One element that is off by E is seen as E d_j, and the difference is off by t N(0, 1)
beside. With Phi_3 the third iterated integral of the normal distribution,

    Phi_3(x) = ((x^3 + 3 x) Phi(x) + (x^2 + 2) phi(x)) / 6,
    P(|E d_j + t N| <= a) = G(a) - G(-a),    G(y) = (t / 2 E)^3 sum_k (-1)^k C(3, k) Phi_3((y + (3 - 2 k) E) / t)    (2)

for k = 0 ... 3: the distribution of a sum with a number uniform in (-E, E) is the difference of its integral at
distance 2 E, over 2 E.

Notes
-----
Proof of (1), after Ball (1986). Let |v| = 1. The characteristic function of d . v is the product of S(v_j x)^3, with
S(x) = sin(x) / x. By Hölder's inequality with the exponents 1 / v_j^2, and with q_j = 3 / v_j^2 >= 3,

    2 pi f(y) <= integral prod |S(v_j x)|^3 dx <= prod (sqrt(q_j / 3) J(q_j))^(v_j^2),    J(q) = integral |S|^q dx.

The limit of sqrt(q) J(q) is sqrt(6 pi) = 4.34, which makes f(y) <= 1 / sqrt(2 pi). No q >= 3 has more. From 3 to 4, J
is log-convex with J(3) < 2.42, by quadrature, and J(4) = 2 pi / 3: sqrt(q) J(3)^(4 - q) J(4)^(q - 3) is at most 4.23.
For q >= 4, log S <= -x^2 / 6 - x^4 / 180 up to pi and |S| <= 1 / |x| beyond, so that

    sqrt(q / (6 pi)) J(q) <= 1 - 0.15 / q + 0.13125 / q^2 + 2 pi^(1 - q) / (q - 1) sqrt(q / (6 pi)),

which is 0.981 at 4; q times the last two terms falls with q, and stays below 0.15.

References
----------
K. Ball, Cube slicing in R^n, Proceedings of the American Mathematical Society 97 (1986), p. 465.
S. G. Bobkov and G. P. Chistyakov, On concentration functions of random variables, Journal of Theoretical Probability 28
(2015), p. 976.
"""

import math

import numpy as np

from service.numerics.core.batching import Array

ONE_SIDED_CONCENTRATION = 4.3
"""Factor on the density of inner products at 0 if elements move to one side alone."""
_GAUSSIAN_DENSITY = math.sqrt(2 / math.pi)
_ERROR_FUNCTION_REACH = 6.0
_SHIFTS = np.array([3.0, 1.0, -1.0, -3.0])
_SMALLEST_NOISE, _LARGEST_NOISE = 2.0**-26, 2.0**4
"""Noise over the error of an element, t / E: below the first it counts as the first, above the second all is Gaussian.

The excess kurtosis of the sum is -0.4 / (1 + (t / E)^2)^2, 6e-6 at 16, where (2) loses 6 digits by cancellation.
"""


def bound_hiding_probability(relative_limit: float) -> float:
    """Return the probability that an inner product is within a part of the norm of its vector, at most: (1)."""
    return min(1.0, _GAUSSIAN_DENSITY * relative_limit)


def compute_hiding_probabilities(limits: Array, errors: Array, noise_deviation: Array | float) -> Array:
    """Return the probabilities that errors of single elements hide, (2), of the shape of the limits.

    Parameters
    ----------
    limits, errors
        a and E, finite and not negative; E broadcasts to a.
    noise_deviation
        t, broadcasts to a.
    """
    errors, noise_deviation = np.broadcast_to(errors, limits.shape), np.broadcast_to(noise_deviation, limits.shape)
    is_nothing = (errors == 0) & (noise_deviation == 0)
    errors = np.maximum(errors, 5e-324)
    with np.errstate(over="ignore"):
        relative_limits, noises = limits / errors, np.maximum(noise_deviation / errors, _SMALLEST_NOISE)
        gaussian_limits = limits / np.hypot(errors, noise_deviation)
    probabilities = np.ones(errors.shape)
    is_gaussian = noises > _LARGEST_NOISE
    probabilities[is_gaussian] = evaluate_error_function(gaussian_limits[is_gaussian] / math.sqrt(2))
    # The sum lies farther out than this with probability 1e-18.
    is_near = ~is_gaussian & (relative_limits < 3 + 9 * noises)
    near_limits, noises = relative_limits[is_near], noises[is_near]
    above, below = _evaluate_distribution(np.stack([near_limits, -near_limits]), noises)
    probabilities[is_near] = above - below
    return np.where(is_nothing, 1.0, np.clip(probabilities, 0.0, 1.0))


def _evaluate_distribution(values: Array, noises: Array) -> Array:
    """Return G of (2) for E = 1; noises broadcast to the values."""
    first, second, third, fourth = _integrate_normal((values + _SHIFTS.reshape(-1, *[1] * values.ndim)) / noises)
    return (noises / 2) ** 3 * (first - 3 * second + 3 * third - fourth)


def _integrate_normal(values: Array) -> Array:
    """Return Phi_3."""
    cumulative = (1 + evaluate_error_function(values / math.sqrt(2))) / 2
    with np.errstate(under="ignore"):
        density = np.exp(-np.square(values) / 2) / math.sqrt(2 * math.pi)
    return ((values**3 + 3 * values) * cumulative + (np.square(values) + 2) * density) / 6


def evaluate_error_function(values: Array) -> Array:
    """Return the error function of numbers, which is 1 or -1 in float64 from 6 on."""
    results = np.sign(values)
    is_near = ~(np.abs(values) >= _ERROR_FUNCTION_REACH)
    results[is_near] = [math.erf(value) for value in values[is_near].tolist()]
    return results
