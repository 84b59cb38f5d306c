"""Gradients that are right but for a factor, or cut off."""

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.diagnosis.bug import GradientBug, SimulatedBug, register_gradient_bug
from service.numerics.diagnosis.bugs.known_factors import (
    KnownFactor,
    describe_factor,
    format_factor,
    iterate_known_factors,
)
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.diagnosis.matching import BugHypothesis


@register_gradient_bug
class FlippedSign(SimulatedBug):
    """The whole gradient has the wrong sign."""

    name: ClassVar[str] = "sign_flipped"
    signature: ClassVar[str] = "c = -g"

    def simulate_gradients(self, scene: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """See `Made`."""
        text = f"{scene.describe_gradient(name)} is the reference with the opposite sign."
        yield BugHypothesis(self.name, -scene.right_gradient(name), text)


def fit_scale_factor(candidate: Array, right: Array) -> tuple[float, float]:
    """Factor k of k g next to c by least squares, and norm(c - k g) / norm(c); (0, infinity) where there is none."""
    if candidate.shape != right.shape or not (candidate.any() and right.any()):
        return 0.0, np.inf
    if not (np.isfinite(candidate).all() and np.isfinite(right).all()):
        return 0.0, np.inf
    c_unit, g_unit = np.abs(candidate).max(), np.abs(right).max()
    c, g = (candidate / c_unit).ravel(), (right / g_unit).ravel()
    factor = float(c @ g) / float(g @ g)
    off = c - factor * g
    return factor * float(c_unit / g_unit), float(np.sqrt(off @ off) / np.sqrt(c @ c))


_FACTOR_ERROR_MULTIPLE = 4.0
"""A known constant is the factor where it is as near as so many of the factor's own error."""
_FACTOR_ROUNDINGS = 8
_MAX_INJECTED_FACTORS = 12
"""Factors that a test sees of all that there are."""
_SAME_FACTOR_TOLERANCE = 1e-12


def compute_factor_tolerance(scene: DiagnosisContext, name: str, residual: float) -> float:
    """What a factor may be off by, relatively, given what of the candidate it leaves over."""
    return max(_FACTOR_ROUNDINGS * scene.precisions[name].unit_roundoff, _FACTOR_ERROR_MULTIPLE * residual)


@register_gradient_bug
class ScaledGradient(GradientBug):
    """The gradient is right but for one factor."""

    name: ClassVar[str] = "scaled"
    signature: ClassVar[str] = (
        "c = k g, or of one share of it, as where what multiplies the gradient at a node is left out, or applied twice"
    )

    def hypotheses(self, scene: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """See `Fault`."""
        right = scene.right_gradient(name)
        factor, off = fit_scale_factor(scene.candidates[name], right)
        if not np.isfinite(off) or factor == 0:
            return
        near = compute_factor_tolerance(scene, name, off)
        sign = "minus " if factor < 0 else ""
        for each, fitting in _group_factors_by_value(iterate_known_factors(scene, name), abs(factor), near).items():
            fact = f"{scene.describe_gradient(name)} is exactly {sign}{describe_factor(each)} the reference:"
            value = float(np.copysign(each, factor))
            tales = [other.explanation for other in fitting if not other.is_vague]
            hint = next(other.explanation for other in fitting) if not tales else ""
            for tale in tales or [None]:
                otherwise = f"one factor is missing or too many; {hint}."
                yield BugHypothesis(
                    self.name,
                    value * right,
                    fact,
                    bug_key=round(value, 12),
                    possible_action=tale,
                    fallback_ending=otherwise,
                )
        if abs(abs(factor) - 1) > near:
            fact = f"{scene.describe_gradient(name)} is {sign}{format_factor(abs(factor))} times the reference, everywhere:"
            otherwise = "one factor is missing or too many, and none that this model suggests."
            yield BugHypothesis(self.name, factor * right, fact, 1, bug_key=f"{factor:.5g}", fallback_ending=otherwise)

    def inject(self, scene: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        telling = {each.value for each in iterate_known_factors(scene, name) if not each.is_vague}
        for value in sorted(telling - {1.0})[:: max(1, len(telling) // _MAX_INJECTED_FACTORS)]:
            yield {name: value * scene.right_gradient(name)}


def _group_factors_by_value(
    factors: Iterable[KnownFactor], factor: float, tolerance: float
) -> dict[float, list[KnownFactor]]:
    """Known factors next to one, by their value; in few digits several are."""
    found: dict[float, list[KnownFactor]] = {}
    for each in factors:
        if abs(factor / each.value - 1) <= tolerance and each.value != 1:
            same = next((value for value in found if abs(value / each.value - 1) < _SAME_FACTOR_TOLERANCE), each.value)
            found.setdefault(same, []).append(each)
    return found
