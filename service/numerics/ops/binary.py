"""Functions of two or three tensors, element by element, with the broadcasting of NumPy.

The gradient of an operand that was broadcast is summed over the axes along which it was.
"""

from abc import abstractmethod
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from service.numerics.ops.choices import Choices, between
from service.numerics.ops.multiplier import Multiplier, factor, of_number
from service.numerics.ops.op import (
    Case,
    Gradients,
    Op,
    Products,
    Rounding,
    ShapeError,
    Spreading,
    mutant,
    mutant_of,
    op,
)
from service.numerics.reach import given, joined
from service.numerics.tiles import Array, Shape, aligned, numbered, repeats, size, tiled, unbroadcast

_CASES = (
    Case(((3, 4), (3, 4))),
    Case(((2, 3, 4), (4,))),
    Case(((3, 1), (1, 4))),
    Case(((), (2, 3))),
)

_JOINTLY = MappingProxyType({"input": ("other",), "other": ("input",)})


def broadcast(*shapes: Shape) -> Shape:
    """Shape to which all are broadcast, or ShapeError."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ShapeError("shapes that broadcast together") from None


class Binary(Op):
    """y = f(a, b) with the broadcasting of NumPy: dL/da = sum g df/da, dL/db = sum g df/db."""

    inputs = ("input", "other")
    cases = _CASES

    @abstractmethod
    def value(self, a: Array, b: Array) -> Array:
        """Return f(a, b) of arrays of one rank."""

    @abstractmethod
    def shares(self, g: Array, a: Array, b: Array, y: Array) -> tuple[Array, Array]:
        """Return g df/da and g df/db, before they are summed over broadcast axes."""

    def share_sizes(self, g: Array, a: Array, b: Array, y: Array) -> tuple[Array, Array]:
        """Return the same in their textbook form, on absolute values."""
        by_a, by_b = self.shares(np.abs(g), a, b, y)
        return np.abs(by_a), np.abs(by_b)

    def value_size(self, a: Array, b: Array, y: Array) -> Array:
        """Return f(a, b) in its textbook form, on absolute values."""
        return np.abs(y)

    def output_shape(self, input: Shape, other: Shape) -> Shape:
        return broadcast(input, other)

    def forward(self, input: Array, other: Array) -> Array:
        return self.value(*_aligned(input, other))

    def spread(self, values: Spreading, *inputs: Any) -> Array:
        return joined(*_aligned(*given(values)))

    def backward(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        a, b = _aligned(input, other)
        by_a, by_b = self.shares(gradient, a, b, output)
        return unbroadcast(by_a, input.shape[1:]), unbroadcast(by_b, other.shape[1:])

    def rounding(self, output: Array, input: Array, other: Array) -> Rounding | None:
        a, b = _aligned(input, other)
        return Rounding(self.value_size(a, b, output), 1)

    def backward_rounding(
        self, gradient: Array, output: Array, input: Array, other: Array
    ) -> tuple[Rounding | None, ...]:
        a, b = _aligned(input, other)
        sizes = self.share_sizes(gradient, a, b, output)
        result = output.shape[1:]
        # Two roundings in each share at most, and one for each addition.
        return tuple(
            Rounding(
                unbroadcast(np.broadcast_to(size, np.broadcast_shapes(size.shape, output.shape)), each.shape[1:]),
                1 + repeats(result, each.shape[1:]),
            )
            for size, each in zip(sizes, (input, other), strict=True)
        )

    @mutant_of("scaled")
    def averaged_over_broadcast_axes(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        """The mean over the axes that were broadcast was taken instead of the sum."""
        result = output.shape[1:]
        by_input, by_other = self.backward(gradient, output, input, other)
        assert by_input is not None
        assert by_other is not None
        return by_input / repeats(result, input.shape[1:]), by_other / repeats(result, other.shape[1:])


def _aligned(*arrays: Array) -> tuple[Array, ...]:
    rank = max(array.ndim for array in arrays) - 1
    return tuple(aligned(array, rank) for array in arrays)


@op("add")
class Add(Binary):
    """y = a + c b, c a number (alpha): dL/da = g, dL/db = c g, summed over broadcast axes."""

    alpha: float = 1

    analytic = True
    linear_in = _JOINTLY

    cases = (*_CASES, Case(((3,), (3,)), {"alpha": -2.5}))

    def value(self, a: Array, b: Array) -> Array:
        return a + (b if self.alpha == 1 else b * b.dtype.type(self.alpha))

    def value_size(self, a: Array, b: Array, y: Array) -> Array:
        return np.abs(y) if self.alpha == 1 else np.abs(y) + np.abs(self.alpha * b)

    def shares(self, g: Array, a: Array, b: Array, y: Array) -> tuple[Array, Array]:
        return g, g if self.alpha == 1 else g * g.dtype.type(self.alpha)

    def multipliers(self, input: Array, other: Array) -> Sequence[Multiplier]:
        return [factor(self.alpha, positions=(1,))]

    @mutant
    def alpha_on_the_other_side(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        """The factor alpha was applied to the other operand."""
        by_input, by_other = gradient * self.alpha, gradient
        return unbroadcast(by_input, input.shape[1:]), unbroadcast(by_other, other.shape[1:])

    def twin(self, torch: Any, input: Any, other: Any) -> Any:
        return torch.add(input, other, alpha=self.alpha)


@op("sub")
class Sub(Binary):
    """y = a - c b, c a number (alpha): dL/da = g, dL/db = -c g, summed over broadcast axes."""

    alpha: float = 1

    analytic = True
    linear_in = _JOINTLY

    cases = (*_CASES, Case(((3,), (3,)), {"alpha": 0.5}))

    def value(self, a: Array, b: Array) -> Array:
        return a - (b if self.alpha == 1 else b * b.dtype.type(self.alpha))

    def value_size(self, a: Array, b: Array, y: Array) -> Array:
        return np.abs(y) if self.alpha == 1 else np.abs(y) + np.abs(self.alpha * b)

    def shares(self, g: Array, a: Array, b: Array, y: Array) -> tuple[Array, Array]:
        return g, -g if self.alpha == 1 else g * g.dtype.type(-self.alpha)

    def multipliers(self, input: Array, other: Array) -> Sequence[Multiplier]:
        return [factor(self.alpha, positions=(1,))]

    @mutant
    def sign_forgotten(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        """The sign was left out."""
        by_input, by_other = gradient, gradient * self.alpha
        return unbroadcast(by_input, input.shape[1:]), unbroadcast(by_other, other.shape[1:])

    def twin(self, torch: Any, input: Any, other: Any) -> Any:
        return torch.sub(input, other, alpha=self.alpha)


@op("mul")
class Mul(Binary):
    """y = a b, with the broadcasting of NumPy.

    With g = dL/dy of the broadcast shape:
        dL/da = sum g b over the axes along which a was broadcast
        dL/db = sum g a over the axes along which b was broadcast
    """

    multiplies = MappingProxyType({"input": "factor", "other": "factor"})
    analytic = True
    linear_in = MappingProxyType({"input": (), "other": ()})

    def products(self, position: int, input: Array, other: Array) -> Products:
        factors = _aligned(input, other)
        own, factor = factors[position], factors[1 - position]
        shape = np.broadcast_shapes(own.shape[1:], factor.shape[1:])
        return Products(shape, [numbered(own[0])], [factor[0]])

    def value(self, a: Array, b: Array) -> Array:
        return a * b

    def shares(self, g: Array, a: Array, b: Array, y: Array) -> tuple[Array, Array]:
        return g * b, g * a

    def multipliers(self, input: Array, other: Array) -> Sequence[Multiplier]:
        return [*of_number("factor", other, (0,)), *of_number("factor", input, (1,))]

    @mutant_of("channel_factor_missing", lambda shapes: any(_is_broadcast(each, shapes[0]) for each in shapes[1:]))
    def channel_factor_missing(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        """A factor that is broadcast was left out on the way to the other one."""
        by_input, by_other = self.backward(gradient, output, input, other)
        if _is_broadcast(other.shape[1:], output.shape[1:]):
            by_input = unbroadcast(gradient, input.shape[1:])
        if _is_broadcast(input.shape[1:], output.shape[1:]):
            by_other = unbroadcast(gradient, other.shape[1:])
        return by_input, by_other

    @mutant_of("scaled", lambda shapes: any(size(each) == 1 for each in shapes[1:]), declared=True)
    def number_forgotten(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        """A factor that is one number was left out on the way to the other one."""
        by_input, by_other = self.backward(gradient, output, input, other)
        if size(other.shape[1:]) == 1:
            by_input = unbroadcast(gradient, input.shape[1:])
        if size(input.shape[1:]) == 1:
            by_other = unbroadcast(gradient, other.shape[1:])
        return by_input, by_other

    @mutant
    def own_factor(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        """Each operand was multiplied by itself instead of by the other one."""
        a, b = _aligned(input, other)
        return unbroadcast(gradient * a + 0 * b, input.shape[1:]), unbroadcast(gradient * b + 0 * a, other.shape[1:])

    def twin(self, torch: Any, input: Any, other: Any) -> Any:
        return torch.mul(input, other)


def _is_broadcast(factor: Shape, output: Shape) -> bool:
    """Whether it is more than one number, and fewer than the result has."""
    return 1 < size(factor) < size(output)


@op("div")
class Div(Binary):
    """y = a / b: dL/da = sum g / b, dL/db = sum -g y / b, over the axes along which each was broadcast."""

    multiplies = MappingProxyType({"input": "factor", "other": "division"})
    analytic = True
    linear_in = MappingProxyType({"input": ()})

    cases = (
        Case(((3, 4), (3, 4)), low=0.3, high=2),
        Case(((2, 3, 4), (4,)), low=-2, high=-0.3),
        Case(((), (2, 3)), low=0.3, high=2),
    )

    def value(self, a: Array, b: Array) -> Array:
        return a / b

    def shares(self, g: Array, a: Array, b: Array, y: Array) -> tuple[Array, Array]:
        return g / b, -g * (a / b) / b

    def multipliers(self, input: Array, other: Array) -> Sequence[Multiplier]:
        return [*of_number("division", other, (0,)), *of_number("factor", input, (1,))]

    @mutant_of("channel_factor_missing", lambda shapes: _is_broadcast(shapes[2], shapes[0]))
    def channel_factor_missing(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        """A divisor that is broadcast was left out on the way to what it divides."""
        by_input, by_other = self.backward(gradient, output, input, other)
        if _is_broadcast(other.shape[1:], output.shape[1:]):
            by_input = unbroadcast(gradient, input.shape[1:])
        return by_input, by_other

    @mutant
    def sign_forgotten(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        """The sign was left out."""
        a, b = _aligned(input, other)
        return unbroadcast(gradient / b, input.shape[1:]), unbroadcast(gradient * a / np.square(b), other.shape[1:])

    def twin(self, torch: Any, input: Any, other: Any) -> Any:
        return torch.div(input, other)


def _of(off: Array | None) -> Array:
    assert off is not None
    return off


def _numbers(operand: Array, shape: Shape) -> Array:
    """Flat index of the operand's element at each element of what it is broadcast to, flat."""
    return np.broadcast_to(aligned(tiled(numbered(operand[0])), len(shape) - 1), shape).ravel()


class Extremum(Binary):
    """The larger or the smaller of two: the gradient goes to the one taken, half to each where they are equal."""

    sign = 1

    def branch(self, input: Array, other: Array) -> Array:
        a, b = _aligned(input, other)
        return np.sign(a - b) * self.sign

    def choices(self, off: Sequence[Array | None], input: Array, other: Array) -> Choices | None:
        """One of the two, or weights of both."""
        a, b, of_a, of_b = (np.broadcast_to(each, each.shape) for each in (input, other, *map(_of, off)))
        a, b = _aligned(a, b)
        near = np.abs(a - b) <= sum(_aligned(of_a, of_b))
        places = np.flatnonzero(near)
        tied = np.broadcast_to(a == b, near.shape).ravel()[places]
        of_input, of_other = (_numbers(each, near.shape)[places] for each in (input, other))
        taken = np.broadcast_to(np.sign(a - b) * self.sign, near.shape).ravel()[places]
        return between(places, (1 - taken) / 2, tied, [(0, of_input, 1.0)], [(1, of_other, 1.0)])

    def along(self, branch: Array, input: Array, other: Array) -> Array:
        a, b = _aligned(input, other)
        return np.select([branch > 0, branch < 0], [a, b], (a + b) / 2)

    def value(self, a: Array, b: Array) -> Array:
        return np.maximum(a, b) if self.sign > 0 else np.minimum(a, b)

    def shares(self, g: Array, a: Array, b: Array, y: Array) -> tuple[Array, Array]:
        taken = np.sign(a - b) * self.sign
        of_a = ((1 + taken) / 2).astype(g.dtype, copy=False)
        return g * of_a, g * (1 - of_a)

    def rounding(self, output: Array, input: Array, other: Array) -> None:
        return None

    def rounding_along(self, branch: Array, output: Array, input: Array, other: Array) -> Rounding:
        return Rounding(np.abs(output) * (branch == 0), 1)

    @mutant
    def to_both(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        """The gradient went to both operands instead of to the one that was taken."""
        a, b = _aligned(input, other)
        return unbroadcast(gradient + 0 * b, input.shape[1:]), unbroadcast(gradient + 0 * a, other.shape[1:])

    @mutant_of("to_both", at_ties=True)
    def to_both_where_equal(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        """The whole gradient went to both operands where they are equal."""
        a, b = _aligned(input, other)
        return (
            unbroadcast(gradient * (a == output), input.shape[1:]),
            unbroadcast(gradient * (b == output), other.shape[1:]),
        )


@op("maximum")
class Maximum(Extremum):
    """y = max(a, b): dL/da = sum g [a > b], dL/db = sum g [b > a], and g / 2 to each where a = b."""

    def twin(self, torch: Any, input: Any, other: Any) -> Any:
        return torch.maximum(input, other)


@op("minimum")
class Minimum(Extremum):
    """y = min(a, b): dL/da = sum g [a < b], dL/db = sum g [b < a], and g / 2 to each where a = b."""

    sign = -1

    def twin(self, torch: Any, input: Any, other: Any) -> Any:
        return torch.minimum(input, other)


@op("where")
class Where(Op):
    """y = a where the mask m is true, else b: dL/da = sum g [m], dL/db = sum g [not m], over broadcast axes."""

    inputs = ("condition:bool", "input", "other")
    analytic = True
    linear_in = _JOINTLY
    cases = (Case(((3, 4), (3, 4), (3, 4))), Case(((3, 1), (4,), ())), Case(((), (2,), (2,))))

    def output_shape(self, condition: Shape, input: Shape, other: Shape) -> Shape:
        return broadcast(condition, input, other)

    def forward(self, condition: Array, input: Array, other: Array) -> Array:
        return np.where(*_aligned(condition, input, other))

    def spread(self, values: Spreading, *inputs: Any) -> Array:
        return self.forward(inputs[0], *given(values))

    def backward(self, gradient: Array, output: Array, condition: Array, input: Array, other: Array) -> Gradients:
        mask = aligned(condition, output.ndim - 1)
        by_input = unbroadcast(np.where(mask, gradient, 0), input.shape[1:])
        by_other = unbroadcast(np.where(mask, 0, gradient), other.shape[1:])
        return None, by_input.astype(gradient.dtype, copy=False), by_other.astype(gradient.dtype, copy=False)

    def rounding(self, output: Array, condition: Array, input: Array, other: Array) -> None:
        return None

    def backward_rounding(
        self, gradient: Array, output: Array, condition: Array, input: Array, other: Array
    ) -> tuple[Rounding | None, ...]:
        _, by_input, by_other = self.backward(np.abs(gradient), output, condition, input, other)
        assert by_input is not None
        assert by_other is not None
        result = output.shape[1:]
        return (
            None,
            Rounding(by_input, repeats(result, input.shape[1:])),
            Rounding(by_other, repeats(result, other.shape[1:])),
        )

    @mutant
    def mask_inverted(self, gradient: Array, output: Array, condition: Array, input: Array, other: Array) -> Gradients:
        """The mask was inverted."""
        return self.backward(gradient, output, ~condition, input, other)

    def twin(self, torch: Any, condition: Any, input: Any, other: Any) -> Any:
        return torch.where(condition, input, other)
