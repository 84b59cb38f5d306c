"""Functions of matrices that are compositions of other ops."""

from typing import Annotated, Any, Literal

from annotated_types import Len

from service.numerics.ops.axes import normalize_axis
from service.numerics.ops.composite import CompositeOp, Expansion
from service.numerics.ops.dense_matrices import apply_in_single_precision, check_square
from service.numerics.ops.op import OpExample, ShapeError, register_op

_MOST_FACTORS = 2**16
"""Largest exponent, which takes 32 products at most."""


@register_op("matrix_norm")
class MatrixNorm(CompositeOp):
    """Norm of matrices: `fro`, `nuc` (sum of the singular values), 2 and -2 (largest, smallest singular value).

    1 and -1 are the largest and smallest sum of absolute values of a column, `inf` and `-inf` those of a row. With
    A = U diag(s) V^T and g = dL/dy: dL/dA = g A / y (fro), g U V^T (nuc), g u_1 v_1^T (2), and g sign(a) on the column
    or row that decides.
    """

    ord: Literal["fro", "nuc", "inf", "-inf", 1, -1, 2, -2] = "fro"
    dim: Annotated[list[int], Len(2, 2)] | None = None
    keepdim: bool = False

    inputs = ("A",)
    examples = (
        OpExample(((3, 4),)),
        # Whole numbers of both signs make singular matrices, at which the signs of singular vectors are free.
        OpExample(((2, 3, 2),), {"ord": "nuc", "dim": [0, 2], "keepdim": True}, low=0.2),
        OpExample(((3, 2),), {"ord": 1}),
        OpExample(((3, 2),), {"ord": "-inf"}),
        OpExample(((2, 3),), {"ord": 2}),
    )

    @property
    def _axes(self) -> list[int]:
        return self.dim or [-2, -1]

    def expand(self, step: Expansion, a: str) -> str:
        rank = len(step.get_shape(a))
        if rank < 2:
            raise ShapeError("matrices (..., m, n)")
        axes = [normalize_axis(axis, rank) for axis in self._axes]
        if axes[0] == axes[1]:
            raise ShapeError(f"two different axes as dim, not {self._axes}")
        norm = self._reduce(step, step("movedim", a, source=axes, destination=[-2, -1]))
        for axis in sorted(axes) if self.keepdim else ():
            norm = step("unsqueeze", norm, dim=axis)
        return norm

    def _reduce(self, step: Expansion, matrices: str) -> str:
        if self.ord == "fro":
            return step("vector_norm", matrices, dim=[-2, -1])
        if self.ord in ("nuc", 2, -2):
            values = step("svdvals", matrices)
            if self.ord == "nuc":
                return step("sum", values, dim=[-1])
            return step("amax" if self.ord == 2 else "amin", values, dim=-1)
        sums = step("sum", step("abs", matrices), dim=[-2 if self.ord in (1, -1) else -1])
        return step("amax" if self.ord in (1, "inf") else "amin", sums, dim=-1)

    def torch_forward(self, torch: Any, a: Any) -> Any:
        order = float(self.ord) if self.ord not in ("fro", "nuc") else self.ord

        def measure(a: Any) -> Any:
            return torch.linalg.matrix_norm(a, order, tuple(self._axes), self.keepdim)

        return apply_in_single_precision(measure, a)


@register_op("matrix_power")
class MatrixPower(CompositeOp):
    """Powers of square matrices, A^n, by repeated squares; of the inverses for n < 0.

    With G = dL/dY: dL/dA = sum_{k=1}^n (A^T)^(k-1) G (A^T)^(n-k), and for n < 0 by the chain over B = A^-1.
    """

    n: int

    inputs = ("input",)
    examples = (
        OpExample(((3, 3),), {"n": 5}),
        OpExample(((2, 2, 2),), {"n": -3}, low=0.1, diagonal=4.0),
        OpExample(((2, 2),), {"n": 1}),
    )

    def expand(self, step: Expansion, input: str) -> str:
        check_square(step.get_shape(input))
        if self.n == 0 or abs(self.n) > _MOST_FACTORS:
            raise ShapeError(f"an exponent n other than 0, up to {_MOST_FACTORS} in size")
        square, power, result = step("inv", input) if self.n < 0 else input, abs(self.n), None
        while power:
            if power % 2:
                result = square if result is None else step("matmul", result, square)
            power //= 2
            if power:
                square = step("matmul", square, square)
        assert result is not None
        # A node is a step of its own, also where it hands on its input.
        return step("mul", input, 1.0) if result == input else result

    def torch_forward(self, torch: Any, input: Any) -> Any:
        def raise_to_power(matrices: Any) -> Any:
            return torch.linalg.matrix_power(matrices, self.n)

        return apply_in_single_precision(raise_to_power, input)
