"""Determinants of square matrices and their logarithms."""

from typing import Any

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.ops.dense_matrices import (
    apply_in_single_precision,
    check_square,
    compute_determinant,
    compute_log_determinant,
    estimate_elimination_error,
    invert,
    spread_labels_by_matrix,
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


class _NumberOfMatrix(Op):
    """One number for each square matrix."""

    inputs = ("A",)
    supports_complex_step = True

    def infer_output_shape(self, a: Shape) -> Shape:
        check_square(a, "A")
        return a[:-2]

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        (a,) = get_declared_shapes(inputs)
        return spread_labels_by_matrix(values, (2,), a[:-2], 0)

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        (a,) = shapes
        assert a is not None
        return ComputeCost(count_elements(a) * a[-1], count_elements(a), self.numpy_calls)


def compute_cofactors(matrices: Array) -> Array:
    """Return the matrix of cofactors, det(A) A^-T where A has an inverse, without a division.

    Notes
    -----
    With A = U S V^T the adjugate is adj(A) = adj(V^T) adj(S) adj(U), and adj(Q) = det(Q) Q^T for an orthogonal Q. So
    its transpose is det(U V^T) U P V^T, where P_i is the product of all singular values but s_i. For a matrix whose
    rank is n - 1 one P_i remains, and of a lower rank none.
    """
    left, sizes, right = np.linalg.svd(matrices)
    before = np.cumprod(np.insert(sizes[..., :-1], 0, 1, axis=-1), axis=-1)
    behind = np.cumprod(np.insert(sizes[..., :0:-1], 0, 1, axis=-1), axis=-1)[..., ::-1]
    sign = np.sign(np.linalg.det(left @ right))[..., None, None]
    return (sign * left * (before * behind)[..., None, :]) @ right


@register_op("det")
class Determinant(_NumberOfMatrix):
    """Determinants of square matrices.

    d det(A) = tr(adj(A) dA), Jacobi's formula, so that dL/dA = g adj(A)^T, the cofactors. It is g det(A) A^-T for a
    regular matrix. For a singular one it is 0 where the rank is below n - 1. Giles, An extended collection of matrix
    derivative results (2008), section 2.2.4.
    """

    examples = (OpExample(((3, 3),)), OpExample(((2, 2, 2),)), OpExample(((1, 1),)))

    def forward(self, a: Array) -> Array:
        return compute_determinant(a)

    def backward(self, gradient: Array, output: Array, a: Array) -> Gradients:
        return (gradient[..., None, None] * compute_cofactors(a),)

    def estimate_forward_rounding(self, output: Array, *inputs: Any) -> Rounding:
        (a,) = inputs
        error = (np.abs(compute_cofactors(a)) * estimate_elimination_error(a)).sum(axis=(-1, -2))
        return Rounding(error + np.abs(output), a.shape[-1])

    def estimate_backward_rounding(self, gradient: Array, output: Array, *inputs: Any) -> tuple[Rounding]:
        """Return the rounding of the cofactors.

        They are those of a matrix that is off by u s_1, and change with it by products of n - 2 singular values.
        """
        (a,) = inputs
        sizes = np.linalg.svd(a, compute_uv=False)
        length = a.shape[-1]
        change = length * sizes[..., : max(1, length - 1)].prod(axis=-1) if length > 1 else np.zeros(a.shape[:-2])
        cofactors = np.abs(compute_cofactors(a))
        return (Rounding(np.abs(gradient)[..., None, None] * (cofactors + change[..., None, None]), length),)

    @declare_bug("the inverse was not transposed")
    def not_transposed(self, gradient: Array, output: Array, a: Array) -> Gradients:
        return (gradient[..., None, None] * transpose(compute_cofactors(a)),)

    @declare_bug("the factor det(A) was left out: the gradient of the logarithm was used")
    def determinant_forgotten(self, gradient: Array, output: Array, a: Array) -> Gradients:
        return (gradient[..., None, None] * transpose(invert(a)),)

    def torch_forward(self, torch: Any, a: Any) -> Any:
        def compute(a: Any) -> Any:
            determinant = torch.linalg.det(a)
            is_zero = determinant == 0
            if not bool(is_zero.any()):
                return determinant
            # PyTorch's own gradient is 0 there, since it multiplies by the determinant. These are the cofactors by its
            # decomposition.
            left, sizes, right = torch.linalg.svd(a.detach())
            others = torch.stack([_leave_out(torch, sizes, index).prod(-1) for index in range(sizes.shape[-1])], -1)
            sign = torch.linalg.det(left @ right).sign()[..., None, None]
            cofactors = (sign * left * others[..., None, :]) @ right
            linear = determinant.detach() + ((a - a.detach()) * cofactors).sum((-1, -2))
            return torch.where(is_zero, linear, determinant)

        return apply_in_single_precision(compute, a)


def _leave_out(torch: Any, numbers: Any, index: int) -> Any:
    return torch.cat([numbers[..., :index], numbers[..., index + 1 :]], -1)


class _LogDeterminant(_NumberOfMatrix):
    """Logarithms of the size of determinants."""

    examples = (OpExample(((3, 3),), low=0.1, diagonal=8.0), OpExample(((2, 2, 2),), diagonal=8.0))

    def forward(self, a: Array) -> Array:
        return compute_log_determinant(a)[1]

    def backward(self, gradient: Array, output: Array, a: Array) -> Gradients:
        return (gradient[..., None, None] * transpose(invert(a)),)

    def estimate_forward_rounding(self, output: Array, *inputs: Any) -> Rounding:
        (a,) = inputs
        error = (np.abs(transpose(invert(a))) * estimate_elimination_error(a)).sum(axis=(-1, -2))
        # Logarithms of the pivots add up, and may cancel.
        logarithms = np.abs(np.log(np.linalg.svd(a, compute_uv=False))).sum(axis=-1)
        return Rounding(error + logarithms, a.shape[-1])

    def estimate_backward_rounding(self, gradient: Array, output: Array, *inputs: Any) -> tuple[Rounding]:
        (a,) = inputs
        sizes = np.abs(invert(a))
        error = transpose(sizes @ estimate_elimination_error(a) @ sizes + sizes)
        return (Rounding(np.abs(gradient)[..., None, None] * error, a.shape[-1]),)

    @declare_bug("the inverse was not transposed")
    def not_transposed(self, gradient: Array, output: Array, a: Array) -> Gradients:
        return (gradient[..., None, None] * invert(a),)

    @declare_bug("the gradient of the determinant was used, not that of its logarithm")
    def logarithm_forgotten(self, gradient: Array, output: Array, a: Array) -> Gradients:
        return (gradient[..., None, None] * compute_cofactors(a),)


@register_op("logdet")
class LogDeterminant(_LogDeterminant):
    """Logarithm of the determinants of square matrices, NaN for a negative one: d log det(A) = tr(A^-1 dA).

    So dL/dA = g A^-T.
    """

    def forward(self, a: Array) -> Array:
        sign, logarithm = compute_log_determinant(a)
        return np.where(sign < 0, np.nan, logarithm).astype(a.dtype, copy=False)

    def torch_forward(self, torch: Any, a: Any) -> Any:
        return apply_in_single_precision(torch.logdet, a)


@register_op("slogdet")
class LogAbsoluteDeterminant(_LogDeterminant):
    """Logarithm of the absolute determinants of square matrices: `logabsdet` of PyTorch's slogdet.

    d log abs(det(A)) = tr(A^-1 dA), whatever the sign, so that dL/dA = g A^-T. The sign has no gradient.
    """

    def torch_forward(self, torch: Any, a: Any) -> Any:
        def measure(a: Any) -> Any:
            return torch.linalg.slogdet(a).logabsdet

        return apply_in_single_precision(measure, a)
