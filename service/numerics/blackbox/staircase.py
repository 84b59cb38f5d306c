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


def is_staircase(near_losses: Array, spacings: Array, slope: float, rounding: float) -> bool:
    """Return whether a loss is a staircase.

    Parameters
    ----------
    near_losses
        Losses at near points, (lines, points).
    spacings
        Distances of neighbours, in steps of the moves, (lines,).
    slope
        Change of the loss over a larger step, in units of the step.
    rounding
        Unit roundoff of the format of the losses.
    """
    changes, largest_loss = np.abs(np.diff(near_losses, axis=1)), float(np.abs(near_losses).max())
    has_equal_neighbours = np.count_nonzero(changes == 0, axis=1) >= _MIN_EQUAL_NEIGHBOURS
    if not (has_equal_neighbours & (slope * spacings > 2 * _MIN_SLOPE_ROUNDOFFS * rounding * largest_loss)).any():
        return False
    differences = np.concatenate([changes.ravel(), np.abs(np.diff(near_losses, n=2, axis=1)).ravel()])
    stair_heights = differences[differences > _MIN_SLOPE_ROUNDOFFS * rounding * largest_loss]
    if stair_heights.size:
        return bool(stair_heights.min() > _MIN_STAIR_ROUNDOFFS * _SINGLE_ROUNDOFF * largest_loss)
    # Of one stair, wider than the near points are apart, all have the same loss.
    is_constant = ~changes.any(axis=1)
    return bool(
        (
            is_constant & (slope * spacings * changes.shape[1] > _MIN_SLOPE_ROUNDOFFS * _SINGLE_ROUNDOFF * largest_loss)
        ).any()
    )
