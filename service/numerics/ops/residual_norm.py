"""Normalisation of a residual stream, as one kernel."""

from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Len

from service.numerics.core.batching import Array, Shape, align_rank, sum_broadcast_axes
from service.numerics.ops.axis_numbers import Positive
from service.numerics.ops.backward_form import BackwardForm
from service.numerics.ops.composite import CompositeOp, Expansion
from service.numerics.ops.formula import Scope
from service.numerics.ops.formula_op import FormulaBugs
from service.numerics.ops.op import OpExample, ShapeError, register_op


@register_op("add_rms_norm")
class AddRmsNorm(FormulaBugs, CompositeOp):
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

    # A residual or a weight that is left out stands for 0 or 1.
    backward_form = BackwardForm(
        {"input": "dh", "residual": "dh", "weight": "to_weight(g * z)"},
        definitions={"dh": "r * (q - z * mean(q * z))"},
        look_alikes={
            "z": {"h": "h stood for z = h r"},
            "q": {"g": "the weight was left out of one q", "q_without_offset": "weight_offset was left out of one q"},
            "mean": {"sum": "the sum over the group stood for its mean"},
        },
        stand_ins={
            "q": {
                "q_without_offset": "weight_offset was left out: w stood for w + o",
                "g": "the weight was left out",
            },
            "z": {
                "z_of_input": "the residual was left out of h when z was computed again",
                "z_of_other_mean": "the residual was left out of mean(h^2)",
            },
            "r": {
                "r_of_input": "the residual was left out of h when r was computed again",
                "r_without_eps": "eps was left out of r",
            },
        },
        alternatives={
            "dh": {
                "r * (q - z * mean(q * z)) + g": "the gradient of h was added a second time, as if h was an output too",
            }
        },
        layouts=("to_weight",),
        # q z is a product of both.
        omitted=("dh:wrong_factor:h for z again",),
        upstream=("g", "q"),
    )

    def make_scope(self, gradient: Array, output: Array, *inputs: Any) -> Scope:
        input, residual, weight = inputs
        axes = tuple(range(input.ndim - len(self._trailing_shape), input.ndim))
        offset = self.weight_offset

        def compute_reciprocal(h: Array, eps: float = self.eps) -> Array:
            return 1 / np.sqrt(np.square(h).mean(axis=axes, keepdims=True) + eps)

        scope = Scope()
        value = scope.compute
        scope.add_quantities(
            g=lambda: gradient,
            h=lambda: input if residual is None else input + residual,
            r=lambda: compute_reciprocal(value("h")),
            r_of_input=lambda: compute_reciprocal(input),
            r_without_eps=lambda: compute_reciprocal(value("h"), 0.0),
            z=lambda: value("h") * value("r"),
            z_of_input=lambda: input * value("r"),
            z_of_other_mean=lambda: value("h") * value("r_of_input"),
            q=lambda: gradient if weight is None else gradient * (align_rank(weight, input.ndim - 1) + offset),
            q_without_offset=lambda: gradient if weight is None else gradient * align_rank(weight, input.ndim - 1),
        )
        return scope.add_functions(
            mean=lambda array: array.mean(axis=axes, keepdims=True),
            sum=lambda array: array.sum(axis=axes, keepdims=True),
            to_weight=lambda array: sum_broadcast_axes(array, weight.shape[1:]),
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
