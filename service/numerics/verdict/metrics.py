"""Distances between two gradients: pure functions of two arrays."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from service.numerics.core.batching import Array, Shape, unravel_index
from service.numerics.core.precision import Precision
from service.numerics.core.vector_norms import is_safe_square


class DistanceMetrics(NamedTuple):
    """Distances of a from the reference b, over all elements.

    Attributes
    ----------
    max_abs
        max abs(a - b)
    max_rel
        max abs(a - b) / max(abs(a), abs(b)), 0 where both are 0
    rms
        root mean square of a - b
    relative_l2
        norm(a - b) / max(norm(a), norm(b)), 0 where both are 0
    cosine
        of the angle between them; 1 for two zero vectors, 0 for one
    max_ulp
        largest distance in units in the last place of the precision that is judged
    worst_index
        where abs(a - b) is largest, the first in row-major order; with a NaN, the first NaN

    With a NaN every number is NaN. With an infinity on one side max_abs, rms and max_ulp are infinite, and the
    ratios, which have no value then, NaN.
    """

    max_abs: float
    max_rel: float
    rms: float
    relative_l2: float
    cosine: float
    max_ulp: float
    worst_index: tuple[int, ...]


METRIC_NAMES = tuple(name for name in DistanceMetrics._fields if name != "worst_index")
"""Names of the numbers among the metrics, as on the wire."""
_INFINITE_BESIDE_INFINITY = ("max_abs", "rms", "max_ulp")


NO_DISTANCES = DistanceMetrics(0.0, 0.0, 0.0, 0.0, 1.0, 0.0, ())
"""Distances of two gradients without elements: they are equal."""


def measure_distances(a: Array, b: Array, precision: Precision) -> DistanceMetrics:
    """Compare two arrays of one shape, at least one element, in float64.

    Notes
    -----
    Blocks of numbers stay in the cache, and take no memory from the system for what is in between. The largest
    difference is a NaN or infinite if a number of either array is, or if a difference overflows. Sums of squares stand
    where none of them leaves the range within which nothing is lost; otherwise all is scaled.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    flat, other = a.ravel(), b.ravel()
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        blocks = [
            _measure_block(flat[start : start + _BLOCK_LENGTH], other[start : start + _BLOCK_LENGTH], precision)
            for start in range(0, flat.size, _BLOCK_LENGTH)
        ]
        total = blocks[0] if len(blocks) == 1 else _join_blocks(blocks)
        if not math.isfinite(total.largest):
            return _measure_overflow(a, b, precision)
        if not total.largest:
            norms = 0.0, 0.0, 1.0
        elif all(map(is_safe_square, total.products[:3])):
            norms = _derive_norms(total.products, a.size)
        else:
            norms = _measure_norms(flat, other)
        return DistanceMetrics(
            total.largest, total.largest_relative, *norms, total.largest_ulp, unravel_index(total.worst, a.shape)
        )


_BLOCK_LENGTH = 2**13


class _BlockDistances(NamedTuple):
    """Distances of a block of numbers, and its products: a a, b b, (a - b) (a - b) and a b."""

    largest: float
    worst: int
    largest_relative: float
    largest_ulp: int
    products: tuple[float, float, float, float]


def _measure_block(a: Array, b: Array, precision: Precision) -> _BlockDistances:
    signed = a - b
    difference = np.abs(signed)
    # The first NaN, if there is one.
    worst = int(difference.argmax())
    largest = float(difference[worst])
    squares = float(np.vdot(a, a)), float(np.vdot(b, b))
    if not 0 < largest < math.inf:
        return _BlockDistances(largest, worst, 0.0, 0, (*squares, 0.0, squares[0]))
    return _BlockDistances(
        largest,
        worst,
        _measure_relative_difference(a, b, difference),
        int(precision.compute_ulp_distance(a, b).max()),
        (*squares, float(np.vdot(signed, signed)), float(np.vdot(a, b)) + 0.0),
    )


def _join_blocks(blocks: Sequence[_BlockDistances]) -> _BlockDistances:
    """Return the distances of all blocks together; the largest is not finite if one of them is not."""
    largest = [block.largest for block in blocks]
    if not all(map(math.isfinite, largest)):
        return blocks[0]._replace(largest=math.inf)
    position = largest.index(max(largest))
    first, second, third, fourth = (sum(sums) for sums in zip(*(block.products for block in blocks), strict=True))
    return _BlockDistances(
        largest[position],
        position * _BLOCK_LENGTH + blocks[position].worst,
        max(block.largest_relative for block in blocks),
        max(block.largest_ulp for block in blocks),
        (first, second, third, fourth),
    )


def _measure_overflow(a: Array, b: Array, precision: Precision) -> DistanceMetrics:
    """Compare arrays of which a difference is not finite."""
    if not (np.isfinite(a) & np.isfinite(b)).all():
        return _measure_nonfinite(a, b)
    difference = np.abs(a - b)
    return DistanceMetrics(
        float(difference.max()),
        _measure_relative_difference(a, b, difference),
        *_measure_norms(a.ravel(), b.ravel()),
        int(precision.compute_ulp_distance(a, b).max()),
        _find_first_index(difference == difference.max()),
    )


def make_unknown_distances(shape: Shape) -> DistanceMetrics:
    """Return the distances from an array of this shape of which no element is known."""
    return DistanceMetrics(**dict.fromkeys(METRIC_NAMES, math.nan), worst_index=(0,) * len(shape))


def _derive_norms(products: Sequence[float], count: int) -> tuple[float, float, float]:
    """Return the root mean square of the difference, its relative norm, and the cosine, from sums of products."""
    norm, other_norm, distance = map(math.sqrt, products[:3])
    cosine = products[3] / (norm * other_norm)
    return distance / math.sqrt(count), distance / max(norm, other_norm), min(1.0, max(-1.0, cosine))


def _measure_norms(a: Array, b: Array) -> tuple[float, float, float]:
    """Return the same from two arrays whose squares may leave the range."""
    distance, largest, exponent = _difference_and_largest_norm(a, b)
    rms = float(np.ldexp(distance / math.sqrt(a.size), exponent))
    return rms, distance / largest if largest else 0.0, _compute_cosine_similarity(a, b)


def _measure_nonfinite(a: Array, b: Array) -> DistanceMetrics:
    values = dict.fromkeys(METRIC_NAMES, math.nan)
    not_numbers = np.isnan(a) | np.isnan(b)
    if not_numbers.any():
        return DistanceMetrics(**values, worst_index=_find_first_index(not_numbers))
    is_different = (a != b) & ~(np.isfinite(a) & np.isfinite(b))
    if is_different.any():
        values |= dict.fromkeys(_INFINITE_BESIDE_INFINITY, math.inf)
        return DistanceMetrics(**values, worst_index=_find_first_index(is_different))
    return DistanceMetrics(**values, worst_index=_find_first_index(~np.isfinite(a)))


def _find_first_index(mask: Array) -> tuple[int, ...]:
    return unravel_index(int(np.argmax(mask)), mask.shape)


def _measure_relative_difference(a: Array, b: Array, difference: Array) -> float:
    """Return the largest abs(a - b) / max(abs(a), abs(b)) without overflow, given abs(a - b).

    Differences do not underflow: a - b is exact where it is below the smallest normal number.
    """
    size = np.maximum(np.abs(a), np.abs(b))
    # NaN where both are 0.
    largest = float(np.fmax.reduce(difference / size))
    if math.isfinite(largest):
        return largest
    _, exponent = np.frexp(size)
    a, b = np.ldexp(a, -exponent), np.ldexp(b, -exponent)
    size = np.maximum(np.abs(a), np.abs(b))
    return float((np.abs(a - b) / np.where(size > 0, size, 1)).max())


def _scale_by_power_of_two(array: Array) -> tuple[Array, int]:
    """Scale an array by the power of two next to its largest element."""
    _, exponent = math.frexp(np.abs(array).max())
    return np.ldexp(array, -exponent), exponent


def _compute_euclidean_norm(vector: Array) -> float:
    return math.sqrt(vector @ vector)


def _difference_and_largest_norm(a: Array, b: Array) -> tuple[float, float, int]:
    """Return norm(a - b), max(norm(a), norm(b)) and the exponent of their unit."""
    pair, exponent = _scale_by_power_of_two(np.stack([a.ravel(), b.ravel()]))
    difference, below = _scale_by_power_of_two(pair[0] - pair[1])
    return (
        math.ldexp(_compute_euclidean_norm(difference), below),
        max(_compute_euclidean_norm(pair[0]), _compute_euclidean_norm(pair[1])),
        exponent,
    )


def _compute_cosine_similarity(a: Array, b: Array) -> float:
    if not (a.any() and b.any()):
        return float(not (a.any() or b.any()))
    (a, _), (b, _) = _scale_by_power_of_two(a.ravel()), _scale_by_power_of_two(b.ravel())
    return min(1.0, max(-1.0, float(a @ b) / (_compute_euclidean_norm(a) * _compute_euclidean_norm(b))))
