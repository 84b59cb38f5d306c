"""From the derivatives of the elements of an output to those of its product with a cotangent.

The product c . y with a cotangent c is a scalar loss, and its derivative along a line is sum_e c_e D_e. There are two
ways to bound it, and for each line the smaller bound counts:

- to difference the sum: its noise is measured as it is, with whatever the elements share, and independent errors of
  many elements cancel;
- to add the differences of the elements, |sum_e c_e D_e - D| <= sum_e |c_e| bound_e: each has the steps that suit it,
  where none suits their sum.

Mostly the first is smaller, by 1 to 6 times for elements alike; the second may be smaller by 10 times.

The elements may be numbers of float16 or bfloat16, which their sum is not. Near points then have the same sum, which
shows no noise. With u the unit roundoff of the format, independent roundings of the elements leave

    sqrt(sum_e (c_e u |y_e|)^2) 2 / sqrt(12)                                                                         (1)

in it, and its noise is no less. Near points are far enough apart to show the roundings of float32.

The allowance of a candidate follows from the sizes of the elements in both cases: a backward pass works with
c_e times the parts of y_e, and those may cancel in the sum.
"""

from dataclasses import fields
from typing import Any, cast

import numpy as np

from service.numerics.blackbox.central_derivatives import DirectionalDerivatives
from service.numerics.blackbox.kinks import LossShape
from service.numerics.blackbox.noise import ROUNDING_DEVIATION, find_loss_format
from service.numerics.core.batching import Array
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.projection import euclidean_norm


def contract_derivatives(derivatives: DirectionalDerivatives, cotangent: Array) -> DirectionalDerivatives:
    """Return the derivatives of c . y along the lines, (k,), by those of the elements.

    Parameters
    ----------
    derivatives
        Derivatives of the elements, (m, k).
    cotangent
        c, float64, (m,). An element with c = 0 has no part in it.
    """
    active = np.flatnonzero(cotangent)
    weights, sizes = cotangent[active], np.abs(cotangent[active])
    parts = {field.name: getattr(derivatives, field.name)[active] for field in fields(DirectionalDerivatives)}
    with np.errstate(over="ignore", invalid="ignore"):
        sums = {name: sizes @ parts[name] for name in ("bound", "deviation", "curvature")}
        # What an element is at the base is no part of the derivative along a line that does not change it.
        sums |= {
            name: sizes @ np.where(parts["is_constant"], 0.0, parts[name])
            for name in ("base_magnitude", "loss_magnitude", "resolution")
        }
        value = weights @ parts["value"]
    return DirectionalDerivatives(
        value=value,
        **sums,
        # Curvatures of several elements may cancel, and so may their roundings.
        least_curvature_effect=np.zeros(len(sums["bound"])),
        is_constant=parts["is_constant"].all(axis=0),
        has_jitter=np.zeros(len(sums["bound"]), np.bool_),
        loss_shape=_combine_shapes(parts["loss_shape"], parts["is_constant"]),
        may_have_kink=parts["may_have_kink"].any(axis=0),
    )


def _combine_shapes(shapes: Array, is_constant: Array) -> Array:
    """Return the roughest shape of each line, (k,); a staircase where all elements that change are staircases."""
    is_stair = (shapes == LossShape.STAIRS) | is_constant
    roughest = np.where(shapes == LossShape.STAIRS, LossShape.SMOOTH, shapes).max(axis=0, initial=LossShape.SMOOTH)
    all_stairs = is_stair.all(axis=0) & (shapes == LossShape.STAIRS).any(axis=0)
    combined: Array = np.where(all_stairs, int(LossShape.STAIRS), roughest)
    return combined


def estimate_part_deviation(values: Array, cotangent: Array) -> float:
    """Return the deviation (1) that the rounding of the elements leaves in c . y; 0 if they are no narrow numbers.

    Parameters
    ----------
    values
        The elements at the points, (evaluations, m); a number that is not finite is no value.
    cotangent
        c, float64, (m,).
    """
    # The first point alone tells of most functions.
    if _is_resolved(values[:1]) or _is_resolved(values):
        return 0.0
    roundoff = find_loss_format(_scale_to_one(values)).unit_roundoff
    sizes = np.abs(values).max(axis=0, initial=0.0, where=np.isfinite(values))
    return ROUNDING_DEVIATION * roundoff * euclidean_norm(cotangent * sizes)


def _is_resolved(values: Array) -> bool:
    """Tell whether near points show the rounding of values: some are no numbers of a narrow format."""
    return find_loss_format(_scale_to_one(values)).unit_roundoff <= PRECISIONS["FP32"].unit_roundoff


def _scale_to_one(values: Array) -> Array:
    """Return values times powers of two, near 1 column by column, so that a format has no limits; NaN if not finite."""
    is_finite = np.isfinite(values)
    _, exponents = np.frexp(np.abs(values).max(axis=0, initial=0.0, where=is_finite))
    return np.where(is_finite, np.ldexp(values, -exponents), np.nan)


def choose_tighter(of_sum: DirectionalDerivatives, of_elements: DirectionalDerivatives) -> DirectionalDerivatives:
    """Return for each line the derivative with the smaller bound, and the sizes of the elements.

    Parameters
    ----------
    of_sum, of_elements
        Derivatives of c . y by differences of the sum and by those of the elements, (k,).
    """
    is_better: Array = ~(of_sum.bound <= of_elements.bound)

    def choose(name: str) -> Any:
        return cast("Any", np.where(is_better, getattr(of_elements, name), getattr(of_sum, name)))

    return DirectionalDerivatives(
        value=choose("value"),
        bound=choose("bound"),
        deviation=choose("deviation"),
        curvature=of_elements.curvature,
        least_curvature_effect=of_sum.least_curvature_effect,
        base_magnitude=of_elements.base_magnitude,
        loss_magnitude=of_elements.loss_magnitude,
        resolution=of_elements.resolution,
        is_constant=of_elements.is_constant,
        has_jitter=of_sum.has_jitter,
        loss_shape=choose("loss_shape"),
        may_have_kink=choose("may_have_kink"),
    )
