"""Gradients that were clipped, each element by value or all together by norm."""

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.diagnosis.bug import GradientBug, register_gradient_bug
from service.numerics.diagnosis.bugs.scaling import compute_factor_tolerance, fit_scale_factor
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.diagnosis.matching import BugHypothesis

_ROUND_DIGITS = (1, 2, 2.5, 3, 4, 5, 10)
"""Digits of the norms that people write down."""
_CLIP_NORM_EPSILON = 1e-6
"""Number that PyTorch adds to a norm before it divides by the norm."""
_NORM_TOLERANCES = (1e-9, 2e-3)
"""Least tolerance, for the rounding of a norm, and most, since a norm is known better than an element."""
_NEGLIGIBLE_FRACTION = 1e-10
"""Part of the largest gradient below which a gradient may be rounding, whose factor says nothing."""


@register_gradient_bug
class ClippedGradient(GradientBug):
    """Large elements clipped to a value, or tensors scaled down to a norm."""

    name: ClassVar[str] = "clipped"
    signature: ClassVar[str] = (
        "c = clip(g, +- max abs(c)); or one factor below 1 for all tensors together, or to a round norm"
    )

    def iterate_hypotheses(self, context: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """Yield the right gradient clipped by value, then by norms; see `GradientBug`."""
        candidate, right = context.candidates[name], context.get_right_gradient(name)
        if candidate.shape != right.shape or not np.isfinite(candidate).all():
            return
        limit = float(np.max(np.abs(candidate), initial=0))
        clipped_gradient = np.clip(right, -limit, limit)
        if (
            limit > _NEGLIGIBLE_FRACTION * np.max(np.abs(right), initial=0)
            and np.count_nonzero(clipped_gradient != right) > 1
        ):
            text = f"{context.describe_gradient(name)} is the reference with every element clipped to ±{limit:.6g}."
            yield BugHypothesis(self.name, clipped_gradient, text, 1, bug_key=limit)
        yield from self._iterate_norm_hypotheses(context, name)

    def _iterate_norm_hypotheses(self, context: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        right = context.get_right_gradient(name)
        factor, residual = fit_scale_factor(context.candidates[name], right)
        if not 0 < factor < 1 - compute_factor_tolerance(context, name, residual):
            return
        if (norm := _compute_joint_candidate_norm(context, name, factor)) is not None:
            text = (
                f"Matches clipping by the joint norm: every candidate is {factor:.6g} times its reference, which "
                f"brings their joint norm to {norm:.6g}."
            )
            yield BugHypothesis(self.name, factor * right, text, 1, bug_key="norm")
        tolerance = float(np.clip(compute_factor_tolerance(context, name, residual), *_NORM_TOLERANCES))
        names_by_owner = {"it": [name], "all gradients": context.judged_names}
        for owner, names in names_by_owner.items():
            norm = factor * (full_norm := _compute_joint_norm(context, names))
            if _is_round_number(norm * (1 + _CLIP_NORM_EPSILON / full_norm), tolerance) or _is_round_number(
                norm, tolerance
            ):
                text = (
                    f"Matches clipping by the norm: {context.describe_gradient(name)} is {factor:.6g} times the "
                    f"reference, which brings the norm of {owner} to {norm:.4g}."
                )
                yield BugHypothesis(self.name, factor * right, text, 1, bug_key=f"norm of {owner}")

    def inject(self, context: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """Yield the right gradient clipped by value and by round norms."""
        right = context.get_right_gradient(name)
        sizes = np.sort(np.abs(right).ravel())
        if sizes.size > 5 and 0 < sizes[-5] < sizes[-4]:
            yield {name: np.clip(right, -sizes[-5], sizes[-5])}
        if right.size > 1 and right.any():
            for names in ([name], context.judged_names):
                norm = _compute_joint_norm(context, names)
                round_norm = 10.0 ** np.floor(np.log10(norm) - 0.1)
                yield {name: right * (round_norm / norm)}
                yield {name: right * (round_norm / (norm + _CLIP_NORM_EPSILON))}


def _compute_joint_candidate_norm(context: DiagnosisContext, name: str, factor: float) -> float | None:
    """Return the joint norm of several candidates that share a factor, or None."""
    norms = {candidate: _compute_joint_norm(context, [candidate]) for candidate in context.candidates}
    significant_candidates = [
        candidate for candidate, norm in norms.items() if norm > _NEGLIGIBLE_FRACTION * max(norms.values())
    ]
    for candidate in significant_candidates:
        other_factor, residual = fit_scale_factor(context.candidates[candidate], context.get_right_gradient(candidate))
        if not (
            np.isfinite(residual)
            and abs(other_factor / factor - 1)
            <= max(compute_factor_tolerance(context, name, residual), _NORM_TOLERANCES[0])
        ):
            return None
    return factor * _compute_joint_norm(context, significant_candidates) if len(significant_candidates) > 1 else None


def _compute_joint_norm(context: DiagnosisContext, names: Iterable[str]) -> float:
    """Compute the joint norm of several right gradients.

    A unit keeps the squares in range.
    """
    sizes = [np.abs(context.get_right_gradient(name)) for name in names]
    unit = max((float(np.max(size, initial=0)) for size in sizes), default=0.0)
    if not 0 < unit < np.inf:
        return unit
    return unit * float(np.sqrt(sum(float(np.square(size / unit).sum()) for size in sizes)))


def _is_round_number(norm: float, tolerance: float) -> bool:
    if not 0 < norm < np.inf:
        return False
    digits = norm / 10.0 ** np.floor(np.log10(norm))
    return any(abs(digits / round_digits - 1) <= tolerance for round_digits in _ROUND_DIGITS)
