"""One share of a gradient that is a sum along several paths, with a factor: c = g + (k - 1) s."""

from collections.abc import Iterator, Sequence

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.diagnosis.bug import BackwardOverride
from service.numerics.diagnosis.bugs.scaling import describe_factor
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.diagnosis.matching import BugHypothesis

_SHARE_FIT_TOLERANCE = 0.02
"""What norm(c - h) may be of norm(c - g) for a look at all."""
_WHOLE_TOLERANCE = 1e-6
_FACTOR_ROUNDINGS = 8


def iterate_share_factors(
    scene: DiagnosisContext, name: str, backward_overrides: Sequence[BackwardOverride], resulting_gradients: Array
) -> Iterator[tuple[int, BugHypothesis]]:
    """What a factor of a share would have made, the share being what an alteration takes away.

    Parameters
    ----------
    scene, name
        Of the candidate.
    alterations
        Wrong backward passes, some of which take one share away.
    made
        Gradients that they leave, (alterations, ...).

    Yields
    ------
    tuple
        The number of the alteration, and what it makes with a factor.
    """
    candidate, right = scene.candidates[name], scene.right_gradient(name)
    cut = [number for number, each in enumerate(backward_overrides) if each.describe_share is not None]
    if not cut or not np.isfinite(candidate).all():
        return
    near = _FACTOR_ROUNDINGS * scene.precisions[name].unit_roundoff
    for number, factor in _fit_shares(candidate - right, right, resulting_gradients, cut):
        # 0 and 2 are other bugs: a path that was cut, and one that was counted twice.
        if min(abs(factor), abs(factor - 2)) > max(near, _WHOLE_TOLERANCE):
            yield (
                number,
                _make_hypothesis(
                    scene, name, backward_overrides[number], right - resulting_gradients[number], factor, near
                ),
            )


def _fit_shares(
    difference: Array, right: Array, resulting_gradients: Array, cutting_overrides: Sequence[int]
) -> Iterator[tuple[int, float]]:
    """Which shares c - g may be a multiple of, and factors of these; what is all of g is no share."""
    unit = max(float(np.abs(difference).max()), float(np.abs(right).max()))
    if not 0 < unit < np.inf:
        return
    rows = (right - resulting_gradients[cutting_overrides]).reshape(len(cutting_overrides), -1) / unit
    seen = difference.ravel() / unit
    along, sizes, total = rows @ seen, np.einsum("ij,ij->i", rows, rows), float(seen @ seen)
    whole = right.ravel() / unit
    # Of what is all of g a factor is one of g; and a constant is added by other mistakes as well.
    parts = np.square(rows @ whole) < (1 - _WHOLE_TOLERANCE) * sizes * float(whole @ whole)
    parts &= np.ptp(rows, axis=1) > _WHOLE_TOLERANCE * np.abs(rows).max(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = total - np.square(along) / sizes
        for at in map(int, np.flatnonzero(parts & (left <= _SHARE_FIT_TOLERANCE**2 * total))):
            yield cutting_overrides[at], 1 + float(along[at] / sizes[at])


def _make_hypothesis(
    scene: DiagnosisContext,
    name: str,
    backward_override: BackwardOverride,
    share: Array,
    factor: float,
    tolerance: float,
) -> BugHypothesis:
    assert backward_override.describe_share is not None
    right, share_of = scene.right_gradient(name), backward_override.describe_share()
    fact = f"{scene.describe_gradient(name)} is"
    if abs(factor + 1) <= tolerance:
        story = f"{share_of} came with the opposite sign"
        return BugHypothesis("sign_flipped", right - 2 * share, fact, bug_key=backward_override, possible_action=story)
    story = f"{share_of} was {'minus ' if factor < 0 else ''}{describe_factor(abs(factor))} what it is"
    return BugHypothesis(
        "scaled",
        right + (factor - 1) * share,
        fact,
        1,
        bug_key=(backward_override, f"{factor:.5g}"),
        possible_action=story,
    )
