"""Directional derivatives of the loss of one tensor, by central differences.

Losses are those of one function, or of several at the same points. Arrays then have leading axes (...), one position
for each function; a single loss has none.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np

from service.numerics.blackbox.extrapolation import extrapolate_central
from service.numerics.blackbox.kinks import LossShape, find_kinks
from service.numerics.blackbox.layout import EvaluationLayout
from service.numerics.blackbox.noise import LossNoise
from service.numerics.core.batching import Array, Shape
from service.numerics.core.interrupts import iterate_interruptibly

_DISPLACEMENT_FACTOR = 8.0
_LARGE_NOISE_RATIO, _NOISE_SPAN_DEVIATIONS = 2.0**-10, 12.0
_MAX_ROUNDINGS = 16.0
_COARSE_STEP_COUNT = 4
_MIN_LEVELS = 3
"""Levels without which nothing is said of a line: an entry of the table needs neighbours."""


@dataclass(frozen=True)
class DirectionalDerivatives:
    """Derivatives of the loss along the directions of one tensor.

    Attributes
    ----------
    value, bound, deviation
        Derivative, its bound, and the deviation of its noise, (..., k).
    curvature
        Second derivative along each line times the size of the move: the change of the derivative over it, (..., k).
    least_curvature_effect
        Change of the loss over the move by the smallest estimate of the second derivative, (..., k).
    base_magnitude
        Size of the loss at the base, (..., k).
    loss_magnitude
        Size of the losses at the base or, if larger, of their change by the curvature, (..., k).
    resolution
        Rounding of that size to the format of the losses, (..., k).
    is_constant
        Mask of the lines with the same loss at every point, to the last bit, (..., k).
    has_jitter
        Mask of the lines of a loss with roundings that move with the tensor (rounding_jitter.py), (..., k).
    loss_shape
        Shape of the loss near the base by its second differences, as `LossShape`, (..., k).
    may_have_kink
        Mask of the lines that may have a kink, (..., k).
    """

    value: Array
    bound: Array
    deviation: Array
    curvature: Array
    least_curvature_effect: Array
    base_magnitude: Array
    loss_magnitude: Array
    resolution: Array
    is_constant: Array
    has_jitter: Array
    loss_shape: Array
    may_have_kink: Array


def difference_centrally(
    layout: EvaluationLayout, name: str, losses: Array, base: Array, noise: LossNoise
) -> DirectionalDerivatives:
    """Difference the loss along the directions of a tensor.

    A level of a line counts where every function has a finite value on both sides. Lines that have the same levels are
    differenced together; of those that have too few nothing is known.

    Parameters
    ----------
    losses
        Losses of the tensor, (..., k, levels, 2).
    base
        The loss at the base, (...).
    """
    usable: Array = np.logical_and.reduce(np.isfinite(losses), axis=(*range(losses.ndim - 3), losses.ndim - 1))
    if len(usable) and (usable == usable[0]).all() and np.count_nonzero(usable[0]) >= _MIN_LEVELS:
        # Mostly all lines have the same levels.
        return _difference_lines(layout, name, losses, base, noise, np.arange(len(usable)), usable[0])
    derivatives = make_unknown_derivatives(losses.shape[:-2])
    for line_numbers, levels in group_equal_rows(usable):
        if np.count_nonzero(levels) >= _MIN_LEVELS:
            copy_into_lines(
                derivatives, line_numbers, _difference_lines(layout, name, losses, base, noise, line_numbers, levels)
            )
    return derivatives


def group_equal_rows(rows: Array) -> Iterator[tuple[Array, Array]]:
    """Group the equal rows of a table; yield the positions and the row of each group, in the order of the rows."""
    if len(rows) and (rows == rows[0]).all():
        # Mostly all are, and to sort them takes long beside a few lines.
        yield np.arange(len(rows)), rows[0]
        return
    distinct_rows, group_numbers = np.unique(rows, axis=0, return_inverse=True)
    for number, row in enumerate(iterate_interruptibly(distinct_rows)):
        yield np.flatnonzero(group_numbers.ravel() == number), row


def make_unknown_derivatives(shape: Shape) -> DirectionalDerivatives:
    """Make derivatives of which nothing is known, of the shape (..., k)."""

    def fill_lines(number: float) -> Array:
        return np.full(shape, number)

    return DirectionalDerivatives(
        value=fill_lines(np.nan),
        bound=fill_lines(np.inf),
        deviation=fill_lines(np.inf),
        curvature=fill_lines(np.nan),
        least_curvature_effect=fill_lines(0.0),
        base_magnitude=fill_lines(0.0),
        loss_magnitude=fill_lines(0.0),
        resolution=fill_lines(0.0),
        is_constant=np.zeros(shape, bool),
        has_jitter=np.zeros(shape, bool),
        loss_shape=np.zeros(shape, int),
        may_have_kink=np.zeros(shape, bool),
    )


def copy_into_lines(
    derivatives: DirectionalDerivatives, line_numbers: Array, line_derivatives: DirectionalDerivatives
) -> None:
    """Put the derivatives along some lines in their places."""
    for field in fields(DirectionalDerivatives):
        getattr(derivatives, field.name)[..., line_numbers] = getattr(line_derivatives, field.name)


def _difference_lines(
    layout: EvaluationLayout,
    name: str,
    losses: Array,
    base: Array,
    noise: LossNoise,
    line_numbers: Array,
    levels: Array,
) -> DirectionalDerivatives:
    """Difference some lines at some levels.

    The differences are central about X, not x (lattice.py), which puts v . H (X - x) into the derivative. For a
    single element that is v . H v |X - x| / |v|. For random v the root mean square of v . H v is sqrt(2) |H| or more
    (Frobenius' norm, in units of the scale), and that of v . H (X - x) no more than |H| |X - x| / |v|, as X - x is a
    rounding that knows of neither: eight times the largest that was seen is allowed for. So is what the loss at x is
    off from that at X.

    Apparent noise may be a loss that turns many times within the distance of near points. If the noise is a good part
    of the loss, the same each time, and all that a line shows, nothing is known of the derivative. A loss that is the
    same at every point is an exception: the values of a loss of 1 do not tell its format, which may be the coarsest.

    Near points may all have the same loss by chance, while the others differ by several roundings. If a whole line
    differs by no more than 16 of them, that is noise: the derivative, of 64 of them at most over the move, is not seen
    through a noise of half a one either.
    """
    steps, lines = layout.points[name].schedule.steps[levels], layout.lines[name]
    losses = losses[..., line_numbers, :, :][..., levels, :]
    base = np.asarray(base)[..., None, None]
    magnitude, most_noise = (
        np.asarray(numbers)[..., None] for numbers in (noise.loss_magnitude, noise.largest_deviation)
    )
    deviations = noise.compute_deviation(losses, steps, base[..., 0, 0])
    ranges = losses.max(axis=(-2, -1)) - losses.min(axis=(-2, -1))
    is_rounding_only = ranges <= _MAX_ROUNDINGS * noise.format_roundoff * magnitude
    deviations = np.maximum(deviations, np.where(is_rounding_only, ranges, 0.0)[..., None])
    plus, minus = losses[..., 0], losses[..., 1]
    quotients = (plus - minus) / (2 * steps)
    second_differences = (plus - base) + (minus - base)
    displacements = _DISPLACEMENT_FACTOR * lines.moves.displacement[line_numbers]
    slopes, curvatures = np.abs(quotients).max(axis=-1), _estimate_largest_curvature(second_differences, steps)
    largest_slopes, largest_curvatures = (
        _take_largest_per_line(values, lines.moved_elements is None) for values in (slopes, curvatures)
    )
    # A table has one axis of lines.
    tables = [values.reshape(-1, len(steps)) for values in (quotients, second_differences, deviations)]
    kinks = find_kinks(tables[1], steps, tables[2], (displacements * largest_slopes).ravel())
    extrapolated = extrapolate_central(tables[0], steps, tables[2], kinks.added_bound)
    shape: Shape = slopes.shape
    bound = extrapolated.bound.reshape(shape) + np.where(displacements == 0, 0, displacements * largest_curvatures)
    is_hidden_by_noise = (
        np.asarray(noise.is_deterministic)[..., None]
        & (most_noise > _LARGE_NOISE_RATIO * magnitude)
        & (ranges <= _NOISE_SPAN_DEVIATIONS * most_noise)
    )
    is_hidden_by_noise &= ranges > 0
    bound[is_hidden_by_noise] = np.inf
    unit_sizes = np.abs(lines.derivative_units[line_numbers])
    least_curvatures = _estimate_smallest_curvature(second_differences, steps)
    magnitudes = np.maximum(least_curvatures, magnitude)
    is_constant = np.logical_and.reduce(losses == base[..., None], axis=(-2, -1))
    return DirectionalDerivatives(
        value=extrapolated.value.reshape(shape) / lines.derivative_units[line_numbers],
        bound=bound / unit_sizes,
        deviation=extrapolated.deviation.reshape(shape) / unit_sizes,
        curvature=curvatures / unit_sizes,
        least_curvature_effect=least_curvatures,
        base_magnitude=np.array(np.broadcast_to(magnitude, shape)),
        loss_magnitude=magnitudes,
        resolution=noise.choose_resolution(is_constant) * magnitudes,
        is_constant=is_constant,
        has_jitter=np.zeros(shape, bool),
        loss_shape=np.where(is_hidden_by_noise, int(LossShape.ROUGH), kinks.loss_shape.reshape(shape)),
        may_have_kink=(kinks.may_have_kink | extrapolated.is_contested).reshape(shape),
    )


def _take_largest_per_line(values: Array, share_largest: bool) -> Array:
    """Return the value of each line, (..., k), or the largest of all for random directions."""
    return np.broadcast_to(values.max(axis=-1, keepdims=True), values.shape) if share_largest else values


def _estimate_smallest_curvature(second_differences: Array, steps: Array) -> Array:
    """Return v . H v, the smallest over the coarse_steps steps.

    A loss that grows by many orders over the move is not 0 at the base.
    """
    coarse_steps = slice(0, _COARSE_STEP_COUNT)
    curvatures: Array = np.abs(
        np.diff(second_differences[..., coarse_steps], axis=-1) / np.diff(np.square(steps[coarse_steps]))
    )
    return curvatures.min(axis=-1)


def _estimate_largest_curvature(second_differences: Array, steps: Array) -> Array:
    """Return v . H v, the largest over the steps; the error of the base cancels."""
    changes = second_differences[..., :1] - second_differences[..., 1:]
    curvatures: Array = np.abs(changes) / (steps[0] ** 2 - steps[1:] ** 2)
    return curvatures.max(axis=-1)
