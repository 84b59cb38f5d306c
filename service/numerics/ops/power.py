"""Powers, with a number or a tensor as exponent."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from service.numerics.core.batching import Array, Shape
from service.numerics.ops import analytic_continuation
from service.numerics.ops.backward_form import BackwardForm
from service.numerics.ops.binary import BinaryOp, align_ranks
from service.numerics.ops.elementwise import UnaryOp
from service.numerics.ops.formula_op import (
    BroadcastFormula,
    BroadcastQuantities,
    Quantities,
    UnaryFormula,
    declare_function_form,
)
from service.numerics.ops.multipliers import Multiplier, declare_factor
from service.numerics.ops.op import (
    Gradients,
    Op,
    OpExample,
    ShapeError,
    declare_bug,
    make_form,
    register_form,
    register_op,
)
from service.numerics.ops.pointwise import sum_to_operands


@register_form("pow", "number")
class PowerByNumber(UnaryFormula, UnaryOp):
    """Power with a constant exponent p: y = x^p.

    dL/dx = g p x^(p-1), and 0 for p = 0.
    """

    exponent: float | None = None

    supports_complex_step = True
    quantities: ClassVar[Quantities] = {
        "p": lambda op, x, y: op._power,
        "q": lambda op, x, y: op._raise_in_float64(x, op._power - 1),
        "q_reduced_twice": lambda op, x, y: op._raise_in_float64(x, op._power - 2),
    }
    backward_form = declare_function_form(
        "g * p * q",
        "p * q",
        look_alikes={
            "q": {
                "q_reduced_twice": "the exponent of q = x^(p - 1) was reduced once more",
            }
        },
        alternatives={"input": {"g * (p - 1) * q": "p - 1 stood for the factor p"}},
        multipliers=("p",),
    )

    @property
    def _power(self) -> float:
        assert self.exponent is not None
        return float(self.exponent)

    def forward(self, input: Array) -> Array:
        return self._raise_in_float64(input, self._power)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        if self._power == 0:
            return np.zeros_like(x)
        return self._power * self._raise_in_float64(x, self._power - 1)

    def estimate_value_magnitude(self, x: Array, y: Array) -> Array:
        return np.abs(y) * (1 + self._estimate_exponent_rounding(x, self._power))

    def estimate_derivative_magnitude(self, x: Array, y: Array) -> Array:
        return np.abs(self.evaluate_derivative(x, y)) * (1 + self._estimate_exponent_rounding(x, self._power - 1))

    @staticmethod
    def _estimate_exponent_rounding(x: Array, exponent: float) -> Array:
        """Return the relative error of the power, in units of u, from a rounded exponent.

        PyTorch rounds the exponent to the dtype. A multiple of 1/4 up to 64 is a number of every dtype.
        """
        if (4 * exponent).is_integer() and abs(exponent) <= 64:
            return np.zeros_like(x)
        absolute = np.abs(x)
        return np.abs(exponent * np.log(np.where(absolute > 0, absolute, 1)))

    @staticmethod
    def _raise_in_float64(x: Array, exponent: float) -> Array:
        """Return the power, computed in float64 at least.

        An odd exponent rounded to float32 may be even.
        """
        return analytic_continuation.raise_to_power(x.astype(np.result_type(x, np.float64)), exponent).astype(x.dtype)

    def list_gradient_multipliers(self, input: Array) -> Sequence[Multiplier]:
        return [declare_factor(self._power, "exponent")]

    @declare_bug("the exponent was not reduced by 1")
    def exponent_not_reduced(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * self._power * output,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.pow(input, self._power)


@register_op("pow")
class Pow(PowerByNumber):
    """Power: y = x^p. The exponent p is a number, or a tensor with broadcasting.

    dL/dx = g p x^(p-1), and 0 where p = 0. For a tensor dL/dp = g y log(x), and 0 where x = 0 and p >= 0; both are
    summed over broadcast axes. The base may be a number. For a negative base dL/dp is NaN.
    """

    exponent: float | None = None

    inputs = ("input", "exponent?")
    positional = ("input", "exponent")
    examples = (
        OpExample(((3, 4), None), {"exponent": 2.0}),
        OpExample(((3, 4), None), {"exponent": 3}),
        OpExample(((4,), None), {"exponent": -1.5}, low=0.2, high=3),
        OpExample(((4,), None), {"exponent": 0.5}, low=0.2, high=3),
    )

    def infer_output_shape(self, input: Shape, exponent: Shape | None = None) -> Shape:
        if (exponent is None) == (self.exponent is None):
            raise ShapeError("one exponent: a number as attribute, or a tensor as second input")
        return input if exponent is None else make_form("pow", "tensor").infer_output_shape(input, exponent)

    def select_form(self, *shapes: Shape | None) -> Op:
        if shapes[1] is None:
            return PowerByNumber(exponent=self.exponent)
        return make_form("pow", "tensor")

    def torch_forward(self, torch: Any, input: Any, exponent: Any = None) -> Any:
        return torch.pow(input, self._power if exponent is None else exponent)


@register_form("pow", "tensor")
class PowerByTensor(BroadcastFormula, BinaryOp):
    """Power of two tensors: y = a^b, dL/da = g b a^(b-1), dL/db = g y log(a).

    As in PyTorch dL/da is 0 where b = 0, and dL/db where a = 0 and b >= 0.
    """

    inputs = ("input", "exponent")
    numpy_calls = 2
    quantities: ClassVar[BroadcastQuantities] = {
        "q": lambda op, a, b, y: analytic_continuation.raise_to_powers(a, b - 1),
        "l": lambda op, a, b, y: np.log(a),
        "log_b": lambda op, a, b, y: np.log(b),
    }
    backward_form = BackwardForm(
        {"input": "to_a(g * b * q)", "exponent": "to_b(g * y * l)"},
        declared={"exponent": ["to_b(g * y)"]},
        look_alikes={
            "b": {"a": "the base a stood for the factor b"},
            "y": {"a": "the base a stood for y = a^b", "q": "q = a^(b - 1) stood for y = a^b"},
            "l": {"log_b": "the logarithm of the exponent stood for that of the base"},
        },
        layouts=("to_a", "to_b"),
    )
    supports_complex_step = True
    examples = (
        OpExample(((3, 4), (3, 4)), low=0.3, high=2.5),
        OpExample(((2, 3, 4), (4,)), low=0.3, high=2.5),
        OpExample(((3, 1), (1, 4)), low=0.3, high=2.5),
        OpExample(((), (2, 3)), low=0.3, high=2.5),
    )

    def infer_output_shape(self, input: Shape, exponent: Shape) -> Shape:
        return super().infer_output_shape(input, exponent)

    def evaluate_function(self, a: Array, b: Array) -> Array:
        return analytic_continuation.raise_to_powers(a, b)

    def compute_partial_gradients(self, g: Array, a: Array, b: Array, y: Array) -> tuple[Array, Array]:
        zero, one = a.dtype.type(0), a.dtype.type(1)
        by_base = np.where(b == 0, zero, b * analytic_continuation.raise_to_powers(a, b - one))
        is_constant = (a == 0) & (b >= 0)
        return g * by_base, g * np.where(is_constant, zero, y * np.log(np.where(is_constant, one, a)))

    def estimate_partial_gradient_magnitudes(self, g: Array, a: Array, b: Array, y: Array) -> tuple[Array, Array]:
        """Return magnitudes: b - 1 is rounded, which moves the power by u (b - 1) log(a) of itself."""
        by_a, by_b = self.compute_partial_gradients(np.abs(g), a, b, y)
        absolute = np.abs(a)
        exponent_error = np.abs((b - 1) * np.log(np.where(absolute > 0, absolute, 1)))
        return np.abs(by_a) * (2 + exponent_error), 2 * np.abs(by_b)

    def estimate_value_magnitude(self, a: Array, b: Array, y: Array) -> Array:
        return 2 * np.abs(y)

    @declare_bug("the exponent was not reduced by 1")
    def exponent_not_reduced(self, gradient: Array, output: Array, input: Array, exponent: Array) -> Gradients:
        by_base = gradient * align_ranks(input, exponent)[1] * output
        return sum_to_operands((by_base, gradient), (input, exponent))[0], self.backward(
            gradient, output, input, exponent
        )[1]

    @declare_bug("the logarithm of the base was left out of the derivative by the exponent")
    def logarithm_forgotten(self, gradient: Array, output: Array, input: Array, exponent: Array) -> Gradients:
        by_base, _ = self.backward(gradient, output, input, exponent)
        return by_base, sum_to_operands((gradient, gradient * output), (input, exponent))[1]

    def torch_forward(self, torch: Any, input: Any, exponent: Any) -> Any:
        return torch.pow(input, exponent)
