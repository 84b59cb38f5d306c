"""Elementwise functions of two or three tensors, with the broadcasting of NumPy.

The gradient of a broadcast operand is summed over the axes along which it was broadcast.
"""

from abc import abstractmethod
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np

from service.numerics.core.batching import (
    Array,
    Shape,
    add_batch_axis,
    align_rank,
    count_elements,
    count_repeats,
    flat_indices,
    sum_broadcast_axes,
)
from service.numerics.core.sparsity import drop_missing, take_elementwise_min
from service.numerics.ops.backward_form import BackwardForm
from service.numerics.ops.formula_op import BroadcastFormula, BroadcastQuantities
from service.numerics.ops.multipliers import Multiplier, declare_factor, declare_scalar_multiplier
from service.numerics.ops.op import (
    DependencyLabels,
    Gradients,
    Op,
    OpExample,
    ProductExpansion,
    Rounding,
    ShapeError,
    declare_bug,
    declare_bug_named,
    make_form,
    register_op,
)
from service.numerics.ops.subgradient_choices import SubgradientChoices, choose_between_derivatives

_BROADCAST_EXAMPLES = (
    OpExample(((3, 4), (3, 4))),
    OpExample(((2, 3, 4), (4,))),
    OpExample(((3, 1), (1, 4))),
    OpExample(((), (2, 3))),
)

_JOINTLY_LINEAR = MappingProxyType({"input": ("other",), "other": ("input",)})


def broadcast_shapes(*shapes: Shape) -> Shape:
    """Return the shape to which all are broadcast, or raise ShapeError."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ShapeError("shapes that broadcast together") from None


def is_broadcastable(shape: Shape, target: Shape) -> bool:
    """Return whether a shape broadcasts to another one, and leaves it as it is."""
    try:
        return np.broadcast_shapes(shape, target) == target
    except ValueError:
        return False


class BinaryOp(Op):
    """A function y = f(a, b) with the broadcasting of NumPy.

    dL/da = sum g df/da, dL/db = sum g df/db.
    """

    inputs = ("input", "other")
    examples = _BROADCAST_EXAMPLES

    @abstractmethod
    def evaluate_function(self, a: Array, b: Array) -> Array:
        """Return f(a, b) of arrays of one rank."""

    @abstractmethod
    def compute_partial_gradients(self, g: Array, a: Array, b: Array, y: Array) -> tuple[Array, Array]:
        """Return g df/da and g df/db, before they are summed over broadcast axes."""

    def estimate_partial_gradient_magnitudes(self, g: Array, a: Array, b: Array, y: Array) -> tuple[Array, Array]:
        """Return g df/da and g df/db in their textbook form, on absolute values."""
        by_a, by_b = self.compute_partial_gradients(np.abs(g), a, b, y)
        return np.abs(by_a), np.abs(by_b)

    def estimate_value_magnitude(self, a: Array, b: Array, y: Array) -> Array:
        """Return f(a, b) in its textbook form, on absolute values."""
        return np.abs(y)

    def infer_output_shape(self, input: Shape, other: Shape) -> Shape:
        return broadcast_shapes(input, other)

    def forward(self, input: Array, other: Array) -> Array:
        return self.evaluate_function(*align_ranks(input, other))

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        return take_elementwise_min(*align_ranks(*drop_missing(values)))

    def backward(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        a, b = align_ranks(input, other)
        by_a, by_b = self.compute_partial_gradients(gradient, a, b, output)
        return sum_broadcast_axes(by_a, input.shape[1:]), sum_broadcast_axes(by_b, other.shape[1:])

    def estimate_forward_rounding(self, output: Array, input: Array, other: Array) -> Rounding | None:
        a, b = align_ranks(input, other)
        return Rounding(self.estimate_value_magnitude(a, b, output), 1)

    def estimate_backward_rounding(
        self, gradient: Array, output: Array, input: Array, other: Array
    ) -> tuple[Rounding | None, ...]:
        a, b = align_ranks(input, other)
        sizes = self.estimate_partial_gradient_magnitudes(gradient, a, b, output)
        output_shape = output.shape[1:]
        # Each share takes two roundings at most, and each addition one.
        return tuple(
            Rounding(
                sum_broadcast_axes(
                    np.broadcast_to(size, np.broadcast_shapes(size.shape, output.shape)), operand.shape[1:]
                ),
                1 + count_repeats(output_shape, operand.shape[1:]),
            )
            for size, operand in zip(sizes, (input, other), strict=True)
        )

    @declare_bug_named("scaled", "the mean over the broadcast axes was taken instead of the sum")
    def average_over_broadcast_axes(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        output_shape = output.shape[1:]
        by_input, by_other = self.backward(gradient, output, input, other)
        assert by_input is not None
        assert by_other is not None
        return by_input / count_repeats(output_shape, input.shape[1:]), by_other / count_repeats(
            output_shape, other.shape[1:]
        )


def align_ranks(*arrays: Array) -> tuple[Array, ...]:
    """Return the arrays with as many axes as the one with most."""
    rank = max(array.ndim for array in arrays) - 1
    return tuple(align_rank(array, rank) for array in arrays)


@register_op("add")
class Add(BinaryOp):
    """Sum of two tensors: y = a + c b, c a number (alpha).

    dL/da = g, dL/db = c g, summed over broadcast axes.
    """

    positional = ("input", "other")
    alpha: float = 1

    supports_complex_step = True
    linear_in = _JOINTLY_LINEAR

    examples = (*_BROADCAST_EXAMPLES, OpExample(((3,), (3,)), {"alpha": -2.5}))

    def evaluate_function(self, a: Array, b: Array) -> Array:
        return a + (b if self.alpha == 1 else b * b.dtype.type(self.alpha))

    def estimate_value_magnitude(self, a: Array, b: Array, y: Array) -> Array:
        return np.abs(y) if self.alpha == 1 else np.abs(y) + np.abs(self.alpha * b)

    def compute_partial_gradients(self, g: Array, a: Array, b: Array, y: Array) -> tuple[Array, Array]:
        return g, g if self.alpha == 1 else g * g.dtype.type(self.alpha)

    def list_gradient_multipliers(self, input: Array, other: Array) -> Sequence[Multiplier]:
        return [declare_factor(self.alpha, positions=(1,))]

    @declare_bug("the factor alpha was applied to the other operand")
    def alpha_on_the_other_side(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        by_input, by_other = gradient * self.alpha, gradient
        return sum_broadcast_axes(by_input, input.shape[1:]), sum_broadcast_axes(by_other, other.shape[1:])

    def torch_forward(self, torch: Any, input: Any, other: Any) -> Any:
        return torch.add(input, other, alpha=self.alpha)


@register_op("sub")
class Sub(BroadcastFormula, BinaryOp):
    """Difference of two tensors: y = a - c b, c a number (alpha).

    dL/da = g, dL/db = -c g, summed over broadcast axes.
    """

    positional = ("input", "other")
    alpha: float = 1

    supports_complex_step = True
    linear_in = _JOINTLY_LINEAR

    quantities: ClassVar[BroadcastQuantities] = {"c": lambda op, a, b, y: op.alpha}
    backward_form = BackwardForm(
        {"input": "to_a(g)", "other": "to_b(-(c * g))"},
        declared={"other": ["to_b(c * g)"]},
        layouts=("to_a", "to_b"),
        multipliers=("c",),
    )
    examples = (*_BROADCAST_EXAMPLES, OpExample(((3,), (3,)), {"alpha": 0.5}))

    def evaluate_function(self, a: Array, b: Array) -> Array:
        return a - (b if self.alpha == 1 else b * b.dtype.type(self.alpha))

    def estimate_value_magnitude(self, a: Array, b: Array, y: Array) -> Array:
        return np.abs(y) if self.alpha == 1 else np.abs(y) + np.abs(self.alpha * b)

    def compute_partial_gradients(self, g: Array, a: Array, b: Array, y: Array) -> tuple[Array, Array]:
        return g, -g if self.alpha == 1 else g * g.dtype.type(-self.alpha)

    def list_gradient_multipliers(self, input: Array, other: Array) -> Sequence[Multiplier]:
        return [declare_factor(self.alpha, positions=(1,))]

    @declare_bug("the sign was left out")
    def sign_forgotten(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        by_input, by_other = gradient, gradient * self.alpha
        return sum_broadcast_axes(by_input, input.shape[1:]), sum_broadcast_axes(by_other, other.shape[1:])

    def torch_forward(self, torch: Any, input: Any, other: Any) -> Any:
        return torch.sub(input, other, alpha=self.alpha)


@register_op("mul")
class Mul(BroadcastFormula, BinaryOp):
    """Product of two tensors, element by element: y = a b, with broadcasting.

    With g = dL/dy of the broadcast shape:
        dL/da = sum g b over the axes along which a was broadcast
        dL/db = sum g a over the axes along which b was broadcast
    """

    multiplying_slots = MappingProxyType({"input": "factor", "other": "factor"})
    supports_complex_step = True
    linear_in = MappingProxyType({"input": (), "other": ()})
    backward_form = BackwardForm(
        {"input": "to_a(g * b)", "other": "to_b(g * a)"},
        look_alikes={
            "a": {"b": "b was multiplied by itself", "y": "the product y stood for a"},
            "b": {"a": "a was multiplied by itself", "y": "the product y stood for b"},
        },
        identities={"y": "a * b"},
        layouts=("to_a", "to_b"),
    )

    def expand_products(self, position: int, input: Array, other: Array) -> ProductExpansion:
        operands = align_ranks(input, other)
        operand, factor = operands[position], operands[1 - position]
        shape = np.broadcast_shapes(operand.shape[1:], factor.shape[1:])
        return ProductExpansion(shape, [flat_indices(operand[0])], [factor[0]])

    def evaluate_function(self, a: Array, b: Array) -> Array:
        return a * b

    def compute_partial_gradients(self, g: Array, a: Array, b: Array, y: Array) -> tuple[Array, Array]:
        return g * b, g * a

    def list_gradient_multipliers(self, input: Array, other: Array) -> Sequence[Multiplier]:
        return [*declare_scalar_multiplier("factor", other, (0,)), *declare_scalar_multiplier("factor", input, (1,))]

    @declare_bug_named(
        "channel_factor_missing",
        "a broadcast factor was left out on the way to the other one",
        lambda shapes: any(_is_partially_broadcast(shape, shapes[0]) for shape in shapes[1:]),
    )
    def omit_channel_factor(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        by_input, by_other = self.backward(gradient, output, input, other)
        if _is_partially_broadcast(other.shape[1:], output.shape[1:]):
            by_input = sum_broadcast_axes(gradient, input.shape[1:])
        if _is_partially_broadcast(input.shape[1:], output.shape[1:]):
            by_other = sum_broadcast_axes(gradient, other.shape[1:])
        return by_input, by_other

    @declare_bug_named(
        "scaled",
        "a scalar factor was left out on the way to the other one",
        lambda shapes: any(count_elements(shape) == 1 for shape in shapes[1:]),
        is_declared_as_multiplier=True,
    )
    def forget_number(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        by_input, by_other = self.backward(gradient, output, input, other)
        if count_elements(other.shape[1:]) == 1:
            by_input = sum_broadcast_axes(gradient, input.shape[1:])
        if count_elements(input.shape[1:]) == 1:
            by_other = sum_broadcast_axes(gradient, other.shape[1:])
        return by_input, by_other

    @declare_bug("each operand was multiplied by itself instead of by the other one")
    def own_factor(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        a, b = align_ranks(input, other)
        return sum_broadcast_axes(gradient * a + 0 * b, input.shape[1:]), sum_broadcast_axes(
            gradient * b + 0 * a, other.shape[1:]
        )

    def torch_forward(self, torch: Any, input: Any, other: Any) -> Any:
        return torch.mul(input, other)


def _is_partially_broadcast(factor: Shape, output: Shape) -> bool:
    """Return whether a factor has more than one element, and fewer than the output."""
    return 1 < count_elements(factor) < count_elements(output)


@register_op("div")
class Div(BroadcastFormula, BinaryOp):
    """Quotient of two tensors, element by element: y = a / b.

    dL/da = sum g / b, dL/db = sum -g y / b, over the axes along which each was broadcast. With `rounding_mode` the
    quotient is rounded to a whole number, towards 0 (`trunc`) or down (`floor`), and both gradients are 0.
    """

    positional = ("input", "other")
    rounding_mode: Literal["trunc", "floor"] | None = None

    multiplying_slots = MappingProxyType({"input": "factor", "other": "division"})
    supports_complex_step = True
    linear_in = MappingProxyType({"input": ()})

    backward_form = BackwardForm(
        {"input": "to_a(g / b)", "other": "to_b(-(g * a / (b * b)))"},
        look_alikes={
            "a": {"y": "the quotient y stood for a"},
            "b": {"a": "the dividend a stood for b", "y": "the quotient y stood for b"},
        },
        identities={"y": "a / b"},
        declared={"other": ["to_b(g * a / (b * b))"]},
        layouts=("to_a", "to_b"),
    )
    examples = (
        OpExample(((3, 4), (3, 4)), low=0.3, high=2),
        OpExample(((2, 3, 4), (4,)), low=-2, high=-0.3),
        OpExample(((), (2, 3)), low=0.3, high=2),
    )

    def select_form(self, *shapes: Shape | None) -> Op:
        return self if self.rounding_mode is None else make_form("div", "rounded", rounding_mode=self.rounding_mode)

    def evaluate_function(self, a: Array, b: Array) -> Array:
        return a / b

    def compute_partial_gradients(self, g: Array, a: Array, b: Array, y: Array) -> tuple[Array, Array]:
        return g / b, -g * (a / b) / b

    def list_gradient_multipliers(self, input: Array, other: Array) -> Sequence[Multiplier]:
        return [*declare_scalar_multiplier("division", other, (0,)), *declare_scalar_multiplier("factor", input, (1,))]

    @declare_bug_named(
        "channel_factor_missing",
        "a broadcast divisor was left out on the way to the dividend",
        lambda shapes: _is_partially_broadcast(shapes[2], shapes[0]),
    )
    def omit_channel_factor(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        by_input, by_other = self.backward(gradient, output, input, other)
        if _is_partially_broadcast(other.shape[1:], output.shape[1:]):
            by_input = sum_broadcast_axes(gradient, input.shape[1:])
        return by_input, by_other

    @declare_bug("the sign was left out")
    def sign_forgotten(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        a, b = align_ranks(input, other)
        return sum_broadcast_axes(gradient / b, input.shape[1:]), sum_broadcast_axes(
            gradient * a / np.square(b), other.shape[1:]
        )

    def torch_forward(self, torch: Any, input: Any, other: Any) -> Any:
        return torch.div(input, other, rounding_mode=self.rounding_mode)


def _get_input_error(input_error: Array | None) -> Array:
    assert input_error is not None
    return input_error


def broadcast_flat_indices(operand: Array, shape: Shape) -> Array:
    """Return the flat index of the operand's element at each output element, flat."""
    return np.broadcast_to(align_rank(add_batch_axis(flat_indices(operand[0])), len(shape) - 1), shape).ravel()


class Extremum(BinaryOp):
    """The larger or the smaller of two tensors, element by element.

    The gradient goes to the chosen operand, and half of it to each where they are equal.
    """

    order_sign = 1

    def select_branch(self, input: Array, other: Array) -> Array:
        a, b = align_ranks(input, other)
        return np.sign(a - b) * self.order_sign

    def list_subgradient_choices(
        self, input_errors: Sequence[Array | None], input: Array, other: Array
    ) -> SubgradientChoices | None:
        """Return the choice of weights of both operands that sum to one, near ties."""
        a, b, a_errors, b_errors = (
            np.broadcast_to(array, array.shape) for array in (input, other, *map(_get_input_error, input_errors))
        )
        a, b = align_ranks(a, b)
        is_near_tie = np.abs(a - b) <= sum(align_ranks(a_errors, b_errors))
        positions = np.flatnonzero(is_near_tie)
        is_tied = np.broadcast_to(a == b, is_near_tie.shape).ravel()[positions]
        input_indices, other_indices = (
            broadcast_flat_indices(array, is_near_tie.shape)[positions] for array in (input, other)
        )
        chosen_sign = np.broadcast_to(np.sign(a - b) * self.order_sign, is_near_tie.shape).ravel()[positions]
        return choose_between_derivatives(
            positions, (1 - chosen_sign) / 2, is_tied, [(0, input_indices, 1.0)], [(1, other_indices, 1.0)]
        )

    def forward_on_branch(self, branch: Array, input: Array, other: Array) -> Array:
        a, b = align_ranks(input, other)
        return np.select([branch > 0, branch < 0], [a, b], (a + b) / 2)

    def evaluate_function(self, a: Array, b: Array) -> Array:
        return np.maximum(a, b) if self.order_sign > 0 else np.minimum(a, b)

    def compute_partial_gradients(self, g: Array, a: Array, b: Array, y: Array) -> tuple[Array, Array]:
        chosen_sign = np.sign(a - b) * self.order_sign
        a_share = ((1 + chosen_sign) / 2).astype(g.dtype, copy=False)
        return g * a_share, g * (1 - a_share)

    def estimate_forward_rounding(self, output: Array, input: Array, other: Array) -> None:
        return None

    def estimate_rounding_on_branch(self, branch: Array, output: Array, input: Array, other: Array) -> Rounding:
        return Rounding(np.abs(output) * (branch == 0), 1)

    @declare_bug("the gradient went to both operands instead of the one that was chosen")
    def to_both(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        a, b = align_ranks(input, other)
        return sum_broadcast_axes(gradient + 0 * b, input.shape[1:]), sum_broadcast_axes(
            gradient + 0 * a, other.shape[1:]
        )

    @declare_bug_named(
        "to_both", "the whole gradient went to both operands where they are equal", shows_only_at_ties=True
    )
    def give_both_at_ties(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        a, b = align_ranks(input, other)
        return (
            sum_broadcast_axes(gradient * (a == output), input.shape[1:]),
            sum_broadcast_axes(gradient * (b == output), other.shape[1:]),
        )


@register_op("maximum")
class Maximum(Extremum):
    """Larger of two tensors, element by element: y = max(a, b).

    dL/da = sum g [a > b], dL/db = sum g [b > a], and g / 2 goes to each where a = b.
    """

    def torch_forward(self, torch: Any, input: Any, other: Any) -> Any:
        return torch.maximum(input, other)


@register_op("minimum")
class Minimum(Extremum):
    """Smaller of two tensors, element by element: y = min(a, b).

    dL/da = sum g [a < b], dL/db = sum g [b < a], and g / 2 goes to each where a = b.
    """

    order_sign = -1

    def torch_forward(self, torch: Any, input: Any, other: Any) -> Any:
        return torch.minimum(input, other)


@register_op("where")
class Where(Op):
    """Choice by a mask m: y = a where m is true, else b.

    dL/da = sum g [m], dL/db = sum g [not m], over broadcast axes.
    """

    inputs = ("condition:bool", "input", "other")
    supports_complex_step = True
    linear_in = _JOINTLY_LINEAR
    examples = (OpExample(((3, 4), (3, 4), (3, 4))), OpExample(((3, 1), (4,), ())), OpExample(((), (2,), (2,))))

    def infer_output_shape(self, condition: Shape, input: Shape, other: Shape) -> Shape:
        return broadcast_shapes(condition, input, other)

    def forward(self, condition: Array, input: Array, other: Array) -> Array:
        return np.where(*align_ranks(condition, input, other))

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        return self.forward(inputs[0], *drop_missing(values))

    def backward(self, gradient: Array, output: Array, condition: Array, input: Array, other: Array) -> Gradients:
        mask = align_rank(condition, output.ndim - 1)
        by_input = sum_broadcast_axes(np.where(mask, gradient, 0), input.shape[1:])
        by_other = sum_broadcast_axes(np.where(mask, 0, gradient), other.shape[1:])
        return None, by_input.astype(gradient.dtype, copy=False), by_other.astype(gradient.dtype, copy=False)

    def estimate_forward_rounding(self, output: Array, condition: Array, input: Array, other: Array) -> None:
        return None

    def estimate_backward_rounding(
        self, gradient: Array, output: Array, condition: Array, input: Array, other: Array
    ) -> tuple[Rounding | None, ...]:
        _, by_input, by_other = self.backward(np.abs(gradient), output, condition, input, other)
        assert by_input is not None
        assert by_other is not None
        output_shape = output.shape[1:]
        return (
            None,
            Rounding(by_input, count_repeats(output_shape, input.shape[1:])),
            Rounding(by_other, count_repeats(output_shape, other.shape[1:])),
        )

    @declare_bug("the mask was inverted")
    def mask_inverted(self, gradient: Array, output: Array, condition: Array, input: Array, other: Array) -> Gradients:
        return self.backward(gradient, output, ~condition, input, other)

    def torch_forward(self, torch: Any, condition: Any, input: Any, other: Any) -> Any:
        return torch.where(condition, input, other)
