"""Bugs that show without a model: the candidate is one factor times the derivative."""

import math

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.diagnosis import BugExplanation, format_factor

_MIN_DIGITS = 5.0
"""By which directions must agree beyond the one that fixes the factor: that they do by chance is as improbable."""
_MAX_WHOLE_FACTOR = 4096


def diagnose_factor(reference: Array, judged: Array, allowed: Array) -> BugExplanation | None:
    """Find the factor, if there is one, of a candidate that fails.

    Parameters
    ----------
    reference, judged, allowed
        Derivatives, the candidate's, and what they may be apart, all (k,).
    """
    if not (np.isfinite(reference).all() and np.isfinite(judged).all() and np.isfinite(allowed).all()):
        return None
    if not judged.any():
        return BugExplanation("detached", "The candidate is 0 along every direction, where the loss does change.", 0.0)
    largest, most = float(np.abs(reference).max()), float(np.abs(judged).max())
    if largest == 0:
        return None
    # In units of their own, so that no square leaves the range.
    reference, judged, allowed = reference / largest, judged / most, allowed / largest
    shared = float(reference @ judged) / float(judged @ judged)
    off = np.abs(reference - shared * judged)
    factor = shared * (largest / most)
    if (
        factor == 0
        or not math.isfinite(factor)
        or (off > allowed * (1 + abs(factor))).any()
        or _count_agreeing_digits(reference, allowed) < _MIN_DIGITS
    ):
        return None
    fit = float((off / np.maximum(np.abs(reference), allowed)).max())
    return _make_explanation(
        1 / factor, float((allowed / np.maximum(np.abs(reference), allowed)).min()), fit, len(reference)
    )


def _count_agreeing_digits(reference: Array, allowed: Array) -> float:
    sizes = np.maximum(np.abs(reference), 5e-324)
    digits = np.log10(np.maximum(1.0, sizes / np.maximum(allowed, sizes * 2.0**-53)))
    return float(digits.sum() - digits.max())


def _make_explanation(factor: float, tolerance: float, fit: float, count: int) -> BugExplanation:
    known = _describe_known_factor(factor, tolerance)
    along = f"the derivative along every one of the {count} directions"
    if known == "-1":
        return BugExplanation("sign_flipped", f"The candidate is -1 times {along}: a sign was lost.", fit)
    return BugExplanation("scaled", f"The candidate is {known or format_factor(factor)} times {along}.", fit)


def _describe_known_factor(factor: float, tolerance: float) -> str | None:
    """Return a factor as n or 1/n, if it is one within the tolerance."""
    for value, form in ((factor, "{}"), (1 / factor, "1/{}")):
        whole = round(value) if math.isfinite(value) and abs(value) < 2 * _MAX_WHOLE_FACTOR else 0
        if 0 < abs(whole) <= _MAX_WHOLE_FACTOR and abs(value / whole - 1) <= 2 * tolerance:
            text = form.format(abs(whole)).removesuffix("/1")
            return text if whole > 0 else f"-{text}"
    return None
