"""The noise of a loss, from its values alone.

Along a line of equidistant points, close together, the k-th differences of what is smooth vanish as the k-th power of
the distance, and those of independent errors of variance s^2 have the variance s^2 (2k)! / (k!)^2. So of T_ik, the k-th
differences of m + 1 values,

    s_k^2 = gamma_k / (m + 1 - k) sum_i T_ik^2,    gamma_k = (k!)^2 / (2k)!                                          (1)

estimates s^2 once k is large enough. It is taken to be where s_k, s_k+1 and s_k+2 agree within a factor of 4 and the
k-th differences change their sign (More and Wild, Estimating Computational Noise, SIAM J. Sci. Comput. 33, 2011,
section 3). If there is no such k, the smooth part is in all of them: the smallest is then too large, if anything.

Differences of losses that are rounded to float32 all vanish where the points are so close that none leaves its number.
The noise is no less than that of a number which falls anywhere between two neighbours, 1 / sqrt(12) of their distance,
in the narrowest datatype that represents all the losses. The sum of numbers in such a datatype is in none of its own:
its noise is no less than that of its parts (output_contraction.py). A loss that is 0 at the base and near it, as a
difference of large numbers may be, resolves nothing below the smallest that it is elsewhere. Losses below the normal
numbers of float64 are multiples of the smallest of all, whatever their size.

Farther away the loss may be much larger than at the base, and its noise with it: rounding is relative. That of a solver
or of sums without order need not be. With s the noise near the base, where the losses are of size L_0, it is taken to
be g s |L| / L_0 where that is more than s, and the g from 0 to 1 follows from the losses themselves. For m consecutive
steps h_j, the divided difference over t = h^2,

    r = sum_j c_j D(h_j),    c_j = prod_(i != j) 1 / (t_j - t_i),                                                    (2)

vanishes for central differences D whose expansion has no more than m - 1 terms; so does that of the second differences
S(h). Noise with g = 1 would leave the variance R^2 in it. If that is far more than s alone would leave, the
root mean square of |r| / R over all directions, 4 times that for safety, is no less than g: what is not smooth enough
only adds to it. The smallest over the places of the m steps is taken.

R is made by the largest losses, L_1, so that g s L_1 / L_0 is known. For smaller ones no more is known than that noise
is a power of the loss, as its root in a sum of squares near its solution, where residuals are rounded, then squared:

    s (L / L_0)^p,    p = 1 + log g / log(L_1 / L_0), at least 0,                                                    (3)

which is g s L / L_0 at L_1, and more than that below.

All of it holds for one loss, or for each of several functions of the same points, such as the elements of an output.
Arrays then have leading axes (...), one position for each function; a single loss has none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.precision import PRECISIONS

_AGREEMENT_RATIO = 4.0
_NARROW_FORMATS = ("BF16", "FP16", "FP32")
"""Formats other than that of all losses, from the narrowest on."""
UNIFORM_DEVIATION = 1 / 12**0.5
"""Deviation of numbers that fall anywhere between two neighbours, in units of their distance."""
ROUNDING_DEVIATION = 2 * UNIFORM_DEVIATION
"""Deviation of numbers that are rounded, relative, in units of roundoff."""
_WINDOW_STEPS = 4
"""Steps of a divided difference."""
_GROWTH_SIGNIFICANCE = 4.0
_GROWTH_SAFETY = 4.0


@dataclass(frozen=True)
class LossNoise:
    """Noise of a loss, or of several.

    Attributes
    ----------
    deviation
        Standard deviation of one evaluation near the base, (...).
    largest_deviation
        Largest of the estimates, from which bounds follow, (...).
    loss_magnitude
        Largest size of the losses behind the estimates, (...).
    is_deterministic
        True if the loss was the same each time at the base, (...).
    format_roundoff
        Unit roundoff of the narrowest format that represents all losses.
    part_deviation
        Standard deviation that the rounding of its parts leaves in a loss that is their sum, (...); 0 by default.
    """

    deviation: Array
    largest_deviation: Array
    loss_magnitude: Array
    is_deterministic: Array
    format_roundoff: float
    part_deviation: Array | float = 0.0

    @property
    def rounding_deviation(self) -> Array:
        """Deviation of the rounding of the losses, or of their parts, near the base, (...)."""
        return np.maximum(ROUNDING_DEVIATION * self.format_roundoff * self.loss_magnitude, self.part_deviation)

    def choose_resolution(self, is_constant: Array) -> Array:
        """Return the part of a loss that its format resolves along each line, by which a derivative is called 0.

        No derivative through stairs is small enough to be called 0 by a format narrower than float32, unless the line
        is constant: the few digits of its loss then tell nothing of the format.
        """
        narrowest = min(self.format_roundoff, PRECISIONS["FP32"].unit_roundoff)
        has_stairs = np.asarray(self.part_deviation)[..., None] > 0
        return np.where(is_constant | ~has_stairs, self.format_roundoff, narrowest)

    def scale_by_exponent(self, exponent: Array | int) -> "LossNoise":
        """Return the noise of losses 2^exponent times as large, (...)."""
        deviation, most, size, part = (
            np.ldexp(numbers, exponent)
            for numbers in (self.deviation, self.largest_deviation, self.loss_magnitude, self.part_deviation)
        )
        return replace(self, deviation=deviation, largest_deviation=most, loss_magnitude=size, part_deviation=part)

    def compute_deviation(self, losses: Array, steps: Array, base: Array) -> Array:
        """Return the deviation, (..., k, levels), of the losses at steps, (..., k, levels, 2)."""
        sizes = np.abs(losses).max(axis=-1)
        grown, largest, magnitude = (
            self.compute_proportional_deviation(sizes),
            _add_line_axes(self.largest_deviation),
            _add_line_axes(self.loss_magnitude),
        )
        is_known = (magnitude != 0) & np.isfinite(largest)
        largest, magnitude = (np.where(is_known, numbers, 1.0) for numbers in (largest, magnitude))
        part = _estimate_noise_growth(losses, steps, base, largest / magnitude * sizes, largest)
        slower = _grow_as_root(part, np.maximum(1.0, sizes / magnitude))
        rounding = ROUNDING_DEVIATION * self.format_roundoff / largest * sizes
        return np.where(is_known, np.minimum(grown, largest * np.maximum(slower, rounding)), grown)

    def compute_proportional_deviation(self, sizes: Array) -> Array:
        """Return the deviation of losses, (..., k, levels): relative for those larger than the base."""
        largest, magnitude = _add_line_axes(self.largest_deviation), _add_line_axes(self.loss_magnitude)
        growth = np.where(magnitude == 0, 1.0, np.maximum(1.0, sizes / np.where(magnitude == 0, 1.0, magnitude)))
        return largest * growth


def _add_line_axes(numbers: Array) -> Array:
    """Return numbers of functions, (...), as (..., 1, 1), to broadcast over lines and levels."""
    return np.asarray(numbers)[..., None, None]


def _grow_as_root(part: Array, sizes: Array) -> Array:
    """Return the growth of the noise, (3), given that of the losses, (..., k, levels)."""
    largest = sizes.max(axis=(-2, -1))
    with np.errstate(divide="ignore", invalid="ignore"):
        power = np.where(part > 0, 1 + np.log(part) / np.log(largest), 0.0)
    is_relative = (part >= 1) | (largest == 1)
    return np.where(_add_line_axes(is_relative), sizes, sizes ** _add_line_axes(np.maximum(power, 0.0)))


def _estimate_noise_growth(losses: Array, steps: Array, base: Array, grown: Array, largest_deviation: Array) -> Array:
    """Return the growth of the noise with the losses, from 0 to 1, by (2), (...)."""
    plus, minus, base = losses[..., 0], losses[..., 1], _add_line_axes(base)
    least = np.ones(losses.shape[:-3])
    quotients, seconds = (plus - minus) / (2 * steps), (plus - base) + (minus - base)
    count = min(_WINDOW_STEPS, len(steps))
    for first in range(len(steps) - count + 1):
        window = slice(first, first + count)
        weights, factors_by_kind = _weigh_window(tuple(steps[window].tolist()))
        total, terms = np.zeros(least.shape), np.zeros(least.shape, int)
        for values, (factors, norm) in zip((quotients, seconds), factors_by_kind, strict=True):
            constant_noise = largest_deviation[..., 0] * norm
            grown_noise = np.sqrt(np.square(grown[..., window] * factors).sum(axis=-1))
            is_telling = grown_noise > _GROWTH_SIGNIFICANCE * constant_noise
            if not is_telling.any():
                # As of losses that hardly grow.
                continue
            remainders = np.abs(values[..., window] @ weights)
            ratios = np.where(is_telling, remainders / np.where(is_telling, grown_noise, 1.0), 0.0)
            total += np.square(ratios).sum(axis=-1)
            terms += np.count_nonzero(is_telling, axis=-1)
        if terms.any():
            growth = _GROWTH_SAFETY * np.sqrt(total / np.maximum(terms, 1))
            least = np.where(terms > 0, np.minimum(least, growth), least)
    return least


@lru_cache(maxsize=64)
def _weigh_window(steps: tuple[float, ...]) -> tuple[Array, tuple[tuple[Array, float], tuple[Array, float]]]:
    """Return the weights c of (2), and the factors of noise in it, of D and of S, each with their norm.

    Most lines have the same steps.
    """
    nodes = np.array(steps)
    squares = np.square(nodes / nodes[0])
    weights = 1 / np.prod(squares[:, None] - squares + np.eye(len(nodes)), axis=1)
    factors = weights / (np.sqrt(2) * nodes), np.sqrt(2) * weights
    return weights, (
        (factors[0], float(np.linalg.norm(factors[0]))),
        (factors[1], float(np.linalg.norm(factors[1]))),
    )


@dataclass(frozen=True)
class LossFormat:
    """The number format that losses are rounded to.

    Attributes
    ----------
    unit_roundoff
        Unit roundoff of the narrowest format that represents all of them.
    smallest_nonzero
        The smallest size of one that is not 0, (...); infinite where all are.
    spacing
        Distance of the numbers next to 0, (...): that of float64 in the unit of the losses.
    part_deviation
        Standard deviation that the rounding of its parts leaves in a loss that is their sum, (...); 0 by default.
    """

    unit_roundoff: float
    smallest_nonzero: Array
    spacing: Array
    part_deviation: Array | float = 0.0

    def select_functions(self, functions: Array) -> "LossFormat":
        """Return the format of some of several functions."""
        part = np.broadcast_to(self.part_deviation, self.spacing.shape)
        return replace(
            self,
            smallest_nonzero=self.smallest_nonzero[functions],
            spacing=self.spacing[functions],
            part_deviation=part[functions],
        )

    def add_part_deviation(self, deviation: Array) -> "LossFormat":
        """Return the format of losses whose parts are rounded by a deviation, (...), or by what is known already."""
        return replace(self, part_deviation=np.maximum(self.part_deviation, deviation))


def find_loss_format(losses: Array, exponent: Array | int = 0) -> LossFormat:
    """Find the format of the finite ones among losses, (evaluations, ...), that are in units of 2^exponent, (...)."""
    known = np.where(np.isfinite(losses), losses, 0.0)
    narrow = (name for name in _NARROW_FORMATS if bool(PRECISIONS[name].is_representable(known).all()))
    name = next(narrow, "FP64")
    return LossFormat(
        PRECISIONS[name].unit_roundoff,
        np.abs(known).min(axis=0, initial=np.inf, where=known != 0),
        np.ldexp(np.full(losses.shape[1:], PRECISIONS["FP64"].smallest_subnormal), np.negative(exponent)),
    )


def estimate_noise(repeats: Array, lines: Sequence[Array] | Array, loss_format: LossFormat) -> LossNoise:
    """Estimate the noise.

    Parameters
    ----------
    repeats
        The loss at the base, each time, (r, ...).
    lines
        The loss at the near points of each line, (m + 1, ...).
    loss_format
        Number format of all losses.
    """
    near = np.concatenate([repeats, *lines])
    size, rounding = np.abs(near).max(axis=0), loss_format.unit_roundoff
    of_lines = estimate_noise_of_lines(lines).reshape(len(lines), *size.shape)
    estimates = [
        *of_lines,
        np.std(repeats, axis=0, ddof=1),
        np.maximum(ROUNDING_DEVIATION * rounding * size, loss_format.part_deviation),
        UNIFORM_DEVIATION * loss_format.spacing,
    ]
    most = np.where(size > 0, np.max(estimates, axis=0), loss_format.smallest_nonzero)
    most = np.where(np.isfinite(most), most, 0.0)
    is_alike = of_lines * _AGREEMENT_RATIO >= most
    count = np.count_nonzero(is_alike, axis=0)
    mean_square = np.square(np.where(is_alike, of_lines, 0.0)).sum(axis=0) / np.maximum(count, 1)
    deviation = np.where(count > 0, np.sqrt(mean_square), most)
    # The deviation of equal numbers need not be 0: their mean is rounded.
    is_deterministic = (repeats == repeats[0]).all(axis=0)
    return LossNoise(deviation, most, size, is_deterministic, rounding, loss_format.part_deviation)


def estimate_line_noise(values: Array) -> Array:
    """Return the noise of equidistant values, (m + 1, ...), by (1)."""
    count = len(values) - 1
    levels, differences, gamma = np.empty((count, *values.shape[1:])), values, 1.0
    smallest, largest = np.empty(levels.shape), np.empty(levels.shape)
    for order in range(1, count + 1):
        differences = differences[1:] - differences[:-1]
        gamma *= order / (2 * (2 * order - 1))
        levels[order - 1] = gamma * (np.add.reduce(differences * differences, axis=0) / len(differences))
        smallest[order - 1] = np.minimum.reduce(differences, axis=0)
        largest[order - 1] = np.maximum.reduce(differences, axis=0)
    levels = np.sqrt(levels)
    noise: Array = np.minimum.reduce(levels[1:], axis=0)
    # Three orders that follow each other.
    three = levels[:-2], levels[1:-1], levels[2:]
    highest, lowest = (choose(choose(three[0], three[1]), three[2]) for choose in (np.maximum, np.minimum))
    agrees = (smallest[:-2] < 0) & (largest[:-2] > 0) & (highest <= _AGREEMENT_RATIO * lowest)
    # The lowest order that agrees with the next two counts: it comes last.
    for order in reversed(range(len(agrees))):
        noise = np.where(agrees[order], levels[order], noise)
    return noise


def estimate_noise_of_lines(lines: Sequence[Array] | Array) -> Array:
    """Return the noise of each of several lines, (lines, ...), each (m + 1, ...); those of one length at once."""
    lengths = {len(line) for line in lines}
    if len(lengths) != 1:
        return np.array([estimate_line_noise(line) for line in lines])
    return estimate_line_noise(np.stack(list(lines), axis=1))
