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
in the narrowest datatype that represents all the losses. A loss that is 0 at the base and near it, as a difference of
large numbers may be, resolves nothing below the smallest that it is elsewhere.

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
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.precision import PRECISIONS

_AGREEMENT_RATIO = 4.0
_FORMATS = ("BF16", "FP16", "FP32", "FP64")
_ROUNDING_DEVIATION = 2 / math.sqrt(12)
"""Deviation of numbers that are rounded, relative, in units of roundoff."""
_WINDOW_STEPS = 4
"""Steps of a divided difference."""
_GROWTH_SIGNIFICANCE = 4.0
_GROWTH_SAFETY = 4.0


@dataclass(frozen=True)
class LossNoise:
    """Noise of a loss.

    Attributes
    ----------
    deviation
        Standard deviation of one evaluation near the base.
    largest_deviation
        Largest of the estimates, from which bounds follow.
    loss_magnitude
        Largest size of the losses behind the estimates.
    is_deterministic
        True if the loss was the same each time at the base.
    format_roundoff
        Unit roundoff of the narrowest format that represents all losses.
    """

    deviation: float
    largest_deviation: float
    loss_magnitude: float
    is_deterministic: bool
    format_roundoff: float

    def scale_by_exponent(self, exponent: int) -> "LossNoise":
        """Return the noise of a loss 2^exponent times as large."""
        deviation, largest_deviation, loss_magnitude = (
            float(np.ldexp(number, exponent))
            for number in (self.deviation, self.largest_deviation, self.loss_magnitude)
        )
        return replace(self, deviation=deviation, largest_deviation=largest_deviation, loss_magnitude=loss_magnitude)

    def compute_deviation(self, losses: Array, steps: Array, base: float) -> Array:
        """Return the deviation, (k, levels), of the losses at steps, (k, levels, 2)."""
        loss_sizes = np.abs(losses).max(axis=2)
        proportional_deviation = self.compute_proportional_deviation(loss_sizes)
        if self.loss_magnitude == 0 or not math.isfinite(self.largest_deviation):
            return proportional_deviation
        growth_fraction = _estimate_noise_growth(
            losses, steps, base, self.largest_deviation / self.loss_magnitude * loss_sizes, self.largest_deviation
        )
        deviation_growth = _grows_as_root(growth_fraction, np.maximum(1.0, loss_sizes / self.loss_magnitude))
        return np.minimum(
            proportional_deviation,
            self.largest_deviation
            * np.maximum(
                deviation_growth, _ROUNDING_DEVIATION * self.format_roundoff / self.largest_deviation * loss_sizes
            ),
        )

    def compute_proportional_deviation(self, sizes: Array) -> Array:
        """Return the deviation of losses, relative for those larger than the base."""
        if self.loss_magnitude == 0:
            return np.full(sizes.shape, self.largest_deviation)
        return self.largest_deviation * np.maximum(1.0, sizes / self.loss_magnitude)


def _grows_as_root(growth_fraction: float, sizes: Array) -> Array:
    """Return the growth of the noise, (3), given that of the loss."""
    largest = float(sizes.max())
    if growth_fraction >= 1 or largest == 1:
        return sizes
    power = 1 + math.log(growth_fraction) / math.log(largest) if growth_fraction > 0 else 0.0
    return sizes ** max(power, 0.0)


def _estimate_noise_growth(
    losses: Array, steps: Array, base: float, proportional_deviation: Array, largest_deviation: float
) -> float:
    """Return the growth of the noise with the loss, from 0 to 1, by (2)."""
    plus, minus, smallest_growth = losses[..., 0], losses[..., 1], 1.0
    quotients, second_differences = (plus - minus) / (2 * steps), (plus - base) + (minus - base)
    window_length = min(_WINDOW_STEPS, len(steps))
    for start in range(len(steps) - window_length + 1):
        window = slice(start, start + window_length)
        squares = np.square(steps[window] / steps[start])
        weights = 1 / np.prod(squares[:, None] - squares + np.eye(window_length), axis=1)
        ratios: list[Array] = []
        for values, noise_factors in (
            (quotients, weights / (np.sqrt(2) * steps[window])),
            (second_differences, np.sqrt(2) * weights),
        ):
            combined, constant_deviation = (
                np.abs(values[:, window] @ weights),
                largest_deviation * np.linalg.norm(noise_factors),
            )
            growing_deviations = np.sqrt(np.square(proportional_deviation[:, window] * noise_factors).sum(axis=1))
            ratios.append(
                (combined / growing_deviations)[growing_deviations > _GROWTH_SIGNIFICANCE * constant_deviation]
            )
        relative_sizes = np.concatenate(ratios)
        if relative_sizes.size:
            smallest_growth = min(smallest_growth, _GROWTH_SAFETY * float(np.sqrt(np.square(relative_sizes).mean())))
    return smallest_growth


@dataclass(frozen=True)
class LossFormat:
    """The number format that losses are rounded to.

    Attributes
    ----------
    unit_roundoff
        Unit roundoff of the narrowest format that represents all of them.
    smallest_nonzero
        The smallest size of one that is not 0; infinite where all are.
    """

    unit_roundoff: float
    smallest_nonzero: float


def find_loss_format(losses: Array) -> LossFormat:
    """Find it, of finite losses."""
    name = next(format_name for format_name in _FORMATS if bool(PRECISIONS[format_name].is_representable(losses).all()))
    return LossFormat(PRECISIONS[name].unit_roundoff, float(np.abs(losses).min(initial=np.inf, where=losses != 0)))


def estimate_noise(repeats: Array, lines: Sequence[Array] | Array, loss_format: LossFormat) -> LossNoise:
    """Estimate the noise.

    Parameters
    ----------
    repeats
        The loss at the base, each time, (r,).
    lines
        The loss at the near points of each line, (m + 1,).
    loss_format
        Number format of all losses.
    """
    all_losses = np.concatenate([repeats, *lines])
    largest_loss = float(np.abs(all_losses).max())
    repeat_deviation, unit_roundoff = float(np.std(repeats, ddof=1)), loss_format.unit_roundoff
    estimates = [
        *(estimate_line_noise(line) for line in lines),
        repeat_deviation,
        *([_ROUNDING_DEVIATION * unit_roundoff * largest_loss] if largest_loss else []),
    ]
    largest_deviation = max(estimates) if largest_loss else loss_format.smallest_nonzero
    if not math.isfinite(largest_deviation):
        largest_deviation = 0.0
    agreeing_estimates = [
        estimate for estimate in estimates[: len(lines)] if estimate * _AGREEMENT_RATIO >= largest_deviation
    ]
    deviation = (
        math.sqrt(sum(estimate * estimate for estimate in agreeing_estimates) / len(agreeing_estimates))
        if agreeing_estimates
        else largest_deviation
    )
    # The deviation of equal numbers need not be 0: their mean is rounded.
    return LossNoise(deviation, largest_deviation, largest_loss, bool((repeats == repeats[0]).all()), unit_roundoff)


def estimate_line_noise(values: Array) -> float:
    """Return the noise of equidistant values, (m + 1,), by (1)."""
    differences, variance_factor = values, 1.0
    estimates: list[float] = []
    changes_sign: list[bool] = []
    for order in range(1, len(values)):
        differences = np.diff(differences)
        variance_factor *= order / (2 * (2 * order - 1))
        estimates.append(math.sqrt(variance_factor * float(np.square(differences).mean())))
        changes_sign.append(bool(differences.min() < 0 < differences.max()))
    for order in range(len(estimates) - 2):
        neighbours = estimates[order : order + 3]
        if changes_sign[order] and max(neighbours) <= _AGREEMENT_RATIO * min(neighbours):
            return estimates[order]
    return min(estimates[1:])
