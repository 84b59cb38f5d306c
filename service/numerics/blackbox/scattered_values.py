"""Functions that lack values at points of their own, such as the elements of an output with NaN here and there.

Functions with values at the same points are differenced together. If nearly every function lacks values elsewhere, each
is a group of its own, and the groups take minutes. Here each line of each function joins, by itself, the lines with
values at the same points. The most frequent sets of points stay as they are. A line with another set loses some more of
its values, until it has one of those sets: its bound is larger then, and holds as before.
"""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import cast

import numpy as np

from service.numerics.blackbox.central_derivatives import DirectionalDerivatives, make_unknown_derivatives
from service.numerics.blackbox.incomplete_lines import MIN_NEAR_POINTS, estimate_partial_noise
from service.numerics.blackbox.layout import BASE_REPEATS, EvaluationLayout
from service.numerics.blackbox.line_derivatives import BLOCK_LINES, difference_lines
from service.numerics.blackbox.lines import TensorLines
from service.numerics.blackbox.noise import LossFormat, LossNoise
from service.numerics.core.batching import Array, Shape
from service.numerics.core.interrupts import iterate_interruptibly

_MAX_FREQUENT_SETS = 24
"""Sets of points that stay as they are."""
_MIN_WINDOW_LEVELS = 3
_LINES_AT_ONCE = 16
"""Lines of single elements that are looked through at once: of more of them, nearly every function has one of a set."""


def make_unknown_noise(count: int, roundoff: float) -> LossNoise:
    """Make the noise of functions of which nothing is known, (count,)."""
    return LossNoise(
        np.full(count, np.nan),
        np.full(count, np.inf),
        np.zeros(count),
        np.ones(count, np.bool_),
        roundoff,
        np.zeros(count),
    )


def put_functions(whole: LossNoise | DirectionalDerivatives, functions: Array, part: object) -> None:
    """Put the fields of some functions in their places."""
    for field in fields(whole):
        values = getattr(whole, field.name)
        if isinstance(values, np.ndarray):
            values[functions] = getattr(part, field.name)


def estimate_scattered_noise(layout: EvaluationLayout, name: str, losses: Array, loss_format: LossFormat) -> LossNoise:
    """Estimate the noise of each function, (m,), by the near points at which it has values.

    Parameters
    ----------
    losses
        Values of m functions, (evaluations, m): finite at the base, and NaN at points without a value.
    loss_format
        Number format of the values.
    """
    near = layout.select_near_losses(name, losses)
    noise = make_unknown_noise(losses.shape[1], loss_format.unit_roundoff)
    is_finite = np.isfinite(near).reshape(-1, losses.shape[1]).T
    for functions, kept in _group_by_points(is_finite, _list_near_runs(near.shape[:2])):
        values = np.where(kept.reshape(near.shape[:2])[..., None], near[..., functions], np.nan)
        part_format = loss_format.select_functions(functions)
        put_functions(noise, functions, estimate_partial_noise(losses[:BASE_REPEATS, functions], values, part_format))
    return noise


def difference_scattered_lines(
    layout: EvaluationLayout, name: str, losses: Array, base: Array, noise: LossNoise
) -> DirectionalDerivatives:
    """Difference functions along the lines of a tensor, (m, k), each line by the points at which it has values.

    Parameters
    ----------
    losses
        Values of m functions, (m, k, levels, 2); NaN at points without a value.
    base
        Values at the base, (m,).
    noise
        Noise of each function, (m,).
    """
    shape, point_shape = losses.shape[:2], losses.shape[2:]
    derivatives, lines = make_unknown_derivatives(shape), layout.lines[name]
    is_finite = np.isfinite(losses).reshape(-1, int(np.prod(point_shape)))
    for positions, kept in _group_by_points(is_finite, _list_level_windows(point_shape[0])):
        has_points = np.zeros(is_finite.shape[0], np.bool_)
        has_points[positions] = True
        for part_lines in _split_lines(lines):
            is_counted = has_points.reshape(shape) & part_lines
            is_kept = kept.reshape(point_shape) & part_lines[:, None, None]
            for functions in _split_functions(is_counted):
                values = _replace_other_lines(losses[functions], is_counted[functions])
                part = difference_lines(
                    layout, name, np.where(is_kept, values, np.nan), base[functions], _select_noise(noise, functions)
                )
                _put_lines(derivatives, functions, is_counted[functions], part)
    return derivatives


def _group_by_points(is_finite: Array, further_sets: Array) -> Iterator[tuple[Array, Array]]:
    """Yield the positions of rows, and the set of points that they keep.

    Parameters
    ----------
    is_finite
        Mask of the points at which each row has a value, (rows, points).
    further_sets
        Sets of points beside the most frequent ones, (sets, points).
    """
    packed, group, counts = np.unique(np.packbits(is_finite, axis=1), axis=0, return_inverse=True, return_counts=True)
    present = np.unpackbits(packed, axis=1, count=is_finite.shape[1]).astype(np.bool_)
    frequent = present[np.argsort(-counts, kind="stable")[:_MAX_FREQUENT_SETS]]
    candidates = np.concatenate([frequent, further_sets])
    # The largest first: it leaves the fewest values out.
    candidates = candidates[np.argsort(-candidates.sum(axis=1), kind="stable")]
    is_left = np.ones(len(present), np.bool_)
    for kept in iterate_interruptibly(candidates):
        chosen = is_left & present[:, kept].all(axis=1)
        is_left &= ~chosen
        if chosen.any():
            yield np.flatnonzero(chosen[group.ravel()]), kept


def _list_near_runs(shape: Shape) -> Array:
    """Return sets of near points of a shape, (lines, points): a run on one line each, and no point at all."""
    line_count, point_count = shape
    sets = [np.zeros((line_count, point_count), np.bool_)]
    for line in range(line_count):
        for first, last in _list_windows(point_count, MIN_NEAR_POINTS):
            run = np.zeros((line_count, point_count), np.bool_)
            run[line, first:last] = True
            sets.append(run)
    return np.stack(sets).reshape(len(sets), -1)


def _list_windows(count: int, least: int) -> list[tuple[int, int]]:
    """Return the beginning and the end of all windows of a length or more."""
    return [(first, last) for first in range(count) for last in range(first + least, count + 1)]


def _list_level_windows(count: int) -> Array:
    """Return sets of the points of a line, (sets, 2 levels): half of the levels, on both sides or on one."""
    length = max(_MIN_WINDOW_LEVELS, count // 2 + 1)
    windows = np.stack([np.isin(np.arange(count), np.arange(first, first + length)) for first in range(count)])
    windows = windows[windows.sum(axis=1) == length]
    sides = np.array([[True, True], [True, False], [False, True]])
    return (windows[:, None, :, None] & sides[:, None, :]).reshape(-1, 2 * count)


def _split_lines(lines: TensorLines) -> Iterator[Array]:
    """Yield masks of lines that go to the same sides, (k,); random directions share what they tell of each other."""
    count = len(lines)
    size = count if lines.moved_elements is None else _LINES_AT_ONCE
    for side in np.unique(lines.sides):
        for first in range(0, count, size):
            mask = (lines.sides == side) & (np.arange(count) // size == first // size)
            if mask.any():
                yield mask


def _split_functions(is_counted: Array) -> Iterator[Array]:
    """Yield the positions of the functions with a line that counts, in blocks."""
    functions = np.flatnonzero(is_counted.any(axis=1))
    size = max(1, BLOCK_LINES // is_counted.shape[1])
    for first in iterate_interruptibly(range(0, len(functions), size)):
        yield functions[first : first + size]


def _replace_other_lines(losses: Array, is_counted: Array) -> Array:
    """Give the lines that do not count the values of one that does, so that they change nothing that lines share."""
    rows, lines = np.indices(is_counted.shape)
    first_counted = cast("Array", is_counted.argmax(axis=1))
    source = np.where(is_counted, lines, first_counted[:, None])
    return losses[rows, source]


def _select_noise(noise: LossNoise, functions: Array) -> LossNoise:
    names = ("deviation", "largest_deviation", "loss_magnitude", "is_deterministic", "part_deviation")
    return replace(noise, **{name: getattr(noise, name)[functions] for name in names})


def _put_lines(
    derivatives: DirectionalDerivatives, functions: Array, is_counted: Array, part: DirectionalDerivatives
) -> None:
    """Put the derivatives along the lines that count in their places."""
    rows, lines = np.nonzero(is_counted)
    for field in fields(derivatives):
        getattr(derivatives, field.name)[functions[rows], lines] = getattr(part, field.name)[rows, lines]
