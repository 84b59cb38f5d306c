"""Staircases: losses that are rounded to decimals, or count.

Their derivative is 0 where there is one, and a candidate of 0 is right; but a difference over many stairs is that of
the slope through them. So a candidate that is 0 is not called wrong beside such a loss.

It gives itself away where neighbouring near points have the very same loss, although the slope would change it by many
units in the last place. A loss that was computed in float32 and brought to float64 is one too, of stairs of the size of
its roundings: those are no stairs here. How high they are show first and second differences, multiples of it.
"""

import numpy as np

from service.numerics.core.batching import Array

_MIN_EQUAL_NEIGHBOURS = 2
_MIN_SLOPE_ROUNDOFFS = 64.0
_SINGLE_ROUNDOFF = 2.0**-24
_MIN_STAIR_ROUNDOFFS = 4.0


def is_staircase(near_losses: Array, spacings: Array, slope: Array, rounding: float) -> Array:
    """Return whether losses are staircases, (...).

    Parameters
    ----------
    near_losses
        Losses at near points, (lines, points, ...).
    spacings
        Distances of neighbours, in steps of the moves, (lines,).
    slope
        Change of the loss over a larger step, in units of the step, (...).
    rounding
        Unit roundoff of the format of the losses.
    """
    changes = np.abs(near_losses[:, 1:] - near_losses[:, :-1])
    is_seen: Array = np.count_nonzero(changes == 0, axis=1) >= _MIN_EQUAL_NEIGHBOURS
    if not is_seen.any():
        return np.zeros(np.shape(slope), np.bool_)
    size = np.abs(near_losses).max(axis=(0, 1))
    resolution = _MIN_SLOPE_ROUNDOFFS * rounding * size
    drops = slope * spacings.reshape(-1, *[1] * np.ndim(slope))
    is_apparent = (is_seen & (drops > 2 * resolution)).any(axis=0)
    several = np.concatenate([changes, np.abs(np.diff(near_losses, n=2, axis=1))], axis=1)
    is_stair = several > resolution
    lowest_stair = several.min(axis=(0, 1), initial=np.inf, where=is_stair)
    # Of one stair, wider than the near points are apart, all have the same loss.
    is_flat = ~changes.any(axis=1)
    is_single = (is_flat & (drops * changes.shape[1] > _MIN_SLOPE_ROUNDOFFS * _SINGLE_ROUNDOFF * size)).any(axis=0)
    has_high_stairs: Array = lowest_stair > _MIN_STAIR_ROUNDOFFS * _SINGLE_ROUNDOFF * size
    has_stairs: Array = np.where(is_stair.any(axis=(0, 1)), has_high_stairs, is_single)
    return np.logical_and(is_apparent, has_stairs)


def has_equal_neighbours(near_losses: Array) -> bool:
    """Tell whether neighbours among near points, (lines, points, ...), have the same loss, as in all staircases."""
    return bool((near_losses[:, 1:] == near_losses[:, :-1]).any())
