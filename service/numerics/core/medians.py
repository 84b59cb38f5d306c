"""Medians of few numbers, for which `numpy.median` takes ten times the time."""

import numpy as np

from service.numerics.core.batching import Array


def compute_medians(values: Array) -> Array:
    """Return the medians along the last axis, which is not empty, as `numpy.median` has them: NaN beside a NaN."""
    ordered = np.sort(values, axis=-1)
    middle, is_odd = divmod(values.shape[-1], 2)
    medians = ordered[..., middle] if is_odd else (ordered[..., middle - 1] + ordered[..., middle]) / 2
    # NaN comes last.
    last = ordered[..., -1]
    return np.where(last != last, np.nan, medians)


def compute_median(values: Array) -> float:
    """Return the median of all numbers; NaN of none."""
    return float(compute_medians(values.ravel())) if values.size else float("nan")
