"""Solutions of systems of linear equations, and inverses."""

from types import MappingProxyType
from typing import Any

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.ops.dense_matrices import (
    align_batches,
    apply_in_single_precision,
    check_square,
    estimate_elimination_error,
    invert,
    solve_systems,
    solve_triangles,
    spread_labels_by_matrix,
    sum_to_shape,
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

_WELL_CONDITIONED = 8.0
"""Added to the diagonals of examples of 3 rows with elements from -2 to 2."""


class _Systems(Op):
    """Systems A X = B, or X A = B.

    The passes see matrices: vectors as columns, and X A = B as A^T X^T = B^T.
    """

    left: bool

    def _solve(self, matrices: Array, right: Array, *, transposed: bool = False) -> Array:
        """Return the solutions for the matrices or their transposes."""
        raise NotImplementedError

    def _select_elements(self, matrices: Array) -> Array:
        """Return the matrices with 0 in place of the elements that are not read."""
        return matrices

    def _measure_matrix_error(self, matrices: Array) -> Array:
        """Return the error of each element of the matrices in units of u, with which the solution is exact."""
        return estimate_elimination_error(matrices)

    def _has_vectors(self, a: Shape, b: Shape) -> bool:
        return len(b) == 1 or a[:-1] == b

    def infer_output_shape(self, a: Shape, b: Shape) -> Shape:
        check_square(a, "A")
        has_vectors = self._has_vectors(a, b)
        axis = 1 if has_vectors or not self.left else 2
        if len(b) < axis or b[-axis] != a[-1] or (has_vectors and not self.left):
            raise ShapeError(f"matrices A (..., n, n) with B {'(n,) or (..., n, k)' if self.left else '(..., k, n)'}")
        try:
            batch = np.broadcast_shapes(a[:-2], b[:-1] if len(b) == 1 else b[:-1] if has_vectors else b[:-2])
        except ValueError:
            raise ShapeError("stacks A and B that broadcast") from None
        return (*batch, *(b[-1:] if has_vectors else b[-2:]))

    def _arrange(self, a: Array, b: Array) -> tuple[Array, Array]:
        """Return matrices A and right sides of A X = B, with one number of axes."""
        if self._has_vectors(*get_declared_shapes((a, b))):
            b = b[..., None]
        if not self.left:
            a, b = transpose(a), transpose(b)
        matrices, right = align_batches(a, b)
        return matrices, right

    def _arrange_like_output(self, array: Array, a: Array, b: Array) -> Array:
        """Return the output or its gradient as solutions of A X = B."""
        if self._has_vectors(*get_declared_shapes((a, b))):
            array = array[..., None]
        return array if self.left else transpose(array)

    def _restore(self, solutions: Array, a: Array, b: Array) -> Array:
        """Return solutions of A X = B as the output has them."""
        if self._has_vectors(*get_declared_shapes((a, b))):
            return solutions[..., 0]
        return solutions if self.left else transpose(solutions)

    def forward(self, a: Array, b: Array) -> Array:
        return self._restore(self._solve(*self._arrange(a, b)), a, b)

    def _pull_back(self, gradient: Array, output: Array, a: Array, b: Array, factor: Array | None = None) -> Gradients:
        """Return the gradients.

        Parameters
        ----------
        gradient, output, A, B
            As those of `backward`.
        factor
            Gradient by the right sides, as solutions; computed by default.
        """
        matrices, _ = self._arrange(a, b)
        g, solutions = (self._arrange_like_output(array, a, b) for array in (gradient, output))
        by_right = self._solve(matrices, g, transposed=True) if factor is None else factor
        by_matrix = self._select_elements(-by_right @ transpose(solutions))
        by_input = by_matrix if self.left else transpose(by_matrix)
        return (sum_to_shape(by_input, a), sum_to_shape(self._restore(by_right, a, b), b))

    def backward(self, gradient: Array, output: Array, a: Array, b: Array) -> Gradients:
        return self._pull_back(gradient, output, a, b)

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        a, b = get_declared_shapes(inputs)
        rank = 1 if self._has_vectors(a, b) else 2
        output = self.infer_output_shape(a, b)
        return spread_labels_by_matrix(values, (2, rank), output, rank)

    def _amplify(self, matrices: Array, sizes: Array) -> Array:
        """Return the error of a solution of a size, in units of u: abs(A^-1) E abs(X)."""
        inverses = np.abs(self._solve(matrices, np.eye(matrices.shape[-1], dtype=matrices.dtype)))
        return inverses @ (self._measure_matrix_error(self._select_elements(matrices)) @ sizes) + sizes

    def estimate_forward_rounding(self, output: Array, *inputs: Any) -> Rounding:
        a, b = inputs
        matrices, _ = self._arrange(a, b)
        sizes = np.abs(self._arrange_like_output(output, a, b))
        return Rounding(self._restore(self._amplify(matrices, sizes), a, b), matrices.shape[-1])

    def estimate_backward_rounding(self, gradient: Array, output: Array, *inputs: Any) -> tuple[Rounding | None, ...]:
        a, b = inputs
        matrices, _ = self._arrange(a, b)
        g, solutions = (self._arrange_like_output(array, a, b) for array in (gradient, output))
        by_right = self._solve(matrices, g, transposed=True)
        error = self._amplify_transposed(matrices, np.abs(by_right))
        by_input, by_sides = self._pull_back(gradient, np.abs(output), a, b, error)
        assert by_input is not None
        assert by_sides is not None
        terms = matrices.shape[-1] + solutions.shape[-1]
        repeats = count_elements(output.shape[1:]) // max(1, min(count_elements(x.shape[1:]) for x in (a, b)))
        return Rounding(np.abs(by_input), terms + repeats), Rounding(by_sides, terms + repeats)

    def _amplify_transposed(self, matrices: Array, sizes: Array) -> Array:
        eye = np.eye(matrices.shape[-1], dtype=matrices.dtype)
        inverses = np.abs(self._solve(matrices, eye, transposed=True))
        errors = transpose(self._measure_matrix_error(self._select_elements(matrices)))
        return inverses @ (errors @ sizes) + sizes

    @declare_bug("the matrix was not transposed on the way back")
    def not_transposed(self, gradient: Array, output: Array, a: Array, b: Array) -> Gradients:
        matrices, _ = self._arrange(a, b)
        g = self._arrange_like_output(gradient, a, b)
        return self._pull_back(gradient, output, a, b, self._solve(matrices, g))

    @declare_bug("the minus sign in the gradient of the matrix was left out")
    def sign_forgotten(self, gradient: Array, output: Array, a: Array, b: Array) -> Gradients:
        by_matrix, by_right = self._pull_back(gradient, output, a, b)
        assert by_matrix is not None
        return -by_matrix, by_right

    @declare_bug("the right side took the place of the solution in the gradient of the matrix")
    def right_side_for_solution(self, gradient: Array, output: Array, a: Array, b: Array) -> Gradients:
        sides = self._restore(self._arrange(a, b)[1], a, b)
        return self._pull_back(gradient, np.broadcast_to(sides, (len(sides), *output.shape[1:])), a, b)


@register_op("solve")
class Solve(_Systems):
    """Solution of A X = B for square matrices, or of X A = B without `left`.

    A dX = dB - dA X, so that with G = dL/dX, (n, k):
        dL/dB = A^-T G        dL/dA = -(A^-T G) X^T
    summed over the axes along which a stack is broadcast. For X A = B: dL/dB = G A^-T, dL/dA = -X^T (G A^-T). B is a
    vector, or a stack of vectors, if it has one axis or the shape of A without the last. Giles, An extended collection
    of matrix derivative results (2008), section 2.3.1.
    """

    left: bool = True

    inputs = ("A", "B")
    linear_in = MappingProxyType({"B": ()})
    supports_complex_step = True
    examples = (
        OpExample(((3, 3), (3, 2)), diagonal=_WELL_CONDITIONED),
        OpExample(((2, 3, 3), (2, 3)), diagonal=_WELL_CONDITIONED),
        OpExample(((2, 2), (2, 3, 2)), {"left": False}, diagonal=_WELL_CONDITIONED),
    )

    def _solve(self, matrices: Array, right: Array, *, transposed: bool = False) -> Array:
        return solve_systems(transpose(matrices) if transposed else matrices, right)

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        largest = super().estimate_cost(output, *shapes).largest_array
        assert shapes[0] is not None
        return ComputeCost(largest * shapes[0][-1], largest)

    def torch_forward(self, torch: Any, a: Any, b: Any) -> Any:
        def solve(a: Any, b: Any) -> Any:
            solution, info = torch.linalg.solve_ex(a, b, left=self.left)
            is_singular = (info != 0).reshape(*info.shape, *(1,) * (solution.ndim - info.ndim))
            return torch.where(is_singular, torch.nan, solution)

        return apply_in_single_precision(solve, a, b)


@register_op("solve_triangular")
class SolveTriangular(_Systems):
    """Solution of T X = B, or of X T = B without `left`, for a triangle T of the matrices A.

    The other triangle is not read, and with `unitriangular` the diagonal is 1. With G = dL/dX, (n, k):
        dL/dB = T^-T G        dL/dA = -(T^-T G) X^T on the triangle that is read, 0 elsewhere
    summed over the axes along which a stack is broadcast. For X T = B: dL/dB = G T^-T, dL/dA = -X^T (G T^-T).
    """

    upper: bool
    left: bool = True
    unitriangular: bool = False

    inputs = ("A", "B")
    linear_in = MappingProxyType({"B": ()})
    supports_complex_step = True
    examples = (
        OpExample(((3, 3), (3, 2)), {"upper": True}, diagonal=_WELL_CONDITIONED),
        OpExample(((2, 2), (2, 3, 2)), {"upper": False, "left": False}, diagonal=_WELL_CONDITIONED),
        OpExample(((3, 3), (3, 2)), {"upper": False, "unitriangular": True}),
    )

    def _has_vectors(self, a: Shape, b: Shape) -> bool:
        return False

    @property
    def _reads_upper(self) -> bool:
        """Return whether the matrices of A X = B have their triangle above."""
        return self.upper is self.left

    def _select_elements(self, matrices: Array) -> Array:
        first = 1 if self.unitriangular else 0
        return np.triu(matrices, first) if self._reads_upper else np.tril(matrices, -first)

    def _measure_matrix_error(self, matrices: Array) -> Array:
        return np.abs(matrices)

    def _solve(self, matrices: Array, right: Array, *, transposed: bool = False) -> Array:
        if self.unitriangular:
            eye = np.eye(matrices.shape[-1], dtype=np.bool_)
            matrices = np.where(eye, matrices.dtype.type(1), matrices)
        with np.errstate(divide="ignore", invalid="ignore"):
            if transposed:
                return solve_triangles(transpose(matrices), right, upper=not self._reads_upper)
            return solve_triangles(matrices, right, upper=self._reads_upper)

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        largest = super().estimate_cost(output, *shapes).largest_array
        assert shapes[0] is not None
        length = shapes[0][-1]
        return ComputeCost(largest * length, largest, 4 * length)

    @declare_bug("the elements that are not read got a gradient")
    def triangle_forgotten(self, gradient: Array, output: Array, a: Array, b: Array) -> Gradients:
        matrices, _ = self._arrange(a, b)
        by_right = self._solve(matrices, self._arrange_like_output(gradient, a, b), transposed=True)
        by_matrix = -by_right @ transpose(self._arrange_like_output(output, a, b))
        by_input = by_matrix if self.left else transpose(by_matrix)
        return sum_to_shape(by_input, a), sum_to_shape(self._restore(by_right, a, b), b)

    def torch_forward(self, torch: Any, a: Any, b: Any) -> Any:
        def solve(a: Any, b: Any) -> Any:
            return torch.linalg.solve_triangular(
                a, b, upper=self.upper, left=self.left, unitriangular=self.unitriangular
            )

        return apply_in_single_precision(solve, a, b)


@register_op("inv")
class Inverse(Op):
    """Inverses of square matrices: Y = A^-1.

    A dY = -dA Y, so that with G = dL/dY: dL/dA = -Y^T G Y^T. Giles, An extended collection of matrix derivative results
    (2008), section 2.2.3.
    """

    inputs = ("A",)
    supports_complex_step = True
    examples = (
        OpExample(((3, 3),), low=0.1, diagonal=_WELL_CONDITIONED),
        OpExample(((2, 1, 2, 2),), diagonal=_WELL_CONDITIONED),
    )

    def infer_output_shape(self, a: Shape) -> Shape:
        check_square(a, "A")
        return a

    def forward(self, a: Array) -> Array:
        return invert(a)

    def backward(self, gradient: Array, output: Array, a: Array) -> Gradients:
        return (-transpose(output) @ gradient @ transpose(output),)

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        (a,) = get_declared_shapes(inputs)
        return spread_labels_by_matrix(values, (2,), a, 2)

    def _measure_error(self, output: Array, a: Array) -> Array:
        sizes = np.abs(output)
        return sizes @ estimate_elimination_error(a) @ sizes + sizes

    def estimate_forward_rounding(self, output: Array, *inputs: Any) -> Rounding:
        (a,) = inputs
        return Rounding(self._measure_error(output, a), a.shape[-1])

    def estimate_backward_rounding(self, gradient: Array, output: Array, *inputs: Any) -> tuple[Rounding]:
        (a,) = inputs
        # PyTorch multiplies by the inverse, and others solve with the matrix again.
        error, size, g = transpose(self._measure_error(output, a)), transpose(np.abs(output)), np.abs(gradient)
        return (Rounding(error @ g @ size + size @ g @ error, a.shape[-1]),)

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        size = count_elements(output)
        return ComputeCost(size * output[-1], size)

    @declare_bug("the inverses were not transposed on the way back")
    def not_transposed(self, gradient: Array, output: Array, a: Array) -> Gradients:
        return (-output @ gradient @ output,)

    @declare_bug("the minus sign was left out")
    def sign_forgotten(self, gradient: Array, output: Array, a: Array) -> Gradients:
        return (transpose(output) @ gradient @ transpose(output),)

    @declare_bug("the rule for a number, -g y^2, was applied element by element")
    def element_by_element(self, gradient: Array, output: Array, a: Array) -> Gradients:
        return (-gradient * np.square(output),)

    def torch_forward(self, torch: Any, a: Any) -> Any:
        def invert_with_nan(a: Any) -> Any:
            inverse, info = torch.linalg.inv_ex(a)
            return torch.where((info != 0)[..., None, None], torch.nan, inverse)

        return apply_in_single_precision(invert_with_nan, a)
