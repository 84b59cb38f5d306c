"""The Cholesky factor of symmetric matrices."""

from typing import Any

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.ops.dense_matrices import (
    apply_in_single_precision,
    check_square,
    solve_triangles,
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

_SYMMETRY_TOLERANCE = 1e-3
"""Part of the largest element by which opposite elements may differ: matrices are rounded to bfloat16, at worst."""


def check_symmetric_values(matrices: Array | None) -> None:
    """Refuse matrices that are not symmetric, by ShapeError."""
    if matrices is None or not np.isfinite(matrices).all():
        return
    difference = np.abs(matrices - matrices.swapaxes(-1, -2)).max(axis=(-1, -2), initial=0)
    if (difference > _SYMMETRY_TOLERANCE * np.abs(matrices).max(axis=(-1, -2), initial=0)).any():
        raise ShapeError(
            "a symmetric matrix, of which PyTorch reads one triangle; compute (A + A^T) / 2 first, or copy a triangle"
        )


@register_op("cholesky")
class Cholesky(Op):
    """Cholesky factor L of symmetric positive definite matrices A = L L^T, or U = L^T with `upper`.

    PyTorch reads one triangle and returns a symmetric gradient. It is that of the factor of S = (A + A^T) / 2, which is
    computed here. With F the lower triangle of a matrix with half its diagonal,
        dS = dL L^T + L dL^T        L^-1 dL = F(L^-1 dS L^-T)
    So with G = dL/dL: P = L^-T F(L^T G) L^-1 and dL/dA = (P + P^T) / 2. A matrix that is not positive definite gives
    NaN. Murray, Differentiation of the Cholesky decomposition (2016), section 3.
    """

    upper: bool = False

    inputs = ("A",)
    supports_complex_step = True
    examples = (OpExample(((3, 3),), diagonal=8.0), OpExample(((2, 2, 2),), {"upper": True}, diagonal=8.0))

    def infer_output_shape(self, a: Shape) -> Shape:
        check_square(a, "A")
        return a

    def check_values(self, shapes: tuple[Shape, ...], *values: Array | None) -> None:
        check_symmetric_values(values[0])

    def _orient(self, factors: Array) -> Array:
        return transpose(factors) if self.upper else factors

    def forward(self, a: Array) -> Array:
        symmetric = symmetrise(a)
        factors = np.zeros_like(symmetric)
        with np.errstate(invalid="ignore", divide="ignore"):
            for column in range(a.shape[-1]):
                known = factors[..., column:, :column]
                rest = symmetric[..., column:, column] - (known @ known[..., 0, :, None])[..., 0]
                factors[..., column:, column] = rest / np.sqrt(rest[..., :1])
        return self._orient(factors)

    def _pull_back(self, factors: Array, gradient: Array, *, halves_diagonal: bool = True) -> Array:
        """Return P of the docstring, given L and G."""
        inner = np.tril(transpose(factors) @ np.tril(gradient))
        if halves_diagonal:
            inner = inner * (1 - np.eye(factors.shape[-1], dtype=factors.dtype) / 2)
        with np.errstate(invalid="ignore", divide="ignore"):
            from_left = solve_triangles(transpose(factors), inner, upper=True)
            return transpose(solve_triangles(transpose(factors), transpose(from_left), upper=True))

    def backward(self, gradient: Array, output: Array, a: Array) -> Gradients:
        return (symmetrise(self._pull_back(self._orient(output), self._orient(gradient))),)

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        (a,) = get_declared_shapes(inputs)
        return spread_labels_by_matrix(values, (2,), a, 2)

    def _invert_factors(self, factors: Array) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.abs(solve_triangles(factors, np.eye(factors.shape[-1], dtype=factors.dtype), upper=False))

    def estimate_forward_rounding(self, output: Array, *inputs: Any) -> Rounding:
        """Return the rounding of the factor, which is exact for a matrix that is off by about u abs(L) abs(L^T)."""
        factors = np.abs(self._orient(output))
        inverses = self._invert_factors(self._orient(output))
        error = factors @ np.tril(inverses @ factors @ transpose(inverses @ factors))
        return Rounding(self._orient(np.tril(error)) + np.abs(output), output.shape[-1])

    def estimate_backward_rounding(self, gradient: Array, output: Array, *inputs: Any) -> tuple[Rounding]:
        factors = np.abs(self._orient(output))
        inverses = self._invert_factors(self._orient(output))
        # A triangle solves with an error of abs(L^-1) abs(L) times that of its solution.
        amplified = inverses @ factors @ inverses
        inner = np.tril(transpose(factors) @ np.tril(np.abs(self._orient(gradient))))
        error = transpose(amplified) @ inner @ inverses + transpose(inverses) @ inner @ amplified
        return (Rounding(symmetrise(error), output.shape[-1]),)

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        size, length = count_elements(output), output[-1]
        return ComputeCost(size * (2 + length // 3), size, 5 * length)

    @declare_bug("the diagonal was not halved in the triangle")
    def diagonal_not_halved(self, gradient: Array, output: Array, a: Array) -> Gradients:
        wrong = self._pull_back(self._orient(output), self._orient(gradient), halves_diagonal=False)
        return (symmetrise(wrong),)

    @declare_bug("the gradient was put on the lower triangle alone, and not made symmetric")
    def not_symmetric(self, gradient: Array, output: Array, a: Array) -> Gradients:
        (symmetric,) = self.backward(gradient, output, a)
        assert symmetric is not None
        return (np.tril(2 * symmetric) - symmetric * np.eye(a.shape[-1]),)

    def torch_forward(self, torch: Any, a: Any) -> Any:
        def factorise(a: Any) -> Any:
            factors, info = torch.linalg.cholesky_ex((a + a.mT) / 2, upper=self.upper)
            return torch.where((info != 0)[..., None, None], torch.nan, factors)

        return apply_in_single_precision(factorise, a)
