"""How far two gradients are apart: pure functions of two arrays."""

import math
from dataclasses import dataclass

import numpy as np

from service.numerics.precision import Precision
from service.numerics.tiles import Array


@dataclass(frozen=True)
class Metrics:
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


def measure(a: Array, b: Array, precision: Precision) -> Metrics:
    """Compare two arrays of one shape, at least one element, in float64."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    if not (np.isfinite(a) & np.isfinite(b)).all():
        return _not_finite(a, b)
    with np.errstate(over="ignore", under="ignore"):
        difference = np.abs(a - b)
        distance, largest, exponent = _norms(a, b)
        return Metrics(
            max_abs=float(difference.max()),
            max_rel=_largest_relative(a, b),
            rms=float(np.ldexp(distance / math.sqrt(a.size), exponent)),
            relative_l2=distance / largest if largest else 0.0,
            cosine=_cosine(a, b),
            max_ulp=int(precision.ulps(a, b).max()),
            worst_index=_where(difference == difference.max()),
        )


def _not_finite(a: Array, b: Array) -> Metrics:
    not_numbers = np.isnan(a) | np.isnan(b)
    if not_numbers.any():
        return Metrics(*[np.nan] * 6, worst_index=_where(not_numbers))
    differ = (a != b) & ~(np.isfinite(a) & np.isfinite(b))
    if differ.any():
        return Metrics(np.inf, np.nan, np.inf, np.nan, np.nan, np.inf, _where(differ))
    return Metrics(*[np.nan] * 6, worst_index=_where(~np.isfinite(a)))


def _where(mask: Array) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(mask)), mask.shape))


def _largest_relative(a: Array, b: Array) -> float:
    """Largest of all abs(a - b) / max(abs(a), abs(b)), by a power of two each, so that nothing overflows or rounds."""
    _, exponent = np.frexp(np.maximum(np.abs(a), np.abs(b)))
    a, b = np.ldexp(a, -exponent), np.ldexp(b, -exponent)
    size = np.maximum(np.abs(a), np.abs(b))
    return float((np.abs(a - b) / np.where(size > 0, size, 1)).max())


def _scaled(array: Array) -> tuple[Array, int]:
    """Array over the power of two next to its largest element, and its exponent: squares stay in range."""
    _, exponent = math.frexp(np.abs(array).max())
    return np.ldexp(array, -exponent), exponent


def _norm(vector: Array) -> float:
    return math.sqrt(vector @ vector)


def _norms(a: Array, b: Array) -> tuple[float, float, int]:
    """norm(a - b) and the larger of norm(a) and norm(b), both in units of 2**exponent, and that exponent."""
    pair, exponent = _scaled(np.stack([a.ravel(), b.ravel()]))
    difference, below = _scaled(pair[0] - pair[1])
    return math.ldexp(_norm(difference), below), max(_norm(pair[0]), _norm(pair[1])), exponent


def _cosine(a: Array, b: Array) -> float:
    if not (a.any() and b.any()):
        return float(not (a.any() or b.any()))
    (a, _), (b, _) = _scaled(a.ravel()), _scaled(b.ravel())
    return min(1.0, max(-1.0, float(a @ b) / (_norm(a) * _norm(b))))
