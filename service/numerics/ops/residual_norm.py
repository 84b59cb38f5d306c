"""Normalisation of a residual stream, as one kernel."""

from typing import Annotated, Any

from annotated_types import Ge, Len

from service.numerics.core.batching import Shape
from service.numerics.ops.axis_numbers import Positive
from service.numerics.ops.composite import CompositeOp, Expansion
from service.numerics.ops.op import OpExample, ShapeError, register_op


@register_op("add_rms_norm")
class AddRmsNorm(CompositeOp):
    """RMS normalisation of a sum: y = (w + o) z, z = h / sqrt(mean(h^2) + eps), h = input + residual.

    The mean goes over the trailing axes of `normalized_shape`. o = weight_offset is 1 in models that learn a weight
    around 0; without a weight, y = z. With g = dL/dy, q = g (w + o) and r = 1 / sqrt(mean(h^2) + eps):
        dL/dh = r (q - z mean(q z)), which is the gradient of the input and of the residual
        dL/dw = sum g z, over the leading axes
    A kernel that returns h too hands back the gradient of h as well: write `add` and `add_rms_norm` of one input.
    """

    normalized_shape: Positive | Annotated[list[Positive], Len(1)]
    eps: Annotated[float, Ge(0)] = 1e-6
    weight_offset: float = 0.0

    inputs = ("input", "residual?", "weight?")
    positional = ("input", "residual", "weight", "normalized_shape", "eps", "weight_offset")
    examples = (
        OpExample(((3, 4), (3, 4), (4,)), {"normalized_shape": 4, "weight_offset": 1.0}),
        OpExample(((2, 2, 3), None, (2, 3)), {"normalized_shape": [2, 3], "eps": 1e-3}),
        OpExample(((2, 3), (2, 3), None), {"normalized_shape": 3}),
    )

    @property
    def _trailing_shape(self) -> Shape:
        return (self.normalized_shape,) if isinstance(self.normalized_shape, int) else tuple(self.normalized_shape)

    def expand(self, step: Expansion, input: str, residual: str | None, weight: str | None) -> str:
        shape = step.get_shape(input)
        if residual is not None and step.get_shape(residual) != shape:
            raise ShapeError("an input and a residual of one shape")
        trailing = self._trailing_shape
        if shape[len(shape) - len(trailing) :] != trailing:
            raise ShapeError(f"an input that ends in the axes {list(trailing)} of normalized_shape")
        if weight is not None and step.get_shape(weight) != trailing:
            raise ShapeError(f"a weight of shape {list(trailing)}")
        if weight is None and self.weight_offset:
            raise ShapeError("a weight beside its weight_offset, or neither")
        stream = input if residual is None else step("add", input, residual)
        if weight is not None and self.weight_offset:
            weight = step("add", weight, self.weight_offset)
        return step("rms_norm", stream, weight, normalized_shape=list(trailing), eps=self.eps)

    def torch_forward(self, torch: Any, input: Any, residual: Any, weight: Any) -> Any:
        stream = input if residual is None else input + residual
        axes = tuple(range(-len(self._trailing_shape), 0))
        normal = stream * torch.rsqrt(stream.square().mean(axes, keepdim=True) + self.eps)
        return normal if weight is None else normal * (weight + self.weight_offset)
