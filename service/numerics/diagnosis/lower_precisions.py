"""Precisions below that of a candidate, in which it may have been computed all the same."""

from service.numerics.core.precision import PRECISIONS, Precision


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
