"""Gradients that are right except for one factor."""

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.diagnosis.bug import GradientBug, SimulatedBug, register_gradient_bug
from service.numerics.diagnosis.bugs.known_factors import KnownFactor, describe_factor, iterate_known_factors
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.diagnosis.explanation import format_factor
from service.numerics.diagnosis.matching import BugHypothesis


@register_gradient_bug
class FlippedSign(SimulatedBug):
    """A whole gradient with the wrong sign."""

    name: ClassVar[str] = "sign_flipped"
    signature: ClassVar[str] = "c = -g"

    def simulate_gradients(self, context: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """Yield minus the right gradient; see `SimulatedBug`."""
        text = f"{context.describe_gradient(name)} has the wrong sign: it is minus the reference."
        yield BugHypothesis(self.name, -context.get_right_gradient(name), text)


def fit_scale_factor(candidate: Array, right: Array) -> tuple[float, float]:
    """Fit the factor k of c = k g by least squares.

    Return k and norm(c - k g) / norm(c), or (0, infinity) if there is no factor.
    """
    if candidate.shape != right.shape or not (candidate.any() and right.any()):
        return 0.0, np.inf
    if not (np.isfinite(candidate).all() and np.isfinite(right).all()):
        return 0.0, np.inf
    c_unit, g_unit = np.abs(candidate).max(), np.abs(right).max()
    c, g = (candidate / c_unit).ravel(), (right / g_unit).ravel()
    factor = float(c @ g) / float(g @ g)
    residual = c - factor * g
    return factor * float(c_unit / g_unit), float(np.sqrt(residual @ residual) / np.sqrt(c @ c))


_FACTOR_ERROR_MULTIPLE = 4.0
"""Errors of the fitted factor within which a known constant is that factor."""
_FACTOR_ROUNDINGS = 8
_MAX_INJECTED_FACTORS = 12
"""Known factors that are injected at most."""
_SAME_FACTOR_TOLERANCE = 1e-12


def compute_factor_tolerance(context: DiagnosisContext, name: str, residual: float) -> float:
    """Return the relative tolerance of a factor, given the residual of its fit."""
    return max(_FACTOR_ROUNDINGS * context.precisions[name].unit_roundoff, _FACTOR_ERROR_MULTIPLE * residual)


@register_gradient_bug
class ScaledGradient(GradientBug):
    """A gradient that is right except for one factor."""

    name: ClassVar[str] = "scaled"
    signature: ClassVar[str] = (
        "c = k g, or one share of g times k, such as a multiplier of a node that is left out or applied twice"
    )

    def iterate_hypotheses(self, context: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """Yield the known factors near the fitted one, then the fitted one."""
        right = context.get_right_gradient(name)
        factor, residual = fit_scale_factor(context.candidates[name], right)
        if not np.isfinite(residual) or factor == 0:
            return
        tolerance = compute_factor_tolerance(context, name, residual)
        sign = "minus " if factor < 0 else ""
        known_factors = iterate_known_factors(context, name)
        for size, fitting_factors in _group_factors_by_value(known_factors, abs(factor), tolerance).items():
            fact = f"{context.describe_gradient(name)} is exactly {sign}{describe_factor(size)} the reference"
            value = float(np.copysign(size, factor))
            actions = [known.explanation for known in fitting_factors if not known.is_vague]
            hint = fitting_factors[0].explanation if not actions else ""
            for action in actions or [None]:
                yield BugHypothesis(
                    self.name,
                    value * right,
                    fact,
                    bug_key=round(value, 12),
                    possible_action=action,
                    fallback_ending=f"one factor is missing or extra ({hint}).",
                )
        if abs(abs(factor) - 1) > tolerance:
            number = f"{sign}{format_factor(abs(factor))}"
            fact = f"{context.describe_gradient(name)} is {number} times the reference everywhere"
            ending = "one factor is missing or extra, and this model suggests none of that value."
            yield BugHypothesis(self.name, factor * right, fact, 1, bug_key=f"{factor:.5g}", fallback_ending=ending)

    def inject(self, context: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """Yield the right gradient times known factors; see `GradientBug`."""
        telling_values = {known.value for known in iterate_known_factors(context, name) if not known.is_vague}
        for value in sorted(telling_values - {1.0})[:: max(1, len(telling_values) // _MAX_INJECTED_FACTORS)]:
            yield {name: value * context.get_right_gradient(name)}


def _group_factors_by_value(
    factors: Iterable[KnownFactor], factor: float, tolerance: float
) -> dict[float, list[KnownFactor]]:
    """Group the known factors near a factor by their value.

    In few digits several are near.
    """
    groups: dict[float, list[KnownFactor]] = {}
    for known in factors:
        if abs(factor / known.value - 1) <= tolerance and known.value != 1:
            group_value = next(
                (group for group in groups if abs(group / known.value - 1) < _SAME_FACTOR_TOLERANCE), known.value
            )
            groups.setdefault(group_value, []).append(known)
    return groups
