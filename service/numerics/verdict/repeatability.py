"""Differences between runs of one program.

Programs that add in another order each time, as by atomic additions, round otherwise each time. Each run is then off by
what its recipe allows, a = 6 root mean squares, at most, and two of them are apart by sqrt(2) a: the difference of two
independent errors has sqrt(2) times the root mean square of one. More is no rounding, but a race, a buffer that was not
initialised, or random numbers.
"""

import math
from dataclasses import dataclass

import numpy as np

from service.numerics.core.batching import Array


@dataclass(frozen=True)
class RepeatSpread:
    """How far runs are apart.

    Attributes
    ----------
    run_count
        Number of runs.
    largest
        Largest distance between two runs of an element; NaN if a run alone has a number that is not finite.
    beyond_count
        Number of elements whose runs are farther apart than rounding explains.
    first_beyond
        Index of the one that exceeds its allowance the most; None where there is none.
    """

    run_count: int
    largest: float
    beyond_count: int
    first_beyond: tuple[int, ...] | None

    @property
    def is_explained(self) -> bool:
        """True if rounding explains all of it."""
        return self.beyond_count == 0


def measure_spread(runs: Array, allowed: Array) -> RepeatSpread:
    """Return how far runs are apart.

    Parameters
    ----------
    runs
        Gradients of all runs, (n, ...), float64.
    allowed
        Largest error to be expected of a correct gradient, (...).
    """
    with np.errstate(invalid="ignore", over="ignore"):
        distances = runs.max(axis=0) - runs.min(axis=0)
        # Infinity stays itself, and so does NaN.
        is_same = ((runs == runs[0]) | (np.isnan(runs) & np.isnan(runs[0]))).all(axis=0)
        distances = np.where(is_same, 0.0, distances)
        is_beyond = ~(distances <= math.sqrt(2) * allowed) & ~is_same
        excess = np.where(np.isnan(distances), np.inf, distances - allowed)
    first = None
    if is_beyond.any():
        position = int(np.where(is_beyond, excess, -np.inf).argmax())
        first = tuple(int(place) for place in np.unravel_index(position, distances.shape))
    return RepeatSpread(len(runs), float(distances.max(initial=0)), int(np.count_nonzero(is_beyond)), first)
