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
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from service.numerics.blackbox.extrapolation import CERTAIN_DEVIATIONS
from service.numerics.core.batching import Array

_MIN_PAIRS = 2
_PERSISTENT_POWER = 0.5
"""Power of h between that of what stays and that of what does not."""
_LEAST_POWER = 0.75
"""Power of h as which a second difference falls at least where both one-sided derivatives exist."""
_ALIKE_RATIO, _MIN_ALIKE = 2.0, 4
_KINK_SAFETY = 1 + 2.0**-4
"""Factor on half a jump. At a distance d of the kink from the base (1) finds less than the jump, by the part
(r + 1) d / h, and the difference is off from the mean of both sides by d / h of its half."""
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


def find_kinks(second_differences: Array, steps: Array, noise: Array, base_errors: Array) -> LineKinks:
    """Look for kinks.

    Parameters
    ----------
    second_differences
        S(h), (k, levels).
    steps
        h, falling, (levels,).
    noise
        Deviation of the loss at each step, (k, levels).
    base_errors
        Further error of the loss at the base, (k,).
    """
    pairs = _measure_pairs(tuple(steps.tolist()))
    signed_jumps = (second_differences[:, :-1] - pairs.weights * second_differences[:, 1:]) / pairs.spans
    jumps = np.abs(signed_jumps)
    base_error = CERTAIN_DEVIATIONS * noise[:, -1] + base_errors
    squares = np.square(noise)
    side_errors = CERTAIN_DEVIATIONS * np.sqrt(2 * squares[:, :-1] + pairs.finer_variances * squares[:, 1:])
    certain_errors = (side_errors + pairs.base_weights * base_error[:, None]) / pairs.spans
    is_persistent = np.zeros(jumps.shape, bool)
    relative_jumps = jumps / pairs.smooth_growth
    is_persistent[:, 1:] = relative_jumps[:, :-1] < relative_jumps[:, 1:]
    is_significant: Array = is_persistent & (jumps > certain_errors)
    is_suspected: Array = is_persistent & (jumps > _SUSPICION_FACTOR * certain_errors)
    may_have_kink: Array = np.logical_or.reduce(is_suspected, axis=1)
    if not is_significant.any():
        return LineKinks(np.zeros(second_differences.shape), np.full(len(jumps), int(LossShape.SMOOTH)), may_have_kink)
    half_jumps = np.where(is_significant, _KINK_SAFETY * jumps / 2, 0.0)
    # A pair counts for every entry that reaches as far as its larger step; the last one for the last step alone too.
    added_bounds = np.maximum.accumulate(half_jumps[:, ::-1], axis=1)[:, ::-1]
    added_bounds = np.concatenate([added_bounds, half_jumps[:, -1:]], axis=1)
    added_bounds = np.maximum(
        added_bounds,
        _bound_kink_remainder(second_differences, steps, np.where(is_significant, jumps, 0.0), certain_errors),
    )
    added_bounds[
        is_significant[:, -1]
        & _is_base_apart(second_differences, steps, CERTAIN_DEVIATIONS * np.sqrt(2) * noise[:, -1] + 2 * base_error)
    ] = np.inf
    loss_shape = _classify_loss(signed_jumps, is_significant, steps, certain_errors)
    largest_half_jumps = np.where(loss_shape == LossShape.KINKED, half_jumps.max(axis=1), 0.0)
    added_bounds = np.maximum(added_bounds, largest_half_jumps[:, None])
    return LineKinks(added_bounds, loss_shape, may_have_kink)


class _StepPairs(NamedTuple):
    """Numbers of (1) that follow from the steps of each pair, (levels - 1,).

    Attributes
    ----------
    weights, spans
        r^2, and h (r - 1).
    finer_variances, base_weights
        Factors on the variance of the finer side, and on the error at the base.
    smooth_growth
        Growth of what a smooth loss leaves.
    """

    weights: Array
    spans: Array
    finer_variances: Array
    base_weights: Array
    smooth_growth: Array


@lru_cache(maxsize=64)
def _measure_pairs(steps: tuple[float, ...]) -> _StepPairs:
    """Measure the pairs of steps; most lines have the same ones."""
    larger, smaller = np.array(steps[:-1]), np.array(steps[1:])
    ratio = larger / smaller
    return _StepPairs(
        ratio**2,
        larger * (ratio - 1),
        2 * ratio**4,
        2 * (ratio**2 - 1),
        np.sqrt(larger**3 * (1 - ratio**-2) / (ratio - 1)),
    )


def _is_base_apart(second_differences: Array, steps: Array, certain_noise: Array) -> Array:
    """Return the lines whose base is apart from its surroundings, (k,)."""
    last_difference, previous_difference = np.abs(second_differences[:, -1]), np.abs(second_differences[:, -2])
    return (last_difference > certain_noise) & (
        last_difference > previous_difference * (steps[-1] / steps[-2]) ** _LEAST_POWER
    )


def _classify_loss(signed_jumps: Array, is_significant: Array, steps: Array, certain_errors: Array) -> Array:
    """Classify the loss by the median power of h with which its excess falls."""
    shapes = np.full(len(signed_jumps), int(LossShape.SMOOTH))
    if not is_significant.any():
        return shapes
    jumps = np.abs(signed_jumps)
    powers = np.full(jumps.shape, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        measured_powers = np.log(jumps[:, :-1] / jumps[:, 1:]) / np.log(steps[:-2] / steps[1:-1])
    powers[:, 1:] = np.where(is_significant[:, 1:], measured_powers, np.nan)
    # Of one in J(h), (1) with S(h) = S(h / r).
    jump_factors = steps[:-1] / (steps[:-1] / steps[1:] + 1)
    for line in np.flatnonzero(is_significant.any(axis=1)):
        power, line_jumps = float(np.nanmedian(powers[line])), jumps[line]
        if -_PERSISTENT_POWER <= power <= _PERSISTENT_POWER and _persists_to_smallest_step(
            line_jumps, is_significant[line], certain_errors[line]
        ):
            shapes[line] = LossShape.KINKED
        elif power < -_PERSISTENT_POWER and _are_changes_alike(
            (signed_jumps[line] * jump_factors)[: np.flatnonzero(is_significant[line])[-1] + 1]
        ):
            shapes[line] = LossShape.JUMPING
        else:
            shapes[line] = LossShape.ROUGH
    return shapes


def _persists_to_smallest_step(jumps: Array, is_significant: Array, certain_errors: Array) -> bool:
    """Return whether a jump of the derivative shows at the finest possible pair.

    Such a jump is at the base.
    """
    median_jump = float(np.median(jumps[is_significant]))
    visible_pairs = np.flatnonzero(certain_errors < median_jump / 2)
    return visible_pairs.size == 0 or bool(jumps[visible_pairs[-1]] >= median_jump / 2)


def _are_changes_alike(changes: Array) -> bool:
    """Return whether a jump of the loss is the same at all steps, except for one.

    The place of the jump may lie between the points of that one.
    """
    median_change = float(np.median(changes))
    ratios = changes / median_change if median_change else np.zeros(changes.shape)
    is_different = (ratios < 1 / _ALIKE_RATIO) | (ratios > _ALIKE_RATIO)
    return changes.size > 1 and int(np.count_nonzero(is_different)) <= (changes.size >= _MIN_ALIKE)


def _bound_kink_remainder(
    second_differences: Array, steps: Array, significant_jumps: Array, certain_noise: Array
) -> Array:
    """Return the error that a kink may leave where few finer pairs rule it out.

    At a distance d a jump J is J (h - d) in S(h), of which a central difference is off by half, over h; (1) of it is
    J |1 - (r + 1) d / h|, and may be nothing. But not for two pairs in a row, if they would see half of the jump. With
    too few, S(h) = c_2 h^2 + J h - J d of three steps around tells what the difference is off by.
    """
    remainder_bounds = np.zeros(second_differences.shape)
    if not significant_jumps.any():
        return remainder_bounds
    for level in range(1, len(steps)):
        telling_pair_counts = np.count_nonzero(
            certain_noise[:, level:] < significant_jumps[:, level - 1 : level] / 2, axis=1
        )
        level_window = slice(level - 1, level + 2) if level + 2 <= len(steps) - 1 else slice(len(steps) - 3, len(steps))
        step_powers = steps[level_window, None] ** np.array([2.0, 1.0, 0.0])
        _, fitted_jumps, jump_offsets = np.linalg.solve(step_powers, second_differences[:, level_window].T)
        quotient_errors = np.abs(fitted_jumps + jump_offsets / steps[level]) / 2
        remainder_bounds[:, level] = np.where(
            (significant_jumps[:, level - 1] > 0) & (telling_pair_counts < _MIN_PAIRS), quotient_errors, 0.0
        )
    return remainder_bounds
