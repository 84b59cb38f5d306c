"""The values and bounds that the levels give the elements of one tensor, and the best of them."""

from typing import NamedTuple

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.difference import Difference, DifferenceStatus

_TIGHT_BOUND, _TIGHT_RELATIVE_BOUND = 2.0**-33, 2.0**-20
"""Bound, as a part of the largest element or of the element itself, below which no further level is tried."""
_DECIDED_BOUND, _NEGLIGIBLE_FRACTION = 1e-5, 1e-6
"""Bound that decides any verdict, as a part of the element or of this part of the largest."""


class BestEstimate(NamedTuple):
    """Estimates of the level with the smallest bound, element by element."""

    value: Array
    bound: Array
    rounding: Array
    first_steps: Array | float


class EstimateTable:
    """Values and bounds of the elements of one name, by level, and the best so far."""

    def __init__(self, count: int, is_step_given: bool) -> None:
        self._element_count = count
        # With a given step the difference is shown even without a bound.
        self._is_step_given = is_step_given
        self._values: list[Array] = []
        self._bounds: list[Array] = []
        self._best: BestEstimate | None = None

    def add_level(self, values: Array, bounds: Array, rounding: Array, steps: Array | float, elements: Array) -> None:
        """Add a level.

        Parameters
        ----------
        values, bounds
            Values and bounds of the elements that the level serves.
        rounding, steps
            Rounding and first steps, of all elements.
        elements
            Flat indices of the elements that the level serves.
        """
        is_known = np.isfinite(values) & (self._is_step_given or np.isfinite(bounds))
        values, bounds = np.where(is_known, values, np.nan), np.where(is_known, bounds, np.inf)
        if elements.size < self._element_count:
            values, bounds = (
                _scatter(numbers, elements, self._element_count, filler)
                for numbers, filler in ((values, np.nan), (bounds, np.inf))
            )
        self._values.append(values)
        self._bounds.append(bounds)
        estimate, previous = BestEstimate(values, bounds, rounding, steps), self._best
        if previous is not None:
            is_better = bounds < previous.bound
            estimate = BestEstimate(
                *(
                    np.where(is_better, new_array, old_array)
                    for new_array, old_array in zip(estimate, previous, strict=True)
                )
            )
        self._best = estimate

    @property
    def best(self) -> BestEstimate:
        """Return the estimate with the smallest bound for each element.

        Among equal bounds the first counts.
        """
        assert self._best is not None
        return self._best

    def find_unbounded_elements(self) -> Array:
        """Return the elements that no level gave a bound."""
        return np.flatnonzero(~np.isfinite(self.best.bound))

    def needs_refinement(self) -> Array:
        """Return the elements whose bound is worth narrowing."""
        value, bound, *_ = self.best
        size = np.abs(value)
        largest = size.max(where=np.isfinite(bound), initial=0)
        return np.flatnonzero(~(bound <= np.fmax(_TIGHT_BOUND * largest, _TIGHT_RELATIVE_BOUND * size)))

    def needs_escalation(self) -> Array:
        """Return the elements whose relevance or value is still unknown."""
        value, bound, *_ = self.best
        value = np.abs(value)
        largest = value.max(where=np.isfinite(bound), initial=0)
        return np.flatnonzero(~(bound <= _DECIDED_BOUND * np.fmax(value, _NEGLIGIBLE_FRACTION * largest)))

    def to_difference(self, shape: tuple[int, ...], evaluations: int) -> Difference:
        """Return the best estimate of each element as a difference.

        A contradiction of another level widens its bound.
        """
        value, bound, rounding, steps = self.best
        disagreement = self._compute_disagreement()
        has_no_bound = ~np.isfinite(bound)
        # Without a bound there is no value either, except for a given step, which has a single level.
        status = (has_no_bound | (disagreement > 0)) * np.uint8(DifferenceStatus.UNSETTLED)
        status[np.isnan(value)] = DifferenceStatus.NOT_FINITE
        return Difference(
            value.reshape(shape),
            np.where(has_no_bound, np.inf, bound + disagreement).reshape(shape),
            status.reshape(shape),
            evaluations,
            rounding.reshape(shape),
            np.where(has_no_bound, np.nan, steps).reshape(shape),
        )

    def _compute_disagreement(self) -> Array | float:
        """Return the distance of each value from the range that another level allows.

        If two levels exclude each other, one estimate was too bold, and nothing tells which.
        """
        if len(self._values) == 1:
            return 0.0
        value, bound, *_ = self.best
        values, bounds = np.array(self._values), np.array(self._bounds)
        is_known = np.isfinite(bounds)
        distances = np.where(is_known, np.abs(np.where(is_known, values, 0) - value) - bounds - bound, 0)
        return np.maximum(0, distances.max(axis=0))


def _scatter(numbers: Array, positions: Array, count: int, filler: float) -> Array:
    """Return an array of `count` numbers with some at their positions, and the filler elsewhere."""
    scattered = np.full(count, filler)
    scattered[positions] = numbers
    return scattered
