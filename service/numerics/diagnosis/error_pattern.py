"""The pattern of the wrong elements of a gradient, in words that are exactly true.

A pattern says where the wrong elements are, and what they have in common: "one element, sign flipped: w1[1][1]",
"exactly rows 0 to 15, doubled". It needs no catalogue of bugs. A place is stated only where it holds all wrong elements
and no right one; a relation only where it holds at every wrong element.
"""

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.diagnosis.error_locations import find_exact_pattern

_MAX_NAMED_ELEMENTS = 4
"""Elements that are named one by one; of more, their number says as much."""
_MIN_FITTED_ELEMENTS = 3
"""Wrong elements that a fitted number needs: one always fits, and two fit by chance too often."""
_MIN_SIGNIFICANCE = 100.0
"""Size of a gradient, over its allowed error, from which its sign and its size mean something."""
_MAX_FACTOR_DENOMINATOR = 12
"""Denominators of the factors that are written as a fraction: averages over a few elements, halves and thirds."""
_MAX_FITTED_FACTOR = 1e100
"""Size of the factors that the words name: products with larger ones may overflow."""
_MAX_WHOLE_FACTOR = 1e6
"""Size of the factors that the words show as whole numbers or fractions."""
_MAX_FRACTION_UNCERTAINTY = 1e-5
"""Largest uncertainty of a factor that is written as a fraction: beyond it, many fractions fit."""


def describe_error_pattern(
    name: str, judged: Array, reference: Array, allowed_error: Array, wrong: Array, decided: Array | None = None
) -> str:
    """Describe which elements of a gradient are wrong, and what they have in common.

    Parameters
    ----------
    name
        Name of the tensor, as a report writes it.
    judged, reference, allowed_error
        The gradient, the right one, and how far the judged one may be from it, arrays of one shape.
    wrong
        Mask of the elements that fail, at least one, of that shape.
    decided
        Mask of the elements that pass or fail; all by default. No place is exact if some are undecided.
    """
    with np.errstate(all="ignore"):
        relation = _describe_relation(judged[wrong], reference[wrong], allowed_error[wrong])
    place, elements = _describe_place(name, wrong, decided)
    return place + (f", {relation}" if relation else "") + (f": {elements}" if elements else "")


def _describe_place(name: str, wrong: Array, decided: Array | None) -> tuple[str, str]:
    """Return the words for a set of elements, and the elements one by one where they are few and follow no rule."""
    count, total = int(np.count_nonzero(wrong)), wrong.size if decided is None else int(np.count_nonzero(decided))
    if count == wrong.size:
        return ("all elements" if count > 1 else "its one element"), ""
    if count == 1:
        return "one element", _list_elements(name, wrong)
    if count == total:
        return f"all {count} elements that could be judged", ""
    if wrong.size - count == 1:
        return f"all elements but {_list_elements(name, ~wrong)}", ""
    if total == wrong.size and (pattern := find_exact_pattern(wrong)) is not None:
        return f"exactly {pattern}", ""
    if count <= _MAX_NAMED_ELEMENTS:
        return f"{count} elements", _list_elements(name, wrong)
    return f"{count} of {total} elements", ""


def _list_elements(name: str, wrong: Array) -> str:
    return ", ".join(name + "".join(f"[{i}]" for i in index) for index in np.argwhere(wrong))


def _describe_relation(judged: Array, reference: Array, allowed_error: Array) -> str | None:
    """Return what all wrong elements have in common; None where nothing is."""
    if np.isnan(judged).all():
        return "NaN"
    if np.isinf(judged).all():
        return "infinite"
    if not np.isfinite(judged).any():
        return "not finite"
    if not all(np.isfinite(array).all() for array in (judged, reference, allowed_error)):
        return None
    if not judged.any():
        return "zero"
    for relation in (_describe_known_factor, _describe_fitted_factor, _describe_offset):
        if (words := relation(judged, reference, allowed_error)) is not None:
            return words
    return None


def _describe_known_factor(judged: Array, reference: Array, allowed_error: Array) -> str | None:
    for factor, words in ((-1.0, "sign flipped"), (2.0, "doubled"), (0.5, "halved")):
        if _count_significant(reference, allowed_error) and _is_multiple(judged, reference, allowed_error, factor):
            return words
    return None


def _describe_fitted_factor(judged: Array, reference: Array, allowed_error: Array) -> str | None:
    """Return the factor that all elements are off by, if there is one: fitted at the element that tells most of it."""
    if _count_significant(reference, allowed_error) < _MIN_FITTED_ELEMENTS:
        return None
    best = int(np.argmax(np.abs(reference) / np.maximum(allowed_error, np.finfo(np.float64).tiny)))
    factor = float(judged[best] / reference[best])
    if not abs(factor) < _MAX_FITTED_FACTOR:
        return None
    if not _is_multiple(judged, reference, allowed_error + np.abs(factor) * allowed_error, factor):
        return None
    uncertainty = float(allowed_error[best] / abs(reference[best])) * (1 + abs(factor))
    return f"times {_format_factor(factor, uncertainty)}"


def _count_significant(reference: Array, allowed_error: Array) -> int:
    """Return how many elements are large enough for a factor to be seen in them."""
    return int(np.count_nonzero(np.abs(reference) > _MIN_SIGNIFICANCE * allowed_error))


def _is_multiple(judged: Array, reference: Array, allowed_error: Array, factor: float) -> bool:
    # The reference is known to within the allowed error only, and its multiple to within as many times that.
    return bool((np.abs(judged - factor * reference) <= max(1.0, abs(factor)) * allowed_error).all())


def _format_factor(factor: float, uncertainty: float) -> str:
    """Return a factor as a whole number or a simple fraction where it is one, and else in a few digits."""
    uncertainty = min(max(uncertainty, 1e-12 * abs(factor)), _MAX_FRACTION_UNCERTAINTY)
    denominators = range(1, _MAX_FACTOR_DENOMINATOR + 1) if abs(factor) < _MAX_WHOLE_FACTOR else ()
    for denominator in denominators:
        numerator = round(factor * denominator)
        if numerator not in (0, denominator) and abs(factor - numerator / denominator) <= uncertainty:
            return f"{numerator}" if denominator == 1 else f"{numerator}/{denominator}"
    # Four digits of a factor that is nearly 1 are those of 1.
    excess = factor - 1
    return f"{factor:.4g}" if abs(excess) > 1e-3 else f"(1 {'+' if excess > 0 else '-'} {abs(excess):.2g})"


def _describe_offset(judged: Array, reference: Array, allowed_error: Array) -> str | None:
    """Return the number that was added to every wrong element, if it is one for all of them, which differ."""
    if judged.size < _MIN_FITTED_ELEMENTS or np.ptp(reference) <= _MIN_SIGNIFICANCE * allowed_error.max():
        return None
    offset = float((judged - reference)[np.argmin(allowed_error)])
    if not (np.abs(judged - reference - offset) <= 2 * allowed_error).all():
        return None
    return f"too {'large' if offset > 0 else 'small'} by {abs(offset):.3g} each"
