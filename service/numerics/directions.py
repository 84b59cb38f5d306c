"""The verdict on a gradient from its inner products with random directions."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from service.numerics import verdict
from service.numerics.gradients.finite_difference import Difference
from service.numerics.outcome import Outcome
from service.numerics.projection import Missed, missed
from service.numerics.reference import Reference
from service.numerics.ties import Standing
from service.numerics.tiles import Array
from service.numerics.verdict import Verdict, Worst

_BEYOND = 10.0
"""How far outside the sides of its kinks a direction leaves open what is right, in spans of them."""


def sides(difference: Difference) -> tuple[Array | None, Array | None, float]:
    """One-sided derivatives of directions at their kinks, (k,) each, and how far beyond them may be right too.

    Along d the two one-sided derivatives take each kink on the side to which d, or -d, leads, and the difference
    itself takes it on the piece that the point counts to. A gradient takes each on the side of its convention,
    whatever d: it lies beside them as the signs of independent numbers fall. So what is within a few times the
    distance that the three have, root mean square over the directions, is not called wrong.

    That piece is no side. relu(x) - relu(-x) = x has the derivative 1 on both sides of 0, where its piece has 0: what
    lies between these is not known to be right.
    """
    if difference.left is None or difference.right is None:
        return None, None, 0.0
    spans = _span(difference.left, difference.right, difference.value)
    spans = spans[np.isfinite(spans)]
    beyond = max(float(spans.max()), _BEYOND * float(np.sqrt(np.square(spans).mean()))) if spans.size else 0.0
    return difference.left, difference.right, beyond


def _span(*numbers: Array) -> Array:
    return np.max(numbers, axis=0) - np.min(numbers, axis=0)


def judge(
    judged: Mapping[str, Array],
    reference: Reference,
    total: int,
    size: float,
    ties: Mapping[str, Standing] | None = None,
) -> Verdict:
    """Judge a gradient along directions.

    Parameters
    ----------
    judged
        Inner products of the gradient with each direction, (k,), by route.
    reference
        Their finite differences.
    total
        Elements of the gradient.
    size
        Its norm, or what is known of it at least.
    ties
        Where its inner products stand with the choices at ties, by route.
    """
    found = verdict.judge(judged, reference, most=len(judged) * reference.value.size, ties=ties)
    each = _by_direction(found.worst)
    worth = missed(_slack(reference), size)
    known = np.isfinite(worth.relative_l2) and any(one.outcome != Outcome.INCONCLUSIVE for one in each)
    return replace(
        found,
        reason=found.reason if found.outcome == Outcome.FAIL else f"{found.reason} {_worth(worth, len(each))}",
        total=total,
        counts=dict.fromkeys(Outcome, 0),
        smallest_detectable_error=worth.relative_l2 if known else np.inf,
        worst=(),
        not_examined=total,
        directions=each,
        missed=worth,
    )


def _by_direction(found: tuple[Worst, ...]) -> tuple[Worst, ...]:
    """The worst route of each direction, in order."""
    worst: dict[tuple[int, ...], Worst] = {}
    for one in found:
        if one.index not in worst or one.outcome > worst[one.index].outcome:
            worst[one.index] = one
    return tuple(worst[index] for index in sorted(worst))


def _slack(reference: Reference) -> Array:
    """By how much a gradient may be off and still pass, (k,): the allowance, what is off unseen, and what a kink spans.

    Where the allowance is automatic it is made of the same bound and rounding, which count once for what may be off
    and once for what is allowed to be.
    """
    slack = reference.allowed + reference.error_bound + reference.rounding
    if reference.left is None or reference.right is None:
        return slack
    return slack + np.where(reference.kinks, _span(reference.left, reference.right, reference.value), 0)


def _worth(worth: Missed, count: int) -> str:
    looked = f"{count} random direction{'s were' if count != 1 else ' was'} looked at, and no element by itself"
    if not np.isfinite(worth.relative_l2):
        return f"{looked}: no error is sure to be found."
    return (
        f"{looked}: an error of {worth.relative_l2:.1e} of the gradient's norm is missed with probability "
        f"{worth.probability:.1g}."
    )
