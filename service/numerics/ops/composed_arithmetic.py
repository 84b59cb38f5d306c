"""Sums, products and distances of tensors that are compositions of other ops."""

from math import prod
from typing import Annotated, Any

from annotated_types import Ge, Len

from service.numerics.ops.axes import normalize_axis
from service.numerics.ops.composite import CompositeOp, Expansion
from service.numerics.ops.matrix_product import add_scaled
from service.numerics.ops.op import OpExample, ShapeError, register_op
from service.numerics.ops.vector_norm import NormOrder


@register_op("addcmul")
class Addcmul(CompositeOp):
    """y = x + value a b, with broadcasting.

    dL/dx = g, dL/da = value g b, dL/db = value g a, summed over the axes of a broadcast.
    """

    value: float = 1.0

    inputs = ("input", "tensor1", "tensor2")
    positional = inputs
    examples = (
        OpExample(((3, 4), (3, 4), (3, 4))),
        OpExample(((4,), (2, 3, 1), (3, 4)), {"value": -0.5}),
    )

    def expand(self, step: Expansion, input: str, tensor1: str, tensor2: str) -> str:
        return add_scaled(step, input, step("mul", tensor1, tensor2), 1, self.value)

    def torch_forward(self, torch: Any, input: Any, tensor1: Any, tensor2: Any) -> Any:
        return torch.addcmul(input, tensor1, tensor2, value=self.value)


@register_op("addcdiv")
class Addcdiv(CompositeOp):
    """y = x + value a / b, with broadcasting.

    dL/dx = g, dL/da = value g / b, dL/db = -value g a / b^2, summed over the axes of a broadcast.
    """

    value: float = 1.0

    inputs = ("input", "tensor1", "tensor2")
    positional = inputs
    examples = (
        OpExample(((3, 4), (3, 4), (3, 4)), low=0.3),
        OpExample(((4,), (2, 3, 1), (3, 4)), {"value": -0.5}, low=0.3),
    )

    def expand(self, step: Expansion, input: str, tensor1: str, tensor2: str) -> str:
        return add_scaled(step, input, step("div", tensor1, tensor2), 1, self.value)

    def torch_forward(self, torch: Any, input: Any, tensor1: Any, tensor2: Any) -> Any:
        return torch.addcdiv(input, tensor1, tensor2, value=self.value)


@register_op("rsub")
class Rsub(CompositeOp):
    """y = b - alpha a, with broadcasting: dL/da = -alpha g, dL/db = g, summed over the axes of a broadcast."""

    alpha: float = 1.0

    inputs = ("input", "other")
    positional = inputs
    examples = (OpExample(((3, 4), (3, 4))), OpExample(((2, 3, 4), (4,)), {"alpha": -0.5}))

    def expand(self, step: Expansion, input: str, other: str) -> str:
        return step("sub", other, input if self.alpha == 1 else step("mul", input, self.alpha))

    def torch_forward(self, torch: Any, input: Any, other: Any) -> Any:
        return torch.rsub(input, other, alpha=self.alpha)


@register_op("kron")
class Kron(CompositeOp):
    """Kronecker product: y[i p + k, j q + l, ...] = a[i, j, ...] b[k, l, ...] for b of shape (p, q, ...).

    dL/da is the sum of g b over the block of an element of a, and dL/db the sum of g a over the blocks.
    """

    inputs = ("input", "other")
    examples = (OpExample(((2, 3), (3, 2))), OpExample(((2,), (2, 1, 3))))

    def expand(self, step: Expansion, input: str, other: str) -> str:
        first, second = step.get_shape(input), step.get_shape(other)
        rank = max(len(first), len(second))
        first, second = (1,) * (rank - len(first)) + first, (1,) * (rank - len(second)) + second
        rows = step("reshape", input, shape=[length for n in first for length in (n, 1)])
        columns = step("reshape", other, shape=[length for n in second for length in (1, n)])
        lengths = [n * m for n, m in zip(first, second, strict=True)]
        return step("reshape", step("mul", rows, columns), shape=lengths)

    def torch_forward(self, torch: Any, input: Any, other: Any) -> Any:
        return torch.kron(input, other)


@register_op("cross")
class Cross(CompositeOp):
    """Cross product of vectors of three elements along `dim`: y_i = a_{i+1} b_{i+2} - a_{i+2} b_{i+1}, i modulo 3.

    dL/da = b x g, dL/db = g x a, summed over the axes of a broadcast.
    """

    dim: int = -1

    inputs = ("input", "other")
    examples = (OpExample(((4, 3), (4, 3))), OpExample(((3, 2), (3, 1)), {"dim": 0}))

    def expand(self, step: Expansion, input: str, other: str) -> str:
        shapes = [step.get_shape(operand) for operand in (input, other)]
        axis = normalize_axis(self.dim, len(shapes[0]))
        if not shapes[0] or len(shapes[0]) != len(shapes[1]) or any(shape[axis] != 3 for shape in shapes):
            raise ShapeError(f"two inputs with equally many axes, of length 3 along axis {self.dim}")

        def shift(operand: str, distance: int) -> str:
            return step("roll", operand, shifts=-distance, dims=axis)

        products = (step("mul", shift(input, k), shift(other, 3 - k)) for k in (1, 2))
        return step("sub", *products)

    def torch_forward(self, torch: Any, input: Any, other: Any) -> Any:
        return torch.linalg.cross(input, other, dim=self.dim)


@register_op("tensordot")
class Tensordot(CompositeOp):
    """Contraction: y[i, j] = sum_k a[i, k] b[k, j], where i, j and k stand for several axes each.

    `dims` lists the contracted axes of a and of b, or is their number: the last of a with the first of b.
    dL/da[i, k] = sum_j g[i, j] b[k, j], dL/db[k, j] = sum_i a[i, k] g[i, j].
    """

    dims: Annotated[int, Ge(0)] | Annotated[list[list[int]], Len(2, 2)] = 2

    inputs = ("a", "b")
    examples = (
        OpExample(((2, 3, 4), (3, 4, 2))),
        OpExample(((2, 3), (4,)), {"dims": 0}),
        OpExample(((2, 3, 4), (4, 5, 2)), {"dims": [[0, -1], [2, 0]]}),
    )

    def _list_contracted_axes(self, first_rank: int, second_rank: int) -> tuple[list[int], list[int]]:
        if isinstance(self.dims, int):
            if self.dims > min(first_rank, second_rank):
                raise ShapeError(f"inputs of {self.dims} axes or more")
            return list(range(first_rank - self.dims, first_rank)), list(range(self.dims))
        first, second = (
            [normalize_axis(dim, rank) for dim in dims]
            for dims, rank in zip(self.dims, (first_rank, second_rank), strict=True)
        )
        if len(first) != len(second) or any(len(set(axes)) < len(axes) for axes in (first, second)):
            raise ShapeError("as many different axes of a as of b in dims")
        return first, second

    def expand(self, step: Expansion, a: str, b: str) -> str:
        first, second = step.get_shape(a), step.get_shape(b)
        of_first, of_second = self._list_contracted_axes(len(first), len(second))
        if [first[axis] for axis in of_first] != [second[axis] for axis in of_second]:
            raise ShapeError("equal lengths along the contracted axes")
        rows = [axis for axis in range(len(first)) if axis not in of_first]
        columns = [axis for axis in range(len(second)) if axis not in of_second]
        inner = prod(first[axis] for axis in of_first)
        left = step("permute", a, dims=rows + of_first) if first else a
        right = step("permute", b, dims=of_second + columns) if second else b
        left = step("reshape", left, shape=[prod(first[axis] for axis in rows), inner])
        right = step("reshape", right, shape=[inner, prod(second[axis] for axis in columns)])
        lengths = [first[axis] for axis in rows] + [second[axis] for axis in columns]
        return step("reshape", step("matmul", left, right), shape=lengths)

    def torch_forward(self, torch: Any, a: Any, b: Any) -> Any:
        return torch.tensordot(a, b, self.dims)


@register_op("bilinear")
class Bilinear(CompositeOp):
    """y_o = sum_ij u_i w_oij v_j + b_o for vectors u and v along the last axis.

    dL/du_i = sum_oj g_o w_oij v_j, dL/dv_j = sum_oi g_o u_i w_oij. dL/dw_oij is the sum of g_o u_i v_j and dL/db_o that
    of g_o, over all vectors.
    """

    inputs = ("input1", "input2", "weight", "bias?")
    examples = (
        OpExample(((4, 2), (4, 3), (5, 2, 3), (5,))),
        OpExample(((2, 2, 3), (2, 2, 2), (1, 3, 2), None)),
        OpExample(((2,), (3,), (2, 2, 3), None)),
    )

    def expand(self, step: Expansion, input1: str, input2: str, weight: str, bias: str | None) -> str:
        first, second, shape = (step.get_shape(operand) for operand in (input1, input2, weight))
        if len(shape) != 3 or not first or first[:-1] != second[:-1] or first[-1:] + second[-1:] != shape[1:]:
            raise ShapeError("inputs (..., I) and (..., J) with a weight (out, I, J)")
        if bias is not None and step.get_shape(bias) != shape[:1]:
            raise ShapeError(f"a bias of shape {list(shape[:1])}")
        count = prod(first[:-1])
        left, right = (
            step("reshape", operand, shape=[count, lengths[-1]])
            for operand, lengths in ((input1, first), (input2, second))
        )
        half = step("einsum", left, weight, equation="ni,oij->noj")
        output = step("reshape", step("einsum", half, right, equation="noj,nj->no"), shape=[*first[:-1], shape[0]])
        return output if bias is None else step("add", output, bias)

    def torch_forward(self, torch: Any, input1: Any, input2: Any, weight: Any, bias: Any) -> Any:
        return torch.nn.functional.bilinear(input1, input2, weight, bias)


@register_op("cdist")
class Cdist(CompositeOp):
    """y[..., i, j] = |d|_p for d = x1[..., i, :] - x2[..., j, :].

    For p = 2, dL/dx1[..., i, :] = sum_j g d / y and dL/dx2[..., j, :] = -sum_i g d / y, 0 where y = 0.
    """

    p: NormOrder = 2.0

    inputs = ("x1", "x2")
    examples = (
        OpExample(((3, 2), (4, 2))),
        OpExample(((2, 2, 3), (3, 3)), {"p": 3.0}),
        OpExample(((2, 2), (3, 2)), {"p": 1.0}),
    )

    def expand(self, step: Expansion, x1: str, x2: str) -> str:
        first, second = step.get_shape(x1), step.get_shape(x2)
        if min(len(first), len(second)) < 2 or first[-1] != second[-1]:
            raise ShapeError("vectors of one length, (..., P, M) and (..., R, M)")
        if not float(self.p) >= 0:
            raise ShapeError("a p that is not negative")
        rows, columns = step("unsqueeze", x1, dim=-2), step("unsqueeze", x2, dim=-3)
        return step("vector_norm", step("sub", rows, columns), ord=self.p, dim=[-1])

    def torch_forward(self, torch: Any, x1: Any, x2: Any) -> Any:
        # By matrix products, distances of near vectors would cancel. PyTorch has none in half precision.
        is_half = x1.dtype in (torch.float16, torch.bfloat16)
        first, second = (x1.float(), x2.float()) if is_half else (x1, x2)
        return torch.cdist(first, second, float(self.p), compute_mode="donot_use_mm_for_euclid_dist").to(x1.dtype)
