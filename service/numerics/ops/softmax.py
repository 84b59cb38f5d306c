"""Softmax and log-softmax along one axis, shifted so that nothing overflows."""

import math
from typing import Any

import numpy as np

from service.numerics.core.batching import Array, Shape
from service.numerics.core.sparsity import take_min_over_axes
from service.numerics.ops import analytic_continuation
from service.numerics.ops.axes import normalize_axis
from service.numerics.ops.backward_form import BackwardForm
from service.numerics.ops.formula import Scope
from service.numerics.ops.formula_op import FormulaOp
from service.numerics.ops.op import (
    DependencyLabels,
    DtypeName,
    Gradients,
    Op,
    OpExample,
    SensitiveArgument,
    register_op,
)
from service.numerics.ops.rounding_errors import ErrorModel, Rounding

_SOFTMAX_EXAMPLES = (
    OpExample(((3, 4),), {"dim": 1}),
    OpExample(((2, 3, 4),), {"dim": -2}),
    OpExample(((5,),), {"dim": 0}, low=-30, high=30),
    OpExample(((),), {"dim": 0}),
)


def subtract_maximum(x: Array, axis: int) -> Array:
    """Return x - max x along an axis."""
    return x - analytic_continuation.take_largest_real_part(x, axis)


def softmax(x: Array, axis: int) -> Array:
    """Return exp(x) / sum exp(x) along an axis."""
    e = np.exp(subtract_maximum(x, axis))
    return e / e.sum(axis=axis, keepdims=True)


_EXPONENTIAL_ROUNDING = 2
"""Relative rounding of a library's exponential, in units of u; and as much for the division."""


def softmax_with_errors(
    errors: ErrorModel, x: Array, magnitudes: Array | float = 0.0, axis: int = -1, *, is_recomputed: bool = False
) -> Array:
    """Return the softmax of x along an axis with the errors of its steps.

    It is 0 where all of an axis is -inf.

    Parameters
    ----------
    errors
        Model of the arithmetic's errors.
    x
        Arguments, behind a tile axis.
    magnitudes
        Error of x in units of u, broadcastable to x; 0 by default.
    axis
        Axis of the softmax; the last by default.
    is_recomputed
        True if a kernel computes p a second time, from the logarithm that it kept.

    Notes
    -----
    With z = x - max x and S the sum of the N exponentials:
        p    is off relatively by u (abs(z) + magnitudes + 2), for each element: z by abs(z), x by magnitudes, the
             library's exponential by 2; the common error of all elements drops out of the quotient
        S    is off relatively by u sqrt(N), one factor for the axis
    Kernels that keep L = max x + log S, compute x again, and p as exp(x - L), have further factors of the axis:
        L    by u abs(L), and never more than log S, since max x is a number
        x    by u sum p magnitudes, for a sum in another order than before, of which L knows nothing

    References
    ----------
    Blanchard, Higham and Higham, Accurately computing the log-sum-exp and softmax functions (IMA J. Numer. Anal. 41,
    2021), theorems 3.2 and 4.3. For the kernels Dao et al., FlashAttention (2022), algorithms 1 and 4: an exponential
    that is taken in tiles is a product of exponentials of parts of z that have one sign.
    """
    largest = x.max(axis=axis, keepdims=True)
    largest = np.where(largest == -np.inf, 0, largest)
    with np.errstate(invalid="ignore"):
        z = x - largest
    x = errors(x, np.where(x == -np.inf, 0, magnitudes - z + _EXPONENTIAL_ROUNDING))
    shifted_maximum = x.max(axis=axis, keepdims=True)
    e = np.exp(x - np.where(shifted_maximum == -np.inf, 0, shifted_maximum))
    total = e.sum(axis=axis, keepdims=True)
    safe_total = np.where(total > 0, total, 1)
    total = errors(safe_total, safe_total, x.shape[axis])
    if is_recomputed:
        logarithm = np.log(safe_total)
        total = errors(total, safe_total * (np.abs(largest) + logarithm), most=safe_total * logarithm)
        shifted_maximum = errors(np.zeros_like(safe_total), (e * magnitudes).sum(axis=axis, keepdims=True) / safe_total)
        # Scores that are off by more than 1 allow any factor, so nothing is known.
        return e / total * np.where(errors.spread_scale * np.abs(shifted_maximum) > 1, np.nan, 1 - shifted_maximum)
    return e / total


def log_softmax(x: Array, axis: int) -> Array:
    """Return x - log sum exp(x) along an axis, exact in its last digits near 0.

    Notes
    -----
    The result is near 0 where one of the x stands out. With z = x - max x it is z - log(1 + r), r the sum of all exp(z)
    but for the largest, which is 1.
    """
    z = subtract_maximum(x, axis)
    return z - analytic_continuation.log1p(_exponentiate_without_largest(z, axis).sum(axis=axis, keepdims=True))


def _exponentiate_without_largest(shifted: Array, axis: int) -> Array:
    """Return exp(z), less 1 at the first of the largest, which gives 0."""
    e = np.exp(shifted)
    largest = np.argmax(analytic_continuation.take_real_part(shifted), axis=axis)
    # A complex step makes it near 0, not 0.
    if axis % shifted.ndim == shifted.ndim - 1:
        rows, positions = e.reshape(-1, e.shape[-1]), largest.ravel()
        numbers = np.arange(len(rows))
        rows[numbers, positions] = np.expm1(shifted.reshape(rows.shape)[numbers, positions])
        return rows.reshape(e.shape)
    first_largest = np.expand_dims(largest, axis)
    np.put_along_axis(e, first_largest, np.expm1(np.take_along_axis(shifted, first_largest, axis)), axis)
    return e


def estimate_implemented_log_softmax_magnitude(x: Array, axis: int) -> Array:
    """Return the magnitude of the rounding of `log_softmax` in its form here.

    It is 0 where one of the x stands out and the result is 0.
    """
    z = subtract_maximum(x, axis)
    exponentials = _exponentiate_without_largest(z, axis)
    exponent_errors = (exponentials * (1 + np.abs(z))).sum(axis=axis, keepdims=True)
    total = exponentials.sum(axis=axis, keepdims=True)
    return np.abs(z) + np.log1p(total) + exponent_errors / (1 + total)


def estimate_log_softmax_magnitude(x: Array, axis: int) -> Array:
    """Return the magnitude of the rounding of log_softmax in its textbook form.

    The sum of exponentials, 1 at least, is off by u of itself.
    """
    z = subtract_maximum(x, axis)
    e = np.exp(z)
    total = e.sum(axis=axis, keepdims=True)
    return np.abs(z) + np.abs(np.log(total)) + 1 + (e * np.abs(z)).sum(axis=axis, keepdims=True) / total


def log_softmax_with_errors(errors: ErrorModel, x: Array, axis: int) -> Array:
    """Return log_softmax with the errors of its steps in the textbook's form.

    Notes
    -----
    y = z - log S, z = x - max x, is off by u (abs(z) + log S + abs(y)). The whole axis is off by the error of log S: u
    sqrt(N), and u p (abs(z) + 2) of each exponential; and never more than log S, since S is 1 at least.

    References
    ----------
    Blanchard, Higham and Higham (2021), section 4.
    """
    y = log_softmax(x, axis)
    z = np.abs(subtract_maximum(x, axis))
    sum_error = (np.exp(y) * (z + _EXPONENTIAL_ROUNDING)).sum(axis=axis, keepdims=True) + math.sqrt(x.shape[axis])
    logarithm = -np.max(y, axis=axis, keepdims=True)
    element_errors = errors(y, z + np.abs(y) + 2 * logarithm)
    return element_errors + errors(np.zeros_like(sum_error), sum_error, most=logarithm)


_WRONG_SUMS = {
    "sum_along_another_axis": "the sum was taken along another axis",
    "sum_over_all": "the sum was taken over all elements",
    "mean": "the mean along the axis stood for the sum",
}


class AxiswiseOp(Op):
    """An op along the axis `dim` that keeps the shape."""

    dim: int

    inputs = ("input",)
    examples = _SOFTMAX_EXAMPLES

    def get_sensitive_argument(self, input: Array) -> SensitiveArgument:
        x = self._ensure_axis(input)
        return SensitiveArgument(x, self._get_batched_axis(input))

    def infer_output_shape(self, input: Shape) -> Shape:
        normalize_axis(self.dim, len(input))
        return input

    def _get_batched_axis(self, array: Array) -> int:
        return normalize_axis(self.dim, array.ndim - 1) + 1

    def _get_another_axis(self, array: Array) -> int:
        """Return the axis before, counted on from the last, behind the tile axis; the same one of a vector."""
        rank = max(array.ndim - 1, 1)
        return (self._get_batched_axis(array) - 2) % rank + 1

    def _make_sums(self, input: Array) -> Scope:
        """Return the right and the wrong sums of a formula."""
        axis, other_axis = self._get_batched_axis(input), self._get_another_axis(input)
        return Scope().add_functions(
            sum=lambda array: array.sum(axis=axis, keepdims=True),
            mean=lambda array: array.mean(axis=axis, keepdims=True),
            sum_along_another_axis=lambda array: array.sum(axis=other_axis, keepdims=True),
            sum_over_all=lambda array: array.sum(axis=tuple(range(1, array.ndim)), keepdims=True),
        )

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        (input_labels,) = values
        assert input_labels is not None
        axis_labels = self._ensure_axis(input_labels)
        reduced_labels = np.broadcast_to(
            take_min_over_axes(axis_labels, self._get_batched_axis(input_labels)), axis_labels.shape
        )
        return reduced_labels.reshape(input_labels.shape)

    def _ensure_axis(self, array: Array) -> Array:
        """Return a 0-d tensor with the one axis that PyTorch takes it to have."""
        return array.reshape(-1, 1) if array.ndim == 1 else array


@register_op("softmax")
class Softmax(AxiswiseOp, FormulaOp):
    """Softmax along one axis: y_i = exp(x_i) / sum_j exp(x_j).

    dy_i/dx_j = y_i ([i = j] - y_j), so with g = dL/dy: dL/dx_j = y_j (g_j - sum_i g_i y_i).
    """

    numpy_calls = 5
    dim: int
    dtype: DtypeName | None = None

    supports_complex_step = True

    def forward(self, input: Array) -> Array:
        return softmax(self._ensure_axis(input), self._get_batched_axis(input)).reshape(input.shape)

    backward_form = BackwardForm(
        {"input": "restore(y * (g - sum(g * y)))"},
        look_alikes={"sum": _WRONG_SUMS},
        stand_ins={"y": {"y_along_another_axis": "the softmax was computed along another axis"}},
        alternatives={
            "input": {
                "restore(g)": "the incoming gradient was handed on as it is",
                "restore(y_along_another_axis * (g - sum_along_another_axis(g * y_along_another_axis)))": (
                    "the softmax was computed again along another axis, and the sum taken along it"
                ),
            }
        },
        layouts=("restore",),
        published={
            "input:reduction_missing:sum(g y)": (
                "softmax_jacobian_diagonal_only",
                "only the diagonal p (1 - p) of the Jacobian of softmax was used",
            ),
            "input:term_missing:sum(g y)": (
                "softmax_jacobian_diagonal_only",
                "only the first part of the Jacobian of softmax, diag(p) - p p^T, was used",
            ),
        },
    )

    def make_scope(self, gradient: Array, output: Array, input: Array) -> Scope:
        other_axis = self._get_another_axis(input)
        scope = self._make_sums(input).add_quantities(
            g=lambda: self._ensure_axis(gradient),
            y=lambda: self._ensure_axis(output),
            y_along_another_axis=lambda: softmax(self._ensure_axis(input), other_axis),
        )
        return scope.add_functions(restore=lambda array: array.reshape(array.shape[:1] + input.shape[1:]))

    def forward_with_errors(self, errors: ErrorModel, *inputs: Any) -> Array:
        (input,) = inputs
        y = softmax_with_errors(errors, self._ensure_axis(input), axis=self._get_batched_axis(input))
        return errors(y, np.abs(y) + errors.underflow_loss).reshape(-1, *input.shape[1:])

    def backward_with_errors(self, errors: ErrorModel, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Return the gradient with the errors of D = sum g y and of y (g - D).

        D over N elements is off by u sqrt(N) sum abs(g y), and y (g - D) by u y (abs(g) + abs(D)).
        """
        (input,) = inputs
        g, y, axis = self._ensure_axis(gradient), self._ensure_axis(output), self._get_batched_axis(input)
        products = g * y
        weighted_mean = errors(
            products.sum(axis=axis, keepdims=True), np.abs(products).sum(axis=axis, keepdims=True), y.shape[axis]
        )
        by_input = errors(y * (g - weighted_mean), np.abs(y) * (np.abs(g) + np.abs(weighted_mean)), 2)
        return (by_input.reshape(-1, *input.shape[1:]),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.softmax(input, self.dim)


@register_op("log_softmax")
class LogSoftmax(AxiswiseOp, FormulaOp):
    """Log-softmax along one axis: y_i = x_i - log sum_j exp(x_j).

    dy_i/dx_j = [i = j] - p_j with p = exp(y), so with g = dL/dy: dL/dx_j = g_j - p_j sum_i g_i.
    """

    numpy_calls = 9
    dim: int
    dtype: DtypeName | None = None

    inner_casts = ("p",)
    supports_complex_step = True

    def forward(self, input: Array) -> Array:
        return log_softmax(self._ensure_axis(input), self._get_batched_axis(input)).reshape(input.shape)

    backward_form = BackwardForm(
        {"input": "restore(g - p * sum(g))"},
        look_alikes={"sum": _WRONG_SUMS, "p": {"y": "y = log p stood for p"}},
        alternatives={"input": {"restore(g)": "the incoming gradient was handed on as it is"}},
        stand_ins={"p": {"p_along_another_axis": "the softmax was computed along another axis"}},
        layouts=("restore",),
        published={
            "input:reduction_missing:sum(g)": (
                "softmax_jacobian_diagonal_only",
                "only the diagonal 1 - p of the Jacobian of log_softmax was used",
            ),
            "input:term_missing:g": (
                "missing_one_hot",
                "the share of the element itself was left out: -p sum(g) was used for g - p sum(g)",
            ),
        },
        # It equals the incoming gradient, handed on.
        omitted=("input:term_missing:p sum(g)",),
    )

    def make_scope(self, gradient: Array, output: Array, input: Array) -> Scope:
        axis, other_axis = self._get_batched_axis(input), self._get_another_axis(input)
        scope = self._make_sums(input).add_quantities(
            g=lambda: self._ensure_axis(gradient),
            y=lambda: self._ensure_axis(output),
            p=lambda: softmax(self._ensure_axis(input), axis),
            p_along_another_axis=lambda: softmax(self._ensure_axis(input), other_axis),
        )
        return scope.add_functions(restore=lambda array: array.reshape(array.shape[:1] + input.shape[1:]))

    def estimate_implemented_rounding(self, output: Array, input: Array) -> Rounding:
        x = self._ensure_axis(input)
        return Rounding(
            estimate_implemented_log_softmax_magnitude(x, self._get_batched_axis(input)).reshape(output.shape),
            x.shape[self._get_batched_axis(input)],
        )

    def estimate_forward_rounding(self, output: Array, input: Array) -> Rounding:
        x = self._ensure_axis(input)
        return Rounding(estimate_log_softmax_magnitude(x, self._get_batched_axis(input)).reshape(output.shape), 1)

    def forward_with_errors(self, errors: ErrorModel, *inputs: Any) -> Array:
        (input,) = inputs
        if errors.as_implemented:
            return super().forward_with_errors(errors, input)
        return log_softmax_with_errors(errors, self._ensure_axis(input), self._get_batched_axis(input)).reshape(
            -1, *input.shape[1:]
        )

    def backward_with_errors(self, errors: ErrorModel, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Return the gradient with the errors of p = exp(y) and of G = sum g.

        p has the error of a library's exponential, of a rounded y, and of its own rounding by PyTorch on a CPU. G is
        off by u sqrt(N) sum abs(g).
        """
        (input,) = inputs
        g, axis = self._ensure_axis(gradient), self._get_batched_axis(input)
        p = np.exp(self._ensure_axis(output))
        p = errors.cast("p", errors(p, _EXPONENTIAL_ROUNDING * p + errors.underflow_loss))
        total = errors(
            g.sum(axis=axis, keepdims=True), np.abs(g).sum(axis=axis, keepdims=True), max(1, g.shape[axis] - 1)
        )
        by_input = errors(g - p * total, np.abs(g) + np.abs(p * total))
        return (by_input.reshape(-1, *input.shape[1:]),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.log_softmax(input, self.dim)
