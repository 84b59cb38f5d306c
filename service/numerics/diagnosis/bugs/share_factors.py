"""One share of a gradient that is a sum along several paths, with a factor.

C = g + (k - 1) s.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.diagnosis.bug import BackwardOverride
from service.numerics.diagnosis.bugs.scaling import describe_factor
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.diagnosis.matching import BugHypothesis

_SHARE_FIT_TOLERANCE = 0.02
"""Ratio of norm(c - h) to norm(c - g) up to which a share is tried."""
_WHOLE_TOLERANCE = 1e-6
_FACTOR_ROUNDINGS = 8


def iterate_share_factors(
    context: DiagnosisContext, name: str, backward_overrides: Sequence[BackwardOverride], resulting_gradients: Array
) -> Iterator[tuple[int, BugHypothesis]]:
    """Yield gradients with a factor on each share that an override takes away.

    Parameters
    ----------
    context
        Context of the diagnosis.
    name
        Name of the candidate.
    backward_overrides
        Wrong backward passes, some of which take one share away.
    resulting_gradients
        Gradients that the overrides leave, shape (overrides, ...).

    Yields
    ------
    tuple
        Number of the override, and the gradient with a factor on its share.
    """
    candidate, right = context.candidates[name], context.get_right_gradient(name)
    cutting_positions = [
        number for number, override in enumerate(backward_overrides) if override.describe_share is not None
    ]
    if not cutting_positions or not np.isfinite(candidate).all():
        return
    tolerance = _FACTOR_ROUNDINGS * context.precisions[name].unit_roundoff
    for number, factor in _fit_shares(candidate - right, right, resulting_gradients, cutting_positions):
        # 0 and 2 are other bugs: a path that was cut, and one that was counted twice.
        if min(abs(factor), abs(factor - 2)) > max(tolerance, _WHOLE_TOLERANCE):
            share = right - resulting_gradients[number]
            yield number, _make_hypothesis(context, name, backward_overrides[number], share, factor, tolerance)


def _fit_shares(
    difference: Array, right: Array, resulting_gradients: Array, cutting_overrides: Sequence[int]
) -> Iterator[tuple[int, float]]:
    """Yield the shares of which c - g may be a multiple, with their factors.

    All of g is no share.
    """
    unit = max(float(np.abs(difference).max()), float(np.abs(right).max()))
    if not 0 < unit < np.inf:
        return
    rows = (right - resulting_gradients[cutting_overrides]).reshape(len(cutting_overrides), -1) / unit
    target = difference.ravel() / unit
    products, sizes, total = rows @ target, np.einsum("ij,ij->i", rows, rows), float(target @ target)
    scaled_right = right.ravel() / unit
    # A factor of all of g is no factor of a share, and other bugs add a constant as well.
    parts = np.square(rows @ scaled_right) < (1 - _WHOLE_TOLERANCE) * sizes * float(scaled_right @ scaled_right)
    parts &= np.ptp(rows, axis=1) > _WHOLE_TOLERANCE * np.abs(rows).max(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        remainders = total - np.square(products) / sizes
        for row in map(int, np.flatnonzero(parts & (remainders <= _SHARE_FIT_TOLERANCE**2 * total))):
            yield cutting_overrides[row], 1 + float(products[row] / sizes[row])


def _make_hypothesis(
    context: DiagnosisContext,
    name: str,
    backward_override: BackwardOverride,
    share: Array,
    factor: float,
    tolerance: float,
) -> BugHypothesis:
    assert backward_override.describe_share is not None
    right, share_name = context.get_right_gradient(name), backward_override.describe_share()
    if abs(factor + 1) <= tolerance:
        action = f"{share_name} came with the opposite sign"
        return BugHypothesis("sign_flipped", right - 2 * share, bug_key=backward_override, possible_action=action)
    action = f"{share_name} was {'minus ' if factor < 0 else ''}{describe_factor(abs(factor))} its right value"
    return BugHypothesis(
        "scaled",
        right + (factor - 1) * share,
        fitted_constants=1,
        bug_key=(backward_override, f"{factor:.5g}"),
        possible_action=action,
    )
