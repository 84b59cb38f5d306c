"""Ops whose output is of integers or truths, and so has no gradient.

Their values jump. A difference keeps them as they are at the point, since the loss is a smooth function there. If
rounding may decide them, gradients that depend on them are uncertain: such an op lists the values that correct programs
may compute, and `model/uncertain_choices.py` finds what depends on them.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from service.numerics.core.batching import Array, Shape
from service.numerics.ops.binary import align_ranks, broadcast_shapes
from service.numerics.ops.op import DependencyLabels, Gradients, Op, OpExample, register_op
from service.numerics.ops.pointwise import find_torch_function

ANY_VALUE = np.iinfo(np.int64).min
"""An index in place of one that may be any."""


class DiscreteOp(Op):
    """An op whose output has no gradient."""

    output_kind: ClassVar[str] = "index"
    examples: ClassVar[tuple[OpExample, ...]] = ()
    """None: the examples put an op under a loss of its output."""

    def select_branch(self, *inputs: Any) -> Array:
        """Return the output itself: a difference holds it."""
        return self.forward(*inputs)

    def forward_on_branch(self, branch: Array, *inputs: Any) -> Array:
        return branch

    def backward(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        return tuple(
            None if array is None or array.dtype.kind != "f" else np.zeros((1, *array.shape[1:]), array.dtype)
            for array in inputs
        )

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        """Return that no label reaches the output: no difference moves it."""
        count = max((len(labels) for labels in values if labels is not None), default=1)
        shapes = tuple(None if array is None else array.shape[1:] for array in inputs)
        return np.full((count, *self.infer_output_shape(*shapes)), np.inf)

    def estimate_forward_rounding(self, output: Array, *inputs: Any) -> None:
        return None

    def estimate_backward_rounding(self, gradient: Array, output: Array, *inputs: Any) -> tuple[None, ...]:
        return (None,) * len(inputs)

    def count_positions(self, *shapes: Any) -> int:
        """Return the number of values that an index may have, which count from 0."""
        raise NotImplementedError(f"{self.name} returns no index")

    @abstractmethod
    def list_values(self, input_errors: Sequence[Array | None], *inputs: Any) -> Array:
        """Return the outputs that correct programs may compute, (n, ...), the op's own first.

        Each element takes each of its values in one of them. An index that may be anything is ANY_VALUE.

        Parameters
        ----------
        input_errors
            Largest error of each input, (1, ...); None for one that is not of floats.
        inputs
            Inputs of `forward`, (1, ...); (n, ...) for integers and truths that have several values.
        """


class Comparison(DiscreteOp):
    """A comparison of two tensors, element by element, with broadcasting."""

    output_kind = "bool"
    inputs = ("input:float|index|bool", "other:float|index|bool")

    def infer_output_shape(self, input: Shape, other: Shape) -> Shape:
        return broadcast_shapes(input, other)

    @abstractmethod
    def compare(self, a: Array, b: Array) -> Array:
        """Return the truths."""

    def forward(self, input: Array, other: Array) -> Array:
        return self.compare(*align_ranks(input, other))

    def list_values(self, input_errors: Sequence[Array | None], input: Array, other: Array) -> Array:
        a, b = align_ranks(input, other)
        own = self.compare(a[:1], b[:1])
        errors = [align_ranks(error, own)[0] for error in input_errors if error is not None]
        error = np.broadcast_to(sum(errors, start=np.zeros(own.shape)), own.shape)
        others = [self.compare(x[None], y[None]) for x in a for y in b]
        if any(array.dtype.kind == "i" and (array == ANY_VALUE).any() for array in (a, b)):
            others.append(~own)
        if error.any():
            with np.errstate(invalid="ignore"):
                is_apart = np.abs(np.subtract(a, b, dtype=np.float64)) > error
            # What rounds to nothing is exact: a comparison of equal numbers is decided.
            others.append(own ^ ((error > 0) & ~is_apart.all(axis=0, keepdims=True)))
        return list_truths(own, *others)

    def torch_forward(self, torch: Any, input: Any, other: Any) -> Any:
        return find_torch_function(torch, "", self.name)(input, other)


def list_truths(own: Array, *others: Array) -> Array:
    """Return truths, and beside them, if any other value differs, these with each differing element turned."""
    is_open = np.zeros(own.shape, np.bool_)
    for other in others:
        is_open |= other != own
    return np.concatenate([own, own ^ is_open]) if is_open.any() else own


@register_op("eq")
class Equal(Comparison):
    """Equality: y = (a = b), of truths. It has no gradient."""

    def compare(self, a: Array, b: Array) -> Array:
        return np.equal(a, b)


@register_op("ne")
class NotEqual(Comparison):
    """Inequality: y = (a != b), of truths. It has no gradient."""

    def compare(self, a: Array, b: Array) -> Array:
        return np.not_equal(a, b)


@register_op("lt")
class Less(Comparison):
    """Less: y = (a < b), of truths. It has no gradient."""

    def compare(self, a: Array, b: Array) -> Array:
        return np.less(a, b)


@register_op("le")
class LessOrEqual(Comparison):
    """Less or equal: y = (a <= b), of truths. It has no gradient."""

    def compare(self, a: Array, b: Array) -> Array:
        return np.less_equal(a, b)


@register_op("gt")
class Greater(Comparison):
    """Greater: y = (a > b), of truths. It has no gradient."""

    def compare(self, a: Array, b: Array) -> Array:
        return np.greater(a, b)


@register_op("ge")
class GreaterOrEqual(Comparison):
    """Greater or equal: y = (a >= b), of truths. It has no gradient."""

    def compare(self, a: Array, b: Array) -> Array:
        return np.greater_equal(a, b)


class LogicalPair(DiscreteOp):
    """A function of two truths, element by element, with broadcasting."""

    output_kind = "bool"
    inputs = ("input:bool", "other:bool")

    def infer_output_shape(self, input: Shape, other: Shape) -> Shape:
        return broadcast_shapes(input, other)

    @abstractmethod
    def combine(self, a: Array, b: Array) -> Array:
        """Return the truths."""

    def forward(self, input: Array, other: Array) -> Array:
        return self.combine(*align_ranks(input, other))

    def list_values(self, input_errors: Sequence[Array | None], input: Array, other: Array) -> Array:
        a, b = align_ranks(input, other)
        return list_truths(self.forward(input[:1], other[:1]), *(self.combine(x[None], y[None]) for x in a for y in b))

    def torch_forward(self, torch: Any, input: Any, other: Any) -> Any:
        return find_torch_function(torch, "", self.name)(input, other)


@register_op("logical_and")
class LogicalAnd(LogicalPair):
    """Both: y = a and b, of truths. It has no gradient."""

    def combine(self, a: Array, b: Array) -> Array:
        return a & b


@register_op("logical_or")
class LogicalOr(LogicalPair):
    """One or both: y = a or b, of truths. It has no gradient."""

    def combine(self, a: Array, b: Array) -> Array:
        return a | b


@register_op("logical_xor")
class LogicalXor(LogicalPair):
    """One alone: y = a or b, and not both, of truths. It has no gradient."""

    def combine(self, a: Array, b: Array) -> Array:
        return a ^ b


@register_op("logical_not")
class LogicalNot(DiscreteOp):
    """The opposite: y = not x, of truths. It has no gradient."""

    output_kind = "bool"
    inputs = ("input:bool",)

    def infer_output_shape(self, input: Shape) -> Shape:
        return input

    def forward(self, input: Array) -> Array:
        return ~input

    def list_values(self, input_errors: Sequence[Array | None], input: Array) -> Array:
        return ~input

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.logical_not(input)
