"""Projections of a gradient onto random directions, and what they reveal.

A direction d is standard Gaussian, d ~ N(0, I), and independent of whatever the gradient c is off by. So for any fixed
vector v

    d . v ~ N(0, |v|^2)                                                                                       (1)

and both what a correct gradient may be off by along d and what a wrong one would escape with follow from (1). The
directions are not scaled by the sizes of the elements: (1) would hold for a weighted norm, whose weights were a choice
of ours, and not for the norm in which relative errors are reported elsewhere.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.core.bounded_cache import BoundedCache
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.core.vector_norms import euclidean_norm

MISS_PROBABILITY = 1e-3
"""Probability of missing an error that a report promises to find."""

UNDERFLOW_LOSS_OF_PRODUCT = 2.0**-1074
"""Largest error of a product that underflows: the smallest number, since half of it is none."""
_ROUNDING_DEVIATIONS = 2.0
_UNIT_ROUNDOFF = 2.0**-53
_PAIRWISE_SUM_ROUNDINGS = 20
"""Roundings that a product goes through in NumPy's pairwise sum of 128 numbers by eight accumulators."""

_MAX_KEPT_DIRECTIONS, _MAX_KEPT_ELEMENTS, _MAX_KEPT_NAME_LENGTH = 64, 2**12, 200
_KEPT_DIRECTIONS: BoundedCache[Array] = BoundedCache(_MAX_KEPT_DIRECTIONS)
"""Joint directions of small tensors, two megabytes at most."""


def sample_directions(count: int, shape: Shape, seed: int, name: str) -> Array:
    """Draw directions of a tensor, (count, *shape), from its name and the seed alone."""
    return np.random.default_rng([seed, 0xD1, *name.encode()]).standard_normal((count, *shape))


def sample_joint_direction(line: int, shape: Shape, seed: int, name: str) -> Array:
    """Draw the part of a tensor in one joint direction, of its shape, from the line, its name and the seed alone.

    The numbers are Gaussian to 24 bits, which takes half the time of 53 and changes (1) by nothing that counts. Those
    of small tensors are kept: to seed a generator takes longer than to draw them.
    """
    if count_elements(shape) > _MAX_KEPT_ELEMENTS or len(name) > _MAX_KEPT_NAME_LENGTH:
        return _draw_joint_direction(line, shape, seed, name)
    return _KEPT_DIRECTIONS.get_or_make(
        (line, shape, seed, name), lambda: _draw_joint_direction(line, shape, seed, name)
    )


def _draw_joint_direction(line: int, shape: Shape, seed: int, name: str) -> Array:
    generator = np.random.Generator(np.random.SFC64([seed, 0xD2, line, *name.encode()]))
    direction = generator.standard_normal(shape, dtype=np.float32).astype(np.float64)
    direction.flags.writeable = False
    return direction


def bound_sum_rounding(count: int) -> float:
    """Return the largest error of an inner product of `count` numbers, over the sum of the sizes of its products.

    NumPy adds contiguous numbers pairwise: the bound is that of Higham, Accuracy and Stability of Numerical Algorithms
    (2002), section 4.2.
    """
    return (_PAIRWISE_SUM_ROUNDINGS + math.log2(count)) * _UNIT_ROUNDOFF


def compute_inner_products(directions: Array | Sequence[Array], gradient: Array) -> tuple[Array, Array]:
    """Return inner products with directions, (k, ...), and their errors, both (k,).

    The error of the sum is that of `bound_sum_rounding`, and `UNDERFLOW_LOSS_OF_PRODUCT` for each product.
    """
    gradient = gradient.astype(np.float64).ravel()
    roundings = bound_sum_rounding(gradient.size)
    values, rounding_errors = np.empty(len(directions)), np.empty(len(directions))
    with np.errstate(over="ignore", invalid="ignore"):
        for position, direction in enumerate(iterate_interruptibly(directions)):
            products = direction.ravel() * gradient
            values[position] = products.sum()
            rounding_errors[position] = (
                roundings * np.abs(products, out=products).sum() + gradient.size * UNDERFLOW_LOSS_OF_PRODUCT
            )
    return values, rounding_errors


def compute_directional_allowance(directions: Array, rounding: Array) -> Array:
    """Return the allowance along directions, (k,), given the elements', (...).

    Elements off by v, |v_i| <= a_i, are off along d by sum |d_i| a_i at most. They did not know of d, so that by (1)
    they are off by a Gaussian number of deviation |v|. As a_i is 6 times the root mean square of what an element is off
    by, of which less than twice was needed wherever it was measured, |v| is below |a| / 3, and 2 |a| is six deviations
    and more: passed with probability 2e-9. The smaller of the two.
    """
    rounding = rounding.ravel()
    norm_bound = _ROUNDING_DEVIATIONS * euclidean_norm(rounding)
    sums = (
        [np.abs(direction.ravel()) @ rounding for direction in iterate_interruptibly(directions)]
        if math.isfinite(norm_bound)
        else [np.inf]
    )
    return np.minimum(np.array(sums), np.full(len(directions), norm_bound))


def euclidean_norms(vectors: Array) -> Array:
    """Return the norms along the last axis, (...), as `euclidean_norm` has them."""
    largest: Array = np.asarray(np.abs(vectors).max(axis=-1, initial=0))
    is_scalable = (largest != 0) & np.isfinite(largest)
    units = np.where(is_scalable, largest, 1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        norms = units * np.sqrt(np.square(vectors / units[..., None]).sum(axis=-1))
    return np.where(is_scalable, norms, largest)


@dataclass(frozen=True)
class NormDetectionLimit:
    """The `probability` that an error of `relative_l2` of the norm passes, at most."""

    relative_l2: float
    probability: float


def evaluate_gaussian_probability(limit: float) -> float:
    """Return P(|N(0, 1)| <= limit)."""
    return math.erf(limit / math.sqrt(2))


def compute_norm_detection_limit(
    slack: Array | Sequence[float],
    gradient_norm: float,
    coarseness: float = 0.0,
    evaluate_probability: Callable[[float], float] = evaluate_gaussian_probability,
) -> NormDetectionLimit:
    """Return the relative error that agreement along k directions rules out.

    Along direction j a gradient passes only if it is off there by no more than its slack s_j: what is allowed, and what
    the finite difference and the rounding of a correct gradient may hide beside. An error e that was there before the
    directions were drawn, |e| = r |g|, is off by d_j . e ~ N(0, r^2 |g|^2), see (1), independently for each of them.
    So it passes along all k with probability

        p(r) <= prod_j P(|N(0, 1)| <= s_j / (r |g|)) = prod_j erf(s_j / (sqrt(2) r |g|)),

    which falls with r. Returned is the smallest r with p(r) <= PROBABILITY, found by bisection of its logarithm, and
    p(r). A direction without a difference, whose slack is infinite, counts as one that everything passes.

    With q = erfinv(PROBABILITY^(1/k)) and all s_j between s and S, r lies between s / (sqrt(2) q |g|) and
    S / (sqrt(2) q |g|): for equal slacks these are one number, and the bisection has nothing left to do.

    Parameters
    ----------
    slack
        Largest error that passes along each direction, (k,).
    gradient_norm
        Norm of the gradient.
    coarseness
        Number whose multiples the directions were rounded to, 0 by default: |e| / 2 times it, the error of e . d, is
        added to the slack.
    evaluate_probability
        Returns the probability that d . e is within a part of |e|, at most; by default that of Gaussian directions.
    """
    slacks: Sequence[float] = slack.tolist() if isinstance(slack, np.ndarray) else slack
    known_slacks = [number for number in slacks if math.isfinite(number)]
    if not (0 < gradient_norm < np.inf and known_slacks):
        return NormDetectionLimit(np.inf, 1.0)
    is_plain = not coarseness and evaluate_probability is evaluate_gaussian_probability
    low, high = _bracket_gaussian_limit(known_slacks, gradient_norm) if is_plain else _LIMIT_RANGE

    def compute_probability(exponent: float) -> float:
        return compute_miss_probability(known_slacks, gradient_norm, 2.0**exponent, coarseness, evaluate_probability)

    while high - low > _LIMIT_RESOLUTION:
        middle = (low + high) / 2
        low, high = (low, middle) if compute_probability(middle) <= MISS_PROBABILITY else (middle, high)
    if high == _LIMIT_RANGE[1]:
        return NormDetectionLimit(np.inf, 1.0)
    return NormDetectionLimit(2.0**high, compute_probability(high))


_LIMIT_RANGE = (-1074.0, 1023.0)
_LIMIT_RESOLUTION = 2.0**-40
"""Width of the logarithm of a limit at which the bisection ends."""


def _bracket_gaussian_limit(slacks: Sequence[float], gradient_norm: float) -> tuple[float, float]:
    """Return binary logarithms between which the limit along Gaussian directions lies."""
    quantile = math.sqrt(2) * _invert_erf(MISS_PROBABILITY ** (1 / len(slacks)))
    smallest, largest = min(slacks), max(slacks)
    if not 0 < smallest <= largest < np.inf:
        return _LIMIT_RANGE
    low, high = (math.log2(edge) - math.log2(quantile) - math.log2(gradient_norm) for edge in (smallest, largest))
    lowest, highest = _LIMIT_RANGE
    # The edges round, by less than this.
    low, high = max(lowest, low - _LIMIT_RESOLUTION / 2), min(highest, high + _LIMIT_RESOLUTION / 2)
    return (low, high) if low < high else _LIMIT_RANGE


@lru_cache(maxsize=128)
def _invert_erf(probability: float) -> float:
    """Return the number of which erf is a probability.

    erf is concave above 0 and below its tangent there. So Newton's method from where the tangent has the probability
    never leaves the left side of the root, and ends where it does not grow any more.
    """
    root, last = math.sqrt(math.pi) / 2 * probability, -1.0
    while root > last:
        last = root
        root += (probability - math.erf(root)) * math.sqrt(math.pi) / 2 * math.exp(root * root)
    return last


def compute_miss_probability(
    slack: Iterable[float],
    gradient_norm: float,
    relative_error: float,
    coarseness: float = 0.0,
    evaluate_probability: Callable[[float], float] = evaluate_gaussian_probability,
) -> float:
    """Return the probability p(r) of `compute_norm_detection_limit`."""
    error, rounded = relative_error * gradient_norm, coarseness / 2
    if not error:
        return 1.0
    probability = 1.0
    for line_slack in slack:
        probability *= evaluate_probability(line_slack / error + rounded)
    return probability
