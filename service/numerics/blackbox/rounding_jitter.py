"""Roundings of a loss that move with a tensor: the sign of large terms that cancel.

A loss that is C + f(x), with C far larger than what f changes by, is smooth but for one last rounding. Over distances
at which f changes by less than a unit in the last place, its values stay on one number or step to the next: along a
line they rise or fall, or have one extreme. The roundings hide a gradient there, of any size below theirs.

A loss of which the terms depend on x, are as large as the loss, and cancel, is another: the sum of a softmax, or the
norm of a normalised vector. Each term is rounded by itself, so that the loss goes up and down by its roundings, however
near the points are. A backward pass in the same arithmetic is off by as much as such a term is rounded by, over the
size of the move. So a candidate of that size is 0 as far as any arithmetic tells.

A loss **jitters** if it is the same each time, has no points farther from each other than 16 roundings, and has more
than one extreme along a line.
"""

import numpy as np

from service.numerics.blackbox.consistent_lines import list_lines_alone
from service.numerics.blackbox.layout import EvaluationLayout
from service.numerics.blackbox.noise import LossNoise
from service.numerics.core.batching import Array

_MAX_ROUNDINGS = 16.0
_FINE_LEVELS = 3
"""Levels of the smallest steps, over which a loss that changes by 4096 roundings over a move hardly changes."""


def has_rounding_jitter(
    layout: EvaluationLayout, name: str, near_losses: Array, tensor_losses: Array, noise: LossNoise
) -> Array:
    """Return whether each function jitters as a tensor moves alone, (...).

    Parameters
    ----------
    near_losses
        Values at the near points of the tensor, (lines, points, ...).
    tensor_losses
        Values along its lines, (..., k, levels, 2).
    """
    limit = _MAX_ROUNDINGS * noise.format_roundoff * noise.loss_magnitude
    rows = [row for _, row in list_lines_alone(len(layout.points))]
    near = np.moveaxis(near_losses[rows], 1, 0)
    is_quiet = np.asarray(noise.is_deterministic)
    if rows:
        is_quiet = is_quiet & (_measure_range(near, (0, 1)) <= limit)
    if not is_quiet.any():
        return is_quiet
    if not (np.isfinite(near).any() or np.isfinite(tensor_losses[..., -_FINE_LEVELS:, :]).any()):
        # As of a first look at several tensors.
        return np.zeros(is_quiet.shape, np.bool_)
    fine = _sort_fine_points(layout, name, tensor_losses)
    turns = np.maximum(_count_turns(fine).max(axis=-1), _count_turns(near).max(axis=0, initial=0))
    return is_quiet & (_measure_range(fine, (0, -1)) <= limit) & (turns > 1)


def _measure_range(values: Array, axis: tuple[int, ...]) -> Array:
    """Return the largest difference of the values that are known."""
    is_known = np.isfinite(values)
    low, high = values.min(axis, initial=np.inf, where=is_known), values.max(axis, initial=-np.inf, where=is_known)
    return np.maximum(high - low, 0.0)


def _sort_fine_points(layout: EvaluationLayout, name: str, tensor_losses: Array) -> Array:
    """Return the values at the smallest steps in the order of the points of each line, (points, ..., k)."""
    offsets = layout.list_step_offsets(name)[:, -_FINE_LEVELS:]
    offsets = offsets.reshape(len(offsets), -1)
    values = tensor_losses[..., -_FINE_LEVELS:, :]
    values = values.reshape(*values.shape[:-2], -1)
    order = np.broadcast_to(np.argsort(offsets, axis=1, kind="stable"), values.shape)
    return np.moveaxis(np.take_along_axis(values, order, axis=-1), -1, 0)


def _count_turns(values: Array) -> Array:
    """Return how often values turn from rising to falling or back, along the first axis; next to gaps they do not."""
    signs = np.nan_to_num(np.sign(np.diff(values, axis=0)))
    last, turns = np.zeros(signs.shape[1:]), np.zeros(signs.shape[1:], int)
    for sign in signs:
        turns += sign * last < 0
        last = np.where(sign == 0, last, sign)
    return turns
