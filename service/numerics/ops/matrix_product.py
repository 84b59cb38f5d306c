"""Products of matrices that are compositions of other ops."""

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


def add_scaled(step: Expansion, input: str, product: str, beta: float, alpha: float) -> str:
    """Add the steps of beta input + alpha product, without factors of 1."""

    def scale(operand: StepOperand, factor: float) -> StepOperand:
        return operand if factor == 1 else step("mul", operand, factor)

    return step("add", scale(input, beta), scale(product, alpha))


def check_broadcast(step: Expansion, input: str, product: str) -> None:
    """Refuse an input that does not broadcast to the shape of a product."""
    shape, target = step.get_shape(input), step.get_shape(product)
    aligned = target[len(target) - len(shape) :]
    if len(shape) > len(target) or any(length not in (1, other) for length, other in zip(shape, aligned, strict=True)):
        raise ShapeError(f"an input that broadcasts to shape {list(target)}")


@register_op("addmm")
class Addmm(CompositeOp):
    """y = beta x + alpha A B.

    dL/dx = beta g, summed over the axes of a broadcast, dL/dA = alpha g B^T, dL/dB = alpha A^T g.
    """

    inputs = ("input", "mat1", "mat2")
    examples = (
        OpExample(((2, 4), (2, 3), (3, 4))),
        OpExample(((4,), (2, 3), (3, 4)), {"beta": 0.5, "alpha": -2.0}),
    )
    beta: float = 1.0
    alpha: float = 1.0

    def expand(self, step: Expansion, input: str, mat1: str, mat2: str) -> str:
        check_ranks(step, {"mat1": 2, "mat2": 2}, mat1, mat2)
        product = step("matmul", mat1, mat2)
        check_broadcast(step, input, product)
        return add_scaled(step, input, product, self.beta, self.alpha)

    def torch_forward(self, torch: Any, input: Any, mat1: Any, mat2: Any) -> Any:
        return torch.addmm(input, mat1, mat2, beta=self.beta, alpha=self.alpha)
