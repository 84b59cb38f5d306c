"""Norms and distances of vectors along an axis: compositions of other ops."""

from typing import Annotated, Any

from annotated_types import Ge

from service.numerics.ops.binary import broadcast_shapes
from service.numerics.ops.composite import CompositeOp, Expansion
from service.numerics.ops.op import OpExample, ShapeError, register_op
from service.numerics.ops.vector_norm import NormOrder


@register_op("normalize")
class Normalize(CompositeOp):
    """y = x / max(|x|_p, eps) along `dim`.

    For p = 2 and |x| > eps, dL/dx = (g - y sum(g y)) / |x|. Below eps, dL/dx = g / eps.
    """

    inputs = ("input",)
    examples = (
        OpExample(((3, 4),)),
        OpExample(((2, 3, 2),), {"p": 3.0, "dim": -1}, low=0.1),
        OpExample(((4,),), {"p": 1.0, "dim": 0}, low=0.1),
        OpExample(((3, 2),), {"eps": 9.0}),
    )
    p: NormOrder = 2.0
    dim: int = 1
    eps: Annotated[float, Ge(0)] = 1e-12

    def expand(self, step: Expansion, input: str) -> str:
        norm = step("vector_norm", input, ord=self.p, dim=[self.dim], keepdim=True)
        return step("div", input, step("clamp", norm, min=self.eps))

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.normalize(input, float(self.p), self.dim, self.eps)


@register_op("cosine_similarity")
class CosineSimilarity(CompositeOp):
    """y = sum(u v) along `dim`, for u = x1 / max(|x1|, eps) and v = x2 / max(|x2|, eps).

    Above eps, dL/dx1 = g (v - y u) / |x1| and dL/dx2 = g (u - y v) / |x2|.
    """

    inputs = ("x1", "x2")
    examples = (
        OpExample(((3, 4), (3, 4))),
        OpExample(((2, 3, 2), (1, 2)), {"dim": -1}),
        OpExample(((4,), (4,)), {"dim": 0}),
    )
    dim: int = 1
    eps: Annotated[float, Ge(0)] = 1e-8

    def expand(self, step: Expansion, x1: str, x2: str) -> str:
        common_shape = broadcast_shapes(step.get_shape(x1), step.get_shape(x2))
        if not common_shape:
            raise ShapeError("at least one axis")
        vectors = (step("expand", operand, size=list(common_shape)) for operand in (x1, x2))
        product = step("mul", *(step("normalize", vector, dim=self.dim, eps=self.eps) for vector in vectors))
        return step("sum", product, dim=[self.dim])

    def torch_forward(self, torch: Any, x1: Any, x2: Any) -> Any:
        vectors = torch.broadcast_tensors(x1, x2)
        norms = [torch.linalg.vector_norm(vector.detach(), 2, self.dim) for vector in vectors]
        if not any(bool((norm < self.eps).any()) for norm in norms):
            return torch.nn.functional.cosine_similarity(x1, x2, self.dim, self.eps)
        # PyTorch's own derivative goes through below eps as if nothing were clamped.
        first, second = (torch.nn.functional.normalize(vector, 2, self.dim, self.eps) for vector in vectors)
        return (first * second).sum(self.dim)


@register_op("pairwise_distance")
class PairwiseDistance(CompositeOp):
    """y = |d|_p along the last axis, for d = x1 - x2 + eps.

    For p = 2, dL/dx1 = g d / y and dL/dx2 = -g d / y.
    """

    inputs = ("x1", "x2")
    examples = (
        OpExample(((3, 4), (3, 4))),
        OpExample(((2, 3, 2), (2,)), {"p": 3.0, "keepdim": True}),
        OpExample(((4,), (4,)), {"p": 1.0}),
    )
    p: NormOrder = 2.0
    eps: float = 1e-6
    keepdim: bool = False

    def expand(self, step: Expansion, x1: str, x2: str) -> str:
        difference = step("add", step("sub", x1, x2), self.eps)
        if not step.get_shape(difference):
            raise ShapeError("vectors or batches of vectors")
        return step("vector_norm", difference, ord=self.p, dim=[-1], keepdim=self.keepdim)

    def torch_forward(self, torch: Any, x1: Any, x2: Any) -> Any:
        return torch.nn.functional.pairwise_distance(x1, x2, float(self.p), self.eps, self.keepdim)
