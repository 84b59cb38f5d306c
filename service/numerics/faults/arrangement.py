"""Gradients whose numbers are right, and stand in the wrong places."""

from collections.abc import Iterator, Mapping
from itertools import permutations
from typing import ClassVar

import numpy as np

from service.numerics.faults.fault import Fault, Made, fault
from service.numerics.faults.hypothesis import Hypothesis, loosest_fit
from service.numerics.faults.scene import Scene
from service.numerics.tiles import Array, Shape

_MOST_AXES = 5


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
            place = "one for the other" if returned is None else "in each other's place"
            text = f"{scene.told(name)} is {scene.told(other)}, as where they are handed over {place}."
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
