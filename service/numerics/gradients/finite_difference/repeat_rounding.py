"""Rounding errors that equal numbers share.

A number that an op computes n times over is off by the same error e each time. Their sum is off by n e, and not by the
sqrt(n) e of independent errors.
"""

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.equal_numbers import FEW_EQUAL, count_equal_numbers, find_longest_repeat
from service.numerics.core.precision import PRECISIONS
from service.numerics.model.monte_carlo import ROUNDING_SWEEPS, MonteCarloRounding


class RepeatRounding(MonteCarloRounding):
    """The rounding of float64, with errors of sqrt(n) e in what an op computes n times.

    They are independent, so that the sum of all of them is off by n e, also behind further ops. This holds for numbers
    that are equal because they move as one. Whoever measures moves all elements in random directions, and so no others
    are equal.

    Parameters
    ----------
    generator
        Source of all that is random.
    groups
        Number of points that are evaluated side by side, each in sweeps.
    """

    def __init__(self, generator: np.random.Generator, groups: int) -> None:
        super().__init__(PRECISIONS["FP64"], generator, groups, as_implemented=True)

    def __call__(
        self,
        array: Array,
        magnitude: Array | None = None,
        terms: float = 1,
        most: Array | None = None,
        rounded: Array | None = None,
    ) -> Array:
        """Add errors of about u sqrt(terms), and more to repeated numbers."""
        tiles = array[:: ROUNDING_SWEEPS + 1]
        # A look at all tiles together costs less than one at each, and mostly finds none.
        are_few = find_longest_repeat(tiles) <= FEW_EQUAL
        counts = [] if are_few else [count_equal_numbers(tile) for tile in tiles]
        if all(count is None for count in counts):
            return super().__call__(array, magnitude, terms, most, rounded)
        roots = np.array([np.ones(array.shape[1:]) if count is None else np.sqrt(count) for count in counts])
        growth = roots.repeat(len(array) // len(tiles), axis=0)
        magnitude = (np.abs(array) if magnitude is None else magnitude) * growth
        return super().__call__(array, magnitude, terms, None if most is None else most * growth, rounded)
