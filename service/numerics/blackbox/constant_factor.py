"""Bugs that show without a model: the candidate is one factor times the derivative."""

import math

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.diagnosis.explanation import BugExplanation, format_factor

_MIN_DIGITS = 5.0
"""By which directions must agree beyond the one that fixes the factor: that they do by chance is as improbable."""
_MAX_WHOLE_FACTOR = 4096


def diagnose_factor(reference: Array, judged: Array, allowed_errors: Array) -> BugExplanation | None:
    """Find the factor, if there is one, of a candidate that fails.

    Parameters
    ----------
    reference, judged, allowed_errors
        Derivatives, the candidate's, and what they may be apart, all (k,).
    """
    if not (np.isfinite(reference).all() and np.isfinite(judged).all() and np.isfinite(allowed_errors).all()):
        return None
    if not judged.any():
        return BugExplanation("detached", "The candidate is 0 along every direction, where the loss does change.", 0.0)
    reference_unit, judged_unit = float(np.abs(reference).max()), float(np.abs(judged).max())
    if reference_unit == 0:
        return None
    # In units of their own, so that no square leaves the range.
    reference, judged, allowed_errors = (
        reference / reference_unit,
        judged / judged_unit,
        allowed_errors / reference_unit,
    )
    common_factor = float(reference @ judged) / float(judged @ judged)
    residuals = np.abs(reference - common_factor * judged)
    factor = common_factor * (reference_unit / judged_unit)
    if (
        factor == 0
        or not math.isfinite(factor)
        or (residuals > allowed_errors * (1 + abs(factor))).any()
        or _count_agreeing_digits(reference, allowed_errors) < _MIN_DIGITS
    ):
        return None
    fit = float((residuals / np.maximum(np.abs(reference), allowed_errors)).max())
    return _make_explanation(
        1 / factor, float((allowed_errors / np.maximum(np.abs(reference), allowed_errors)).min()), fit, len(reference)
    )


def _count_agreeing_digits(reference: Array, allowed_errors: Array) -> float:
    sizes = np.maximum(np.abs(reference), 5e-324)
    digits = np.log10(np.maximum(1.0, sizes / np.maximum(allowed_errors, sizes * 2.0**-53)))
    return float(digits.sum() - digits.max())


def _make_explanation(factor: float, tolerance: float, fit: float, count: int) -> BugExplanation:
    known_factor = _describe_known_factor(factor, tolerance)
    object_text = f"the derivative along every one of the {count} directions"
    if known_factor == "-1":
        return BugExplanation("sign_flipped", f"The candidate is -1 times {object_text}: a sign was lost.", fit)
    return BugExplanation(
        "scaled", f"The candidate is {known_factor or format_factor(factor)} times {object_text}.", fit
    )


def _describe_known_factor(factor: float, tolerance: float) -> str | None:
    """Return a factor as n or 1/n, if it is one within the tolerance."""
    for value, template in ((factor, "{}"), (1 / factor, "1/{}")):
        nearest_integer = round(value) if math.isfinite(value) and abs(value) < 2 * _MAX_WHOLE_FACTOR else 0
        if 0 < abs(nearest_integer) <= _MAX_WHOLE_FACTOR and abs(value / nearest_integer - 1) <= 2 * tolerance:
            text = template.format(abs(nearest_integer)).removesuffix("/1")
            return text if nearest_integer > 0 else f"-{text}"
    return None
