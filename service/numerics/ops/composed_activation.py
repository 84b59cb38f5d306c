"""Activations that are compositions of other ops."""

from typing import Any

from service.numerics.ops.axes import normalize_axis
from service.numerics.ops.composite import CompositeOp, Expansion
from service.numerics.ops.op import OpExample, ShapeError, register_op


@register_op("softsign")
class Softsign(CompositeOp):
    """y = x / (1 + |x|): dL/dx = g / (1 + |x|) - g x sign(x) / (1 + |x|)^2 = g / (1 + |x|)^2."""

    inputs = ("input",)
    examples = (OpExample(((3, 4),), low=-8.0, high=8.0), OpExample(((),)))

    def expand(self, step: Expansion, input: str) -> str:
        return step("div", input, step("add", step("abs", input), 1.0))

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.softsign(input)


@register_op("tanhshrink")
class Tanhshrink(CompositeOp):
    """y = x - tanh(x): dL/dx = g - g (1 - tanh(x)^2) = g tanh(x)^2."""

    inputs = ("input",)
    examples = (OpExample(((3, 4),), low=-8.0, high=8.0), OpExample(((),)))

    def expand(self, step: Expansion, input: str) -> str:
        return step("sub", input, step("tanh", input))

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.tanhshrink(input)


@register_op("glu")
class GatedLinearUnit(CompositeOp):
    """y = a sigmoid(b) for the halves a and b of x along `dim`.

    dL/da = g sigmoid(b), and dL/db = g a sigmoid(b) (1 - sigmoid(b)).
    """

    inputs = ("input",)
    examples = (OpExample(((3, 4),)), OpExample(((2, 6, 3),), {"dim": 1}), OpExample(((2,),), {"dim": 0}))
    dim: int = -1

    def expand(self, step: Expansion, input: str) -> str:
        shape = step.get_shape(input)
        axis = normalize_axis(self.dim, len(shape))
        if not shape or shape[axis] % 2 or not shape[axis]:
            raise ShapeError(f"an input of even length along axis {self.dim}")
        half = shape[axis] // 2
        value, gate = (step("narrow", input, dim=axis, start=start, length=half) for start in (0, half))
        return step("mul", value, step("sigmoid", gate))

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.glu(input, self.dim)
