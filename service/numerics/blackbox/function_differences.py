"""Differences of functions of a point, one or many, with their noise and staircases.

A scalar loss is one function. An output of a vector-valued function is many, one for each of its elements: each has
noise and a bound of its own, so that small elements do not drown beside large ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np

from service.numerics.blackbox.central_derivatives import DirectionalDerivatives, make_unknown_derivatives
from service.numerics.blackbox.incomplete_lines import estimate_partial_noise
from service.numerics.blackbox.kinks import LossShape
from service.numerics.blackbox.layout import BASE_REPEATS, EvaluationLayout
from service.numerics.blackbox.line_derivatives import difference_lines
from service.numerics.blackbox.noise import LossFormat, LossNoise, find_loss_format
from service.numerics.blackbox.staircase import is_staircase
from service.numerics.core.batching import Array
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.verdict.projection import euclidean_norms

_BLOCK_LINES = 2**14
"""Lines that are differenced at once: their tables take some 40 MB."""


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
    noise = estimate_partial_noise(losses[:BASE_REPEATS], near, loss_format)
    tensor_losses = layout.select_tensor_losses(name, losses)
    if losses.ndim > 1:
        tensor_losses = np.moveaxis(tensor_losses, -1, 0)
    derivatives = difference_lines(layout, name, tensor_losses, losses[0], noise)
    has_stairs = _find_staircases(layout, name, near, tensor_losses, noise)
    return noise, replace(
        derivatives, loss_shape=np.where(has_stairs[..., None], LossShape.STAIRS, derivatives.loss_shape)
    )


def _find_staircases(
    layout: EvaluationLayout, name: str, near_losses: Array, tensor_losses: Array, noise: LossNoise
) -> Array:
    """Return whether each function is a staircase where the tensor moves, () or (m,)."""
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
        loss_format = find_loss_format(scaled)
        line_count, element_count = len(layout.lines[name]), values.shape[1]
        derivatives = make_unknown_derivatives((element_count, line_count))
        noise = _make_unknown_noise(element_count, loss_format.unit_roundoff)
        for elements in _group_elements(layout, name, is_finite):
            part_format = LossFormat(loss_format.unit_roundoff, loss_format.smallest_nonzero[elements])
            of_part, part = difference_functions(layout, name, scaled[:, elements], part_format)
            _put_elements(noise, elements, of_part.scale_by_exponent(exponents[elements]))
            _put_elements(derivatives, elements, scale_derivatives(part, exponents[elements, None]))
    return OutputDerivatives(derivatives, noise)


def scale_derivatives(derivatives: DirectionalDerivatives, exponent: Array | int) -> DirectionalDerivatives:
    """Return the derivatives of losses 2^exponent times as large."""
    names = ("value", "bound", "deviation", "curvature", "base_magnitude", "loss_magnitude", "resolution")
    return replace(derivatives, **{name: np.ldexp(getattr(derivatives, name), exponent) for name in names})


def _make_unknown_noise(count: int, roundoff: float) -> LossNoise:
    return LossNoise(
        np.full(count, np.nan), np.full(count, np.inf), np.zeros(count), np.ones(count, np.bool_), roundoff
    )


def _group_elements(layout: EvaluationLayout, name: str, is_finite: Array) -> Iterator[Array]:
    """Yield the elements with values at the base, in blocks with values at the same points of the tensor."""
    count = is_finite.shape[1]
    concerned = [
        layout.select_near_losses(name, is_finite).reshape(-1, count),
        layout.select_tensor_losses(name, is_finite).reshape(-1, count),
    ]
    sets, group = np.unique(np.packbits(np.concatenate(concerned), axis=0), axis=1, return_inverse=True)
    has_base = is_finite[:BASE_REPEATS].all(axis=0)
    size = max(1, _BLOCK_LINES // len(layout.lines[name]))
    for number in iterate_interruptibly(range(sets.shape[1])):
        elements = np.flatnonzero((group.ravel() == number) & has_base)
        for first in iterate_interruptibly(range(0, len(elements), size)):
            yield elements[first : first + size]


def _put_elements(whole: LossNoise | DirectionalDerivatives, elements: Array, part: object) -> None:
    """Put the fields of some elements in their places."""
    for field in fields(whole):
        values = getattr(whole, field.name)
        if isinstance(values, np.ndarray):
            values[elements] = getattr(part, field.name)
