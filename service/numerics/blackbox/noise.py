"""The noise of a loss, from its values alone.

Along a line of equidistant points, close together, the k-th differences of what is smooth vanish as the k-th power of
the distance, and those of independent errors of variance s^2 have the variance s^2 (2k)! / (k!)^2. So of T_ik, the k-th
differences of m + 1 values,

    s_k^2 = gamma_k / (m + 1 - k) sum_i T_ik^2,    gamma_k = (k!)^2 / (2k)!                                          (1)

estimates s^2 once k is large enough. It is taken to be where s_k, s_k+1 and s_k+2 agree within a factor of 4 and the
k-th differences change their sign (More and Wild, Estimating Computational Noise, SIAM J. Sci. Comput. 33, 2011,
section 3). Where none is, what is smooth is in all of them: the smallest then is too large, if anything.

Differences of losses that are rounded to float32 all vanish where the points are so close that none leaves its number.
The noise is no less than that of a number which falls anywhere between two neighbours, 1 / sqrt(12) of their distance,
in the narrowest datatype that represents all the losses. A loss that is 0 at the base and near it, as a difference of
large numbers may be, resolves nothing below the smallest that it is elsewhere.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.numerics.precision import PRECISIONS
from service.numerics.tiles import Array

_AGREE = 4.0
_FORMATS = ("BF16", "FP16", "FP32", "FP64")


@dataclass(frozen=True)
class Noise:
    """Noise of a loss.

    Attributes
    ----------
    deviation
        Standard deviation of one evaluation, near the base.
    most
        The largest of its estimates, with which bounds are made.
    size
        Largest size of the losses from which it was estimated.
    exact
        Whether the loss was the same each time at the base.
    """

    deviation: float
    most: float
    size: float
    exact: bool

    def at(self, losses: Array) -> Array:
        """Deviation at the steps of one tensor, (k, levels), of the losses there, (k, levels, 2).

        Relative errors grow with the loss, which may be far larger there than at a base that is nearly a minimum.
        """
        if self.size == 0:
            return np.full(losses.shape[:2], self.most)
        return self.most * np.maximum(1.0, np.abs(losses).max(axis=2) / self.size)


def measured(repeats: Array, lines: Sequence[Array] | Array, losses: Array) -> Noise:
    """Estimate the noise.

    Parameters
    ----------
    repeats
        The loss at the base, each time, (r,).
    lines
        The loss at the near points of each line, (m + 1,).
    losses
        All losses, of which the format is looked at.
    """
    near = np.concatenate([repeats, *lines])
    size = float(np.abs(near).max())
    again = float(np.std(repeats, ddof=1))
    estimates = [*(of_line(line) for line in lines), again, *([_rounding(losses) * size] if size else [])]
    most = max(estimates) if size else float(np.abs(losses).min(initial=np.inf, where=losses != 0))
    if not math.isfinite(most):
        most = 0.0
    alike = [each for each in estimates[: len(lines)] if each * _AGREE >= most]
    deviation = math.sqrt(sum(each * each for each in alike) / len(alike)) if alike else most
    # The deviation of equal numbers need not be 0: their mean is rounded.
    return Noise(deviation, most, size, bool((repeats == repeats[0]).all()))


def of_line(values: Array) -> float:
    """Noise of equidistant values, (m + 1,), as (1) has it."""
    differences, gamma = values, 1.0
    levels: list[float] = []
    turns: list[bool] = []
    for order in range(1, len(values)):
        differences = np.diff(differences)
        gamma *= order / (2 * (2 * order - 1))
        levels.append(math.sqrt(gamma * float(np.square(differences).mean())))
        turns.append(bool(differences.min() < 0 < differences.max()))
    for order in range(len(levels) - 2):
        three = levels[order : order + 3]
        if turns[order] and max(three) <= _AGREE * min(three):
            return levels[order]
    return min(levels[1:])


def _rounding(losses: Array) -> float:
    """Deviation of numbers rounded to the narrowest format that represents all losses, relative."""
    name = next(each for each in _FORMATS if bool(PRECISIONS[each].represents(losses).all()))
    return 2 * PRECISIONS[name].unit_roundoff / math.sqrt(12)
