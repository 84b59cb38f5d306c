"""Comparison of functions of one tensor with references of 50 digits."""

from collections.abc import Callable, Sequence
from typing import Any

import mpmath
import numpy as np

from service.numerics.ops import OP_REGISTRY

ExactFunction = tuple[Callable[[Any], Any], Callable[[Any], Any], Sequence[float]]
"""Value and derivative of a number of mpmath, and the points."""


def assert_values_and_slopes(
    name: str, exact: ExactFunction, value_tolerance: float = 1e-15, slope_tolerance: float = 1e-14, **attributes: Any
) -> None:
    """Compare an op of one tensor with a reference, relative to each number."""
    function, derivative, points = exact
    x = np.array(points)
    op = OP_REGISTRY[name](**attributes)
    output = op.forward(x)
    (slope,) = op.backward(np.ones_like(x), output, x)
    with mpmath.workdps(60):
        numbers = [mpmath.mpf(point) for point in points]
        values = np.array([float(function(number)) for number in numbers])
        slopes = np.array([float(derivative(number)) for number in numbers])
    np.testing.assert_allclose(output, values, rtol=value_tolerance, atol=0)
    assert slope is not None
    np.testing.assert_allclose(slope, slopes, rtol=slope_tolerance, atol=0)
