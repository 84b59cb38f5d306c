"""One share of a gradient that is a sum along several paths, with a factor: c = g + (k - 1) s."""

from collections.abc import Iterator, Sequence

import numpy as np

from service.numerics.faults.fault import Alteration
from service.numerics.faults.hypothesis import Hypothesis
from service.numerics.faults.scale import said
from service.numerics.faults.scene import Scene
from service.numerics.tiles import Array

_NEAR = 0.02
"""What norm(c - h) may be of norm(c - g) for a look at all."""
_WHOLE = 1e-6
_ROUNDINGS = 8


def with_factors(
    scene: Scene, name: str, alterations: Sequence[Alteration], made: Array
) -> Iterator[tuple[int, Hypothesis]]:
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
    candidate, right = scene.candidates[name], scene.right(name)
    cut = [number for number, each in enumerate(alterations) if each.share is not None]
    if not cut or not np.isfinite(candidate).all():
        return
    near = _ROUNDINGS * scene.precisions[name].unit_roundoff
    for number, factor in _fitting(candidate - right, right, made, cut):
        # 0 and 2 are other bugs: a path that was cut, and one that was counted twice.
        if min(abs(factor), abs(factor - 2)) > max(near, _WHOLE):
            yield number, _hypothesis(scene, name, alterations[number], right - made[number], factor, near)


def _fitting(off: Array, right: Array, made: Array, cut: Sequence[int]) -> Iterator[tuple[int, float]]:
    """Which shares c - g may be a multiple of, and factors of these; what is all of g is no share."""
    unit = max(float(np.abs(off).max()), float(np.abs(right).max()))
    if not 0 < unit < np.inf:
        return
    rows = (right - made[cut]).reshape(len(cut), -1) / unit
    seen = off.ravel() / unit
    along, sizes, total = rows @ seen, np.einsum("ij,ij->i", rows, rows), float(seen @ seen)
    whole = right.ravel() / unit
    # Of what is all of g a factor is one of g; and a constant is added by other mistakes as well.
    parts = np.square(rows @ whole) < (1 - _WHOLE) * sizes * float(whole @ whole)
    parts &= np.ptp(rows, axis=1) > _WHOLE * np.abs(rows).max(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = total - np.square(along) / sizes
        for at in map(int, np.flatnonzero(parts & (left <= _NEAR**2 * total))):
            yield cut[at], 1 + float(along[at] / sizes[at])


def _hypothesis(
    scene: Scene, name: str, alteration: Alteration, share: Array, factor: float, near: float
) -> Hypothesis:
    assert alteration.share is not None
    right, share_of = scene.right(name), alteration.share()
    fact = f"{scene.told(name)} is"
    if abs(factor + 1) <= near:
        story = f"{share_of} came with the opposite sign"
        return Hypothesis("sign_flipped", right - 2 * share, fact, key=alteration, story=story)
    story = f"{share_of} was {'minus ' if factor < 0 else ''}{said(abs(factor))} what it is"
    return Hypothesis("scaled", right + (factor - 1) * share, fact, 1, key=(alteration, f"{factor:.5g}"), story=story)
