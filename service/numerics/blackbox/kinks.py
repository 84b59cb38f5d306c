"""Kinks at the base, from second differences.

Central differences do not see a kink at the base: they agree at every step on the mean of both sides. The second
difference S(h) = f(x + h v) + f(x - h v) - 2 f(x) does: a jump J of the derivative leaves J h in it, where a smooth
loss leaves c_2 h^2 + c_4 h^4 + ... For two steps h and h / r,

    J = |S(h) - r^2 S(h / r)| / (h (r - 1))                                                                          (1)

is free of c_2, and what a smooth loss leaves falls as h^3, while a jump stays. So a pair tells of one where J is beyond
its noise and the next coarser pair's is not larger by at least the root of what a smooth loss would make it.

The cause shows in the further course of J(h). If the derivative jumps at the base, J stays, down to the finest pair
that shows it. If the loss itself jumps, by a comparison, a rounding or a pole between the base and the step, S(h) stays
and J(h) grows as 1 / h. Anything else falls, but slower than it should, or goes up and down, as of a loss that turns
many times within a step. If S(h) falls by less than the root of h does down to the smallest step, no difference knows
anything of the derivative at the base: the loss there is no limit of what it is around.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from service.numerics.blackbox.extrapolation import CERTAIN_DEVIATIONS
from service.numerics.core.batching import Array

_MIN_PAIRS = 2
_PERSISTENT_POWER = 0.5
"""Power of h between that of what stays and that of what does not."""
_ALIKE_RATIO, _MIN_ALIKE = 2.0, 4
_SUSPICION_FACTOR = 1 / 3
"""Part of the certain noise that raises suspicion: two deviations instead of six."""


class LossShape(IntEnum):
    """Shape of a loss along a line."""

    SMOOTH = 0
    KINKED = 1
    JUMPING = 2
    ROUGH = 3
    STAIRS = 4


@dataclass(frozen=True)
class LineKinks:
    """Kinks along k directions.

    Attributes
    ----------
    added_bound
        Bound that a kink adds to an entry with each level as its largest step, (k, levels).
    loss_shape
        Certain shape of the loss along each line, as `LossShape`, (k,).
    may_have_kink
        Mask of the lines that may have a kink, too small for certainty beside the noise, (k,).
    """

    added_bound: Array
    loss_shape: Array
    may_have_kink: Array


def find_kinks(second_differences: Array, steps: Array, noise: Array, base: Array) -> LineKinks:
    """Look for kinks.

    Parameters
    ----------
    second_differences
        S(h), (k, levels).
    steps
        h, falling, (levels,).
    noise
        Deviation of the loss at each step, (k, levels).
    base
        Further error of the loss at the base, (k,).
    """
    ratio = steps[:-1] / steps[1:]
    span = steps[:-1] * (ratio - 1)
    signed = (second_differences[:, :-1] - ratio**2 * second_differences[:, 1:]) / span
    jumps = np.abs(signed)
    of_base = CERTAIN_DEVIATIONS * noise[:, -1] + base
    sides = CERTAIN_DEVIATIONS * np.sqrt(2 * np.square(noise[:, :-1]) + 2 * ratio**4 * np.square(noise[:, 1:]))
    sure = (sides + 2 * (ratio**2 - 1) * of_base[:, None]) / span
    smooth = np.sqrt(steps[:-1] ** 3 * (1 - ratio**-2) / (ratio - 1))
    stays = np.zeros(jumps.shape, bool)
    stays[:, 1:] = jumps[:, :-1] / smooth[:-1] < jumps[:, 1:] / smooth[1:]
    is_significant: Array = stays & (jumps > sure)
    suspected: Array = stays & (jumps > _SUSPICION_FACTOR * sure)
    halves = np.where(is_significant, jumps / 2, 0.0)
    # A pair counts for every entry that reaches as far as its larger step; the last one for the last step alone too.
    added = np.maximum.accumulate(halves[:, ::-1], axis=1)[:, ::-1]
    added = np.concatenate([added, halves[:, -1:]], axis=1)
    added = np.maximum(
        added, _bound_kink_remainder(second_differences, steps, np.where(is_significant, jumps, 0.0), sure)
    )
    added[
        is_significant[:, -1]
        & _is_base_apart(second_differences, steps, CERTAIN_DEVIATIONS * np.sqrt(2) * noise[:, -1] + 2 * of_base)
    ] = np.inf
    return LineKinks(
        added, _classify_loss(signed, is_significant, steps, sure), np.logical_or.reduce(suspected, axis=1)
    )


def _is_base_apart(second_differences: Array, steps: Array, certain_noise: Array) -> Array:
    """Return the lines whose base is apart from its surroundings, (k,)."""
    last, before = np.abs(second_differences[:, -1]), np.abs(second_differences[:, -2])
    return (last > certain_noise) & (last > before * np.sqrt(steps[-1] / steps[-2]))


def _classify_loss(signed: Array, is_significant: Array, steps: Array, sure: Array) -> Array:
    """Classify the loss by the median power of h with which its excess falls."""
    jumps = np.abs(signed)
    powers = np.full(jumps.shape, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        falls = np.log(jumps[:, :-1] / jumps[:, 1:]) / np.log(steps[:-2] / steps[1:-1])
    powers[:, 1:] = np.where(is_significant[:, 1:], falls, np.nan)
    # Of one in J(h), (1) with S(h) = S(h / r).
    leaves = steps[:-1] / (steps[:-1] / steps[1:] + 1)
    shapes = np.full(len(jumps), LossShape.SMOOTH)
    for line in np.flatnonzero(is_significant.any(axis=1)):
        power, seen = float(np.nanmedian(powers[line])), jumps[line]
        if -_PERSISTENT_POWER <= power <= _PERSISTENT_POWER and _persists_to_smallest_step(
            seen, is_significant[line], sure[line]
        ):
            shapes[line] = LossShape.KINKED
        elif power < -_PERSISTENT_POWER and _are_changes_alike(
            (signed[line] * leaves)[: np.flatnonzero(is_significant[line])[-1] + 1]
        ):
            shapes[line] = LossShape.JUMPING
        else:
            shapes[line] = LossShape.ROUGH
    return shapes


def _persists_to_smallest_step(jumps: Array, told: Array, sure: Array) -> bool:
    """Return whether a jump of the derivative shows at the finest possible pair.

    Such a jump is at the base.
    """
    jump = float(np.median(jumps[told]))
    shown = np.flatnonzero(sure < jump / 2)
    return shown.size == 0 or bool(jumps[shown[-1]] >= jump / 2)


def _are_changes_alike(changes: Array) -> bool:
    """Return whether a jump of the loss is the same at all steps, except for one.

    The place of the jump may lie between the points of that one.
    """
    middle = float(np.median(changes))
    parts = changes / middle if middle else np.zeros(changes.shape)
    apart = (parts < 1 / _ALIKE_RATIO) | (parts > _ALIKE_RATIO)
    return changes.size > 1 and int(np.count_nonzero(apart)) <= (changes.size >= _MIN_ALIKE)


def _bound_kink_remainder(
    second_differences: Array, steps: Array, significant_jumps: Array, certain_noise: Array
) -> Array:
    """Return the error that a kink may leave where few finer pairs rule it out.

    At a distance d a jump J is J (h - d) in S(h), of which a central difference is off by half, over h; (1) of it is
    J |1 - (r + 1) d / h|, and may be nothing. But not for two pairs in a row, if they would see half of the jump. With
    too few, S(h) = c_2 h^2 + J h - J d of three steps around tells what the difference is off by.
    """
    left = np.zeros(second_differences.shape)
    for level in range(1, len(steps)):
        saying = np.count_nonzero(certain_noise[:, level:] < significant_jumps[:, level - 1 : level] / 2, axis=1)
        around = slice(level - 1, level + 2) if level + 2 <= len(steps) - 1 else slice(len(steps) - 3, len(steps))
        powers = steps[around, None] ** np.array([2.0, 1.0, 0.0])
        _, jump, ends = np.linalg.solve(powers, second_differences[:, around].T)
        off = np.abs(jump + ends / steps[level]) / 2
        left[:, level] = np.where((significant_jumps[:, level - 1] > 0) & (saying < _MIN_PAIRS), off, 0.0)
    return left
