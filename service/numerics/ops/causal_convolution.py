"""Causal convolution of each channel, as in state-space models."""

from typing import Any, Literal

from service.numerics.ops.composite import CompositeOp, Expansion
from service.numerics.ops.op import OpExample, ShapeError, register_op


@register_op("causal_conv1d")
class CausalConv1d(CompositeOp):
    """Convolution of each channel with its own weights, over the present and the past: y = act(z).

    Input x (B, D, L), weight w (D, W), bias b (D,), act the identity or silu:
        z[n, d, t] = b[d] + sum_k w[d, k] x[n, d, t - W + 1 + k], x = 0 before the start
    With q = g act'(z):
        dL/dx[n, d, s] = sum_k w[d, k] q[n, d, s + W - 1 - k], q = 0 after the end
        dL/dw[d, k] = sum_{n, t} q[n, d, t] x[n, d, t - W + 1 + k]        dL/db[d] = sum_{n, t} q[n, d, t]
    """

    activation: Literal["silu"] | None = None

    inputs = ("input", "weight", "bias?")
    examples = (
        OpExample(((2, 2, 4), (2, 3), (2,)), {"activation": "silu"}),
        OpExample(((1, 3, 3), (3, 2), None)),
        OpExample(((1, 1, 2), (1, 4), (1,))),
    )

    def expand(self, step: Expansion, input: str, weight: str, bias: str | None) -> str:
        shape, kernel = step.get_shape(input), step.get_shape(weight)
        if len(shape) != 3 or len(kernel) != 2 or kernel[0] != shape[1]:
            raise ShapeError("an input (B, D, L) with a weight (D, W), one row of weights for each channel")
        channels, width = kernel
        if not channels or not width:
            raise ShapeError("a weight (D, W) with one row and one column at least")
        if bias is not None and step.get_shape(bias) != (channels,):
            raise ShapeError(f"a bias of shape {[channels]}")
        rows = step("unsqueeze", weight, dim=1)
        padded_output = step("conv1d", input, rows, bias, padding=width - 1, groups=channels)
        output = step("narrow", padded_output, dim=-1, start=0, length=shape[-1])
        return output if self.activation is None else step(self.activation, output)

    def torch_forward(self, torch: Any, input: Any, weight: Any, bias: Any) -> Any:
        padding, length = weight.shape[1] - 1, input.shape[-1]
        functional = torch.nn.functional
        rows = weight.unsqueeze(1)
        output = functional.conv1d(input, rows, bias, padding=padding, groups=input.shape[1])[..., :length]
        return output if self.activation is None else functional.silu(output)
