"""Products of matrices that are compositions of other ops."""

from abc import abstractmethod
from typing import Any

from service.numerics.ops.composite import CompositeOp, Expansion, StepOperand
from service.numerics.ops.op import OpExample, ShapeError, register_op


def check_ranks(step: Expansion, ranks: dict[str, int], *operands: str) -> None:
    """Refuse operands of other numbers of axes, by ShapeError.

    Parameters
    ----------
    step
        Expansion that knows the shapes.
    ranks
        Number of axes of each operand, by the name of its slot.
    operands
        Operands in the same order.
    """
    if any(len(step.get_shape(operand)) != rank for operand, rank in zip(operands, ranks.values(), strict=True)):
        raise ShapeError(", ".join(f"{slot} with {rank} axes" for slot, rank in ranks.items()))


def check_equal_batches(step: Expansion, first: str, second: str) -> None:
    """Refuse batches of different lengths, which a product would broadcast."""
    if step.get_shape(first)[0] != step.get_shape(second)[0]:
        raise ShapeError("two batches of one length")


def add_scaled(step: Expansion, input: str, product: str, beta: float, alpha: float) -> str:
    """Add the steps of beta input + alpha product, without factors of 1."""

    def scale(operand: StepOperand, factor: float) -> StepOperand:
        return operand if factor == 1 else step("mul", operand, factor)

    return step("add", scale(input, beta), scale(product, alpha))


class ScaledAddition(CompositeOp):
    """An input plus a product of two operands: y = beta x + alpha P. The input may be broadcast."""

    beta: float
    alpha: float

    @abstractmethod
    def multiply(self, step: Expansion, first: str, second: str) -> str:
        """Add the steps of the product, and return the name of the last."""

    def expand(self, step: Expansion, input: str, first: str, second: str) -> str:
        product = self.multiply(step, first, second)
        shape, target = step.get_shape(input), step.get_shape(product)
        aligned = target[len(target) - len(shape) :]
        if len(shape) > len(target) or any(n not in (1, other) for n, other in zip(shape, aligned, strict=True)):
            raise ShapeError(f"an input that broadcasts to shape {list(target)}")
        return add_scaled(step, input, product, self.beta, self.alpha)

    def torch_forward(self, torch: Any, input: Any, first: Any, second: Any) -> Any:
        return getattr(torch, self.name)(input, first, second, beta=self.beta, alpha=self.alpha)


@register_op("addmm")
class Addmm(ScaledAddition):
    """y = beta x + alpha A B.

    dL/dx = beta g, summed over the axes of a broadcast, dL/dA = alpha g B^T, dL/dB = alpha A^T g.
    """

    inputs = ("input", "mat1", "mat2")
    positional = inputs
    examples = (
        OpExample(((2, 4), (2, 3), (3, 4))),
        OpExample(((4,), (2, 3), (3, 4)), {"beta": 0.5, "alpha": -2.0}),
    )
    beta: float = 1.0
    alpha: float = 1.0

    def multiply(self, step: Expansion, first: str, second: str) -> str:
        check_ranks(step, {"mat1": 2, "mat2": 2}, first, second)
        return step("matmul", first, second)


@register_op("bmm")
class BatchedMatmul(CompositeOp):
    """y_n = A_n B_n for each n of a batch: dL/dA_n = g_n B_n^T, dL/dB_n = A_n^T g_n."""

    inputs = ("input", "mat2")
    examples = (OpExample(((2, 3, 4), (2, 4, 5))), OpExample(((1, 1, 2), (1, 2, 1))))

    def expand(self, step: Expansion, input: str, mat2: str) -> str:
        check_ranks(step, {"input": 3, "mat2": 3}, input, mat2)
        check_equal_batches(step, input, mat2)
        return step("matmul", input, mat2)

    def torch_forward(self, torch: Any, input: Any, mat2: Any) -> Any:
        return torch.bmm(input, mat2)


@register_op("baddbmm")
class Baddbmm(ScaledAddition):
    """y_n = beta x_n + alpha A_n B_n for each n of a batch.

    dL/dx = beta g, summed over the axes of a broadcast, dL/dA_n = alpha g_n B_n^T, dL/dB_n = alpha A_n^T g_n.
    """

    inputs = ("input", "batch1", "batch2")
    positional = inputs
    examples = (
        OpExample(((2, 3, 5), (2, 3, 4), (2, 4, 5))),
        OpExample(((3, 1), (2, 3, 4), (2, 4, 5)), {"beta": -0.5, "alpha": 2.0}),
    )
    beta: float = 1.0
    alpha: float = 1.0

    def multiply(self, step: Expansion, first: str, second: str) -> str:
        return step("bmm", first, second)


@register_op("addbmm")
class Addbmm(ScaledAddition):
    """y = beta x + alpha sum_n A_n B_n over a batch.

    dL/dx = beta g, summed over the axes of a broadcast, dL/dA_n = alpha g B_n^T, dL/dB_n = alpha A_n^T g.
    """

    inputs = ("input", "batch1", "batch2")
    positional = inputs
    examples = (
        OpExample(((3, 5), (2, 3, 4), (2, 4, 5))),
        OpExample(((5,), (2, 3, 4), (2, 4, 5)), {"beta": -0.5, "alpha": 2.0}),
    )
    beta: float = 1.0
    alpha: float = 1.0

    def multiply(self, step: Expansion, first: str, second: str) -> str:
        return step("sum", step("bmm", first, second), dim=[0])


@register_op("addmv")
class Addmv(ScaledAddition):
    """y = beta x + alpha A v.

    dL/dx = beta g, summed over the axes of a broadcast, dL/dA = alpha g v^T, dL/dv = alpha A^T g.
    """

    inputs = ("input", "mat", "vec")
    positional = inputs
    examples = (OpExample(((2,), (2, 3), (3,))), OpExample(((1,), (2, 3), (3,)), {"beta": 0.5, "alpha": -2.0}))
    beta: float = 1.0
    alpha: float = 1.0

    def multiply(self, step: Expansion, first: str, second: str) -> str:
        check_ranks(step, {"mat": 2, "vec": 1}, first, second)
        return step("matmul", first, second)


@register_op("outer")
class Outer(CompositeOp):
    """y_ij = u_i v_j: dL/du = g v, dL/dv = g^T u."""

    inputs = ("input", "vec2")
    examples = (OpExample(((3,), (4,))), OpExample(((1,), (2,))))

    def expand(self, step: Expansion, input: str, vec2: str) -> str:
        check_ranks(step, {"input": 1, "vec2": 1}, input, vec2)
        return step("mul", step("unsqueeze", input, dim=1), vec2)

    def torch_forward(self, torch: Any, input: Any, vec2: Any) -> Any:
        return torch.outer(input, vec2)


@register_op("addr")
class Addr(ScaledAddition):
    """y = beta x + alpha u v^T.

    dL/dx = beta g, summed over the axes of a broadcast, dL/du = alpha g v, dL/dv = alpha g^T u.
    """

    inputs = ("input", "vec1", "vec2")
    positional = inputs
    examples = (
        OpExample(((3, 4), (3,), (4,))),
        OpExample(((4,), (3,), (4,)), {"beta": 0.5, "alpha": -2.0}),
    )
    beta: float = 1.0
    alpha: float = 1.0

    def multiply(self, step: Expansion, first: str, second: str) -> str:
        return step("outer", first, second)
