"""Gradients whose numbers stand one position off."""

from collections.abc import Iterator, Mapping
from itertools import combinations, product
from math import lgamma, log
from typing import ClassVar

import numpy as np

from service.numerics.faults.fault import Fault, fault
from service.numerics.faults.hypothesis import Hypothesis, enough, loosest_fit
from service.numerics.faults.scene import Scene
from service.numerics.ops.conv import Convolution, displaced
from service.numerics.ops.pool import Pool
from service.numerics.tiles import Array, Shape

_LEAST_WIDE = 4
"""Elements along an axis, of which two are inside: that one alone is right is no sign of a border."""
_LEAST_ROLLED = 5
"""Elements; of fewer, any order is that of a move around too easily."""


@fault
class Shifted(Fault):
    """Everything stands one position off, or is wrong along the border alone."""

    name: ClassVar[str] = "shifted"
    signature: ClassVar[str] = "c = g moved by one position; or right inside and wrong on the border"

    def recognised(self, scene: Scene, name: str) -> Iterator[Hypothesis]:
        """See `Fault`."""
        yield from self._moved(scene, name)
        yield from self._on_the_border(scene, name)

    def _moved(self, scene: Scene, name: str) -> Iterator[Hypothesis]:
        right = scene.right(name)
        told = scene.told(name)
        for axes in _axes_to_move(right.shape):
            along = f"along ax{'i' if len(axes) == 1 else 'e'}s {', '.join(map(str, axes))}"
            for steps in _steps(axes):
                by = " and ".join(f"{step:+d}" for step in dict.fromkeys(steps))
                text = f"{told} is the reference moved by {by} {along}, as where an offset or a padding is off by one."
                for moved in _moved_by(right, axes, steps):
                    yield Hypothesis(self.name, moved, text, key=(axes, steps))
        for step in (1, -1) if right.ndim > 1 and right.size >= _LEAST_ROLLED else ():
            text = (
                f"{told} is the reference moved by {step:+d} in its buffer, across the ends of rows, as where an "
                "offset is off."
            )
            yield Hypothesis(self.name, np.roll(right, step), text, key=step)

    def _on_the_border(self, scene: Scene, name: str) -> Iterator[Hypothesis]:
        candidate, right = scene.candidates[name], scene.right(name)
        axes = _wide_plane(scene, name)
        if not axes or candidate.shape != right.shape or not np.isfinite(candidate).all():
            return
        border = _border(right.shape, axes)
        fit = loosest_fit(scene.precisions[name]) * np.max(np.abs(right), initial=0)
        wrong = np.abs(candidate - right) > fit
        if (wrong & ~border).any() or not wrong[border].all() or border.all():
            return
        text = f"{scene.told(name)} is right inside and wrong all along the border, as where a padding is off by one."
        yield Hypothesis(self.name, candidate, text, evidence=_chance(border.size, int(border.sum())))

    def injected(self, scene: Scene, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        right = scene.right(name)
        for axes in _axes_to_move(right.shape):
            yield {name: displaced(right, axes, 1)}
            if right.size >= _LEAST_ROLLED:
                yield {name: np.roll(right, (-1,) * len(axes), axes)}
        axes = _wide_plane(scene, name)
        border = _border(right.shape, axes)
        if axes and enough(_chance(border.size, int(border.sum()))):
            yield {name: np.where(border, 0.5 * right, right)}


def _steps(axes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """One position along each axis, either way."""
    return product((1, -1), repeat=len(axes))


def _moved_by(right: Array, axes: tuple[int, ...], steps: tuple[int, ...]) -> Iterator[Array]:
    """Moved, where zeros come in, or the border again, or what left on the other side."""
    zeros = right
    for axis, step in zip(axes, steps, strict=True):
        zeros = displaced(zeros, (axis,), step)
    yield zeros
    if right.size >= _LEAST_ROLLED:
        places: list[Array] = [np.arange(length) for length in right.shape]
        for axis, step in zip(axes, steps, strict=True):
            places[axis] = np.clip(places[axis] - step, 0, right.shape[axis] - 1)
        yield right[np.ix_(*places)]
        yield np.roll(right, steps, axes)


def _axes_to_move(shape: Shape) -> Iterator[tuple[int, ...]]:
    """Axes, and pairs of the last two, that are long enough for a move to be one."""
    axes = [axis - len(shape) for axis, length in enumerate(shape) if length > 2]
    yield from ((axis,) for axis in axes)
    if len(shape) > 1:
        yield from (pair for pair in combinations(axes, 2) if pair == (-2, -1))


def _plane(scene: Scene, name: str) -> tuple[int, ...]:
    """Axes along which a convolution or a pool reads a tensor, or lies itself; none where there is none."""
    for node, position in scene.uses(name):
        if isinstance(node.op, Convolution) and position < 2:
            return node.op.kernel_axes
        if isinstance(node.op, Pool):
            return (-2, -1)
    return ()


def _wide_plane(scene: Scene, name: str) -> tuple[int, ...]:
    """Those axes, where the tensor has an inside between its borders."""
    axes, shape = _plane(scene, name), scene.right(name).shape
    return axes if all(shape[axis] >= _LEAST_WIDE for axis in axes) else ()


def _border(shape: Shape, axes: tuple[int, ...]) -> Array:
    border = np.zeros(shape, np.bool_)
    for axis in axes:
        along = np.moveaxis(border, axis, 0)
        along[0] = along[-1] = True
    return border


def _chance(count: int, chosen: int) -> float:
    """Digits of the number of ways to choose so many of `count`: that just these were wrong was chance to that."""
    return (lgamma(count + 1) - lgamma(chosen + 1) - lgamma(count - chosen + 1)) / log(10)
