"""Hints for a candidate that fails, and would pass with a lower precision.

A gradient that was computed in float32 is of numbers of float32, also where it was sent as a list of float64. One that
has digits beyond those was not, or not alone: more likely it is not meant to be exact, as the gradient of a solver is
not. That is said with a tolerance, which should be the user's own; the one that would do is told as an order of
magnitude.
"""

import math

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.precision import PRECISIONS, Precision

_STORAGE_PRECISIONS = {"TF32": "FP32"}
"""Arithmetics whose results have more digits than they were computed from."""


def suggest_lower_precision(gradient: Array, errors: Array, reference: Array, lower_precision: Precision) -> str:
    """Return a hint, or nothing.

    Parameters
    ----------
    gradient
        The candidate, float64, (n,).
    errors, reference
        Error along each line, and the derivative, (k,).
    lower_precision
        An arithmetic in which it would not fail.
    """
    name = lower_precision.name
    if PRECISIONS[_STORAGE_PRECISIONS.get(name, name)].is_representable(gradient[np.isfinite(gradient)]).all():
        return f' It would not fail as {name}: if it was computed so, give "candidate_dtype": "{name}".'
    with np.errstate(all="ignore"):
        largest_relative_error = float(
            np.max(errors / np.abs(reference), initial=0.0, where=np.isfinite(reference) & (reference != 0))
        )
    if not 0 < largest_relative_error < 1:
        return ""
    suggested_tolerance = 10.0 ** math.ceil(math.log10(largest_relative_error))
    return (
        f" It is off by {largest_relative_error:.1e} of the derivative at most: if it is not meant to be exact, as "
        f'that of a solver is not, say to what it is, as in "tolerance": {{"rtol": {suggested_tolerance:g}}}.'
    )
