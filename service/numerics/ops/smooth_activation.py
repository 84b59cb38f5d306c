"""Activations with an exponential inside."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from annotated_types import Gt

from service.numerics.core.batching import Array
from service.numerics.ops import analytic_continuation
from service.numerics.ops.activation import CurvedActivation, compute_sigmoid_derivative, sigmoid
from service.numerics.ops.elementwise import Cancellation, PiecewiseUnary
from service.numerics.ops.formula import Scope
from service.numerics.ops.multipliers import Multiplier, declare_factor
from service.numerics.ops.op import (
    DtypeName,
    Gradients,
    OpExample,
    declare_bug,
    register_op,
)
from service.numerics.ops.pointwise import SingleConstantUnary
from service.numerics.ops.rounding_errors import ErrorModel
from service.numerics.ops.softmax import Softmax

_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805


@register_op("mish")
class Mish(CurvedActivation):
    """Self-regularised activation: y = x t, t = tanh(softplus(x)), softplus(x) = log(1 + exp(x)).

    dL/dx = g (t + x (1 - t^2) s) with s = sigmoid(x), the derivative of softplus. With e = exp(-abs(x)):
        x >= 0:  t = (1 + 2 e) / d,    1 - t^2 = 4 e^2 (1 + e)^2 / d^2,    d = 1 + 2 e + 2 e^2
        x < 0:   t = e (e + 2) / d,    1 - t^2 = 4 (1 + e)^2 / d^2,        d = 2 + 2 e + e^2
    These forms are computed. 1 - t^2 has no digits left where t rounds to 1.
    """

    numpy_calls = 14
    supports_complex_step = True

    @staticmethod
    def _compute_tanh_of_softplus(x: Array) -> Array:
        e = np.exp(-analytic_continuation.take_absolute_value(x))
        is_not_negative = analytic_continuation.take_real_part(x) >= 0
        numerator = np.where(is_not_negative, 1 + 2 * e, e * (e + 2))
        return numerator / (numerator + np.where(is_not_negative, 2 * e * e, 2))

    @staticmethod
    def _compute_second_term(x: Array) -> Array:
        """Return x (1 - t^2) s."""
        e = np.exp(-np.abs(x))
        denominator = np.where(x >= 0, 1 + 2 * e * (1 + e), 2 + e * (2 + e))
        root = np.where(x >= 0, e, 1) * (1 + e) / denominator
        return x * 4 * np.square(root) * sigmoid(x)

    def forward(self, input: Array) -> Array:
        return input * self._compute_tanh_of_softplus(input)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return self._compute_tanh_of_softplus(x) + self._compute_second_term(x)

    def compute_library_function_factor(self, x: Array) -> Array:
        return 1 + np.abs(x)

    def estimate_value_magnitude(self, x: Array, y: Array) -> Array:
        # The softplus is off by u of itself, and of x inside.
        return 2 * np.abs(y) + np.abs(self._compute_second_term(x)) * (1 + np.abs(x))

    def estimate_derivative_magnitude(self, x: Array, y: Array) -> Array:
        return self._compute_tanh_of_softplus(x) + np.abs(self._compute_second_term(x)) * (2 + np.abs(x))

    def estimate_derivative_cancellation(self, x: Array, y: Array) -> Cancellation:
        # The textbook's 1 - t^2
        t = self._compute_tanh_of_softplus(x)
        return Cancellation(2 * np.abs(x) * np.square(t) * sigmoid(x), 8 * np.abs(self._compute_second_term(x)))

    @declare_bug("only the first factor of the product x t was differentiated")
    def product_rule_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * self._compute_tanh_of_softplus(input),)

    @declare_bug("the derivative of softplus inside was left out")
    def inner_derivative_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        t = self._compute_tanh_of_softplus(input)
        return (gradient * (t + input * (1 - np.square(t))),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.mish(input)


@register_op("logsigmoid")
class Logsigmoid(CurvedActivation):
    """Logarithm of the logistic function: y = log(sigmoid(x)) = min(x, 0) - log(1 + exp(-abs(x))).

    dL/dx = g sigmoid(-x), which has all digits where 1 - sigmoid(x) has none.
    """

    numpy_calls = 7
    supports_complex_step = True

    def forward(self, input: Array) -> Array:
        size = analytic_continuation.take_absolute_value(input)
        negative_part = np.where(analytic_continuation.take_real_part(input) < 0, input, 0)
        return negative_part - analytic_continuation.log1p(np.exp(-size))

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return sigmoid(-x)

    def estimate_value_magnitude(self, x: Array, y: Array) -> Array:
        return np.abs(y) + sigmoid(x) * np.maximum(np.abs(x), 1) * sigmoid(-x)

    def estimate_derivative_cancellation(self, x: Array, y: Array) -> Cancellation:
        # The textbook's 1 - s
        return Cancellation(sigmoid(x), sigmoid(-x))

    @declare_bug("the derivative was taken as s in place of 1 - s")
    def other_share(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * sigmoid(input),)

    @declare_bug("the logarithm was not differentiated: s (1 - s) was used")
    def logarithm_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * compute_sigmoid_derivative(input),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.logsigmoid(input)


class ExponentialPiece(PiecewiseUnary, CurvedActivation):
    """A straight piece above 0, and c a (exp(x / a') - 1) below: the forms of selu and celu."""

    numpy_calls = 5

    @property
    def _numbers(self) -> tuple[float, float, float]:
        """Return the slope above 0, the height below and the divisor of the exponent."""
        raise NotImplementedError

    def select_branch(self, input: Array) -> Array:
        return input > 0

    def forward_on_branch(self, branch: Array, input: Array) -> Array:
        slope, height, divisor = (input.dtype.type(number) for number in self._numbers)
        # The exponential of the other piece may overflow; the result does not use it.
        with np.errstate(over="ignore"):
            below: Array = height * np.expm1(input / divisor)
        return np.where(branch, slope * input, below)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        slope, height, divisor = self._numbers
        return np.where(x > 0, slope, height / divisor * np.exp(np.minimum(x, 0) / divisor)).astype(x.dtype, copy=False)

    def estimate_value_magnitude(self, x: Array, y: Array) -> Array:
        slope, height, divisor = self._numbers
        exponent = np.minimum(x, 0) / divisor
        return np.where(x > 0, np.abs(y) * (slope != 1), np.abs(y) * 2 + height * np.exp(exponent) * np.abs(exponent))

    def estimate_derivative_magnitude(self, x: Array, y: Array) -> Array:
        slope, _, divisor = self._numbers
        below = np.abs(self.evaluate_derivative(x, y)) * (1 + np.abs(x) / divisor)
        return np.where(x > 0, slope * (slope != 1), below)

    def estimate_derivative_cancellation(self, x: Array, y: Array) -> Cancellation:
        # The textbook's y + c a, with the output in place of the input.
        divisor = self._numbers[2]
        return Cancellation(np.where(x > 0, 0, np.abs(y) / divisor), np.abs(self.evaluate_derivative(x, y)))

    @declare_bug("the slope below 0 was treated as that above")
    def straight_below(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * self._numbers[0],)


@register_op("selu")
class Selu(ExponentialPiece):
    """Scaled exponential unit: y = c x where x > 0, else c a (exp(x) - 1).

    c = 1.0507009873554805, a = 1.6732632423543772. dL/dx = g c, or g c a exp(x).
    """

    @property
    def _numbers(self) -> tuple[float, float, float]:
        return _SELU_SCALE, _SELU_SCALE * _SELU_ALPHA, 1.0

    def list_gradient_multipliers(self, input: Array) -> Sequence[Multiplier]:
        return [declare_factor(_SELU_SCALE)]

    @declare_bug("the factor c was left out")
    def scale_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * self.evaluate_derivative(input, output) / _SELU_SCALE,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.selu(input)


@register_op("celu")
class Celu(SingleConstantUnary, ExponentialPiece):
    """Exponential unit without a kink: y = x where x > 0, else a (exp(x / a) - 1).

    a = alpha. dL/dx = g, or g exp(x / a).
    """

    alpha: Annotated[float, Gt(0)] = 1.0

    examples = (OpExample(((3, 4),)), OpExample(((5,),), {"alpha": 0.7}), OpExample(((),)))

    @property
    def _numbers(self) -> tuple[float, float, float]:
        return 1.0, self.alpha, self.alpha

    def estimate_constant_error(self, x: Array, y: Array) -> Array:
        # 1 / a stands in the exponent, and before the exponential.
        relative_error = abs(float(np.float32(1 / self.alpha)) * self.alpha - 1)
        below = np.exp(np.minimum(x, 0) / self.alpha) * (1 + np.abs(x) / self.alpha) * relative_error
        return np.where(x > 0, 0, below).astype(x.dtype, copy=False)

    @declare_bug("the exponent was not divided by alpha")
    def division_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * np.where(input > 0, 1, np.exp(np.minimum(input, 0))),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        # The backward pass of celu itself computes with 1 / a in single precision.
        return torch.nn.functional.elu(input / self.alpha) * self.alpha


@register_op("softmin")
class Softmin(Softmax):
    """Softmax of the negative along one axis: y_i = exp(-x_i) / sum_j exp(-x_j).

    dy_i/dx_j = -y_i ([i = j] - y_j), so with g = dL/dy: dL/dx_j = -y_j (g_j - sum_i g_i y_i).
    """

    numpy_calls = 6
    dim: int
    dtype: DtypeName | None = None

    examples = (
        OpExample(((3, 4),), {"dim": 1}),
        OpExample(((2, 3, 4),), {"dim": -2}),
        OpExample(((5,),), {"dim": 0}, low=-30, high=30),
    )

    def forward(self, input: Array) -> Array:
        return super().forward(-input)

    def make_scope(self, gradient: Array, output: Array, input: Array) -> Scope:
        return super().make_scope(-gradient, output, -input)

    def forward_with_errors(self, errors: ErrorModel, *inputs: Any) -> Array:
        return super().forward_with_errors(errors, -inputs[0])

    def backward_with_errors(self, errors: ErrorModel, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        return super().backward_with_errors(errors, -gradient, output, *inputs)

    @declare_bug("the sign of the argument was left out, as in softmax")
    def sign_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return self.backward(-gradient, output, input)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.softmin(input, self.dim)
