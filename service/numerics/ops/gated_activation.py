"""Gates of a network's hidden layer: an activation of one half times the other."""

from typing import Any, Literal

from service.numerics.ops.composite import CompositeOp, Expansion
from service.numerics.ops.op import OpExample, ShapeError, register_op


def split_gate(step: Expansion, input: str, up: str | None) -> tuple[str, str]:
    """Return gate and value: two tensors of one shape, or the halves of the first along the last axis."""
    shape = step.get_shape(input)
    if up is not None:
        if step.get_shape(up) != shape:
            raise ShapeError("a gate and an up of one shape, or one input with both halves along the last axis")
        return input, up
    if not shape or shape[-1] % 2 or not shape[-1]:
        raise ShapeError("an input of even length along the last axis, gate first, or a gate and an up of one shape")
    half = shape[-1] // 2
    gate, value = (step("narrow", input, dim=-1, start=start, length=half) for start in (0, half))
    return gate, value


def split_torch_gate(torch: Any, input: Any, up: Any) -> tuple[Any, Any]:
    """Return gate and value of PyTorch's tensors."""
    return tuple(torch.chunk(input, 2, -1)) if up is None else (input, up)


@register_op("swiglu")
class SwiGlu(CompositeOp):
    """y = silu(a) b for the gate a and the value b: two inputs, or the halves of one along the last axis, a first.

    With s = sigmoid(a):
        dL/da = g b s (1 + a (1 - s)) = g b (s + y' (1 - s)), y' = a s        dL/db = g a s
    """

    inputs = ("input", "up?")
    examples = (OpExample(((3, 4), None)), OpExample(((2, 3), (2, 3))))

    def expand(self, step: Expansion, input: str, up: str | None) -> str:
        gate, value = split_gate(step, input, up)
        return step("mul", step("silu", gate), value)

    def torch_forward(self, torch: Any, input: Any, up: Any) -> Any:
        gate, value = split_torch_gate(torch, input, up)
        return torch.nn.functional.silu(gate) * value


@register_op("geglu")
class GeGlu(CompositeOp):
    """y = gelu(a) b for the gate a and the value b: two inputs, or the halves of one along the last axis, a first.

    dL/da = g b gelu'(a), and dL/db = g gelu(a). gelu'(a) = Phi(a) + a phi(a) with the normal distribution Phi and its
    density phi; `approximate` takes the form with tanh, and its derivative.
    """

    approximate: Literal["none", "tanh"] = "none"

    inputs = ("input", "up?")
    examples = (OpExample(((3, 4), None)), OpExample(((2, 3), (2, 3)), {"approximate": "tanh"}))

    def expand(self, step: Expansion, input: str, up: str | None) -> str:
        gate, value = split_gate(step, input, up)
        return step("mul", step("gelu", gate, approximate=self.approximate), value)

    def torch_forward(self, torch: Any, input: Any, up: Any) -> Any:
        gate, value = split_torch_gate(torch, input, up)
        return torch.nn.functional.gelu(gate, approximate=self.approximate) * value
