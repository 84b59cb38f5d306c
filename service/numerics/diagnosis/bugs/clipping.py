"""Gradients that were cut off, each element or all together by their norm."""

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.diagnosis.bug import GradientBug, register_gradient_bug
from service.numerics.diagnosis.bugs.scaling import compute_factor_tolerance, fit_scale_factor
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.diagnosis.matching import BugHypothesis

_ROUND_DIGITS = (1, 2, 2.5, 3, 4, 5, 10)
"""Digits of the numbers that people write down for a norm."""
_CLIP_NORM_EPSILON = 1e-6
"""What PyTorch adds to a norm before it divides by it."""
_NORM_TOLERANCES = (1e-9, 2e-3)
"""At least, for what rounding does to a norm, and at most, since a norm is known better than an element."""
_NEGLIGIBLE_FRACTION = 1e-10
"""Of the largest gradient: what is smaller may be rounding, of which a factor says nothing."""


@register_gradient_bug
class ClippedGradient(GradientBug):
    """Large elements were cut off, or tensors were scaled down to a norm."""

    name: ClassVar[str] = "clipped"
    signature: ClassVar[str] = (
        "c = clip(g, +- max abs(c)); or one factor below 1 for all tensors together, or to a round norm"
    )

    def hypotheses(self, scene: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """See `Fault`."""
        candidate, right = scene.candidates[name], scene.right_gradient(name)
        if candidate.shape != right.shape or not np.isfinite(candidate).all():
            return
        most = float(np.max(np.abs(candidate), initial=0))
        made = np.clip(right, -most, most)
        if most > _NEGLIGIBLE_FRACTION * np.max(np.abs(right), initial=0) and np.count_nonzero(made != right) > 1:
            text = f"{scene.describe_gradient(name)} is the reference with every element cut off at +-{most:.6g}."
            yield BugHypothesis(self.name, made, text, 1, bug_key=most)
        yield from self._hypotheses_by_norm(scene, name)

    def _hypotheses_by_norm(self, scene: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        right = scene.right_gradient(name)
        factor, off = fit_scale_factor(scene.candidates[name], right)
        if not 0 < factor < 1 - compute_factor_tolerance(scene, name, off):
            return
        if (norm := _compute_joint_candidate_norm(scene, name, factor)) is not None:
            text = (
                f"every gradient that was given is {factor:.6g} times its reference, so that together their norm is "
                f"{norm:.6g}, as where they are clipped by their norm."
            )
            yield BugHypothesis(self.name, factor * right, text, 1, bug_key="norm")
        near = float(np.clip(compute_factor_tolerance(scene, name, off), *_NORM_TOLERANCES))
        every = {"it": [name], "all gradients": scene.judged_names}
        for whose, names in every.items():
            norm = factor * (full := _compute_joint_norm(scene, names))
            if _is_round_number(norm * (1 + _CLIP_NORM_EPSILON / full), near) or _is_round_number(norm, near):
                text = (
                    f"{scene.describe_gradient(name)} is {factor:.6g} times its reference, which brings the norm of {whose} to "
                    f"{norm:.4g}, as where it is clipped by the norm."
                )
                yield BugHypothesis(self.name, factor * right, text, 1, bug_key=f"norm of {whose}")

    def inject(self, scene: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        right = scene.right_gradient(name)
        sizes = np.sort(np.abs(right).ravel())
        if sizes.size > 5 and 0 < sizes[-5] < sizes[-4]:
            yield {name: np.clip(right, -sizes[-5], sizes[-5])}
        if right.size > 1 and right.any():
            for names in ([name], scene.judged_names):
                norm = _compute_joint_norm(scene, names)
                below = 10.0 ** np.floor(np.log10(norm) - 0.1)
                yield {name: right * (below / norm)}
                yield {name: right * (below / (norm + _CLIP_NORM_EPSILON))}


def _compute_joint_candidate_norm(scene: DiagnosisContext, name: str, factor: float) -> float | None:
    """Norm of all gradients that were given, where there are several and the factor is that of each."""
    largest = max(_compute_joint_norm(scene, [each]) for each in scene.candidates)
    told = [each for each in scene.candidates if _compute_joint_norm(scene, [each]) > _NEGLIGIBLE_FRACTION * largest]
    for each in told:
        theirs, off = fit_scale_factor(scene.candidates[each], scene.right_gradient(each))
        if not (
            np.isfinite(off)
            and abs(theirs / factor - 1) <= max(compute_factor_tolerance(scene, name, off), _NORM_TOLERANCES[0])
        ):
            return None
    return factor * _compute_joint_norm(scene, told) if len(told) > 1 else None


def _compute_joint_norm(scene: DiagnosisContext, names: Iterable[str]) -> float:
    """Of the right gradients of several names together, squares kept in range."""
    sizes = [np.abs(scene.right_gradient(name)) for name in names]
    unit = max((float(np.max(each, initial=0)) for each in sizes), default=0.0)
    if not 0 < unit < np.inf:
        return unit
    return unit * float(np.sqrt(sum(float(np.square(each / unit).sum()) for each in sizes)))


def _is_round_number(norm: float, tolerance: float) -> bool:
    if not 0 < norm < np.inf:
        return False
    digits = norm / 10.0 ** np.floor(np.log10(norm))
    return any(abs(digits / each - 1) <= tolerance for each in _ROUND_DIGITS)
