"""Sizes of the moves of a point's elements, chosen here as a service chooses them (docs/points.md).

`service/numerics/blackbox/schedule.py` has the reasons of each part of the rule.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gradcheckd.arrays import Array

_ROOT_HALF = 0.7071067811865476
_SCALE_EXPONENT_LIMIT = 960
_SEVERAL_SHARE, _FEW_SHARE = 0.15, 0.03
_DOUBLE_BITS = 53


@dataclass(frozen=True)
class DatatypeRule:
    """Rule of one datatype of floats.

    Attributes
    ----------
    bits, min_exponent
        Bits of the significand, and exponent of the smallest normal number.
    exponents, first_exponents
        Steps 2^-e of the moves, falling, and those of the first look.
    near_exponents
        Distances 2^-e of near points, by line.
    outlier_exponents
        Parts 2^-e of the unit, below which an element has a unit of its own: near, far, and along random directions.
    """

    bits: int
    min_exponent: int
    exponents: tuple[int, ...]
    first_exponents: tuple[int, ...]
    near_exponents: tuple[int, int]
    outlier_exponents: tuple[int, int, int]

    @property
    def smallest_step(self) -> float:
        """Return the smallest step of a direction."""
        return 2.0 ** -self.exponents[-1]

    @property
    def largest_step(self) -> float:
        """Return the largest step of a direction."""
        return 2.0 ** -self.exponents[0]

    def compute_spacing(self, reach: Array) -> Array:
        """Return the distance of numbers a sixteenth farther out than elements reach."""
        _, exponents = np.frexp(reach * (1 + 2.0**-4))
        return np.ldexp(1.0, np.maximum(exponents, self.min_exponent + 1) - self.bits)


DATATYPE_RULES: Mapping[str, DatatypeRule] = {
    "FP64": DatatypeRule(53, -1022, (3, 4, 5, 6, 8, 11, 15), (8, 11, 15), (18, 28), (3, 7, 13)),
    "FP32": DatatypeRule(24, -126, (3, 4, 5, 6, 8, 10), (5, 6, 8), (13, 17), (3, 7, 9)),
    "FP16": DatatypeRule(11, -14, (2, 3, 4, 5), (2, 3, 4), (5, 7), (3, 5, 6)),
    "BF16": DatatypeRule(8, -126, (1, 2, 3), (1, 2, 3), (4, 5), (2, 4, 5)),
}


def choose_scaled_sizes(values: Array, scale: Array, rule: DatatypeRule, *, random: bool) -> Array | None:
    """Return the move of each element by a scale of the request, (elements,); None for a scale that is refused.

    Parameters
    ----------
    values
        Tensor of the point, float64.
    scale
        A number, or a tensor of the shape of the point, float64.
    """
    limit = 2.0**_SCALE_EXPONENT_LIMIT
    if scale.shape not in ((), values.shape) or not ((1 / limit <= scale) & (scale <= limit)).all():
        return None
    _, exponents = np.frexp(scale)
    sizes = np.broadcast_to(np.ldexp(1.0, exponents - 1), values.shape).ravel()
    is_able = _is_steppable(values.ravel(), sizes, rule)
    if random or scale.ndim or is_able.all() or not is_able.any():
        return sizes
    return np.where(is_able, sizes, choose_sizes(values.ravel(), rule, random=False))


def _is_steppable(values: Array, sizes: Array, rule: DatatypeRule) -> Array:
    with np.errstate(over="ignore"):
        farthest = np.abs(values) + rule.largest_step * sizes
        return np.isfinite(farthest) & (rule.compute_spacing(farthest) <= rule.smallest_step * sizes / 2)


def choose_sizes(values: Array, rule: DatatypeRule, *, random: bool) -> Array:
    """Return the move of each element without a scale, powers of two, (elements,).

    Parameters
    ----------
    values
        Elements of a tensor, float64, (elements,).
    random
        True for random directions, False for single elements.
    """
    sizes = np.abs(values)
    is_zero = _find_zeros(sizes, rule)
    if is_zero.all():
        return np.ones(sizes.shape)
    nonzero = sizes[~is_zero]
    median = compute_median(nonzero)
    unit, typical = round_to_power_of_two(median), _choose_typical_scale(sizes, rule)
    near, far, apart = rule.outlier_exponents
    has_several_units = _has_outliers(nonzero, unit, apart, _FEW_SHARE) or typical > 8 * unit
    if random and not has_several_units:
        return np.full(sizes.shape, _choose_typical_scale(nonzero, rule))
    own = round_to_powers_of_two(sizes)
    count = np.count_nonzero(nonzero < 2.0**-near * unit)
    exponent = far if count <= _SEVERAL_SHARE * nonzero.size else near
    own_or_unit = np.where(sizes < 2.0**-exponent * unit, own, np.maximum(own, unit))
    return np.where(is_zero, own[~is_zero].min() if has_several_units else unit, own_or_unit)


def _find_zeros(sizes: Array, rule: DatatypeRule) -> Array:
    """Return the mask of the elements that are 0, or are left by rounding beside others of one unit."""
    is_zero = sizes == 0
    if is_zero.all() or rule.bits < _DOUBLE_BITS:
        return is_zero
    roundoff = 2.0**-rule.bits * float(sizes.max())
    is_left = (sizes >= 2.0**-6 * roundoff) & (sizes <= 4.0 * roundoff)
    if not is_left.any():
        return is_zero
    others = sizes[~(is_zero | is_left)]
    return is_zero if _has_outliers(others, compute_median(others), 5, _SEVERAL_SHARE) else is_zero | is_left


def _choose_typical_scale(sizes: Array, rule: DatatypeRule) -> float:
    nonzero = sizes[sizes != 0]
    smallest = 8.0 * 2.0**-rule.bits * float(nonzero.max()) / rule.smallest_step
    return round_to_power_of_two(max(compute_median(nonzero), smallest))


def _has_outliers(sizes: Array, unit: float, exponent: int, max_share: float) -> bool:
    with np.errstate(over="ignore"):
        count = np.count_nonzero((sizes < 2.0**-exponent * unit) | (sizes > 2.0**exponent * unit))
    return sizes.size > 0 and bool(count / sizes.size > max_share)


def round_to_power_of_two(number: float) -> float:
    """Round a positive number to the power of two that is next to it in ratio."""
    if math.isinf(number):
        return 2.0**_SCALE_EXPONENT_LIMIT
    mantissa, exponent = math.frexp(max(number, 5e-324))
    exponent -= mantissa < _ROOT_HALF
    return math.ldexp(1.0, min(max(exponent, -_SCALE_EXPONENT_LIMIT), _SCALE_EXPONENT_LIMIT))


def compute_median(numbers: Array) -> float:
    """Return the median of numbers; `numpy.median` of a few takes ten times the time."""
    if not numbers.size:
        return math.nan
    ordered = np.sort(numbers)
    middle, is_odd = divmod(len(ordered), 2)
    return float(ordered[middle] if is_odd else (ordered[middle - 1] + ordered[middle]) / 2)


def round_to_powers_of_two(numbers: Array) -> Array:
    """Round positive numbers, or 0, as `round_to_power_of_two` does."""
    mantissas, exponents = np.frexp(np.maximum(numbers, 5e-324))
    exponents = np.where(np.isinf(numbers), _SCALE_EXPONENT_LIMIT, exponents - (mantissas < _ROOT_HALF))
    return np.ldexp(1.0, np.minimum(np.maximum(exponents, -_SCALE_EXPONENT_LIMIT), _SCALE_EXPONENT_LIMIT))
