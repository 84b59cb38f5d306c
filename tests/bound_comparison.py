"""The measure: differences with bounds held against the truth, element by element."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.gradients.finite_difference import Difference
from tests import truth
from tests.problem_families import FamilyProblem

MATTERING_FRACTION = 1e-6
"""Part of the largest element above which an element matters, and the relative error that is to be found in it."""
TARGET_ERROR = 1e-4
MIN_MAGNITUDE = 1e-300
"""Below it a tensor has no size to speak of."""


@dataclass(frozen=True)
class BoundComparison:
    """One tensor of one problem: the differences, their bounds, the truth and the distance from it, float64, (n,)."""

    problem: FamilyProblem
    name: str
    value: Array
    bound: Array
    truth: Array
    error: Array

    @cached_property
    def error_to_bound(self) -> Array:
        """Error over bound: above 1 the bound is false. 0 where there is no bound; infinite where NaN has one."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            factor = np.where(self.error == 0, 0.0, self.error / self.bound)
        return np.where(np.isposinf(self.bound), 0.0, np.where(np.isnan(factor), np.inf, factor))

    @cached_property
    def largest_magnitude(self) -> float:
        return float(np.abs(self.truth).max(initial=0))

    def find_undecided(self) -> Array:
        """Of the elements that matter: whether the bound would hide what is sought."""
        size = np.abs(self.truth)
        matters = (size > MATTERING_FRACTION * self.largest_magnitude) & (self.largest_magnitude > MIN_MAGNITUDE)
        return ~(self.bound[matters] <= TARGET_ERROR / 2 * size[matters])

    def compute_relative_bounds(self) -> Array:
        """Bounds in units of the largest element, (n,), or none where that is as good as 0."""
        return self.bound / self.largest_magnitude if self.largest_magnitude > MIN_MAGNITUDE else np.empty(0)

    def describe_element(self, element: int) -> str:
        """One element, with what it takes to see it again."""
        shape = self.problem.leaves[self.name].shape[1:]
        index = tuple(int(position) for position in np.unravel_index(element, shape))
        return (
            f"{self.problem} {self.name}{list(index)}: difference {self.value[element]:.17g}, "
            f"bound {self.bound[element]:.3g}, truth {self.truth[element]:.17g}, "
            f"factor {self.error_to_bound[element]:.3g}"
        )


def compare_to_truth(
    problem: FamilyProblem, differences: dict[str, Difference], expected: dict[str, Array]
) -> list[BoundComparison]:
    """Hold differences against the truth, by name."""
    return [
        BoundComparison(
            problem,
            name,
            difference.value.ravel(),
            difference.error_bound.ravel(),
            expected[name].astype(np.float64).ravel(),
            truth.compute_distance(difference.value, expected[name]).ravel(),
        )
        for name, difference in differences.items()
    ]


@dataclass(frozen=True)
class BoundSummary:
    """What the bounds of some tensors are worth.

    Attributes
    ----------
    elements, unbounded
        How many elements there are, and how many have an infinite bound.
    covered
        Part of those with a bound whose bound is true; 1 where there are none.
    worst
        Largest error in units of its bound.
    decided
        Part of the elements that matter with a bound small enough to find what is sought.
    median, high
        Of bound over the largest element of its tensor: median and 99th percentile.
    """

    elements: int
    unbounded: int
    covered: float
    worst: float
    decided: float
    median: float
    high: float


def summarize_bounds(tensors: Sequence[BoundComparison]) -> BoundSummary:
    """Sum up tensors."""
    bounds, factors = (
        np.concatenate([getattr(tensor, of) for tensor in tensors]) for of in ("bound", "error_to_bound")
    )
    undecided, relative = (
        np.concatenate([of(tensor) for tensor in tensors])
        for of in (BoundComparison.find_undecided, BoundComparison.compute_relative_bounds)
    )
    unbounded = np.isposinf(bounds)
    bounded = int((~unbounded).sum())
    middle, high = np.quantile(relative, (0.5, 0.99), method="higher") if relative.size else (np.nan, np.nan)
    return BoundSummary(
        elements=bounds.size,
        unbounded=int(unbounded.sum()),
        covered=1 - int((factors > 1).sum()) / bounded if bounded else 1.0,
        worst=float(factors.max(initial=0)),
        decided=1 - int(undecided.sum()) / undecided.size if undecided.size else 1.0,
        median=float(middle),
        high=float(high),
    )


def describe_misses(tensors: Sequence[BoundComparison], count: int) -> list[str]:
    """The worst elements whose bound is false, in words, from the worst on."""
    ratios = [
        (tensor.error_to_bound[i], tensor.describe_element(i))
        for tensor in tensors
        for i in np.flatnonzero(tensor.error_to_bound > 1)
    ]
    return [words for _, words in sorted(ratios, key=lambda entry: -entry[0])[:count]]
