"""Eigenvalues of symmetric matrices, and singular values.

They are smooth where they are apart, and bend where two of them meet: their order changes there. So each has a piece,
which ends where its distance from the others has changed by its own size. At values that are equal the piece ends at
once: a difference has no bound there, and gradients are inconclusive.

References
----------
Magnus, On differentiating eigenvalues and eigenvectors (1985); Stewart and Sun, Matrix Perturbation Theory (1990),
section IV.2: an eigenvalue moves by no more than the norm of the move of the matrix.
"""

from abc import abstractmethod
from typing import Any

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.ops.cholesky import check_symmetric_values
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
    ShapeError,
    declare_bug,
    get_declared_shapes,
    register_op,
)
from service.numerics.ops.rounding_errors import Rounding

_LEAST_GAP, _LARGEST_GAP = 0.4, 3.0
"""Ends of a piece, in units of the gap that its branch states."""
_ROUNDING_OFFSET = 0.37
"""Offset before rounding a logarithm down: exact numbers lie away from the ends of the pieces."""
_SMALLEST_PART = 2.0**-60
"""Smallest gap, as a part of the largest value, by which errors are divided."""


class _SpectralValues(Op):
    """Values of a matrix that bend where they meet."""

    supports_extended_precision = False
    inputs = ("A",)

    @abstractmethod
    def _measure_gaps(self, values: Array) -> Array:
        """Return the distance of each value from the nearest place where it bends."""

    @abstractmethod
    def _compute_values(self, matrices: Array) -> Array:
        """Return the values of finite matrices."""

    def forward(self, a: Array) -> Array:
        is_finite: Array = np.asarray(np.isfinite(a).all(axis=(-1, -2), keepdims=True))
        values = self._compute_values(np.where(is_finite, a, 0))
        return np.where(is_finite[..., 0], values, a.dtype.type(np.nan))

    def select_branch(self, *inputs: Any) -> Array:
        """Return the power of two next to the gap of each value, 0 for none."""
        gaps = self._measure_gaps(self.forward(*inputs))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.exp2(np.floor(np.log2(gaps) + _ROUNDING_OFFSET)).astype(np.float64)

    def forward_on_branch(self, branch: Array, *inputs: Any) -> Array:
        """Return the values, NaN where a gap has changed by about its own size."""
        values = self.forward(*inputs)
        gaps = self._measure_gaps(values)
        with np.errstate(invalid="ignore"):
            is_within = (gaps >= _LEAST_GAP * branch) & (gaps <= _LARGEST_GAP * branch)
        return np.where(is_within, values, values.dtype.type(np.nan))

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        return spread_labels_by_matrix(values, (2,), self.infer_output_shape(*get_declared_shapes(inputs)), 1)

    def estimate_forward_rounding(self, output: Array, *inputs: Any) -> Rounding:
        (a,) = inputs
        largest = np.abs(output).max(axis=-1, keepdims=True)
        return Rounding(np.broadcast_to(largest, output.shape), a.shape[-1])

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        (a,) = shapes
        assert a is not None
        return ComputeCost(count_elements(a) * (2 * min(a[-2:]) + 4), count_elements(a), 5)


def _divide_by_gaps(differences: Array, gaps: Array, largest: Array) -> Array:
    """Return the largest rotation of a gradient: differences over gaps, for matrices of a largest value."""
    floor = np.maximum(_SMALLEST_PART * largest, np.finfo(np.float64).tiny)[..., None]
    rotations = np.where(differences == 0, 0, np.abs(differences) / np.maximum(np.abs(gaps), floor))
    return rotations.max(axis=(-1, -2), initial=0) * largest[..., 0] if largest.ndim else rotations


@register_op("eigvalsh")
class SymmetricEigenvalues(_SpectralValues):
    """Eigenvalues of symmetric matrices in ascending order: A = V diag(w) V^T.

    dw_i = v_i^T dA v_i, so that with g = dL/dw: dL/dA = V diag(g) V^T. PyTorch reads one triangle and returns this
    symmetric gradient, which is that of the eigenvalues of (A + A^T) / 2, computed here. At equal eigenvalues the
    gradient depends on the choice of eigenvectors, unless their g are equal: it is inconclusive.
    """

    examples = (
        OpExample(((3, 3),)),
        OpExample(((2, 2, 2),)),
    )

    def infer_output_shape(self, a: Shape) -> Shape:
        check_square(a, "A")
        return a[:-1]

    def check_values(self, shapes: tuple[Shape, ...], *values: Array | None) -> None:
        check_symmetric_values(values[0])

    def _compute_values(self, matrices: Array) -> Array:
        return np.linalg.eigvalsh(symmetrise(matrices))

    def _measure_gaps(self, values: Array) -> Array:
        return _measure_neighbour_gaps(values)

    def _decompose(self, a: Array) -> tuple[Array, Array]:
        return np.linalg.eigh(symmetrise(np.nan_to_num(a)))

    def backward(self, gradient: Array, output: Array, a: Array) -> Gradients:
        _, vectors = self._decompose(a)
        return ((vectors * gradient[..., None, :]) @ transpose(vectors),)

    def estimate_backward_rounding(self, gradient: Array, output: Array, *inputs: Any) -> tuple[Rounding]:
        """Return the rounding of the gradient.

        Vectors of a matrix that is off by E turn by E_ij / (w_j - w_i), so that the gradient changes by
        (g_j - g_i) E_ij / (w_j - w_i) in their frame.
        """
        values, vectors = self._decompose(inputs[0])
        sizes = np.abs(vectors)
        largest = np.abs(values).max(axis=-1, keepdims=True)
        turned = _divide_by_gaps(
            gradient[..., :, None] - gradient[..., None, :], values[..., :, None] - values[..., None, :], largest
        )
        own = (sizes * np.abs(gradient)[..., None, :]) @ transpose(sizes)
        return (Rounding(own + turned[..., None, None], values.shape[-1]),)

    @declare_bug("the eigenvectors were not squared: their sum took the place of v v^T")
    def eigenvalues_for_gradient(self, gradient: Array, output: Array, a: Array) -> Gradients:
        _, vectors = self._decompose(a)
        return ((vectors * (gradient * output)[..., None, :]) @ transpose(vectors),)

    @declare_bug("rows of the matrix of eigenvectors were taken for its columns")
    def rows_for_columns(self, gradient: Array, output: Array, a: Array) -> Gradients:
        _, vectors = self._decompose(a)
        return ((transpose(vectors) * gradient[..., None, :]) @ vectors,)

    def torch_forward(self, torch: Any, a: Any) -> Any:
        def measure(a: Any) -> Any:
            return _leave_out_infinite(torch, torch.linalg.eigvalsh, (a + a.mT) / 2)

        return apply_in_single_precision(measure, a)


@register_op("svdvals")
class SingularValues(_SpectralValues):
    """Singular values of matrices in descending order: A = U diag(s) V^T.

    ds_i = u_i^T dA v_i, so that with g = dL/ds: dL/dA = U diag(g) V^T. At equal singular values, or at 0, the gradient
    depends on the choice of vectors: it is inconclusive.
    """

    examples = (OpExample(((3, 2),)), OpExample(((2, 2, 3),), low=0.1), OpExample(((3, 3),), diagonal=2.0))

    def infer_output_shape(self, a: Shape) -> Shape:
        if len(a) < 2:
            raise ShapeError("matrices (..., m, n)")
        return (*a[:-2], min(a[-2:]))

    def _compute_values(self, matrices: Array) -> Array:
        return np.linalg.svd(matrices, compute_uv=False)

    def _measure_gaps(self, values: Array) -> Array:
        return np.minimum(_measure_neighbour_gaps(values), values)

    def _decompose(self, a: Array) -> tuple[Array, Array, Array]:
        return np.linalg.svd(np.nan_to_num(a), full_matrices=False)

    def backward(self, gradient: Array, output: Array, a: Array) -> Gradients:
        left, _, right = self._decompose(a)
        return ((left * gradient[..., None, :]) @ right,)

    def estimate_backward_rounding(self, gradient: Array, output: Array, *inputs: Any) -> tuple[Rounding]:
        """Return the rounding of the gradient, of vectors that turn by E / (s_j - s_i) and E / (s_j + s_i)."""
        left, values, right = self._decompose(inputs[0])
        largest = values.max(axis=-1, keepdims=True)
        rows, columns, g, h = values[..., :, None], values[..., None, :], gradient[..., :, None], gradient[..., None, :]
        turned = _divide_by_gaps(g - h, rows - columns, largest) + _divide_by_gaps(g + h, rows + columns, largest)
        own = (np.abs(left) * np.abs(gradient)[..., None, :]) @ np.abs(right)
        return (Rounding(own + turned[..., None, None], max(inputs[0].shape[-2:])),)

    @declare_bug("the right vectors were taken for the left ones, as if the matrix were symmetric")
    def as_if_symmetric(self, gradient: Array, output: Array, a: Array) -> Gradients:
        left, _, right = self._decompose(a)
        vectors = left if a.shape[-2] <= a.shape[-1] else transpose(right)
        product = (vectors * gradient[..., None, :]) @ transpose(vectors)
        rows, columns = a.shape[-2:]
        padded = np.zeros((*product.shape[:-2], rows, columns), product.dtype)
        padded[..., : min(rows, columns), : min(rows, columns)] = product
        return (padded,)

    @declare_bug("the gradient of the squares of the singular values was used, without the factor 2")
    def singular_value_kept(self, gradient: Array, output: Array, a: Array) -> Gradients:
        return self.backward(gradient * output, output, a)

    def torch_forward(self, torch: Any, a: Any) -> Any:
        def measure(a: Any) -> Any:
            return _leave_out_infinite(torch, torch.linalg.svdvals, a)

        return apply_in_single_precision(measure, a)


def _measure_neighbour_gaps(values: Array) -> Array:
    """Return the distance of each value, in order, from the nearest other; infinite for a single one."""
    distances = np.abs(np.diff(values, axis=-1))
    edge = np.full_like(values[..., :1], np.inf)
    padded = np.concatenate([edge, distances, edge], axis=-1)
    return np.minimum(padded[..., :-1], padded[..., 1:])


def _leave_out_infinite(torch: Any, function: Any, matrices: Any) -> Any:
    """Return values of matrices by PyTorch, which refuses numbers that are not finite: NaN for those."""
    is_finite = torch.isfinite(matrices).all(-1).all(-1)
    return torch.where(is_finite[..., None], function(torch.where(is_finite[..., None, None], matrices, 0)), torch.nan)
