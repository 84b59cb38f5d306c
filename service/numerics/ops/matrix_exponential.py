"""The exponential of square matrices."""

from typing import Any

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.core.interrupts import check_interrupt
from service.numerics.ops.dense_matrices import (
    apply_in_single_precision,
    check_square,
    spread_labels_by_matrix,
    symmetrise,
    transpose,
)
from service.numerics.ops.op import (
    ComputeCost,
    DependencyLabels,
    Gradients,
    Op,
    OpExample,
    declare_bug,
    get_declared_shapes,
    register_op,
)
from service.numerics.ops.rounding_errors import Rounding

_DEGREE = 18
"""Terms of the series: of a matrix of norm 1/2 the rest is below 2^-75."""
_MOST_SQUARINGS = 1100
"""Squarings after which each exponential is 0, infinite, or of a number that has no digits left."""


def exponentiate(matrices: Array) -> Array:
    """Return the exponentials of matrices by scaling and squaring: exp(A) = exp(A / 2^s)^(2^s).

    References
    ----------
    Higham, Functions of Matrices (2008), section 10.3; the series stands for its quotient of polynomials, since it
    needs no division and serves every dtype.
    """
    norms = np.abs(matrices).sum(axis=-1).max(axis=-1)
    _, exponents = np.frexp(np.where(np.isfinite(norms), norms, 0).astype(np.float64, copy=False))
    squarings = np.clip(exponents + 1, 0, _MOST_SQUARINGS)[..., None, None]
    scaled = matrices * np.exp2(-squarings.astype(np.abs(matrices).dtype))
    identity = np.eye(matrices.shape[-1], dtype=matrices.dtype)
    result = np.broadcast_to(identity, matrices.shape)
    for term in range(_DEGREE, 0, -1):
        result = identity + scaled @ result / matrices.dtype.type(term)
    with np.errstate(over="ignore", invalid="ignore"):
        for number in range(int(squarings.max(initial=0))):
            check_interrupt()
            result = np.where(number < squarings, result @ result, result)
    return result


@register_op("matrix_exp")
class MatrixExponential(Op):
    """Exponentials of square matrices: Y = sum A^k / k!.

    dY = int_0^1 exp(s A) dA exp((1 - s) A) ds, the Frechet derivative K(A, dA). Its adjoint is K(A^T, .), so that
    dL/dA = K(A^T, G), which is the block above the diagonal of exp([[A^T, G], [0, A^T]]). Higham, Functions of Matrices
    (2008), theorem 3.6 and section 10.6.
    """

    numpy_calls = 60
    inputs = ("input",)
    supports_complex_step = True
    examples = (OpExample(((3, 3),), low=-1, high=1), OpExample(((2, 2, 2),)))

    def infer_output_shape(self, input: Shape) -> Shape:
        check_square(input)
        return input

    def forward(self, input: Array) -> Array:
        return exponentiate(input)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        length = input.shape[-1]
        # The derivative is linear in the gradient, whose size is not to decide on the squarings.
        size = np.abs(gradient).max(axis=(-1, -2), keepdims=True)
        unit = np.where((size > 0) & np.isfinite(size), size, 1)
        shape = np.broadcast_shapes(gradient.shape, input.shape)
        joined = np.zeros((*shape[:-2], 2 * length, 2 * length), input.dtype)
        joined[..., :length, :length] = joined[..., length:, length:] = transpose(input)
        joined[..., :length, length:] = gradient / unit
        return (exponentiate(joined)[..., :length, length:] * unit,)

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        (shape,) = get_declared_shapes(inputs)
        return spread_labels_by_matrix(values, (2,), shape, 2)

    def _bound_error(self, input: Array) -> Array:
        """Return (1 + norm(A)) exp(m), with m the largest eigenvalue of the symmetric part.

        An exponential of norm(exp(t A)) <= exp(m t) is exact for a matrix that is off by about u norm(A).
        """
        growth = np.linalg.eigvalsh(symmetrise(np.nan_to_num(input)))[..., -1]
        norms = np.sqrt(np.square(input).sum(axis=(-1, -2)))
        with np.errstate(over="ignore"):
            return ((1 + norms) * np.exp(growth))[..., None, None]

    def estimate_forward_rounding(self, output: Array, *inputs: Any) -> Rounding:
        (a,) = inputs
        return Rounding(np.abs(output) + self._bound_error(a), 4 * a.shape[-1])

    def estimate_backward_rounding(self, gradient: Array, output: Array, *inputs: Any) -> tuple[Rounding]:
        """Return the rounding of the derivative.

        PyTorch scales by the norm of the whole block matrix, of which the gradient is a part, and each squaring doubles
        the error.
        """
        (a,) = inputs
        size = np.sqrt(np.square(gradient).sum(axis=(-1, -2), keepdims=True))
        error = size * (1 + size) * self._bound_error(a)
        return (Rounding(np.broadcast_to(error, (len(error), *a.shape[1:])), 8 * a.shape[-1]),)

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        size = count_elements(output)
        return ComputeCost(size * (2 * _DEGREE + 8) * (output[-1] + 2), size, self.numpy_calls)

    @declare_bug("the gradient was multiplied by exp(A)^T, as if it commuted with A")
    def as_if_commuting(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (transpose(output) @ gradient,)

    @declare_bug("the rule for a number, g y, was applied element by element")
    def element_by_element(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * output,)

    @declare_bug("the matrix was not transposed on the way back")
    def not_transposed(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return self.backward(gradient, output, transpose(input))

    def torch_forward(self, torch: Any, input: Any) -> Any:
        def exponentiate(matrices: Any) -> Any:
            # PyTorch 2.13 loses four digits of matrices with a norm from 3e-4 to 5e-2: it takes a shorter polynomial
            # there. Beside another block, of norm 1, it takes the long one.
            padded = torch.nn.functional.pad(matrices, (0, 1, 0, 1))
            corner = torch.zeros_like(padded[..., -1, :])
            corner[..., -1] = 1
            return torch.linalg.matrix_exp(padded + torch.diag_embed(corner))[..., :-1, :-1]

        return apply_in_single_precision(exponentiate, input)
