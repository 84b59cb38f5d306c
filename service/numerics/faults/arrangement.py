"""Gradients whose numbers are right, and stand in the wrong places."""

from collections.abc import Iterator, Mapping
from itertools import combinations, permutations
from math import lgamma, log
from typing import ClassVar

import numpy as np

from service.numerics.faults.fault import Fault, Made, fault
from service.numerics.faults.hypothesis import Hypothesis, enough, loosest_fit
from service.numerics.faults.scene import Scene
from service.numerics.ops.conv import Convolution, displaced
from service.numerics.ops.pool import Pool
from service.numerics.tiles import Array, Shape

_MOST_AXES = 5
_LEAST_ROLLED = 5
"""Elements; of fewer, any order is that of a move around too easily."""


def _orders(axes: int) -> Iterator[tuple[int, ...]]:
    """Orders of axes other than their own; of very many axes the reverse alone."""
    own = tuple(range(axes))
    every = permutations(own) if axes <= _MOST_AXES else iter([own[::-1]])
    return (order for order in every if order != own)


class _Rearranged(Made):
    """Right numbers in another order: places are flat indices into the right gradient, of the shape that came."""

    def made(self, scene: Scene, name: str) -> Iterator[Hypothesis]:
        """See `Made`."""
        right = scene.right(name)
        given = scene.candidates.get(name, right).shape
        for places, how in self.places(right.shape, given):
            text = f"{scene.told(name)} has the numbers of the reference, {how}."
            yield Hypothesis(self.name, right.ravel()[places], text, key=how)

    def places(self, shape: Shape, given: Shape) -> Iterator[tuple[Array, str]]:
        """Which element of the right gradient, of `shape`, stands where in one of shape `given`, and how that came."""
        raise NotImplementedError


@fault
class Transposed(_Rearranged):
    """A matrix was handed over transposed."""

    name: ClassVar[str] = "transposed"
    signature: ClassVar[str] = "c = g^T"

    def places(self, shape: Shape, given: Shape) -> Iterator[tuple[Array, str]]:
        """See `_Rearranged`."""
        if len(shape) == 2 and given in (shape[::-1], shape) and min(shape) > 1:
            places = np.arange(shape[0] * shape[1]).reshape(shape).T
            if places.shape == given:
                yield places, "transposed"

    def injected(self, scene: Scene, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        right = scene.right(name)
        if right.ndim == 2 and min(right.shape) > 1:
            yield {name: right.T.copy()}


@fault
class AxesPermuted(_Rearranged):
    """The axes of a tensor stand in another order."""

    name: ClassVar[str] = "axes_permuted"
    signature: ClassVar[str] = "c = g with its axes in another order"

    def places(self, shape: Shape, given: Shape) -> Iterator[tuple[Array, str]]:
        """See `_Rearranged`."""
        if len(shape) < 3 or len(given) != len(shape):
            return
        flat = np.arange(int(np.prod(shape))).reshape(shape)
        for order in _orders(len(shape)):
            if tuple(shape[axis] for axis in order) == given and _moves(shape, order):
                yield flat.transpose(order), f"its axes in the order {list(order)}"

    def injected(self, scene: Scene, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        right = scene.right(name)
        if right.ndim > 2:
            for order in _orders(right.ndim):
                if _moves(right.shape, order):
                    yield {name: right.transpose(order).copy()}


def _moves(shape: Shape, order: tuple[int, ...]) -> bool:
    """Whether an order of axes moves elements, and not only axes of length 1."""
    longer = [axis for axis in order if shape[axis] > 1]
    return longer != sorted(longer)


@fault
class MemoryOrder(_Rearranged):
    """A buffer was written in one order of its axes and read in another."""

    name: ClassVar[str] = "memory_order"
    signature: ClassVar[str] = "the numbers of c, one after the other, are those of g with its axes in another order"

    def places(self, shape: Shape, given: Shape) -> Iterator[tuple[Array, str]]:
        """See `_Rearranged`."""
        count = int(np.prod(shape))
        if len(shape) < 2 or count != int(np.prod(given)):
            return
        flat = np.arange(count).reshape(shape)
        for order in _orders(len(shape)):
            if not _moves(shape, order):
                continue
            lengths = tuple(shape[axis] for axis in order)
            how = f"written in the order {list(order)} of its axes and read row by row"
            yield flat.transpose(order).reshape(given), how
            if given == shape:
                back = np.argsort(order)
                how = f"written row by row and read in the order {list(order)} of its axes"
                yield flat.reshape(lengths).transpose(back), how

    def injected(self, scene: Scene, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        right = scene.right(name)
        if right.ndim > 1 and _moves(right.shape, tuple(range(right.ndim))[::-1]):
            yield {name: right.ravel(order="F").reshape(right.shape)}
            yield {name: right.ravel(order="F")}
            yield {name: right.ravel().reshape(right.shape[::-1]).T.copy()}


@fault
class Reshaped(_Rearranged):
    """The numbers stand in their order, in another shape."""

    name: ClassVar[str] = "reshaped"
    signature: ClassVar[str] = "the numbers of c are those of g in the same order; its shape is another"

    def places(self, shape: Shape, given: Shape) -> Iterator[tuple[Array, str]]:
        """See `_Rearranged`."""
        if given != shape and np.prod(given) == np.prod(shape):
            how = f"in their order; only its shape is {list(given)} instead of {list(shape)}"
            yield np.arange(int(np.prod(shape))).reshape(given), how

    def injected(self, scene: Scene, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        right = scene.right(name)
        yield {name: right[None].copy()}
        if right.ndim > 1:
            yield {name: right.ravel()}


@fault
class Swapped(Fault):
    """The gradients of two names were handed over in each other's place."""

    name: ClassVar[str] = "swapped"
    signature: ClassVar[str] = "c_i = g_j and c_j = g_i for two names"

    def recognised(self, scene: Scene, name: str) -> Iterator[Hypothesis]:
        """See `Fault`."""
        candidate, precision = scene.candidates[name], scene.precisions[name]
        for other in scene.gradients:
            theirs = scene.right(other)
            if other == name or theirs.shape != candidate.shape or scene.graph.loss == other:
                continue
            returned = scene.candidates.get(other)
            if returned is not None and not _near(returned, scene.right(name), loosest_fit(precision)):
                continue
            if returned is None and other not in scene.names:
                continue
            text = f"{scene.told(name)} is {scene.told(other)}: the two were handed over in each other's place."
            yield Hypothesis(self.name, theirs, text)

    def injected(self, scene: Scene, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        for other in scene.names:
            if other != name:
                yield {name: scene.right(other), other: scene.right(name)}


def _near(candidate: Array, made: Array, fit: float) -> bool:
    if candidate.shape != made.shape or not np.isfinite(candidate).all():
        return False
    largest = np.max(np.abs(made), initial=0)
    return bool((np.abs(candidate - made) <= fit * largest).all()) and bool(largest > 0)


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
            for by in (1, -1):
                along = f"along ax{'i' if len(axes) == 1 else 'e'}s {', '.join(map(str, axes))}"
                text = f"{told} is the reference moved by {by:+d} {along}: an offset or a padding is off by one."
                yield Hypothesis(self.name, displaced(right, axes, by), text, key=(axes, by))
                if right.size >= _LEAST_ROLLED:
                    rolled = np.roll(right, (by,) * len(axes), axes)
                    yield Hypothesis(self.name, rolled, text, key=(axes, by))

    def _on_the_border(self, scene: Scene, name: str) -> Iterator[Hypothesis]:
        candidate, right = scene.candidates[name], scene.right(name)
        axes = _plane(scene, name)
        if not axes or candidate.shape != right.shape or not np.isfinite(candidate).all():
            return
        border = _border(right.shape, axes)
        fit = loosest_fit(scene.precisions[name]) * np.max(np.abs(right), initial=0)
        wrong = np.abs(candidate - right) > fit
        if (wrong & ~border).any() or not wrong[border].all() or border.all():
            return
        text = f"{scene.told(name)} is right inside and wrong all along the border: a padding is off by one."
        yield Hypothesis(self.name, candidate, text, evidence=_chance(border.size, int(border.sum())))

    def injected(self, scene: Scene, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        right = scene.right(name)
        for axes in _axes_to_move(right.shape):
            yield {name: displaced(right, axes, 1)}
            if right.size >= _LEAST_ROLLED:
                yield {name: np.roll(right, (-1,) * len(axes), axes)}
        border = _border(right.shape, _plane(scene, name))
        if enough(_chance(border.size, int(border.sum()))):
            yield {name: np.where(border, 0.5 * right, right)}


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


def _border(shape: Shape, axes: tuple[int, ...]) -> Array:
    border = np.zeros(shape, np.bool_)
    for axis in axes:
        along = np.moveaxis(border, axis, 0)
        along[0] = along[-1] = True
    return border


def _chance(count: int, chosen: int) -> float:
    """Digits of the number of ways to choose so many of `count`: that just these were wrong was chance to that."""
    return (lgamma(count + 1) - lgamma(chosen + 1) - lgamma(count - chosen + 1)) / log(10)
