"""The verdict on a gradient from its inner products with random directions."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from service.numerics.core.batching import Array, Shape
from service.numerics.gradients.finite_difference import Difference
from service.numerics.ties import TieStatus
from service.numerics.verdict import elementwise
from service.numerics.verdict.gradient_verdict import GradientVerdict, assemble_directional_verdict
from service.numerics.verdict.outcome import Cause, Outcome
from service.numerics.verdict.projection import NormDetectionLimit, compute_norm_detection_limit
from service.numerics.verdict.reference import Reference

_KINK_SLACK_SPANS = 10.0
"""Distance from the sides of its kinks, in spans of them, up to which a direction is undecided."""


def find_one_sided_derivatives(difference: Difference) -> tuple[Array | None, Array | None, float]:
    """Return one-sided derivatives of directions at kinks, (k,), and their slack.

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
    kink_slack = (
        max(float(spans.max()), _KINK_SLACK_SPANS * float(np.sqrt(np.square(spans).mean()))) if spans.size else 0.0
    )
    return difference.left_derivative, difference.right_derivative, kink_slack


def _measure_span(*numbers: Array) -> Array:
    return np.max(numbers, axis=0) - np.min(numbers, axis=0)


def judge_directions(
    inner_products: Mapping[str, Array],
    reference: Reference,
    tensor_shape: Shape,
    gradient_norm: float,
    ties: Mapping[str, TieStatus] | None = None,
) -> GradientVerdict:
    """Judge a gradient along directions.

    Parameters
    ----------
    inner_products
        Inner products of the gradient with each direction, (k,), by source.
    reference
        Finite differences along the directions.
    tensor_shape
        Shape of the gradient.
    gradient_norm
        Norm of the gradient, or a lower bound of it.
    ties
        Status of the inner products at ties, by source.
    """
    entries = elementwise.compare_gradients(inner_products, reference, ties=ties, tensor_shape=tensor_shape)
    limit = compute_norm_detection_limit(_compute_passing_errors(reference), gradient_norm)
    is_decided = bool((entries.outcomes != Outcome.INCONCLUSIVE).any())
    verdict = assemble_directional_verdict(entries, limit, limit.relative_l2 if is_decided else np.inf, _explain_cause)
    if verdict.outcome == Outcome.FAIL:
        return verdict
    return replace(verdict, reason=f"{verdict.reason} {describe_detection_limit(limit, reference.value.size)}")


def _explain_cause(cause: Cause, _: Array) -> tuple[str, str]:
    return cause.description.cause, cause.description.directional_remedy or cause.description.remedy


def _compute_passing_errors(reference: Reference) -> Array:
    """Return the largest error that may still pass along each direction, (k,).

    An automatic allowance consists of the same bound and rounding. They count twice: once for the error of the
    difference, and once for the error that the candidate may have.
    """
    slack = reference.allowed_error + reference.error_bound + reference.rounding
    if reference.left_derivative is None or reference.right_derivative is None:
        return slack
    return slack + np.where(
        reference.is_kink, _measure_span(reference.left_derivative, reference.right_derivative, reference.value), 0
    )


def describe_detection_limit(limit: NormDetectionLimit, count: int, *, is_joint: bool = False) -> str:
    """Describe what a comparison along some directions may have missed.

    Parameters
    ----------
    limit
        Probability of a missed error.
    count
        Number of directions.
    is_joint
        True if each direction is one of all tensors together; False by default.
    """
    directions = f"{count} random direction{'s' if count != 1 else ''}{' of all tensors together' if is_joint else ''}"
    comparison_text = f"The check compared {directions}, and no single element"
    if not np.isfinite(limit.relative_l2):
        return f"{comparison_text}: no error is sure to be found."
    return (
        f"{comparison_text}: an error of {limit.relative_l2:.1e} of the gradient's norm is missed with probability "
        f"{limit.probability:.1g}."
    )
