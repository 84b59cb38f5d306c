"""Disagreement among the sources of a gradient and the finite difference.

If they disagree, at least one of them is wrong. That is a bug of this service, and nothing that rests on them is
certain.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.gradients.sources import DIFFERENCE
from service.numerics.verdict import elementwise
from service.numerics.verdict.reference import Reference


@dataclass(frozen=True)
class Partition:
    """A number of elements at which some sources agree, if any do, and others dissent.

    `agreeing` is empty where no two agree.
    """

    element_count: int
    agreeing: tuple[str, ...]
    dissenting: tuple[str, ...]


@dataclass(frozen=True)
class Disagreement:
    """Gradients of one tensor, or of its directions, by several sources.

    Attributes
    ----------
    gradients
        Gradients by the name of their source.
    reference
        The finite difference, in the arithmetic of the sources.
    excused_by_range
        Mask of the elements at which only the range of that arithmetic keeps the sources apart; None for nowhere.
    """

    gradients: Mapping[str, Array]
    reference: Reference
    excused_by_range: Array | None = None

    @cached_attribute
    def _differing_pairs(self) -> dict[tuple[str, str], Array]:
        """Masks of the elements at which two sources differ beyond rounding, by pair.

        At a kink each source may follow a convention of its own. Two finite numbers are not told apart where no
        difference exists: there the digits of the loss may be all rounding, as those of the cosine of 1e20, and then
        the rounding of both has no bound either.
        """
        return {pair: self._find_differing(*pair) for pair in combinations(self.gradients, 2)}

    def _find_differing(self, first: str, second: str) -> Array:
        a, b = self.gradients[first], self.gradients[second]
        with np.errstate(invalid="ignore"):
            is_near = np.abs(a - b) <= 2 * self.reference.rounding
        is_undecidable = self.reference.is_missing & np.isfinite(a) & np.isfinite(b)
        return self._without_excused(~is_near & ~_are_nonfinite_alike(a, b) & ~self.reference.is_kink & ~is_undecidable)

    @cached_attribute
    def failing_masks(self) -> dict[str, Array]:
        """Masks of the elements at which each source fails against the finite difference, excused or not."""
        return {
            source: elementwise.find_failing_elements(gradient, self.reference)
            for source, gradient in self.gradients.items()
        }

    @cached_attribute
    def _off_difference(self) -> dict[str, Array]:
        return {source: self._without_excused(mask) for source, mask in self.failing_masks.items()}

    def _without_excused(self, mask: Array) -> Array:
        return mask if self.excused_by_range is None else mask & ~self.excused_by_range

    @cached_attribute
    def disputed_mask(self) -> Array:
        """Mask of the elements at which the sources and the difference disagree."""
        masks = [*self._off_difference.values(), *self._differing_pairs.values()]
        return np.logical_or.reduce(masks)

    def partition_elements(self, examined: Array | None = None) -> tuple[Partition, ...]:
        """Return who agrees and who dissents, the most elements first; () if all agree.

        Parameters
        ----------
        examined
            Flat indices of the elements that count; all by default.
        """
        disputed = self.disputed_mask if examined is None else self.disputed_mask.ravel()[examined]
        positions = np.flatnonzero(disputed) if examined is None else examined[disputed]
        if not positions.size:
            return ()
        masks = [*self._off_difference.values(), *self._differing_pairs.values()]
        patterns = np.stack([mask.ravel()[positions] for mask in masks])
        distinct, sizes = np.unique(patterns, axis=1, return_counts=True)
        counts: dict[tuple[tuple[str, ...], tuple[str, ...]], int] = {}
        for pattern, size in zip(distinct.T.tolist(), sizes.tolist(), strict=True):
            sides = self._split_sources(pattern)
            counts[sides] = counts.get(sides, 0) + size
        partitions = [Partition(count, *sides) for sides, count in counts.items()]
        return tuple(sorted(partitions, key=self._rank_partition))

    def _split_sources(self, pattern: list[bool]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Split the sources at an element into those that agree and those that dissent.

        Parameters
        ----------
        pattern
            Failures of the sources against the difference, then differences of the pairs of sources.
        """
        sources, pairs = tuple(self.gradients), tuple(self._differing_pairs)
        failing_sources = {
            source for source, is_failing in zip(sources, pattern[: len(sources)], strict=True) if is_failing
        }
        differing_pairs = {
            pair for pair, is_differing in zip(pairs, pattern[len(sources) :], strict=True) if is_differing
        }
        if failing_sources and len(failing_sources) < len(sources):
            agreeing_sources = tuple(source for source in sources if source not in failing_sources)
            return (*agreeing_sources, DIFFERENCE), tuple(source for source in sources if source in failing_sources)
        # Every source fails, or the difference is near all of them and too uncertain to tell which of them is right.
        deciding_sources = (
            (*sources, DIFFERENCE)
            if failing_sources
            else tuple(s for s in sources if any(s in pair for pair in differing_pairs))
        )
        agreeing = _find_largest_agreement(sources, differing_pairs)
        return agreeing, tuple(source for source in deciding_sources if source not in agreeing)

    def _rank_partition(self, partition: Partition) -> tuple[object, ...]:
        """Return the sort key: most elements first, then those with an agreement."""
        names = (*self.gradients, DIFFERENCE)
        count = len(partition.dissenting)
        return (
            -partition.element_count,
            not partition.agreeing,
            count if partition.agreeing else -count,
            tuple(names.index(source) for source in partition.dissenting),
        )


def _find_largest_agreement(sources: tuple[str, ...], differing_pairs: set[tuple[str, str]]) -> tuple[str, ...]:
    """Return the largest group of sources without a differing pair; () if none."""
    for size in range(len(sources), 1, -1):
        for group in combinations(sources, size):
            if differing_pairs.isdisjoint(combinations(group, 2)):
                return group
    return ()


def _are_nonfinite_alike(a: Array, b: Array) -> Array:
    """Return where both are the same infinity, or neither is finite and one is NaN.

    The order of operations decides between those.
    """
    nan = np.isnan(a) | np.isnan(b)
    finite = np.isfinite(a) | np.isfinite(b)
    return ~finite & (nan | (a == b))
