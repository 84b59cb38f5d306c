"""Derivatives along lines of every kind: two-sided, one-sided and incomplete.

A line with points on both sides has central differences (central_derivatives.py). A line with a bound that leaves no
room on one side has differences of the other side (one_sided_extrapolation.py). If the loss has no value at some
points, a line has the central difference of the levels with a value on both sides, and the differences of each side by
itself; the one with the smallest bound counts. A line with too few points of any kind has no derivative.
"""

from collections.abc import Iterator
from dataclasses import fields

import numpy as np

from service.numerics.blackbox import central_derivatives
from service.numerics.blackbox.central_derivatives import DirectionalDerivatives, group_equal_rows
from service.numerics.blackbox.layout import EvaluationLayout
from service.numerics.blackbox.noise import LossNoise
from service.numerics.blackbox.one_sided_extrapolation import MIN_NODES, OneSidedSamples, extrapolate_one_sided
from service.numerics.core.batching import Array, Shape

BLOCK_LINES = 2**14
"""Lines that callers difference at once: their tables take some 40 MB."""
_DISPLACEMENT_FACTOR = 8.0


def difference_lines(
    layout: EvaluationLayout, name: str, losses: Array, base: Array, noise: LossNoise
) -> DirectionalDerivatives:
    """Difference the loss along the directions of a tensor.

    Parameters
    ----------
    losses
        Losses of the tensor, (..., k, levels, 2); NaN at points without a value, for all functions alike.
    base
        The loss at the base, (...).
    """
    sides = layout.lines[name].sides
    is_evaluated: Array = np.logical_and.reduce(np.isfinite(losses), axis=tuple(range(losses.ndim - 3)))
    has_sides = sides.any()
    central_losses = np.where((sides == 0)[:, None, None], losses, np.nan) if has_sides else losses
    derivatives = central_derivatives.difference_centrally(layout, name, central_losses, base, noise)
    if not has_sides and is_evaluated.shape[1] and np.count_nonzero(is_evaluated, axis=1).max() < MIN_NODES:
        # As of a first look: no side has points for a difference of its own.
        return derivatives
    needs_one_side = (sides != 0) | ~is_evaluated.all(axis=(1, 2))
    if not needs_one_side.any():
        return derivatives
    offsets = layout.list_step_offsets(name).reshape(len(sides), -1)
    is_evaluated = is_evaluated.reshape(offsets.shape) & needs_one_side[:, None]
    losses = losses.reshape(*losses.shape[:-2], -1)
    for side in (1, -1):
        is_of_side = is_evaluated & (np.sign(offsets) == side)
        # Mostly none, and to group lines takes as long as to difference them.
        is_of_side &= (np.count_nonzero(is_of_side, axis=1) >= MIN_NODES)[:, None]
        if not is_of_side.any():
            continue
        for lines, points in _group_lines_by_points(is_of_side):
            point_order = points[np.argsort(-np.abs(offsets[lines[0], points]), kind="stable")]
            point_order = point_order[np.unique(-np.abs(offsets[lines[0], point_order]), return_index=True)[1]]
            if len(point_order) >= MIN_NODES:
                values = losses[..., lines, :][..., point_order]
                _keep_better(
                    derivatives,
                    lines,
                    _difference_one_sided(layout, name, lines, offsets[lines][:, point_order], values, base, noise),
                )
    return derivatives


def _group_lines_by_points(is_evaluated: Array) -> Iterator[tuple[Array, Array]]:
    """Group the lines by their points; yield the positions of both.

    Lines without points are in no group.
    """
    for line_numbers, point_mask in group_equal_rows(is_evaluated):
        if point_mask.any():
            yield line_numbers, np.flatnonzero(point_mask)


def _keep_better(derivatives: DirectionalDerivatives, lines: Array, alternative: DirectionalDerivatives) -> None:
    """Put what is known better."""
    is_better = ~(derivatives.bound[..., lines] <= alternative.bound)
    for field in fields(DirectionalDerivatives):
        known = getattr(derivatives, field.name)
        known[..., lines] = np.where(is_better, getattr(alternative, field.name), known[..., lines])


def _difference_one_sided(
    layout: EvaluationLayout, name: str, lines: Array, offsets: Array, losses: Array, base: Array, noise: LossNoise
) -> DirectionalDerivatives:
    """Difference lines on one side, (..., k, m), at signed steps that are alike, (k, m).

    The line X + t v of a single element passes through the base at t = (x - X) / v: steps are counted from there, and
    nothing is off. For random v the base lies beside the line by X - x, a rounding, of which the loss takes its part:
    eight times |X - x| / |v| of the largest difference is allowed for at the base, and, as the derivative is that at X
    and not at x, of the curvature.
    """
    tensor_lines = layout.lines[name]
    if tensor_lines.moved_elements is None:
        nodes, displacements = offsets, _DISPLACEMENT_FACTOR * tensor_lines.moves.displacement[lines]
    else:
        moved_values = layout.points[name].values.ravel()[tensor_lines.moved_elements[lines]]
        nodes, displacements = (
            offsets
            + ((tensor_lines.moves.starts[lines] - moved_values) / tensor_lines.moves.directions[lines])[:, None],
            np.zeros(len(lines)),
        )
    base = np.asarray(base)[..., None, None]
    magnitude, base_noise = (
        np.asarray(numbers)[..., None] for numbers in (noise.loss_magnitude, noise.largest_deviation)
    )
    deviations = noise.compute_proportional_deviation(np.abs(losses))
    largest_slopes = np.abs((losses - base) / nodes).max(axis=-1)
    samples = OneSidedSamples(
        _flatten_lines(nodes, losses.shape),
        _flatten_lines(losses, losses.shape),
        _flatten_lines(deviations, losses.shape),
        _flatten_lines(base, losses.shape)[:, 0],
        _flatten_lines(base_noise[..., None], losses.shape)[:, 0],
        (displacements * largest_slopes).ravel(),
    )
    result = extrapolate_one_sided(samples)
    shape: Shape = largest_slopes.shape
    curvatures, least_curvatures = (numbers.reshape(shape) for numbers in _estimate_second_derivatives(samples))
    largest_curvatures = (
        np.broadcast_to(curvatures.max(axis=-1, keepdims=True), shape)
        if tensor_lines.moved_elements is None
        else curvatures
    )
    is_constant = np.logical_and.reduce(losses == base, axis=-1)
    unit_sizes = np.abs(tensor_lines.derivative_units[lines])
    return DirectionalDerivatives(
        value=result.value.reshape(shape) / tensor_lines.derivative_units[lines],
        bound=(result.bound.reshape(shape) + np.where(displacements == 0, 0, displacements * largest_curvatures))
        / unit_sizes,
        deviation=result.deviation.reshape(shape) / unit_sizes,
        curvature=curvatures / unit_sizes,
        least_curvature_effect=least_curvatures,
        base_magnitude=np.broadcast_to(magnitude, shape),
        loss_magnitude=np.maximum(curvatures, magnitude),
        resolution=noise.choose_resolution(is_constant) * np.maximum(curvatures, magnitude),
        is_constant=is_constant,
        has_jitter=np.zeros(shape, bool),
        loss_shape=np.zeros(curvatures.shape, np.int_),
        may_have_kink=result.is_contested.reshape(shape),
    )


def _flatten_lines(values: Array, shape: Shape) -> Array:
    """Return values that broadcast to lines, (..., k, m), with one axis of lines, (K, m)."""
    return np.broadcast_to(values, shape).reshape(-1, shape[-1])


def _estimate_second_derivatives(samples: OneSidedSamples) -> tuple[Array, Array]:
    """Return second derivatives along the lines, (k,): the largest and the smallest over the steps."""
    quotients, nodes = samples.quotients, samples.nodes
    derivatives: Array = 2 * np.abs((quotients[:, :1] - quotients[:, 1:]) / (nodes[:, :1] - nodes[:, 1:]))
    return derivatives.max(axis=1), derivatives.min(axis=1)
