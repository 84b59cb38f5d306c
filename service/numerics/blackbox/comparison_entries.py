"""Comparisons of several rows along one axis of entries."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import TypeVar

import numpy as np

from service.numerics.blackbox.allowance import CandidateAllowance
from service.numerics.blackbox.central_derivatives import DirectionalDerivatives
from service.numerics.blackbox.line_comparison import LineComparison
from service.numerics.core.batching import Array

_Arrays = TypeVar("_Arrays", DirectionalDerivatives, CandidateAllowance)


def flatten_comparison(comparison: LineComparison, *, transpose: bool = False) -> LineComparison:
    """Return a comparison of m rows along k lines, (m, k), as one of entries, (m k,).

    Parameters
    ----------
    transpose
        True for entries by line, then row; False, the default, by row, then line.
    """
    shape = comparison.candidate_derivatives.shape

    def flatten(arrays: Sequence[Array]) -> Array:
        whole = np.broadcast_to(arrays[0], shape)
        return (whole.T if transpose else whole).ravel()

    return _combine([comparison], flatten)


def join_comparisons(comparisons: Sequence[LineComparison]) -> LineComparison:
    """Return comparisons of entries as one, in their order."""
    return _combine(comparisons, np.concatenate)


def _combine(comparisons: Sequence[LineComparison], combine: Callable[[Sequence[Array]], Array]) -> LineComparison:
    return replace(
        comparisons[0],
        reference=_combine_fields([comparison.reference for comparison in comparisons], combine),
        allowance=_combine_fields([comparison.allowance for comparison in comparisons], combine),
        is_uncertain=combine([comparison.is_uncertain for comparison in comparisons]),
        is_negligible=combine([comparison.is_negligible for comparison in comparisons]),
        is_zero=combine([comparison.is_zero for comparison in comparisons]),
    )


def _combine_fields(parts: Sequence[_Arrays], combine: Callable[[Sequence[Array]], Array]) -> _Arrays:
    return replace(
        parts[0], **{field.name: combine([getattr(part, field.name) for part in parts]) for field in fields(parts[0])}
    )
