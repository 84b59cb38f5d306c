"""The verdict on a gradient from its inner products with random directions."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.gradients.finite_difference import Difference
from service.numerics.ties import TieStatus
from service.numerics.verdict import elementwise
from service.numerics.verdict.elementwise import ElementResult, GradientVerdict
from service.numerics.verdict.outcome import Outcome
from service.numerics.verdict.projection import NormDetectionLimit, compute_norm_detection_limit
from service.numerics.verdict.reference import Reference

_KINK_SLACK_SPANS = 10.0
"""How far outside the sides of its kinks a direction leaves open what is right, in spans of them."""


def find_one_sided_derivatives(difference: Difference) -> tuple[Array | None, Array | None, float]:
    """One-sided derivatives of directions at their kinks, (k,) each, and how far beyond them may be right too.

    Along d the two one-sided derivatives take each kink on the side to which d, or -d, leads, and the difference
    itself takes it on the piece that the point counts to. A gradient takes each on the side of its convention,
    whatever d: it lies beside them as the signs of independent numbers fall. So what is within a few times the
    distance that the three have, root mean square over the directions, is not called wrong.

    That piece is no side. relu(x) - relu(-x) = x has the derivative 1 on both sides of 0, where its piece has 0: what
    lies between these is not known to be right.
    """
    if difference.left_derivative is None or difference.right_derivative is None:
        return None, None, 0.0
    spans = _measure_span(difference.left_derivative, difference.right_derivative, difference.value)
    spans = spans[np.isfinite(spans)]
    beyond = max(float(spans.max()), _KINK_SLACK_SPANS * float(np.sqrt(np.square(spans).mean()))) if spans.size else 0.0
    return difference.left_derivative, difference.right_derivative, beyond


def _measure_span(*numbers: Array) -> Array:
    return np.max(numbers, axis=0) - np.min(numbers, axis=0)


def judge_directions(
    inner_products: Mapping[str, Array],
    reference: Reference,
    element_count: int,
    gradient_norm: float,
    ties: Mapping[str, TieStatus] | None = None,
) -> GradientVerdict:
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
    found = elementwise.judge_gradient(
        inner_products, reference, max_worst=len(inner_products) * reference.value.size, ties=ties
    )
    each = _select_worst_by_direction(found.worst_elements)
    worth = compute_norm_detection_limit(_compute_passing_errors(reference), gradient_norm)
    known = np.isfinite(worth.relative_l2) and any(one.outcome != Outcome.INCONCLUSIVE for one in each)
    return replace(
        found,
        reason=found.reason
        if found.outcome == Outcome.FAIL
        else f"{found.reason} {_describe_detection_limit(worth, len(each))}",
        element_count=element_count,
        outcome_counts=dict.fromkeys(Outcome, 0),
        smallest_detectable_error=worth.relative_l2 if known else np.inf,
        worst_elements=(),
        unexamined_count=element_count,
        direction_results=each,
        detection_limit=worth,
    )


def _select_worst_by_direction(results: tuple[ElementResult, ...]) -> tuple[ElementResult, ...]:
    """The worst route of each direction, in order."""
    worst: dict[tuple[int, ...], ElementResult] = {}
    for one in results:
        if one.index not in worst or one.outcome > worst[one.index].outcome:
            worst[one.index] = one
    return tuple(worst[index] for index in sorted(worst))


def _compute_passing_errors(reference: Reference) -> Array:
    """By how much a gradient may be off and still pass, (k,): the allowance, what is off unseen, and what a kink spans.

    Where the allowance is automatic it is made of the same bound and rounding, which count once for what may be off
    and once for what is allowed to be.
    """
    slack = reference.allowed_error + reference.error_bound + reference.rounding
    if reference.left_derivative is None or reference.right_derivative is None:
        return slack
    return slack + np.where(
        reference.is_kink, _measure_span(reference.left_derivative, reference.right_derivative, reference.value), 0
    )


def _describe_detection_limit(limit: NormDetectionLimit, count: int) -> str:
    looked = f"{count} random direction{'s were' if count != 1 else ' was'} looked at, and no element by itself"
    if not np.isfinite(limit.relative_l2):
        return f"{looked}: no error is sure to be found."
    return (
        f"{looked}: an error of {limit.relative_l2:.1e} of the gradient's norm is missed with probability "
        f"{limit.probability:.1g}."
    )
