"""The noise of losses that are constant between jumps, as sums of parts in bfloat16 are.

Near points lie closer together than such a loss has stairs. They show no noise, and neither do the finest steps: the
differences of these agree on 0 to the last bit. But the slope that a gradient is of is that through the stairs, and
from that the loss is off by as much as its parts are rounded by. So where

- neighbours among the near points have the very same loss over a run of r distances d,
- the slope of the lines, g, would have changed it by g r d, more than 16 units of roundoff of its format, and
- all near points of a line have the same loss, or the run times the largest change of neighbours is more than 48 of
  these units: a loss that is rounded changes by one or two of them from neighbour to neighbour, or not at all,

the noise is taken from the coarse steps. Let f be the losses of a line at m signed steps, the base among them, and r
what a cubic by least squares leaves of them. Independent errors of the deviation s leave |r|^2 = (m - 4) s^2 in the
mean, and what is no cubic adds to it. So

    s = |r| / sqrt(m - 4),                                                                                           (1)

the largest of all lines: an element that is rounded more coarsely than others shows along its own line alone.
The finest steps are on the stair of the base, and tell the same error again and again. Nine points at most count, the
base and those of the coarsest steps.

Steps are powers of two, and so are stairs, of numbers in a narrow datatype: the coarse points may all lie at the same
place of their stairs, and (1) be 0. But then no step meets the loss between two stairs, and the first change that it
shows from the base outward, to each side, is of one stair at least. So s is no less than that over sqrt(12), the
deviation of the errors on a stair of that height.

The slope of a line is the largest of its differences at a quarter of its largest step or less. A smooth loss without a
slope at the base, as x^3, has none that is not far smaller there; that of a relu that is off is 0, unless its kink is
nearer still. A loss that is the same at all points of one side has a kink at the base. If the loss is the same at all
of these steps, the stairs are wider than that, and only larger steps show a slope. They do of a relu, too, but then the
loss changes on one side alone, and ever more: so that does not count.

The near points of the closer line do not count. They lie within the roundings of float32, which the others resolve.
Those of a narrower datatype are far enough apart to show the roundings of its own numbers.
"""

import numpy as np

from service.numerics.blackbox.central_derivatives import group_equal_rows
from service.numerics.blackbox.layout import SHARED_NEAR_LINES, EvaluationLayout
from service.numerics.blackbox.noise import UNIFORM_DEVIATION
from service.numerics.core.batching import Array
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.projection import euclidean_norms

_MIN_CHANGE_ROUNDOFFS = 16.0
"""Roundoffs by which the slope has to change a loss over a run, at which a loss with that slope would not stay the
same. The run has a direction of its own, along which the slope is a random part of that of the lines."""
_MIN_JUMP_ROUNDOFFS = 48.0
_SLOPE_STEP_RATIO = 1 / 4
_LEAST_SLOPE_RATIO = 1 / 8
"""Part of the difference at the largest step that those at smaller ones have at least: a slope, not a cubic."""
_DEGREE = 3
_MAX_FIT_POINTS = 9


def estimate_stair_deviation(
    layout: EvaluationLayout, name: str, near_losses: Array, losses: Array, base: Array, roundoff: float
) -> Array:
    """Return the noise of each function that is a staircase where a tensor moves, (...); 0 of others.

    Parameters
    ----------
    near_losses
        Losses at near points, (lines, points, ...).
    losses
        Losses of the tensor, (..., k, levels, 2); NaN at points without a value.
    base
        The loss at the base, (...).
    roundoff
        Unit roundoff of the format of the losses.
    """
    point, lines = layout.points[name], layout.lines[name]
    deviations = np.zeros(np.shape(base))
    if point.schedule.precision.unit_roundoff > PRECISIONS["FP32"].unit_roundoff:
        return deviations
    sizes = np.maximum(np.abs(near_losses).max(axis=(0, 1)), np.abs(base))
    runs = _measure_longest_runs(near_losses, base, _MIN_JUMP_ROUNDOFFS * roundoff * sizes)
    if not runs.any():
        return deviations
    offsets = layout.list_step_offsets(name).reshape(len(lines), -1)
    changes = losses.reshape(*losses.shape[:-2], -1) - np.asarray(base)[..., None, None]
    slopes = np.zeros(changes.shape[:-1])
    is_known: Array = np.logical_and.reduce(np.isfinite(changes), axis=tuple(range(changes.ndim - 2)))
    for numbers, row in group_equal_rows(np.concatenate([offsets, is_known], axis=1)):
        signed, known = row[: offsets.shape[1]], row[offsets.shape[1] :].astype(np.bool_)
        chosen = np.flatnonzero(known)[np.argsort(-np.abs(signed[known]), kind="stable")]
        if len(chosen) > _DEGREE:
            part = changes[..., numbers, :][..., chosen]
            slopes[..., numbers] = _measure_slopes(signed[chosen], part)
            scatter = np.maximum(_measure_scatter(signed[chosen], part), _measure_first_change(signed[chosen], part))
            deviations = np.maximum(deviations, scatter.max(axis=-1))
    slope = euclidean_norms(slopes)
    slope = slope / (np.sqrt(len(lines)) if lines.moved_elements is None else 1.0)
    spacing = 2.0 ** -point.schedule.near_exponents[0]
    has_stairs = slope * spacing * runs > _MIN_CHANGE_ROUNDOFFS * roundoff * sizes
    return np.where(has_stairs, deviations, 0.0)


def _measure_longest_runs(near_losses: Array, base: Array, least_jump: Array) -> Array:
    """Return the largest number of distances in a row over which near points have the same loss, (...).

    A line on which some neighbours differ, but none by a jump, counts as none.
    """
    longest = np.zeros(np.shape(base), np.int_)
    for row in (0, *range(SHARED_NEAR_LINES, len(near_losses))):
        line = np.concatenate([np.asarray(base)[None], near_losses[row]])
        changes = np.abs(line[1:] - line[:-1])
        if changes.all():
            # Mostly no neighbours have the same loss.
            continue
        run, of_line = (np.zeros(longest.shape, np.int_) for _ in range(2))
        for change in changes:
            run = np.where(change == 0, run + 1, 0)
            of_line = np.maximum(of_line, run)
        largest = changes.max(axis=0)
        counts = (largest == 0) | (of_line * largest > least_jump)
        longest = np.where(counts, np.maximum(longest, of_line), longest)
    return longest


def _measure_slopes(offsets: Array, changes: Array) -> Array:
    """Return the slopes of lines, (..., k), by their changes at signed steps, (..., k, m), the largest steps first."""
    is_near = np.abs(offsets) <= _SLOPE_STEP_RATIO * np.abs(offsets[0])
    distances = np.unique(np.abs(offsets))
    differences = np.stack([_difference_at(offsets, changes, distance) for distance in distances], axis=-1)
    near_slopes = differences[..., distances <= _SLOPE_STEP_RATIO * distances[-1]].max(axis=-1, initial=0.0)
    largest = differences[..., -1]
    is_flat: Array = ~(changes[..., is_near] != 0).any(axis=-1)
    far_slopes = np.where(_are_jumps(offsets[~is_near], changes[..., ~is_near]), largest, 0.0)
    is_slope = (near_slopes >= _LEAST_SLOPE_RATIO * largest) & _change_on_each_side(offsets, changes)
    return np.where(is_flat, far_slopes, np.where(is_slope, near_slopes, 0.0))


def _change_on_each_side(offsets: Array, changes: Array) -> Array:
    """Return where losses change on each side of the base that has points, (..., k)."""
    changed = changes != 0
    sides = [changed[..., side].any(axis=-1) for side in (offsets > 0, offsets < 0) if side.any()]
    return np.logical_and.reduce(sides)


def _difference_at(offsets: Array, changes: Array, distance: float) -> Array:
    """Return the size of the central difference at a step, or of that to the side that is there."""
    at = np.flatnonzero(np.abs(offsets) == distance)
    return np.abs((changes[..., at] / offsets[at]).mean(axis=-1))


def _are_jumps(offsets: Array, changes: Array) -> Array:
    """Return where losses change to both sides, or by the same at all points that are changed, (..., k)."""
    changed = changes != 0
    both: Array = changed[..., offsets > 0].any(axis=-1) & changed[..., offsets < 0].any(axis=-1)
    smallest = changes.min(axis=-1, where=changed, initial=np.inf)
    return both | (smallest == changes.max(axis=-1, where=changed, initial=-np.inf))


def _measure_scatter(offsets: Array, changes: Array) -> Array:
    """Return (1) of lines, (..., k), by their changes from the base at signed steps, the largest first."""
    count = min(len(offsets), _MAX_FIT_POINTS - 1)
    units = np.append(offsets[:count], 0.0) / np.abs(offsets[0])
    basis, _ = np.linalg.qr(np.vander(units, _DEGREE + 1))
    values = np.concatenate([changes[..., :count], np.zeros((*changes.shape[:-1], 1))], axis=-1)
    residuals = values - (values @ basis) @ basis.T
    return np.sqrt(np.square(residuals).sum(axis=-1) / max(count - _DEGREE, 1))


def _measure_first_change(offsets: Array, changes: Array) -> Array:
    """Return the deviation of errors on a stair as high as the first change to either side, (..., k)."""
    first = np.zeros(changes.shape[:-1])
    for side in (1, -1):
        outward = np.abs(changes[..., np.sign(offsets) == side][..., ::-1])
        if outward.shape[-1]:
            nearest = (outward != 0).argmax(axis=-1)
            first = np.maximum(first, np.take_along_axis(outward, nearest[..., None], axis=-1)[..., 0])
    return UNIFORM_DEVIATION * first
