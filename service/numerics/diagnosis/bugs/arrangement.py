"""Gradients with the right numbers in the wrong places."""

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
    """Iterate over all orders of axes but the right one.

    For very many axes there is only the reverse order.
    """
    right_order = tuple(range(axes))
    orders = permutations(right_order) if axes <= _MAX_AXES else iter([right_order[::-1]])
    return (order for order in orders if order != right_order)


class _RearrangedGradient(SimulatedBug):
    """The right numbers in another order."""

    def simulate_gradients(self, context: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """Yield the rearranged gradients of the candidate's shape; see `SimulatedBug`."""
        right = context.get_right_gradient(name)
        candidate_shape = context.candidates.get(name, right).shape
        for flat_positions, predicate in self.iterate_rearrangements(right.shape, candidate_shape):
            text = f"{context.describe_gradient(name)} {predicate}."
            yield BugHypothesis(self.name, right.ravel()[flat_positions], text, bug_key=predicate)

    def iterate_rearrangements(self, shape: Shape, candidate_shape: Shape) -> Iterator[tuple[Array, str]]:
        """Yield indices into the flat right gradient, and a predicate in words.

        The indices have the candidate's shape.
        """
        raise NotImplementedError


@register_gradient_bug
class TransposedGradient(_RearrangedGradient):
    """A matrix that was handed over transposed."""

    name: ClassVar[str] = "transposed"
    signature: ClassVar[str] = "c = g^T"

    def iterate_rearrangements(self, shape: Shape, candidate_shape: Shape) -> Iterator[tuple[Array, str]]:
        """Yield flat indices and a predicate; see `_RearrangedGradient`."""
        if len(shape) == 2 and candidate_shape in (shape[::-1], shape) and min(shape) > 1:
            flat_positions = np.arange(shape[0] * shape[1]).reshape(shape).T
            if flat_positions.shape == candidate_shape:
                yield flat_positions, "is the transpose of the reference"

    def inject(self, context: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """Yield the transposed gradient of a matrix; see `GradientBug`."""
        right = context.get_right_gradient(name)
        if right.ndim == 2 and min(right.shape) > 1:
            yield {name: right.T.copy()}


@register_gradient_bug
class PermutedAxes(_RearrangedGradient):
    """A tensor whose axes stand in another order."""

    name: ClassVar[str] = "axes_permuted"
    signature: ClassVar[str] = "c = g with its axes in another order"

    def iterate_rearrangements(self, shape: Shape, candidate_shape: Shape) -> Iterator[tuple[Array, str]]:
        """Yield flat indices and a predicate; see `_RearrangedGradient`."""
        if len(shape) < 3 or len(candidate_shape) != len(shape):
            return
        flat = np.arange(int(np.prod(shape))).reshape(shape)
        for order in _iterate_other_axis_orders(len(shape)):
            if tuple(shape[axis] for axis in order) == candidate_shape and _changes_element_order(shape, order):
                yield flat.transpose(order), f"is the reference with its axes in the order {list(order)}"

    def inject(self, context: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """Yield the gradient with its axes in each other order; see `GradientBug`."""
        right = context.get_right_gradient(name)
        if right.ndim > 2:
            for order in _iterate_other_axis_orders(right.ndim):
                if _changes_element_order(right.shape, order):
                    yield {name: right.transpose(order).copy()}


def _changes_element_order(shape: Shape, order: tuple[int, ...]) -> bool:
    """Tell whether an order of axes moves elements, and not only axes of length 1."""
    long_axes = [axis for axis in order if shape[axis] > 1]
    return long_axes != sorted(long_axes)


@register_gradient_bug
class WrongMemoryOrder(_RearrangedGradient):
    """A buffer that was written in one order of its axes and read in another."""

    name: ClassVar[str] = "memory_order"
    signature: ClassVar[str] = "the numbers of c in row order are those of g with its axes in another order"

    def iterate_rearrangements(self, shape: Shape, candidate_shape: Shape) -> Iterator[tuple[Array, str]]:
        """Yield flat indices and a predicate; see `_RearrangedGradient`."""
        count = int(np.prod(shape))
        if len(shape) < 2 or count != int(np.prod(candidate_shape)):
            return
        flat = np.arange(count).reshape(shape)
        for order in _iterate_other_axis_orders(len(shape)):
            if not _changes_element_order(shape, order):
                continue
            lengths = tuple(shape[axis] for axis in order)
            predicate = f"is the reference, written with its axes in the order {list(order)} and read row by row"
            yield flat.transpose(order).reshape(candidate_shape), predicate
            if candidate_shape == shape:
                inverse_order = np.argsort(order)
                predicate = f"is the reference, written row by row and read with its axes in the order {list(order)}"
                yield flat.reshape(lengths).transpose(inverse_order), predicate

    def inject(self, context: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """Yield the buffer of the gradient written or read column by column."""
        right = context.get_right_gradient(name)
        if right.ndim > 1 and _changes_element_order(right.shape, tuple(range(right.ndim))[::-1]):
            yield {name: right.ravel(order="F").reshape(right.shape)}
            yield {name: right.ravel(order="F")}
            yield {name: right.ravel().reshape(right.shape[::-1]).T.copy()}


@register_gradient_bug
class ReshapedGradient(_RearrangedGradient):
    """The right numbers in the right order, in another shape."""

    name: ClassVar[str] = "reshaped"
    signature: ClassVar[str] = "c has the numbers of g in the same order, and another shape"

    def iterate_rearrangements(self, shape: Shape, candidate_shape: Shape) -> Iterator[tuple[Array, str]]:
        """Yield flat indices and a predicate; see `_RearrangedGradient`."""
        if candidate_shape != shape and np.prod(candidate_shape) == np.prod(shape):
            predicate = (
                f"has the right numbers in the right order, and shape {list(candidate_shape)} instead of {list(shape)}"
            )
            yield np.arange(int(np.prod(shape))).reshape(candidate_shape), predicate

    def inject(self, context: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """Yield the gradient with an axis too many, and flat; see `GradientBug`."""
        right = context.get_right_gradient(name)
        yield {name: right[None].copy()}
        if right.ndim > 1:
            yield {name: right.ravel()}


@register_gradient_bug
class SwappedGradients(GradientBug):
    """The gradients of two names in each other's place."""

    name: ClassVar[str] = "swapped"
    signature: ClassVar[str] = "c_i = g_j and c_j = g_i for two names"

    def iterate_hypotheses(self, context: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """Yield the right gradients of names that may have been swapped."""
        candidate, precision = context.candidates[name], context.precisions[name]
        for other_name in context.gradients:
            other_gradient = context.get_right_gradient(other_name)
            if other_name == name or other_gradient.shape != candidate.shape or context.graph.loss_name == other_name:
                continue
            other_candidate = context.candidates.get(other_name)
            if other_candidate is not None and not _is_close(
                other_candidate, context.get_right_gradient(name), fit_tolerance(precision)
            ):
                continue
            if other_candidate is None and other_name not in context.judged_names:
                continue
            first, second = context.describe_gradient(name), context.describe_gradient(other_name)
            if other_candidate is None:
                text = f"{first} is the reference of {second}: one was handed over for the other."
            else:
                text = f"{first} and {second} were swapped: each is the reference of the other."
            yield BugHypothesis(self.name, other_gradient, text)

    def inject(self, context: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """Yield pairs of swapped gradients; see `GradientBug`."""
        for other_name in context.judged_names:
            if other_name != name:
                yield {name: context.get_right_gradient(other_name), other_name: context.get_right_gradient(name)}


def _is_close(candidate: Array, hypothetical: Array, fit: float) -> bool:
    if candidate.shape != hypothetical.shape or not np.isfinite(candidate).all():
        return False
    largest = np.max(np.abs(hypothetical), initial=0)
    return bool((np.abs(candidate - hypothetical) <= fit * largest).all()) and bool(largest > 0)
