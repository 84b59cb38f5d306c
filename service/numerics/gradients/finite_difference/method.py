"""Methods as data: the points of evaluation, and the reduction of quotients.

An element's quotients are D(h), D(h/2), ... for each first step h. Each has the floor n(h) = (noise of the differenced
terms) / h that rounding leaves under it. The reduction yields value and bound.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from service.numerics.core.batching import Array

TableReduction = Callable[[Array, Array], tuple[Array, Array]]


_ELEMENTS_PER_BLOCK = 2**13
"""Elements that one pass of a reduction takes."""


class StepLevel(NamedTuple):
    """The first step of a table.

    Attributes
    ----------
    stride_fraction
        The step as a fraction of the stride of the moving name, or of the given step.
    scales_by_element
        True if each element moves by a part of its own size: for tensors with elements of many sizes, and next to the
        edge of a domain. False by default.
    uses_extended_precision
        True if the loss is evaluated in extended precision; False by default.
    """

    stride_fraction: float
    scales_by_element: bool = False
    uses_extended_precision: bool = False


@dataclass(frozen=True)
class DifferenceMethod:
    """A way to difference.

    Attributes
    ----------
    name
        Name on the wire.
    offsets
        Points of evaluation, in steps from the point. The quotient is f(first) - f(second) over their distance.
    initial_levels
        First levels. The second and further ones serve the elements whose bound could be narrower.
    step_count
        Number of quotients for each first step, each with half the step of the one before.
    reduce_table
        Function from (quotients, floors), each (levels, elements), to (values, bounds), each (elements,).
    given_step
        Step of the request; None, for a step to be found, by default.
    restart_levels
        Further levels, for the elements that no initial one gave a bound; none by default.
    escalation_levels
        Further levels, for the elements that are still undecided; none by default.
    """

    name: str
    offsets: tuple[float, float]
    initial_levels: tuple[StepLevel, ...]
    step_count: int
    reduce_table: TableReduction
    given_step: float | None = None
    restart_levels: tuple[StepLevel, ...] = ()
    escalation_levels: tuple[StepLevel, ...] = ()

    @property
    def evaluations_per_colour(self) -> int:
        """Return the evaluations of the loss for one colour and one level."""
        return len(self.offsets) * self.step_count

    def reduce_table_in_blocks(self, quotients: Array, floors: Array) -> tuple[Array, Array]:
        """Return what `reduce_table` does, block by block of elements, so that its passes stay in the cache."""
        count = quotients.shape[1]
        if count <= _ELEMENTS_PER_BLOCK:
            return self.reduce_table(quotients, floors)
        values, bounds = np.empty(count), np.empty(count)
        for start in range(0, count, _ELEMENTS_PER_BLOCK):
            block = slice(start, start + _ELEMENTS_PER_BLOCK)
            values[block], bounds[block] = self.reduce_table(quotients[:, block], floors[:, block])
        return values, bounds


_CONVERGENCE_RATIO = 0.3
"""Part of the quotient's change that halving the step may leave: a quarter, and the share of higher orders."""
_EXTRAPOLATED_CONVERGENCE_RATIO = 1 / 6
"""Part of the change of the first extrapolation that halving the step may leave: a sixteenth, and higher orders."""


def extrapolate_central(quotients: Array, floors: Array) -> tuple[Array, Array]:
    """Return values and bounds from Neville's table for central quotients.

    Their error is a series in h^2.

    Notes
    -----
        A[i, 0] = D(h / 2^i)            A[i, k] = (4^k A[i, k-1] - A[i-1, k-1]) / (4^k - 1)
        n[i, 0] = noise / (h / 2^i)     n[i, k] = (4^k n[i, k-1] + n[i-1, k-1]) / (4^k - 1)

    The error of A[i, k] is estimated by the larger distance to the two entries it came from. With its floor n[i, k]
    that is its bound, and the entry of the smallest bound is taken, element by element. One such distance may pass
    through 0 by chance: none is taken to be smaller than 4^-k of that in the row before, and 2^-11 of that in the
    column before. The estimate presumes that the table converges. If halving the step did not leave about a quarter of
    the change of the quotient, noise aside, the step was outside the range of the series, and there is no bound. The
    same holds of the first extrapolation, of whose change a sixteenth is left. A loss of two scales, one of them far
    below the step, may converge to another number in the quotients alone.

    The floor is this project's: the estimate alone is no bound where rounding decides.

    References
    ----------
    Ridders, Advances in Engineering Software 4 (1982) 75-76; Numerical Recipes (2007), section 5.7.
    """
    column, noise = quotients, floors
    changes = np.abs(quotients[1:] - quotients[:-1])
    converging = (changes[1:] <= _CONVERGENCE_RATIO * changes[:-1] + floors[2:]).all(axis=0)
    distances = np.zeros_like(quotients)
    values: list[Array] = []
    bounds: list[Array] = []
    for k in range(1, len(quotients)):
        weight = 4.0**k
        finer, coarser = column[1:], column[:-1]
        correction = (finer - coarser) / (weight - 1)
        column = finer + correction
        noise = (weight * noise[1:] + noise[:-1]) / (weight - 1)
        # The farther of the two: the coarser entry is weight times as far as the finer.
        distances = np.maximum(np.abs(correction) * weight, distances[1:] / 2**11)
        np.maximum(distances[1:], distances[:-1] / weight, out=distances[1:])
        if k == 1:
            converging &= _is_falling(column, noise)
        values.append(column)
        bounds.append(distances + noise)
    all_bounds = np.where(converging, np.concatenate(bounds), np.inf)
    # NaN stands for no bound.
    best = np.fmin(all_bounds, np.inf).argmin(axis=0)[None]
    value, bound = (np.take_along_axis(table, best, 0)[0] for table in (np.concatenate(values), all_bounds))
    return np.where(np.isfinite(bound), value, np.nan), np.where(np.isnan(bound), np.inf, bound)


def extrapolate_central_number(quotients: Sequence[float], floors: Sequence[float]) -> tuple[float, float]:
    """Return what `extrapolate_central` returns of one element, digit by digit, without its passes over arrays."""
    column, noise = list(quotients), list(floors)
    is_converging = all(
        finer <= _CONVERGENCE_RATIO * coarser + floor
        for (coarser, finer), floor in zip(pairwise(_measure_changes(column)), floors[2:], strict=True)
    )
    distances = [0.0] * len(column)
    best_value, best_bound = math.nan, math.inf
    for k in range(1, len(quotients)):
        weight = 4.0**k
        corrections = [(finer - coarser) / (weight - 1) for coarser, finer in pairwise(column)]
        column = [finer + correction for finer, correction in zip(column[1:], corrections, strict=True)]
        noise = [(weight * finer + coarser) / (weight - 1) for coarser, finer in pairwise(noise)]
        before = [
            _take_maximum(abs(correction) * weight, distance / 2**11)
            for correction, distance in zip(corrections, distances[1:], strict=True)
        ]
        distances = [*before[:1], *(_take_maximum(finer, coarser / weight) for coarser, finer in pairwise(before))]
        if k == 1:
            is_converging &= all(
                finer <= _EXTRAPOLATED_CONVERGENCE_RATIO * coarser + 2 * floor
                for (coarser, finer), floor in zip(pairwise(_measure_changes(column)), noise[2:], strict=True)
            )
        for value, distance, floor in zip(column, distances, noise, strict=True):
            if distance + floor < best_bound:
                best_value, best_bound = value, distance + floor
    return (best_value, best_bound) if is_converging else (math.nan, math.inf)


def _measure_changes(numbers: Sequence[float]) -> list[float]:
    return [abs(finer - coarser) for coarser, finer in pairwise(numbers)]


def _take_maximum(first: float, second: float) -> float:
    """Return the larger number; NaN beside a NaN."""
    return first if first >= second or first != first else second


def _is_falling(column: Array, noise: Array) -> Array:
    """Return whether the changes of the first extrapolation fall as those of a series, noise aside."""
    changes = np.abs(column[1:] - column[:-1])
    falls: Array = changes[1:] <= _EXTRAPOLATED_CONVERGENCE_RATIO * changes[:-1] + 2 * noise[2:]
    return np.logical_and.reduce(falls, axis=0)


def _make_first_step_reduction(ratio: float) -> TableReduction:
    """Return the reduction to D(h) as it is.

    Notes
    -----
    The changes are d1 = D(h) - D(h/2) and d2 = D(h/2) - D(h/4). If every further halving shrinks the change by `ratio`
    or more, the error of D(h), the sum of all changes to come, is at most abs(d1) / (1 - ratio). The reduction presumes
    it if abs(d2) <= ratio abs(d1), noise aside. Else h is outside the range of the series, and there is no bound. For a
    step that was found, and is small, d2 is not computed.
    """

    def reduce(quotients: Array, floors: Array) -> tuple[Array, Array]:
        first_changes, *second_changes = np.abs(quotients[1:] - quotients[:-1])
        bounds = first_changes / (1 - ratio) + floors[0] + floors[1]
        if not second_changes:
            return quotients[0], bounds
        converging = second_changes[0] <= ratio * first_changes + floors.sum(axis=0)
        return quotients[0], np.where(converging, bounds, np.inf)

    return reduce


ADAPTIVE_METHOD = DifferenceMethod(
    "adaptive",
    (1.0, -1.0),
    (StepLevel(2.0**-3), StepLevel(2.0**-7), StepLevel(2.0**-1), StepLevel(2.0**-3, scales_by_element=True)),
    4,
    extrapolate_central,
    restart_levels=(
        StepLevel(2.0**-14),
        StepLevel(2.0**-10, scales_by_element=True),
        StepLevel(2.0**-20),
        StepLevel(2.0**-28),
    ),
    escalation_levels=(
        StepLevel(2.0**-6, uses_extended_precision=True),
        StepLevel(2.0**-6, scales_by_element=True, uses_extended_precision=True),
    ),
)


_MAX_CACHED_METHODS = 64
"""Methods with given steps that the cache keeps, so that plans made for them are found again."""


def make_central_method(step: float | None = None) -> DifferenceMethod:
    """Return the central difference with one step.

    Its error is c h^2 + O(h^4), so that halving h leaves a quarter of a change.
    """
    return _make_single_step_method("central", (1.0, -1.0), step, 2.0**-12, 1 / 2)


def make_forward_method(step: float | None = None) -> DifferenceMethod:
    """Return the forward difference with one step.

    Its error is c h + O(h^2), so that halving h leaves half of a change.
    """
    return _make_single_step_method("forward", (1.0, 0.0), step, 2.0**-20, 3 / 4)


@lru_cache(_MAX_CACHED_METHODS)
def _make_single_step_method(
    name: str, offsets: tuple[float, float], step: float | None, stride_fraction: float, ratio: float
) -> DifferenceMethod:
    """Return the method of a given step, or of a fraction of the stride."""
    if step is not None:
        return DifferenceMethod(name, offsets, (StepLevel(1.0),), 3, _make_first_step_reduction(ratio), step)
    return DifferenceMethod(
        name,
        offsets,
        (StepLevel(stride_fraction),),
        2,
        _make_first_step_reduction(ratio),
        restart_levels=(StepLevel(stride_fraction, scales_by_element=True),),
    )
