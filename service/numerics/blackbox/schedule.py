"""The steps of a tensor, by the numbers that its datatype can represent.

Steps are powers of two, in units of the tensor's scale. The coarse ones lie close together: where losses are noisy only
those are of use, and a table over 1/8, 1/16, 1/32 takes less of the noise along than one over 1/8, 1/32, 1/128. The
fine ones lie far apart: they are there for losses that bend within a small part of the scale. The finest is as fine as
the datatype allows: 2^-15 of the scale leaves 37 bits of a float64 for the direction, 2^-8 leaves 15 of a float32.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.medians import compute_median
from service.numerics.core.precision import PRECISIONS, Precision

_MIN_STEP_ROUNDOFFS = 8.0
"""Roundings of the largest element that a smallest step has at least: the lattice is then a quarter of it."""
NEAR_POINT_COUNT = 8
"""Points of a line from which the noise of the loss is estimated."""


@lru_cache(maxsize=64)
def compute_steps(exponents: tuple[int, ...]) -> Array:
    """Return the powers 2^-e for some exponents, float64, read-only."""
    steps = 2.0 ** -np.array(exponents, dtype=np.float64)
    steps.flags.writeable = False
    return steps


@dataclass(frozen=True)
class StepSchedule:
    """Steps of one datatype: 2^-e of the scale, and the distances of near points.

    `outlier_fractions` are parts of the scale. An element below such a part has another unit: where several are
    below it, where any is, and where it is moved along with others.
    """

    precision: Precision
    exponents: tuple[int, ...]
    near_exponents: tuple[int, int]
    outlier_fractions: tuple[float, float, float]

    @property
    def steps(self) -> Array:
        """Steps in units of the scale, falling, (levels,)."""
        return compute_steps(self.exponents)

    @property
    def largest_step(self) -> float:
        """Largest step of a direction."""
        return 2.0 ** -self.exponents[0]

    @property
    def smallest_step(self) -> float:
        """Smallest step of a direction."""
        return 2.0 ** -self.exponents[-1]


STEP_SCHEDULES: dict[str, StepSchedule] = {
    name: StepSchedule(PRECISIONS[name], exponents, near_exponents, outlier_fractions)
    for name, exponents, near_exponents, outlier_fractions in (
        ("FP64", (3, 4, 5, 6, 8, 11, 15), (18, 28), (2.0**-3, 2.0**-7, 2.0**-13)),
        ("FP32", (3, 4, 5, 6, 8, 10), (13, 17), (2.0**-3, 2.0**-7, 2.0**-9)),
        ("FP16", (2, 3, 4, 5), (5, 7), (2.0**-3, 2.0**-5, 2.0**-6)),
        ("BF16", (1, 2, 3), (4, 5), (2.0**-2, 2.0**-4, 2.0**-5)),
    )
}
"""By the name of the datatype on the wire."""


def choose_typical_scale(values: Array, schedule: StepSchedule) -> float:
    """Return the scale of a tensor: a power of two near its median size, or 1.

    The median is over the elements that are not 0.

    Larger where the largest element could not be moved by as little, in the datatype, as the smallest step asks for.

    A random direction moves all elements at once, each by a random part of this. The sum that n inputs
    add to a unit then moves as the root of n of such parts, just as the unit itself is made of n of them: so the same
    part of the scale is a step of the same boldness for few elements and for many.
    """
    sizes = np.abs(values[values != 0])
    if not sizes.size:
        return 1.0
    min_scale = _MIN_STEP_ROUNDOFFS * schedule.precision.unit_roundoff * float(sizes.max()) / schedule.smallest_step
    return round_to_power_of_two(max(compute_median(sizes), min_scale))


_DOUBLE_SIGNIFICAND_BITS = 53
_SEVERAL_FRACTION = 0.15
_FEW_FRACTION = 0.03
_COARSE_SCALE_RATIO = 8.0
_CANCELLATION_ROUNDOFFS = 2.0**-6, 4.0
"""Least and most that rounding leaves of numbers that cancel, in units of their roundoff."""


def choose_move_sizes(values: Array, schedule: StepSchedule, *, random: bool) -> Array:
    """Return the move of each element, alone or in a direction, as powers of two.

    An element alone is moved by the scale or, if that is larger, by its own size: those next to 0 among others, as of a
    Gaussian tensor, tell as much of the loss as the others do when they are moved like them. But a tensor may hold
    numbers of several units, a modulus of 2e11 beside a thickness of 2e-3, and what moves one does not suit another.
    So an element far below the scale is moved by its own size: where it is less than 2^-7 of the scale, as one of 240
    Gaussian numbers is, or less than 2^-3, where several are. Only what rounding of float64 leaves where others
    cancel is moved as if it were 0, by the scale: 1e-16 beside 1.

    A random direction moves all by one scale, but in a tensor of several units, each element by a random part of its
    own size.

    Parameters
    ----------
    values
        The tensor, (elements,).
    """
    sizes = np.abs(values)
    is_zero = _are_elements_zero(sizes, schedule)
    if is_zero.all():
        return np.ones(sizes.shape)
    nonzero_sizes, own_sizes = sizes[~is_zero], round_to_powers_of_two(sizes)
    unit = round_to_power_of_two(compute_median(nonzero_sizes))
    has_several_units = (
        _has_outliers(nonzero_sizes, unit, schedule.outlier_fractions[2], _FEW_FRACTION)
        or choose_typical_scale(values, schedule) > _COARSE_SCALE_RATIO * unit
    )
    if random and not has_several_units:
        return np.full(sizes.shape, choose_typical_scale(nonzero_sizes, schedule))
    near_fraction, far_fraction, _ = schedule.outlier_fractions
    outlier_fraction = (
        far_fraction
        if np.count_nonzero(nonzero_sizes < near_fraction * unit) <= _SEVERAL_FRACTION * nonzero_sizes.size
        else near_fraction
    )
    # Of an element that is 0 among several units the least harm is done by the smallest of them.
    return np.where(
        is_zero,
        own_sizes[~is_zero].min() if has_several_units else unit,
        np.where(sizes < outlier_fraction * unit, own_sizes, np.maximum(own_sizes, unit)),
    )


def _are_elements_zero(sizes: Array, schedule: StepSchedule) -> Array:
    """Return the elements that are 0 or left by rounding, if all are of one unit."""
    is_zero = sizes == 0
    if is_zero.all() or schedule.precision.significand_bits < _DOUBLE_SIGNIFICAND_BITS:
        return is_zero
    min_residue, max_residue = (
        roundoffs * schedule.precision.unit_roundoff * float(sizes.max()) for roundoffs in _CANCELLATION_ROUNDOFFS
    )
    is_residue = (min_residue <= sizes) & (sizes <= max_residue)
    other_sizes = sizes[~(is_zero | is_residue)]
    return (
        is_zero
        if _has_outliers(other_sizes, compute_median(other_sizes), 2.0**-5, _SEVERAL_FRACTION)
        else is_zero | is_residue
    )


def _has_outliers(sizes: Array, unit: float, outlier_fraction: float, max_share: float) -> bool:
    """Return whether more than a share of the elements are far from the unit.

    Both larger and smaller ones count.
    """
    count = np.count_nonzero((sizes < outlier_fraction * unit) | (sizes > unit / outlier_fraction))
    return sizes.size > 0 and bool(count / sizes.size > max_share)


_SCALE_EXPONENT_LIMIT = 960
MIN_SCALE, MAX_SCALE = 2.0**-_SCALE_EXPONENT_LIMIT, 2.0**_SCALE_EXPONENT_LIMIT


def round_to_power_of_two(number: float) -> float:
    """Round to the next power of two within the range of the float64 steps, as `round_to_powers_of_two` does."""
    if math.isinf(number):
        return MAX_SCALE
    mantissa, exponent = math.frexp(max(number, 5e-324))
    exponent -= mantissa < _ROOT_HALF
    return math.ldexp(1.0, min(max(exponent, -_SCALE_EXPONENT_LIMIT), _SCALE_EXPONENT_LIMIT))


_ROOT_HALF = 0.7071067811865476


def round_to_powers_of_two(numbers: Array) -> Array:
    """Round each number to its next power of two, in ratio: 2^e or 2^(e - 1) of m 2^e, with 1/2 <= m < 1.

    The limit is the number of float64 next to the root of 1/2, and no logarithm, which libraries round differently.
    """
    mantissas, exponents = np.frexp(np.maximum(numbers, 5e-324))
    exponents = np.where(np.isinf(numbers), _SCALE_EXPONENT_LIMIT, exponents - (mantissas < _ROOT_HALF))
    return np.ldexp(1.0, np.minimum(np.maximum(exponents, -_SCALE_EXPONENT_LIMIT), _SCALE_EXPONENT_LIMIT))
