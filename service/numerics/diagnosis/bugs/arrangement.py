"""Gradients whose numbers are right, and stand in the wrong places."""

from collections.abc import Iterator, Mapping
from itertools import permutations
from typing import ClassVar

import numpy as np

from service.numerics.core.batching import Array, Shape
from service.numerics.diagnosis.bug import GradientBug, SimulatedBug, register_gradient_bug
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.diagnosis.matching import BugHypothesis, fit_tolerance

_MAX_AXES = 5


def _iterate_other_axis_orders(axes: int) -> Iterator[tuple[int, ...]]:
    """Orders of axes other than their own; of very many axes the reverse alone."""
    own = tuple(range(axes))
    every = permutations(own) if axes <= _MAX_AXES else iter([own[::-1]])
    return (order for order in every if order != own)


class _RearrangedGradient(SimulatedBug):
    """Right numbers in another order: places are flat indices into the right gradient, of the shape that came."""

    def simulate_gradients(self, scene: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """See `Made`."""
        right = scene.right_gradient(name)
        given = scene.candidates.get(name, right).shape
        for places, how in self.rearrangements(right.shape, given):
            text = f"{scene.describe_gradient(name)} has the numbers of the reference, {how}."
            yield BugHypothesis(self.name, right.ravel()[places], text, bug_key=how)

    def rearrangements(self, shape: Shape, candidate_shape: Shape) -> Iterator[tuple[Array, str]]:
        """Which element of the right gradient, of `shape`, stands where in one of shape `given`, and how that came."""
        raise NotImplementedError


@register_gradient_bug
class TransposedGradient(_RearrangedGradient):
    """A matrix was handed over transposed."""

    name: ClassVar[str] = "transposed"
    signature: ClassVar[str] = "c = g^T"

    def rearrangements(self, shape: Shape, candidate_shape: Shape) -> Iterator[tuple[Array, str]]:
        """See `_Rearranged`."""
        if len(shape) == 2 and candidate_shape in (shape[::-1], shape) and min(shape) > 1:
            places = np.arange(shape[0] * shape[1]).reshape(shape).T
            if places.shape == candidate_shape:
                yield places, "transposed"

    def inject(self, scene: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        right = scene.right_gradient(name)
        if right.ndim == 2 and min(right.shape) > 1:
            yield {name: right.T.copy()}


@register_gradient_bug
class PermutedAxes(_RearrangedGradient):
    """The axes of a tensor stand in another order."""

    name: ClassVar[str] = "axes_permuted"
    signature: ClassVar[str] = "c = g with its axes in another order"

    def rearrangements(self, shape: Shape, candidate_shape: Shape) -> Iterator[tuple[Array, str]]:
        """See `_Rearranged`."""
        if len(shape) < 3 or len(candidate_shape) != len(shape):
            return
        flat = np.arange(int(np.prod(shape))).reshape(shape)
        for order in _iterate_other_axis_orders(len(shape)):
            if tuple(shape[axis] for axis in order) == candidate_shape and _changes_element_order(shape, order):
                yield flat.transpose(order), f"its axes in the order {list(order)}"

    def inject(self, scene: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        right = scene.right_gradient(name)
        if right.ndim > 2:
            for order in _iterate_other_axis_orders(right.ndim):
                if _changes_element_order(right.shape, order):
                    yield {name: right.transpose(order).copy()}


def _changes_element_order(shape: Shape, order: tuple[int, ...]) -> bool:
    """Whether an order of axes moves elements, and not only axes of length 1."""
    longer = [axis for axis in order if shape[axis] > 1]
    return longer != sorted(longer)


@register_gradient_bug
class WrongMemoryOrder(_RearrangedGradient):
    """A buffer was written in one order of its axes and read in another."""

    name: ClassVar[str] = "memory_order"
    signature: ClassVar[str] = "the numbers of c, one after the other, are those of g with its axes in another order"

    def rearrangements(self, shape: Shape, candidate_shape: Shape) -> Iterator[tuple[Array, str]]:
        """See `_Rearranged`."""
        count = int(np.prod(shape))
        if len(shape) < 2 or count != int(np.prod(candidate_shape)):
            return
        flat = np.arange(count).reshape(shape)
        for order in _iterate_other_axis_orders(len(shape)):
            if not _changes_element_order(shape, order):
                continue
            lengths = tuple(shape[axis] for axis in order)
            how = f"written in the order {list(order)} of its axes and read row by row"
            yield flat.transpose(order).reshape(candidate_shape), how
            if candidate_shape == shape:
                back = np.argsort(order)
                how = f"written row by row and read in the order {list(order)} of its axes"
                yield flat.reshape(lengths).transpose(back), how

    def inject(self, scene: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        right = scene.right_gradient(name)
        if right.ndim > 1 and _changes_element_order(right.shape, tuple(range(right.ndim))[::-1]):
            yield {name: right.ravel(order="F").reshape(right.shape)}
            yield {name: right.ravel(order="F")}
            yield {name: right.ravel().reshape(right.shape[::-1]).T.copy()}


@register_gradient_bug
class ReshapedGradient(_RearrangedGradient):
    """The numbers stand in their order, in another shape."""

    name: ClassVar[str] = "reshaped"
    signature: ClassVar[str] = "the numbers of c are those of g in the same order; its shape is another"

    def rearrangements(self, shape: Shape, candidate_shape: Shape) -> Iterator[tuple[Array, str]]:
        """See `_Rearranged`."""
        if candidate_shape != shape and np.prod(candidate_shape) == np.prod(shape):
            how = f"in their order; only its shape is {list(candidate_shape)} instead of {list(shape)}"
            yield np.arange(int(np.prod(shape))).reshape(candidate_shape), how

    def inject(self, scene: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        right = scene.right_gradient(name)
        yield {name: right[None].copy()}
        if right.ndim > 1:
            yield {name: right.ravel()}


@register_gradient_bug
class SwappedGradients(GradientBug):
    """The gradients of two names were handed over in each other's place."""

    name: ClassVar[str] = "swapped"
    signature: ClassVar[str] = "c_i = g_j and c_j = g_i for two names"

    def hypotheses(self, scene: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """See `Fault`."""
        candidate, precision = scene.candidates[name], scene.precisions[name]
        for other in scene.gradients:
            theirs = scene.right_gradient(other)
            if other == name or theirs.shape != candidate.shape or scene.graph.loss_name == other:
                continue
            returned = scene.candidates.get(other)
            if returned is not None and not _is_close(returned, scene.right_gradient(name), fit_tolerance(precision)):
                continue
            if returned is None and other not in scene.judged_names:
                continue
            place = "one for the other" if returned is None else "in each other's place"
            text = f"{scene.describe_gradient(name)} is {scene.describe_gradient(other)}, as where they are handed over {place}."
            yield BugHypothesis(self.name, theirs, text)

    def inject(self, scene: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        for other in scene.judged_names:
            if other != name:
                yield {name: scene.right_gradient(other), other: scene.right_gradient(name)}


def _is_close(candidate: Array, hypothetical: Array, fit: float) -> bool:
    if candidate.shape != hypothetical.shape or not np.isfinite(candidate).all():
        return False
    largest = np.max(np.abs(hypothetical), initial=0)
    return bool((np.abs(candidate - hypothetical) <= fit * largest).all()) and bool(largest > 0)
