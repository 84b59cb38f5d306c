"""Differences of functions of a point, one or many, with their noise and staircases.

A scalar loss is one function. An output of a vector-valued function is many, one for each of its elements: each has
noise and a bound of its own, so that small elements do not drown beside large ones.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from service.numerics.blackbox.central_derivatives import DirectionalDerivatives, make_unknown_derivatives
from service.numerics.blackbox.consistent_lines import difference_consistently
from service.numerics.blackbox.incomplete_lines import estimate_partial_noise
from service.numerics.blackbox.kinks import LossShape
from service.numerics.blackbox.layout import BASE_REPEATS, EvaluationLayout
from service.numerics.blackbox.line_derivatives import BLOCK_LINES
from service.numerics.blackbox.noise import LossFormat, LossNoise, find_loss_format
from service.numerics.blackbox.rounding_jitter import has_rounding_jitter
from service.numerics.blackbox.scattered_values import (
    difference_scattered_lines,
    estimate_scattered_noise,
    make_unknown_noise,
    put_functions,
)
from service.numerics.blackbox.stair_noise import estimate_stair_deviation
from service.numerics.blackbox.staircase import has_equal_neighbours, is_staircase
from service.numerics.core.batching import Array
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.verdict.projection import euclidean_norms

DifferenceFunctions = Callable[[EvaluationLayout, str, Array, LossFormat], tuple[LossNoise, DirectionalDerivatives]]

_MAX_POINT_SETS = 128
"""Sets of points with values, beyond which the elements of an output are not differenced by groups: a group takes up to
30 ms, whatever its size."""


@dataclass(frozen=True)
class OutputDerivatives:
    """Derivatives of the elements of an output along the lines of a tensor.

    Attributes
    ----------
    derivatives
        Derivatives of each element, (m, k); unknown for elements without a value at the base.
    noise
        Noise of each element, (m,); NaN and infinite for those.
    """

    derivatives: DirectionalDerivatives
    noise: LossNoise


def difference_functions(
    layout: EvaluationLayout, name: str, losses: Array, loss_format: LossFormat
) -> tuple[LossNoise, DirectionalDerivatives]:
    """Difference functions along the lines of a tensor, and estimate their noise.

    Parameters
    ----------
    losses
        Values at the points, (evaluations,), or those of m functions, (evaluations, m): finite at the base, of sizes
        near 1, and NaN at points without a value, for all functions alike.
    loss_format
        Number format of the values.

    Returns
    -------
    tuple
        The noise, () or (m,), and the derivatives, (k,) or (m, k).
    """
    near = layout.select_near_losses(name, losses)
    tensor_losses = layout.select_tensor_losses(name, losses)
    if losses.ndim > 1:
        tensor_losses = np.moveaxis(tensor_losses, -1, 0)
    stairs = estimate_stair_deviation(layout, name, near, tensor_losses, losses[0], loss_format.unit_roundoff)
    noise = estimate_partial_noise(losses[:BASE_REPEATS], near, loss_format.add_part_deviation(stairs))
    derivatives = difference_consistently(layout, name, tensor_losses, near, losses[0], noise)
    return noise, _mark_functions(layout, name, derivatives, near, tensor_losses, noise, stairs > 0)


def _difference_scattered_functions(
    layout: EvaluationLayout, name: str, losses: Array, loss_format: LossFormat
) -> tuple[LossNoise, DirectionalDerivatives]:
    """Difference functions, (evaluations, m), each of which lacks values at points of its own."""
    near = layout.select_near_losses(name, losses)
    tensor_losses = np.moveaxis(layout.select_tensor_losses(name, losses), -1, 0)
    stairs = estimate_stair_deviation(layout, name, near, tensor_losses, losses[0], loss_format.unit_roundoff)
    noise = estimate_scattered_noise(layout, name, losses, loss_format.add_part_deviation(stairs))
    derivatives = difference_scattered_lines(layout, name, tensor_losses, losses[0], noise)
    return noise, _mark_functions(layout, name, derivatives, near, tensor_losses, noise, stairs > 0)


def _mark_functions(
    layout: EvaluationLayout,
    name: str,
    derivatives: DirectionalDerivatives,
    near_losses: Array,
    tensor_losses: Array,
    noise: LossNoise,
    is_rounded: Array,
) -> DirectionalDerivatives:
    """Mark the lines of functions that are staircases, and of those that jitter.

    The parts of some functions are rounded, which tells nothing of terms that cancel.
    """
    has_stairs = _find_staircases(layout, name, near_losses, tensor_losses, noise) | is_rounded
    has_jitter = has_rounding_jitter(layout, name, near_losses, tensor_losses, noise) & ~is_rounded
    return replace(
        derivatives,
        loss_shape=np.where(has_stairs[..., None], int(LossShape.STAIRS), derivatives.loss_shape),
        has_jitter=np.broadcast_to(has_jitter[..., None], derivatives.value.shape),
    )


def _find_staircases(
    layout: EvaluationLayout, name: str, near_losses: Array, tensor_losses: Array, noise: LossNoise
) -> Array:
    """Return whether each function is a staircase where the tensor moves, () or (m,)."""
    if not has_equal_neighbours(near_losses):
        return np.zeros(near_losses.shape[2:], np.bool_)
    point, lines = layout.points[name], layout.lines[name]
    changes = np.abs(tensor_losses[..., 0, 0] - tensor_losses[..., 0, 1]) / (2 * point.schedule.steps[0])
    slope = euclidean_norms(np.where(np.isfinite(changes), changes, 0.0))
    slope = slope / (np.sqrt(len(lines)) if lines.moved_elements is None else 1.0)
    exponents = [*point.schedule.near_exponents, point.schedule.near_exponents[0]]
    spacings = 2.0 ** -np.array(exponents, np.float64)[: len(near_losses)]
    return is_staircase(near_losses, spacings, slope, noise.format_roundoff)


def difference_output(layout: EvaluationLayout, name: str, values: Array) -> OutputDerivatives:
    """Difference every element of an output along the lines of a tensor.

    Parameters
    ----------
    values
        The elements at the points, (evaluations, m); a number that is not finite is no value.
    """
    with np.errstate(all="ignore"):
        is_finite = np.isfinite(values)
        _, exponents = np.frexp(np.abs(values).max(axis=0, initial=0.0, where=is_finite))
        scaled = np.where(is_finite, np.ldexp(values, -exponents), np.nan)
        loss_format = find_loss_format(scaled, exponents)
        line_count, element_count = len(layout.lines[name]), values.shape[1]
        derivatives = make_unknown_derivatives((element_count, line_count))
        noise = make_unknown_noise(element_count, loss_format.unit_roundoff)
        for elements, difference in _group_elements(layout, name, is_finite):
            part_format = loss_format.select_functions(elements)
            of_part, part = difference(layout, name, scaled[:, elements], part_format)
            put_functions(noise, elements, of_part.scale_by_exponent(exponents[elements]))
            put_functions(derivatives, elements, scale_derivatives(part, exponents[elements, None]))
    return OutputDerivatives(derivatives, noise)


def scale_derivatives(derivatives: DirectionalDerivatives, exponent: Array | int) -> DirectionalDerivatives:
    """Return the derivatives of losses 2^exponent times as large."""
    names = ("value", "bound", "deviation", "curvature", "least_curvature_effect", "base_magnitude")
    names += ("loss_magnitude", "resolution")
    return replace(derivatives, **{name: np.ldexp(getattr(derivatives, name), exponent) for name in names})


def _group_elements(
    layout: EvaluationLayout, name: str, is_finite: Array
) -> Iterator[tuple[Array, DifferenceFunctions]]:
    """Yield the elements with values at the base, and the function that differences them.

    They come in blocks with values at the same points of the tensor, or all at once if there are too many such blocks.
    """
    based = np.flatnonzero(is_finite[:BASE_REPEATS].all(axis=0))
    if not len(based):
        return
    concerned = [
        select(name, is_finite[:, based]).reshape(-1, len(based))
        for select in (layout.select_near_losses, layout.select_tensor_losses)
    ]
    sets, group = np.unique(np.packbits(np.concatenate(concerned), axis=0), axis=1, return_inverse=True)
    if sets.shape[1] > _MAX_POINT_SETS:
        yield based, _difference_scattered_functions
        return
    size = max(1, BLOCK_LINES // len(layout.lines[name]))
    for number in iterate_interruptibly(range(sets.shape[1])):
        elements = based[group.ravel() == number]
        for first in iterate_interruptibly(range(0, len(elements), size)):
            yield elements[first : first + size], difference_functions
