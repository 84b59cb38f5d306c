"""Gradients whose numbers stand one position off their place."""

from collections.abc import Iterator, Mapping
from itertools import combinations, product
from math import lgamma, log
from typing import ClassVar

import numpy as np

from service.numerics.core.batching import Array, Shape
from service.numerics.diagnosis.bug import GradientBug, register_gradient_bug
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.diagnosis.matching import BugHypothesis, fit_tolerance, is_beyond_chance
from service.numerics.ops.convolution import Convolution, shift_by_one
from service.numerics.ops.pool import PoolingOp

_MIN_PLANE_LENGTH = 4
"""Elements along an axis, of which two are inside: a single right element is no sign of a border."""
_MIN_ROLLED_LENGTH = 5
"""Elements of a tensor; a roll gives any order of fewer too easily."""


@register_gradient_bug
class ShiftedGradient(GradientBug):
    """A gradient that is moved by one position, or wrong along the border alone."""

    name: ClassVar[str] = "shifted"
    signature: ClassVar[str] = "c = g moved by one position; or right inside and wrong on the border"

    def iterate_hypotheses(self, context: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """Yield moved gradients, then the wrong border; see `GradientBug`."""
        yield from self._iterate_moved_hypotheses(context, name)
        yield from self._iterate_border_hypotheses(context, name)

    def _iterate_moved_hypotheses(self, context: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        right = context.get_right_gradient(name)
        gradient = context.describe_gradient(name)
        for axes in _iterate_shiftable_axes(right.shape):
            along = f"along ax{'i' if len(axes) == 1 else 'e'}s {', '.join(map(str, axes))}"
            for steps in _iterate_unit_steps(axes):
                steps_text = " and ".join(f"{step:+d}" for step in dict.fromkeys(steps))
                text = (
                    f"{gradient} is the reference moved by {steps_text} {along}: an offset or a padding may be off by "
                    "one."
                )
                for moved in _shift_with_fills(right, axes, steps):
                    yield BugHypothesis(self.name, moved, text, bug_key=(axes, steps))
        for step in (1, -1) if right.ndim > 1 and right.size >= _MIN_ROLLED_LENGTH else ():
            text = (
                f"{gradient} is the reference moved by {step:+d} in its buffer, across the ends of rows: an offset may "
                "be off by one."
            )
            yield BugHypothesis(self.name, np.roll(right, step), text, bug_key=step)

    def _iterate_border_hypotheses(self, context: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        candidate, right = context.candidates[name], context.get_right_gradient(name)
        axes = _find_wide_spatial_axes(context, name)
        if not axes or candidate.shape != right.shape or not np.isfinite(candidate).all():
            return
        border = _make_border_mask(right.shape, axes)
        tolerance = fit_tolerance(context.precisions[name]) * np.max(np.abs(right), initial=0)
        wrong = np.abs(candidate - right) > tolerance
        if (wrong & ~border).any() or not wrong[border].all() or border.all():
            return
        gradient = context.describe_gradient(name)
        text = f"{gradient} is right inside and wrong all along the border: a padding may be off by one."
        yield BugHypothesis(
            self.name, candidate, text, known_digits=_count_chance_digits(border.size, int(border.sum()))
        )

    def inject(self, context: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """Yield moved gradients, and one with a wrong border; see `GradientBug`."""
        right = context.get_right_gradient(name)
        for axes in _iterate_shiftable_axes(right.shape):
            yield {name: shift_by_one(right, axes, 1)}
            if right.size >= _MIN_ROLLED_LENGTH:
                yield {name: np.roll(right, (-1,) * len(axes), axes)}
        axes = _find_wide_spatial_axes(context, name)
        border = _make_border_mask(right.shape, axes)
        if axes and is_beyond_chance(_count_chance_digits(border.size, int(border.sum()))):
            yield {name: np.where(border, 0.5 * right, right)}


def _iterate_unit_steps(axes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Iterate over steps of one position along each axis, either way."""
    return product((1, -1), repeat=len(axes))


def _shift_with_fills(right: Array, axes: tuple[int, ...], steps: tuple[int, ...]) -> Iterator[Array]:
    """Yield the moved gradient with each kind of filling.

    The fillings are zeros, the border again, and the elements that fell out.
    """
    zeros = right
    for axis, step in zip(axes, steps, strict=True):
        zeros = shift_by_one(zeros, (axis,), step)
    yield zeros
    if right.size >= _MIN_ROLLED_LENGTH:
        axis_positions: list[Array] = [np.arange(length) for length in right.shape]
        for axis, step in zip(axes, steps, strict=True):
            axis_positions[axis] = np.clip(axis_positions[axis] - step, 0, right.shape[axis] - 1)
        yield right[np.ix_(*axis_positions)]
        yield np.roll(right, steps, axes)


def _iterate_shiftable_axes(shape: Shape) -> Iterator[tuple[int, ...]]:
    """Yield each axis that is long enough for a move, and the last two as a pair."""
    axes = [axis - len(shape) for axis, length in enumerate(shape) if length > 2]
    yield from ((axis,) for axis in axes)
    if len(shape) > 1:
        yield from (pair for pair in combinations(axes, 2) if pair == (-2, -1))


def _find_spatial_axes(context: DiagnosisContext, name: str) -> tuple[int, ...]:
    """Find the axes along which a convolution or pool reads a tensor, or ().

    The axes of a convolution's kernel count as well.
    """
    for node, position in context.get_uses(name):
        if isinstance(node.op, Convolution) and position < 2:
            return node.op.kernel_axes
        if isinstance(node.op, PoolingOp):
            return (-2, -1)
    return ()


def _find_wide_spatial_axes(context: DiagnosisContext, name: str) -> tuple[int, ...]:
    """Find the spatial axes if the tensor has an inside between its borders."""
    axes, shape = _find_spatial_axes(context, name), context.get_right_gradient(name).shape
    return axes if all(shape[axis] >= _MIN_PLANE_LENGTH for axis in axes) else ()


def _make_border_mask(shape: Shape, axes: tuple[int, ...]) -> Array:
    border = np.zeros(shape, np.bool_)
    for axis in axes:
        planes = np.moveaxis(border, axis, 0)
        planes[0] = planes[-1] = True
    return border


def _count_chance_digits(count: int, chosen: int) -> float:
    """Return log10 of the number of ways to choose `chosen` of `count` elements.

    Its inverse is the chance of one set of wrong elements.
    """
    return (lgamma(count + 1) - lgamma(chosen + 1) - lgamma(count - chosen + 1)) / log(10)
