"""Safe moves of exponents before another exponential takes over."""

import numpy as np

from service.numerics.core.batching import Array


def compute_softmax_leeway(x: Array, axes: int | tuple[int, ...]) -> Array:
    """Return the safe move of arguments of a softmax along some axes, 1 at least.

    Notes
    -----
    exp(x_j) beside the largest, exp(m), changes by its own size as x_j moves by 1. An x_j far below m may move by an
    eighth of the distance, and m by an eighth of that to the next below it: on the way nothing comes near.
    """
    largest: Array = x.max(axis=axes, keepdims=True)
    second: Array = np.max(x, axis=axes, keepdims=True, where=x < largest, initial=-np.inf)
    with np.errstate(invalid="ignore"):
        # Two equal maxima have no distance.
        gap_of_largest: Array = np.where((x == largest).sum(axis=axes, keepdims=True) > 1, 0, largest - second)
        gap: Array = np.where(x < largest, largest - x, gap_of_largest)
    return np.fmax(1.0, gap / 8)
