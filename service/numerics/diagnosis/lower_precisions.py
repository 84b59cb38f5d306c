"""Precisions below that of a candidate, in which it may have been computed all the same."""

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.precision import PRECISIONS, Precision
from service.numerics.diagnosis.context import DiagnosisContext

_MIN_WRONG_PART = 0.5
"""Part of the elements that are wrong below which errors are no rounding: that is everywhere."""
_MIN_WRONG_ELEMENTS = 8


def find_covering_precision(context: DiagnosisContext, name: str, wrong: Array) -> Precision | None:
    """Return the finest lower precision in which a correct computation may be as far off everywhere.

    This proves no cause. It tells an unknown error of the size of roundings from a larger one.

    Parameters
    ----------
    context
        The model and the candidates.
    name
        Name of a candidate of the right shape.
    wrong
        Mask of its wrong elements.

    Returns
    -------
    None if there is none, or if few elements are wrong.
    """
    if np.count_nonzero(wrong) < max(_MIN_WRONG_ELEMENTS, _MIN_WRONG_PART * wrong.size):
        return None
    errors = np.abs(context.candidates[name] - context.get_right_gradient(name))
    covering = None
    for lower in list_lower_precisions(context.precisions[name]):
        if not (errors <= context.estimate_rounding_allowance(name, lower)).all():
            break
        covering = lower
    return covering


def list_lower_precisions(precision: Precision) -> list[Precision]:
    """List the lower precisions.

    Fewer digits first, and of two with equal digits the one with the shorter range.
    """
    lower = (
        precision_below
        for precision_below in PRECISIONS.values()
        # No program computes in 8 bits.
        if precision_below.significand_bits < precision.significand_bits and not precision_below.is_scaled
    )
    return sorted(lower, key=lambda precision_below: (precision_below.significand_bits, -precision_below.min_exponent))
