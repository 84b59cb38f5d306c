"""softmax and log_softmax along one axis, shifted by the largest element so that nothing overflows."""

from typing import Any

import numpy as np

from service.numerics.ops import continued
from service.numerics.ops.axes import axis
from service.numerics.ops.leeway import leeway
from service.numerics.ops.op import Argument, Case, Gradients, Op, Rounding, Spreading, mutant, mutant_of, op
from service.numerics.reach import least
from service.numerics.tiles import Array, Shape

_CASES = (
    Case(((3, 4),), {"dim": 1}),
    Case(((2, 3, 4),), {"dim": -2}),
    Case(((5,),), {"dim": 0}, low=-30, high=30),
    Case(((),), {"dim": 0}),
)


def shifted(x: Array, along: int) -> Array:
    """x - max x along an axis."""
    return x - continued.largest(x, along)


def softmax(x: Array, along: int) -> Array:
    """exp(x) / sum exp(x) along an axis."""
    e = np.exp(shifted(x, along))
    return e / e.sum(axis=along, keepdims=True)


def softmax_size(x: Array, along: int) -> Array:
    """Size of what softmax rounds: x - max x is off by u of itself, which its exponential carries relatively."""
    z, y = np.abs(shifted(x, along)), softmax(x, along)
    return y * (1 + z + (y * z).sum(axis=along, keepdims=True))


def log_softmax(x: Array, along: int) -> Array:
    """x - log sum exp(x) along an axis, with its last digits where it is near 0, that is where one of the x stands out.

    With z = x - max x it is z - log(1 + r), r the sum of all exp(z) but for the largest, which is 1.
    """
    z = shifted(x, along)
    return z - continued.log1p(_rest(z, along).sum(axis=along, keepdims=True))


def _rest(z: Array, along: int) -> Array:
    """exp(z), less 1 at the first of the largest, which is 0."""
    e = np.exp(z)
    first = np.expand_dims(np.argmax(continued.real(z), axis=along), along)
    # Of a complex step it is not 0, but near it.
    np.put_along_axis(e, first, np.expm1(np.take_along_axis(z, first, along)), along)
    return e


def log_softmax_own_size(x: Array, along: int) -> Array:
    """Size of what `log_softmax` as it is here rounds: nothing where one of the x stands out and 0 comes out."""
    z = shifted(x, along)
    rest = _rest(z, along)
    carried = (rest * (1 + np.abs(z))).sum(axis=along, keepdims=True)
    total = rest.sum(axis=along, keepdims=True)
    return np.abs(z) + np.log1p(total) + carried / (1 + total)


def log_softmax_size(x: Array, along: int) -> Array:
    """Size of what log_softmax rounds; the sum of exponentials, 1 at least, is off by u of itself."""
    z = shifted(x, along)
    e = np.exp(z)
    total = e.sum(axis=along, keepdims=True)
    return np.abs(z) + np.abs(np.log(total)) + 1 + (e * np.abs(z)).sum(axis=along, keepdims=True) / total


class AlongAxis(Op):
    """Acts along the axis `dim`; shapes stay."""

    dim: int

    inputs = ("input",)
    cases = _CASES

    def argument(self, input: Array) -> Argument:
        x = self._lined(input)
        return Argument(x, leeway(x, self._along(input)))

    def output_shape(self, input: Shape) -> Shape:
        axis(self.dim, len(input))
        return input

    def _along(self, array: Array) -> int:
        return axis(self.dim, array.ndim - 1) + 1

    def spread(self, values: Spreading, *inputs: Any) -> Array:
        (of_input,) = values
        assert of_input is not None
        lined = self._lined(of_input)
        reached = np.broadcast_to(least(lined, self._along(of_input)), lined.shape)
        return reached.reshape(of_input.shape)

    def _lined(self, array: Array) -> Array:
        """Give a 0-d tensor the one axis that PyTorch takes it to have."""
        return array.reshape(-1, 1) if array.ndim == 1 else array


@op("softmax")
class Softmax(AlongAxis):
    """y_i = exp(x_i) / sum_j exp(x_j) along one axis.

    dy_i/dx_j = y_i ([i = j] - y_j), so with g = dL/dy: dL/dx_j = y_j (g_j - sum_i g_i y_i).
    """

    passes = 5
    dim: int

    analytic = True

    def forward(self, input: Array) -> Array:
        return softmax(self._lined(input), self._along(input)).reshape(input.shape)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        g, y = self._lined(gradient), self._lined(output)
        by_input = y * (g - (g * y).sum(axis=self._along(input), keepdims=True))
        return (by_input.reshape(by_input.shape[:1] + input.shape[1:]),)

    def rounding(self, output: Array, input: Array) -> Rounding:
        x = self._lined(input)
        return Rounding(softmax_size(x, self._along(input)).reshape(output.shape), x.shape[self._along(input)])

    def backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding]:
        g, y = np.abs(self._lined(gradient)), self._lined(output)
        size = y * (g + (g * y).sum(axis=self._along(input), keepdims=True))
        return (Rounding(size.reshape(size.shape[:1] + input.shape[1:]), 2 + y.shape[self._along(input)]),)

    @mutant
    def softmax_jacobian_diagonal_only(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """Of the Jacobian of softmax only the diagonal p (1 - p) was taken."""
        return (gradient * output * (1 - output),)

    @mutant_of("softmax_jacobian_diagonal_only")
    def not_less_the_mean(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """Of the Jacobian of softmax, diag(p) - p p^T, only the first part was taken."""
        return (gradient * output,)

    def twin(self, torch: Any, input: Any) -> Any:
        return torch.softmax(input, self.dim)


@op("log_softmax")
class LogSoftmax(AlongAxis):
    """y_i = x_i - log sum_j exp(x_j) along one axis.

    dy_i/dx_j = [i = j] - p_j with p = exp(y), so with g = dL/dy: dL/dx_j = g_j - p_j sum_i g_i.
    """

    passes = 9
    dim: int

    analytic = True

    def forward(self, input: Array) -> Array:
        return log_softmax(self._lined(input), self._along(input)).reshape(input.shape)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        g, along = self._lined(gradient), self._along(input)
        by_input = g - softmax(self._lined(input), along) * g.sum(axis=along, keepdims=True)
        return (by_input.reshape(by_input.shape[:1] + input.shape[1:]),)

    def own_rounding(self, output: Array, input: Array) -> Rounding:
        x = self._lined(input)
        return Rounding(log_softmax_own_size(x, self._along(input)).reshape(output.shape), x.shape[self._along(input)])

    def rounding(self, output: Array, input: Array) -> Rounding:
        x = self._lined(input)
        return Rounding(log_softmax_size(x, self._along(input)).reshape(output.shape), x.shape[self._along(input)])

    def backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding]:
        g, x, along = np.abs(self._lined(gradient)), self._lined(input), self._along(input)
        # p = exp(y), as PyTorch has it, carries the error of y relatively.
        p = softmax(x, along) * (1 + log_softmax_size(x, along))
        size = g + p * g.sum(axis=along, keepdims=True)
        return (Rounding(size.reshape(size.shape[:1] + input.shape[1:]), x.shape[along]),)

    @mutant
    def softmax_jacobian_diagonal_only(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """Of the Jacobian of log_softmax only the diagonal 1 - p was taken."""
        return (gradient * (1 - np.exp(output)),)

    @mutant_of("missing_one_hot")
    def own_share_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """What comes back to an element itself was left out: p sum(g) was taken for p sum(g) - g."""
        (right,) = self.backward(gradient, output, input)
        assert right is not None
        return (right - gradient,)

    def twin(self, torch: Any, input: Any) -> Any:
        return torch.log_softmax(input, self.dim)
